"""Something to read and to query: made from the files alone, and harmless."""

from __future__ import annotations

import base64
import collections
import contextlib
import hashlib
import re
import sqlite3
import statistics
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tap_drift.archive.pages import clean
from tap_drift.archive.sqlite import safe_name
from tests.archives import DAMAGED, NOT_COMPLETE, arguments, call
from tests.sandbox import Account, Sandbox
from tests.sandbox.expected import as_time
from tests.sandbox.items import DAY
from tests.sandbox.server import error, items_never_load

if TYPE_CHECKING:
    from collections.abc import Callable

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '<img src="https://tracker.example/pixel.png">',
    '<a href="javascript:alert(1)">click</a>',
    '<a href="java\nscript:alert(1)" onclick="alert(1)">click</a>',
    "</div></article></body><h1>unclosed <b>",
    '<style>body{background:url("https://tracker.example/x")}</style>',
    '<iframe src="https://tracker.example"></iframe><svg/onload=alert(1)>',
    '<form action="https://tracker.example"><input name=password></form>',
    "<p style='background:url(https://tracker.example/x)'>text</p>",
    '<meta http-equiv=refresh content="0;url=//tracker.example"><base href="//tracker.example">',
    "<!--",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<table><script>alert(1)</script>",
]


class Reader(HTMLParser):
    """Notes what a browser would load or run, and which elements stand in a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.links: list[str] = []
        self.runs: list[str] = []
        self.policy = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if ("http-equiv", "Content-Security-Policy") in attrs:
            self.policy = str(dict(attrs)["content"])
        for name, value in attrs:
            if name in {"src", "srcset", "action", "style", "background", "poster", "data"}:
                self.loads.append(f"{tag} {name}={value}")
            if name.startswith("on"):
                self.runs.append(f"{tag} {name}={value}")
            if name == "href":
                self.links.append(value or "")


class HostileAccount(Account):
    """All that strangers may write; the last conversation is longer than a page."""

    def messages(self, id_: int) -> list[dict[str, Any]]:
        is_last = id_ == max(self.conversations)
        return [
            message | {"body": "&" * 250_000 if is_last else HOSTILE[number % len(HOSTILE)]}
            for number, message in enumerate(super().messages(id_))
        ]


class UndatedAccount(Account):
    def listing(self, status_ids: frozenset[int] = frozenset()) -> list[dict[str, Any]]:
        return [row | {"createdAt": "../../x"} for row in super().listing(status_ids)]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Account]:
    folder = tmp_path_factory.mktemp("read") / "archive"
    account = HostileAccount(60)
    account.messages_in[max(account.conversations)] = 1
    for contact in {row["contactId"] for row in account.conversations.values()}:
        account.contact_names[contact] = f"<script>alert({contact})</script>" * (1 + contact % 9)
    with Sandbox(account) as drift:
        result = call(*arguments(drift, folder))
    assert result.exit_code == 0, result.output
    return folder, account


def pages(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "pages").glob("*.html")}


def test_every_conversation_stands_on_a_page(read: tuple[Path, Account]) -> None:
    folder, account = read
    text = "".join(pages(folder).values())
    for id_, number in account.messages_in.items():
        assert text.count(f'id="c{id_}"') == 1, number
    assert text.count('<div class="message') == sum(account.messages_in.values())
    assert text.count("No messages.") == list(account.messages_in.values()).count(0)


def test_links_lead_somewhere(read: tuple[Path, Account]) -> None:
    folder, _ = read
    found = pages(folder)
    for name, text in found.items():
        reader = Reader()
        reader.feed(text)
        for link in reader.links:
            if not link.startswith(("http", "mailto:")):
                page, _, anchor = link.partition("#")
                assert (folder / "pages" / page).is_file(), (name, link)
                assert not anchor or f'id="{anchor}"' in found[page]


def test_no_page_is_too_long(read: tuple[Path, Account]) -> None:
    folder, _ = read
    assert "[cut; all of it is in data/]" in "".join(pages(folder).values())
    sizes = [path.stat().st_size for path in (folder / "pages").iterdir()]
    assert 1_000_000 < max(sizes) < 2_000_000


def test_the_first_page_says_whether_it_is_complete(
    read: tuple[Path, Account], sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    assert "Complete as of 2" in pages(read[0])["index.html"]
    drift = sandbox(UndatedAccount(3))
    drift.fault = items_never_load(list(drift.account.conversations)[:1], error(500, "x", "no"))
    result = call(*arguments(drift, tmp_path / "archive", max_retries=0))
    assert result.exit_code == NOT_COMPLETE
    made = pages(tmp_path / "archive")
    assert "Not complete on 2" in made["index.html"]
    assert sorted(made) == ["contacts-1.html", "index.html", "undated-1.html"]


def test_a_copy_without_conversations_says_so(
    sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    call(*arguments(sandbox(3), tmp_path / "archive", "--streams", "users,teams"))
    index = pages(tmp_path / "archive")["index.html"]
    assert "There are no conversations in this copy." in index
    assert "By contact" not in index
    assert "0 messages" not in index


def test_hostile_bodies_do_nothing(read: tuple[Path, Account]) -> None:
    folder, _ = read
    for name, text in pages(folder).items():
        reader = Reader()
        reader.feed(text)
        assert (reader.loads, reader.runs) == ([], []), name
        assert [tag for tag in reader.tags if tag in {"script", "style"}] == ["style", "script"]
        assert reader.tags.count("body") == reader.tags.count("h1") - text.count("<h1>unclosed")
        assert not {"img", "iframe", "svg", "base", "form"} & set(reader.tags)
        assert all(not link.lower().startswith("java") for link in reader.links)
        assert reader.policy.startswith("default-src 'none'; ")
        for kind in ("script", "style"):
            own = re.search(f"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
            assert own
            sha256 = hashlib.sha256(own[1].encode()).digest()
            assert f"{kind}-src 'sha256-{base64.b64encode(sha256).decode()}'" in reader.policy


@pytest.mark.parametrize("body", HOSTILE)
def test_what_is_left_of_a_hostile_body(body: str) -> None:
    left = clean(body)
    assert "alert" not in left or left == clean(left)
    assert "tracker" not in left
    assert left.count("<div") == left.count("</div")


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("../../etc/passwd", "1-0-etc_passwd.bin"),
        ("CON", "1-0-CON.bin"),
        ("a.pdf", "1-0-a.pdf"),
        ("page.HTML", "1-0-page.HTML.bin"),
        ("x.svg", "1-0-x.svg.bin"),
        ("..", "1-0-.bin"),
        ("C:\\a\\b.txt", "1-0-C_a_b.txt"),
        ("a\0b\n.png", "1-0-a_b_.png"),
        ("漢" * 300 + ".pdf", f"1-0-{'漢' * 46}.pdf"),
        (None, "1-0-file.bin"),
    ],
)
def test_safe_names_of_files(given: str | None, safe: str) -> None:
    assert safe_name({"messageId": 1, "position": 0, "fileName": given}) == safe


def test_the_database_holds_the_newest_row_of_each_key(read: tuple[Path, Account]) -> None:
    folder, account = read
    with sqlite3.connect(folder / "archive.sqlite") as database:
        query = "select id, status, contactId from conversations"
        assert {row[0]: row[1:] for row in database.execute(query)} == {
            row["id"]: (row["status"], row["contactId"]) for row in account.conversations.values()
        }
        found = database.execute(
            "select count(*) from messages_fts where messages_fts match 'unclosed'"
        )
        number = sum(
            message["body"] == HOSTILE[5]
            for id_ in account.conversations
            for message in account.messages(id_)
        )
        assert found.fetchone() == (number,)
        assert number > 0
    database.close()


def test_it_can_be_made_again_and_the_archive_stays_whole(read: tuple[Path, Account]) -> None:
    folder, _ = read
    before = pages(folder)
    assert call(str(folder), "--read").exit_code == 0
    assert pages(folder) == before
    assert call(str(folder), "--check").exit_code == 0


def test_a_damaged_file_is_not_read(read: tuple[Path, Account]) -> None:
    folder, _ = read
    path = folder / "data" / "messages.jsonl.gz"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-1])
        result = call(str(folder), "--read")
    finally:
        path.write_bytes(content)
    assert result.exit_code == DAMAGED
    assert result.stderr.startswith("damaged: data/messages.jsonl.gz is cut")
    assert pages(folder)


def test_without_the_extra_a_line_says_how_to_get_the_pages(read: tuple[Path, Account]) -> None:
    code = "import sys; sys.modules['nh3'] = None; from tap_drift.archive.__main__ import main; "
    command = [sys.executable, "-c", f"{code}main()", str(read[0]), "--read"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (run.returncode, run.stdout) == (0, "")
    (line,) = run.stderr.splitlines()
    assert "pip install 'tap-drift[archive]'" in line


# First questions

QUESTIONS = Path(__file__).parents[1] / "docs" / "questions"


def ask(folder: Path, number: int) -> list[tuple[Any, ...]]:
    (file,) = QUESTIONS.glob(f"{number}-*.sql")
    with contextlib.closing(sqlite3.connect(folder / "archive.sqlite")) as database:
        return database.execute(file.read_text()).fetchall()


def replies(account: Account, *, by_bot: bool) -> dict[str, list[float]]:
    """How long each conversation waited for its first reply, in seconds, by month."""
    waited = collections.defaultdict(list)
    for id_, row in account.conversations.items():
        times = [
            message["createdAt"]
            for message in account.messages(id_)
            if message["author"]["type"] == "user"
            and message["author"]["bot"] is by_bot
            and message["type"] != "private_note"
        ]
        if times:
            month = as_time(row["createdAt"])[:7]
            waited[month].append((min(times) - row["createdAt"]) / 1000)
    return waited


def test_conversations_by_month_and_status(read: tuple[Path, Account]) -> None:
    folder, account = read
    counts = collections.Counter(
        (as_time(row["createdAt"])[:7], row["status"]) for row in account.conversations.values()
    )
    assert ask(folder, 1) == [(*of, number) for of, number in sorted(counts.items())]


def test_time_to_the_first_reply(read: tuple[Path, Account]) -> None:
    folder, account = read
    expected = [
        (month, who, len(waited), statistics.median(waited))
        for who, by_bot in (("bot", True), ("human", False))
        for month, waited in replies(account, by_bot=by_bot).items()
    ]
    assert len(expected) > 1
    assert ask(folder, 2) == sorted(expected)


def test_who_answers(read: tuple[Path, Account]) -> None:
    folder, account = read
    names = {user["id"]: (user["name"], int(user["bot"])) for user in account.users()}
    written = collections.defaultdict(list)
    for id_ in account.conversations:
        for message in account.messages(id_):
            if message["author"]["type"] == "user":
                written[message["author"]["id"]].append(id_)
    assert ask(folder, 3) == [
        (id_, *names[id_], len(of), len(set(of))) for id_, of in sorted(written.items())
    ]


def test_playbooks_and_landing_pages(read: tuple[Path, Account]) -> None:
    folder, account = read
    since = account.now - 30 * DAY
    meetings = collections.Counter(
        row["conversationId"] for row in account.meetings() if row["slotStart"] >= since
    )
    found: dict[Any, list[int]] = collections.defaultdict(lambda: [0, 0])
    for id_ in account.conversations:
        of = found[account.detail(id_).get("relatedPlaybookId")]
        of[0] += 1
        of[1] += meetings[id_]
    asked = {row[0]: list(row[3:]) for row in ask(folder, 4)}
    assert asked == found
    pages = {row[0]: sorted((row[2] or "").split()) for row in ask(folder, 4)}
    for id_, urls in pages.items():
        assert urls == sorted(
            row["landingPageUrl"] for row in account.landing_pages() if row["playbookId"] == id_
        )


def test_what_is_missing(read: tuple[Path, Account]) -> None:
    folder, account = read
    assert [row for row in ask(folder, 5) if row[0] == "messages"] == [
        ("messages", id_, "empty")
        for id_, number in sorted(account.messages_in.items())
        if not number
    ]
