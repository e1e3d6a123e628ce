"""`pages/`: plain HTML that opens by a double click and asks the net for nothing."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime as dt
import hashlib
import itertools
import json
import re
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

import jinja2
import markupsafe
import nh3

from tap_drift.archive.sqlite import LONGEST_BODY
from tap_drift.progress import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Row = dict[str, Any]

MOST_CONVERSATIONS = 200
MOST_BYTES = 1_000_000
"""How much is on a page at the most, but for one message that is longer."""

MOST_MESSAGES = 400
"""How many messages a piece of a conversation has at the most."""

MOST_LINKS = 5000
"""How many conversations of a contact stand together at the most."""

TAGS = {"a", "b", "blockquote", "br", "code", "div", "em", "h1", "h2", "h3", "h4", "i", "li", "ol"}
TAGS |= {"p", "pre", "s", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "u", "ul"}

CONVERSATIONS = """
select c.id, c.status, c.contactId, c.createdAt, c.updatedAt, d.participants, d.conversationTags,
    d.relatedPlaybookId, p.name as playbook,
    substr(json_extract(k.attributes, '$.name'), 1, 100) as contactName,
    substr(json_extract(k.attributes, '$.email'), 1, 100) as email
from conversations c
left join conversation_details d on d.id = c.id
left join playbooks p on p.id = d.relatedPlaybookId
left join contacts k on k.id = c.contactId
order by c.createdAt desc, c.id desc
"""

MESSAGES = """
select id, type, body, author, buttons, createdAt from messages where conversationId = ?
order by createdAt, id
"""

CONTACTS = """
select c.contactId as id, substr(json_extract(k.attributes, '$.name'), 1, 100) as name,
    substr(json_extract(k.attributes, '$.email'), 1, 100) as email,
    json_group_array(json_array(substr(c.createdAt, 1, 10), c.id, t.page)) as conversations
from conversations c left join contacts k on k.id = c.contactId join temp.stands t on t.id = c.id
group by c.contactId order by lower(coalesce(name, email, '~')), c.contactId
"""


COUNTS = """
select count(*) as conversations, min(createdAt) as oldest, max(createdAt) as newest,
    (select count(*) from messages) as messages, (select count(*) from contacts) as contacts
from conversations
"""


@dataclasses.dataclass
class Page:
    """A page of conversations, all of one month."""

    month: str
    number: int
    days: list[str] = dataclasses.field(default_factory=list)
    ids: dict[int, None] = dataclasses.field(default_factory=dict)
    pieces: list[markupsafe.Markup] = dataclasses.field(default_factory=list)
    size: int = 0

    @property
    def name(self) -> str:
        """What its file is called."""
        return f"{self.month}-{self.number}.html"

    @property
    def label(self) -> str:
        """Which days are on it, the newest first as everywhere."""
        newest, oldest = self.days[0], self.days[-1]
        return newest if newest == oldest else f"{newest} to {oldest}"

    def has_room_for(self, size: int) -> bool:
        """Tell whether so many bytes may be added."""
        return len(self.ids) < MOST_CONVERSATIONS and self.size + size <= MOST_BYTES


def make(database: Path, folder: Path, verdict: str) -> Path:
    """Make the pages, instead of those that are there.

    Args:
        database: The archive's.
        folder: Where they are to be.
        verdict: Whether the archive is complete, in words.

    Returns:
        The first page.
    """
    aside = folder.with_name("pages.new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.row_factory = lambda cursor, row: {
            of[0]: value for of, value in zip(cursor.description, row, strict=True)
        }
        _Maker(connection, aside).make(verdict)
    shutil.rmtree(folder, ignore_errors=True)
    aside.replace(folder)
    return folder / "index.html"


def clean(body: str) -> markupsafe.Markup:
    """Leave of a stranger's HTML what only shows text and links.

    Args:
        body: HTML of whatever kind.

    Returns:
        HTML that runs nothing and loads nothing.
    """
    is_cut = len(body) > LONGEST_BODY
    safe = nh3.clean(
        f"{body[:LONGEST_BODY]} [cut; all of it is in data/]" if is_cut else body,
        tags=TAGS,
        clean_content_tags={"script", "style"},
        attributes={"a": {"href"}},
        url_schemes={"http", "https", "mailto", "tel"},
        link_rel="noopener noreferrer nofollow",
    )
    return markupsafe.Markup(safe)  # noqa: S704  (that is what was cleaned)


class _Maker:
    def __init__(self, connection: sqlite3.Connection, folder: Path) -> None:
        self._connection = connection
        self._folder = folder
        self._people: dict[Any, str] = {
            row["id"]: row["name"] or row["email"] or str(row["id"])
            for row in connection.execute("select id, name, email from users")
        }
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("tap_drift.archive"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        self._templates.filters |= {"time": _time, "month": _month, "counted": counted}
        self._templates.globals["policy"] = self._policy()

    def make(self, verdict: str) -> None:
        self._connection.execute("create temp table stands (id primary key, page)")
        months: dict[str, list[Page]] = {}
        for page in self._conversations():
            months.setdefault(page.month, []).append(page)
        contacts = list(self._contacts())
        counts = self._connection.execute(COUNTS).fetchone()
        self._write("index.html", months=months, contacts=contacts, counts=counts, verdict=verdict)

    def _policy(self) -> str:
        """Let nothing run or style a page but what is ours."""
        hashes = []
        for name in ("script.js", "style.css"):
            source = self._templates.get_template(name).render()
            sha256 = hashlib.sha256(source.encode()).digest()
            hashes.append(f"'sha256-{base64.b64encode(sha256).decode()}'")
        script, style = hashes
        return f"default-src 'none'; script-src {script}; style-src {style}; base-uri 'none'"

    def _write(self, name: str, template: str | None = None, **values: Any) -> None:
        page = self._templates.get_template(template or name).render(**values)
        (self._folder / name).write_text(page, encoding="utf-8", newline="\n")

    # By month

    def _conversations(self) -> Iterator[Page]:
        """Write the pages of conversations; give them without what is on them."""
        newer: Page | None = None
        pages = self._pages()
        page = next(pages, None)
        while page:
            older = next(pages, None)
            # A conversation of several pieces stands where it begins.
            stands = [(id_, page.name) for id_ in page.ids]
            self._connection.executemany("insert or ignore into stands values (?, ?)", stands)
            self._write(page.name, "conversations.html", page=page, newer=newer, older=older)
            page.pieces = []
            yield page
            newer, page = page, older

    def _pages(self) -> Iterator[Page]:
        template = self._templates.get_template("conversation.html")
        page: Page | None = None
        for row in self._connection.execute(CONVERSATIONS):
            # What Drift sends becomes the name of a file here.
            day = re.fullmatch(r"([0-9]{4}-[0-9]{2})-([0-9]{2})", (row["createdAt"] or "")[:10])
            month, label = (day[1], str(int(day[2]))) if day else ("undated", "undated")
            for piece in self._pieces(row):
                text = template.render(**piece)
                size = len(text.encode())
                if not page or page.month != month or not page.has_room_for(size):
                    if page:
                        yield page
                    number = page.number + 1 if page and page.month == month else 1
                    page = Page(month, number)
                page.pieces.append(markupsafe.Markup(text))  # noqa: S704  (a template made it)
                page.ids[row["id"]] = None
                page.days.append(label)
                page.size += size
        if page:
            yield page

    def _pieces(self, row: Row) -> Iterator[Row]:
        """Cut a conversation into what a page can hold."""
        head = {
            "row": row,
            "participants": [self._people.get(one, one) for one in _list(row["participants"])],
            "tags": [tag.get("name") for tag in _list(row["conversationTags"])],
        }
        files = self._files(row["id"])
        messages: list[Row] = []
        size, is_continued = 0, False
        for message in self._connection.execute(MESSAGES, [row["id"]]):
            body = clean(message["body"] or "")
            length = len(body.encode())
            if len(messages) >= MOST_MESSAGES or (messages and size + length > MOST_BYTES // 2):
                yield {**head, "messages": messages, "is_continued": is_continued}
                messages, size, is_continued = [], 0, True
            size += length
            its = {"html": body, "files": files.get(message["id"], ())}
            buttons = [one.get("label") for one in _list(message["buttons"])]
            messages.append(message | self._author(message, row) | its | {"buttons": buttons})
        yield {**head, "messages": messages, "is_continued": is_continued}

    def _author(self, message: Row, conversation: Row) -> Row:
        author = json.loads(message["author"] or "{}")
        is_user = author.get("type") == "user"
        if is_user:
            who = self._people.get(author.get("id"), f"user {author.get('id')}")
        else:
            who = conversation["contactName"] or conversation["email"] or "contact"
        kind = "bot" if author.get("bot") else "user" if is_user else "contact"
        return {"who": who, "kind": kind}

    def _files(self, conversation: int) -> dict[int, list[Row]]:
        files: dict[int, list[Row]] = {}
        query = "select * from attachments where conversationId = ? order by messageId, position"
        for row in self._connection.execute(query, [conversation]):
            files.setdefault(row["messageId"], []).append(row)
        return files

    # By contact

    def _contacts(self) -> Iterator[tuple[str, str, str]]:
        """Write the lists of contacts; say where they are, and whom they begin and end with."""
        template = self._templates.get_template("contact.html")
        names, texts, size, number = list[str](), list[markupsafe.Markup](), 0, 1
        for contact in itertools.chain(self._some_links(), [None]):
            text = markupsafe.Markup(template.render(contact=contact) if contact else "")  # noqa: S704
            if names and (not contact or size + len(text.encode()) > MOST_BYTES):
                name = f"contacts-{number}.html"
                self._write(name, "contacts.html", contacts=texts)
                yield name, names[0], names[-1]
                names, texts, size, number = [], [], 0, number + 1
            if contact:
                names.append(_shown(contact))
                texts.append(text)
                size += len(text.encode())

    def _some_links(self) -> Iterator[Row]:
        for row in self._connection.execute(CONTACTS):
            links = sorted(json.loads(row["conversations"]), key=str, reverse=True)
            for begin in range(0, len(links), MOST_LINKS):
                yield row | {"conversations": links[begin : begin + MOST_LINKS]}


def _time(time: str | None) -> str:
    return (time or "?")[:19].replace("T", " ")


def _month(month: str) -> str:
    try:
        return dt.date.fromisoformat(f"{month}-01").strftime("%B %Y")
    except ValueError:
        return month


def _shown(contact: Row) -> str:
    return str(contact["name"] or contact["email"] or contact["id"] or "nobody")[:40]


def _list(text: str | None) -> list[Any]:
    found = json.loads(text or "[]")
    return found if isinstance(found, list) else []
