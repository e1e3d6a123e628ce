"""`pages/`: plain HTML that opens by a double click and asks the net for nothing."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple

import jinja2
import markupsafe
import nh3

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    Row = dict[str, Any]

MOST_CONVERSATIONS = 200
MOST_BYTES = 1_000_000
"""How much is on a page at the most, but for one message that is longer."""

MOST_MESSAGES = 400
"""How many messages a piece of a conversation has at the most."""

LONGEST_BODY = 200_000
CONTACTS_PER_PAGE = 1000

TAGS = {"a", "b", "blockquote", "br", "code", "div", "em", "h1", "h2", "h3", "h4", "i", "li", "ol"}
TAGS |= {"p", "pre", "s", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "u", "ul"}

CONVERSATIONS = """
select c.id, c.status, c.contactId, c.createdAt, c.updatedAt, d.participants, d.conversationTags,
    d.relatedPlaybookId, p.name as playbook,
    json_extract(k.attributes, '$.name') as contactName,
    json_extract(k.attributes, '$.email') as email
from conversations c
left join conversation_details d on d.id = c.id
left join playbooks p on p.id = d.relatedPlaybookId
left join contacts k on k.id = c.contactId
order by c.createdAt desc, c.id desc
"""

MESSAGES = """
select id, type, body, author, createdAt from messages where conversationId = ?
order by createdAt, id
"""

CONTACTS = """
select c.contactId as id, json_extract(k.attributes, '$.name') as name,
    json_extract(k.attributes, '$.email') as email,
    json_group_array(json_array(c.id, substr(c.createdAt, 1, 10), t.page)) as conversations
from conversations c left join contacts k on k.id = c.contactId join temp.stands t on t.id = c.id
group by c.contactId order by lower(coalesce(name, email, '~')), c.contactId
"""


class Page(NamedTuple):
    """A page of conversations."""

    name: str
    month: str
    number: int
    conversations: int


def make(database: Path, folder: Path) -> Path:
    """Make the pages, instead of those that are there.

    Args:
        database: The archive's.
        folder: Where they are to be.

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
        _Maker(connection, aside).make()
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
    cut = (
        body if len(body) <= LONGEST_BODY else f"{body[:LONGEST_BODY]} [cut; all of it is in data/]"
    )
    safe = nh3.clean(
        cut,
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
        self._pages: list[Page] = []
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
        self._templates.globals["policy"] = self._policy()

    def make(self) -> None:
        self._connection.execute("create temp table stands (id primary key, page)")
        self._conversations()
        contacts = self._contacts()
        months: dict[str, list[Page]] = {}
        for page in self._pages:
            months.setdefault(page.month, []).append(page)
        self._write("index.html", "index.html", months=months, contacts=contacts, title="Archive")

    def _policy(self) -> str:
        """Let nothing run or style a page but what is ours."""
        hashes = []
        for name in ("script.js", "style.css"):
            source = self._templates.get_template(name).render()
            sha256 = hashlib.sha256(source.encode()).digest()
            hashes.append(f"'sha256-{base64.b64encode(sha256).decode()}'")
        script, style = hashes
        return f"default-src 'none'; script-src {script}; style-src {style}; base-uri 'none'"

    def _write(self, name: str, template: str, **values: Any) -> None:
        page = self._templates.get_template(template).render(**values)
        (self._folder / name).write_text(page, encoding="utf-8", newline="\n")

    def _conversations(self) -> None:
        template = self._templates.get_template("conversation.html")
        month, ids, size = "", dict[int, None](), 0
        pieces: list[markupsafe.Markup] = []
        for row in self._connection.execute(CONVERSATIONS):
            its_month = (row["createdAt"] or "")[:7] or "undated"
            for piece in self._pieces(row):
                text = template.render(**piece)
                is_full = len(ids) >= MOST_CONVERSATIONS or size + len(text) > MOST_BYTES
                if ids and (its_month != month or is_full):
                    self._page(month, pieces, ids)
                    pieces, ids, size = [], {}, 0
                month = its_month
                pieces.append(markupsafe.Markup(text))  # noqa: S704  (a template made it)
                ids[row["id"]] = None
                size += len(text.encode())
        if ids:
            self._page(month, pieces, ids)

    def _page(self, month: str, pieces: list[markupsafe.Markup], ids: Iterable[int]) -> None:
        last = self._pages[-1] if self._pages else None
        number = last.number + 1 if last and last.month == month else 1
        stands = [(id_, f"{month}-{number}.html") for id_ in ids]
        # A conversation of several pieces stands where it begins.
        self._connection.executemany("insert or ignore into stands values (?, ?)", stands)
        page = Page(f"{month}-{number}.html", month, number, len(stands))
        self._pages.append(page)
        title = f"{month}, page {number}"
        self._write(page.name, "conversations.html", pieces=pieces, title=title)

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
            if len(messages) >= MOST_MESSAGES or (messages and size + len(body) > MOST_BYTES // 2):
                yield {**head, "messages": messages, "is_continued": is_continued}
                messages, size, is_continued = [], 0, True
            size += len(body)
            messages.append(
                message
                | self._author(message, row)
                | {"html": body, "files": files.get(message["id"], [])}
            )
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
        if not self._has_files:
            return files
        query = "select * from attachments where conversationId = ? order by messageId, position"
        for row in self._connection.execute(query, [conversation]):
            files.setdefault(row["messageId"], []).append(row)
        return files

    @property
    def _has_files(self) -> bool:
        query = "select 1 from sqlite_master where name = 'attachments'"
        return self._connection.execute(query).fetchone() is not None

    def _contacts(self) -> list[tuple[str, str, str]]:
        """Write the lists of contacts; say where they are, and whom they begin and end with."""
        lists: list[tuple[str, str, str]] = []
        rows = self._connection.execute(CONTACTS)
        while some := rows.fetchmany(CONTACTS_PER_PAGE):
            for row in some:
                row["conversations"] = sorted(
                    json.loads(row["conversations"]), key=lambda of: of[1] or ""
                )
            name = f"contacts-{len(lists) + 1}.html"
            self._write(name, "contacts.html", contacts=some, title="Contacts")
            first, last = (_shown(row) for row in (some[0], some[-1]))
            lists.append((name, first, last))
        return lists


def _shown(contact: Row) -> str:
    return str(contact["name"] or contact["email"] or contact["id"] or "nobody")[:40]


def _list(text: str | None) -> Iterable[Any]:
    found = json.loads(text or "[]")
    return found if isinstance(found, list) else []
