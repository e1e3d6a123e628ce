"""The sandbox is what every other test believes: its answers, as anybody's client sees them."""

from __future__ import annotations

import base64
import datetime as dt
import http.client
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tests.sandbox.account import FIRST_TIME, ORG
from tests.sandbox.expected import expected
from tests.sandbox.server import (
    LAST_PAGES,
    TOKEN,
    answers,
    changing,
    continues,
    counts_time_out,
    dated,
    drip,
    endless,
    error,
    first_of,
    items_never_load,
    never_ending,
    tokens_ignored,
    tokens_refused,
    without_pagination,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox import Sandbox

    Serve = Callable[..., Sandbox]
    Json = dict[str, Any]

LIST = "/conversations/list"
STREAMS = [
    "attachments",
    "booked_meetings",
    "contact_attributes",
    "conversation_metrics",
    "landing_pages",
    "transcripts",
]
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


def get(drift: Sandbox, path: str = LIST, **query: Any) -> requests.Response:
    return requests.get(drift.url + path, params=query, headers=HEADERS, timeout=10)


def rows(drift: Sandbox, **query: Any) -> list[int]:
    return [row["id"] for row in get(drift, **query).json()["data"]]


def links(answer: Json) -> dict[str, str]:
    """The tokens of an answer's links."""
    return {
        name: parse_qs(urlsplit(url).query, keep_blank_values=True)["page_token"][0]
        for name, url in answer["links"].items()
    }


def plain(token: str) -> str:
    return base64.b64decode(token + "=" * (-len(token) % 4)).decode()


def walk(drift: Sandbox, form: str, **query: Any) -> list[int]:
    """All ids, as a client reads them that knows one form of the list."""
    asked = query | ({"page_token": ""} if form == "blank" else {})
    ids: list[int] = []
    while True:
        body = get(drift, **asked).json()
        ids += [row["id"] for row in body["data"]]
        if form == "next":
            below = (body.get("pagination") or {}).get("next")
            asked = query | {"next": below}
        else:
            below = (body.get("links") or {}).get("next")
            asked = parse_qs(urlsplit(below or "").query)
        if not below:
            return ids


# Every form of the list


@pytest.mark.parametrize("last_page", LAST_PAGES)
@pytest.mark.parametrize("number", [0, 7, 8])
def test_every_way_through_the_list_gives_every_row(
    sandbox: Serve, last_page: tuple[str, str], number: int
) -> None:
    for form, ways in {
        "both": ["next", "links", "blank"],
        "offset": ["next"],
        "links": ["links", "blank"],
        "blank": ["blank"],
    }.items():
        drift = sandbox(number, form, last_page=last_page)
        everything = [row["id"] for row in drift.account.listing()]
        for way in ways:
            assert walk(drift, way, limit=4) == everything


@pytest.mark.parametrize("cursor", ["offset", "id", "keyset"])
def test_next_alone(sandbox: Serve, cursor: str) -> None:
    drift = sandbox(7, cursor)
    head = get(drift, limit=4).json()
    assert head.keys() == {"data", "pagination"}
    assert walk(drift, "next", limit=4) == [row["id"] for row in drift.account.listing()]
    assert get(drift, limit=4, page_token="what").json() == head  # noqa: S106


def test_the_two_forms_as_they_were_seen_live(sandbox: Serve) -> None:
    drift = sandbox(7, "both")
    body = get(drift, limit=2).json()
    assert body["pagination"] == {"more": True, "next": "2"}
    assert body["links"]["next"].startswith("https://api.drift.com/conversations/list?page_token=")
    first, last = body["data"]
    own, below = links(body)["self"], links(body)["next"]
    assert "=" not in own + below
    place = "highestUpdatedAt={}&highestId={}&limit=2"
    assert plain(own) == "statusIds=&" + place.format(first["updatedAt"], first["id"] - 1)
    assert plain(below) == "statusIds=&" + place.format(last["updatedAt"], last["id"])
    assert get(drift, page_token=own).json()["data"] == body["data"]


def test_a_blank_token_opens_the_links(sandbox: Serve) -> None:
    drift = sandbox(7, "blank")
    assert get(drift, limit=4).json().keys() == {"data"}
    body = get(drift, limit=4, page_token="").json()
    assert body.keys() == {"data", "links"}
    assert len(get(drift, page_token=links(body)["next"]).json()["data"]) == 3


@pytest.mark.parametrize(("pagination", "links"), LAST_PAGES)
def test_the_last_page_in_every_form(sandbox: Serve, pagination: str, links: str) -> None:
    body = get(sandbox(3, "both", last_page=(pagination, links))).json()
    own = body["links"]["self"] if body.get("links") else None
    absent: Any = object()
    assert (
        body.get("pagination", absent)
        == {
            "absent": absent,
            "null": None,
            "more": {"more": False},
            "next null": {"more": False, "next": None},
            "next empty": {"more": False, "next": ""},
        }[pagination]
    )
    assert (
        body.get("links", absent)
        == {
            "absent": absent,
            "null": None,
            "self": {"self": own},
            "next null": {"self": own, "next": None},
            "next empty": {"self": own, "next": ""},
        }[links]
    )


def test_a_token_keeps_statuses_and_place(sandbox: Serve) -> None:
    drift = sandbox(40, "both")
    wanted = [row["id"] for row in drift.account.listing(frozenset({1, 3}))]
    below = links(get(drift, limit=4, statusId=[3, 1]).json())["next"]
    assert plain(below).startswith("statusIds=1,3&")
    drift.account.delete(wanted[1])
    drift.account.begin("open")
    assert rows(drift, page_token=below, statusId=2) == wanted[4:8]
    assert rows(drift, page_token=below, next=1) == wanted[4:8]


def test_of_equal_times_the_smaller_id_comes_first(sandbox: Serve) -> None:
    drift = sandbox(0, "both")
    ids = [drift.account.begin(milliseconds=0) for _ in range(9)]
    assert walk(drift, "links", limit=2) == walk(drift, "next", limit=2) == ids


def test_a_limit_beside_a_token(sandbox: Serve) -> None:
    drift = sandbox(40, "both")
    below = links(get(drift, limit=8).json())["next"]
    assert [len(rows(drift, page_token=below, **more)) for more in ({}, {"limit": 3})] == [8, 3]
    drift.token_keeps_limit = True
    assert len(rows(drift, page_token=below, limit=3)) == 8


@pytest.mark.parametrize("token", ["what", "c3RhdHVzSWRzPTE", "é"])
def test_an_unknown_token(sandbox: Serve, token: str) -> None:
    answer = get(sandbox(3, "links"), page_token=token)
    assert answer.status_code == 400
    assert answer.json() == {
        "errors": [{"type": "validation_error", "message": "unknown cursor", "param": "page_token"}]
    }


# What may go wrong with it


def test_counts_time_out(sandbox: Serve) -> None:
    drift = sandbox(40, "both")
    drift.fault = counts_time_out(20)
    assert get(drift, next=19).ok
    assert get(drift, next=20).status_code == 504
    drift.fault = counts_time_out(20, hang=True)
    with pytest.raises(requests.Timeout):
        requests.get(f"{drift.url}{LIST}?next=20", headers=HEADERS, timeout=0.1)
    assert walk(drift, "links", limit=10) == [row["id"] for row in drift.account.listing()]


@pytest.mark.parametrize("status", [400, 404, 410, 422])
def test_tokens_are_refused(sandbox: Serve, status: int) -> None:
    drift = sandbox(40, "both")
    below = links(get(drift).json())["next"]
    drift.fault = tokens_refused(status)
    assert get(drift, page_token=below).status_code == status
    assert get(drift, page_token="").ok
    assert get(drift, next=25).ok


def test_tokens_are_ignored(sandbox: Serve) -> None:
    drift = sandbox(40, "both")
    head = get(drift, limit=4).json()
    drift.fault = tokens_ignored
    assert get(drift, page_token=links(head)["next"], limit=4, next=8).json() == head


def test_an_answer_without_a_word_of_the_page_below(sandbox: Serve) -> None:
    drift = sandbox(40, "both")
    drift.faults = {2: without_pagination}
    assert [get(drift).json().keys() for _ in range(3)][1] == {"data"}


def test_items_that_never_load(sandbox: Serve) -> None:
    drift = sandbox(4)
    poison, other, *_ = drift.account.conversations
    drift.fault = items_never_load({poison}, error(500, "internal_error", "no"))
    for path in ("", "/messages"):
        assert get(drift, f"/conversations/{poison}{path}").status_code == 500
        assert get(drift, f"/conversations/{other}{path}").ok
    assert get(drift).ok


def test_rows_with_times_that_are_not_theirs(sandbox: Serve) -> None:
    drift = sandbox(10)
    ids = rows(drift)
    drift.fault = dated({ids[4]: -1})
    assert [row["updatedAt"] for row in get(drift).json()["data"]][4] == -1
    assert rows(drift) == ids
    drift.account.date(ids[4], 4_070_908_800_000)
    drift.fault = None
    assert rows(drift)[0] == ids[4]


def test_rows_that_appear_late(sandbox: Serve) -> None:
    drift = sandbox(10)
    ids = rows(drift)
    drift.account.hide(ids[4])
    drift.faults = {3: changing(lambda account: account.appear(ids[4]))}
    assert rows(drift) == ids[:4] + ids[5:]
    assert rows(drift) == ids


@pytest.mark.parametrize("form", ["offset", "id", "keyset", "both", "links", "blank"])
@pytest.mark.parametrize("pages", [0, 1, 3])
def test_lists_that_never_end(sandbox: Serve, form: str, pages: int) -> None:
    drift = sandbox(40, form)
    drift.fault = never_ending(pages)
    query: Json = {"limit": 4, "page_token": ""}
    seen, cursors = [], []
    for _ in range(7):
        body = get(drift, **query).json()
        seen.append(tuple(row["id"] for row in body["data"]))
        if "links" in body:
            query = {"page_token": links(body)["next"]}
        else:
            query = {"next": body["pagination"]["next"], "limit": 4}
        cursors.append(str(query))
    assert len(set(seen)) == max(pages, 1)
    assert seen[0] == (tuple(rows(drift, limit=4)) if pages == 1 else seen[0])
    assert bool(seen[0]) == bool(pages)
    assert len(set(cursors)) == 7


def test_accounts_and_messages_that_never_end(sandbox: Serve) -> None:
    drift = sandbox(40)
    id_ = next(id_ for id_, number in drift.account.messages_in.items() if number > 100)
    drift.fault = never_ending(2)
    paths = [f"/conversations/{id_}/messages", "/accounts"]
    seen = [[get(drift, path).json() for _ in range(3)] for path in paths]
    for messages in seen[0]:
        assert messages["data"]["messages"]
        assert messages["pagination"]["more"]
    for accounts in seen[1]:
        assert accounts["data"]["accounts"]
    assert len({body["pagination"]["next"] for body in seen[0]}) == 3
    assert len({body["data"]["next"] for body in seen[1]}) == 3
    assert seen[0][0]["data"] == seen[0][2]["data"] != seen[0][1]["data"]


@pytest.mark.parametrize("headers", [False, True])
def test_an_answer_that_drips(sandbox: Serve, headers: bool) -> None:  # noqa: FBT001
    drift = sandbox(0, latency=0.0)
    whole = get(drift).json()
    drift.fault = drip(0.001, headers=headers)
    began = time.monotonic()
    assert get(drift).json() == whole
    assert time.monotonic() - began > 0.001 * len(str(whole))


def test_answers_that_never_end(sandbox: Serve) -> None:
    drift = sandbox(0)
    drift.fault = endless()
    with requests.get(f"{drift.url}{LIST}", headers=HEADERS, timeout=10, stream=True) as answer:
        taken = 0
        for piece in answer.iter_content(65_536):
            taken += len(piece)
            if taken > 5_000_000:
                break
    drift.fault = continues(0.0)
    connection = http.client.HTTPConnection(*drift.url.removeprefix("http://").split(":"))  # type: ignore[arg-type]
    connection.request("GET", LIST)
    assert connection.sock.recv(22) == b"HTTP/1.1 100 Continue\r"
    connection.close()


def test_the_first_fault_that_answers(sandbox: Serve) -> None:
    drift = sandbox(30, "both")
    drift.fault = first_of(counts_time_out(10), answers(error(429, "rate_limit", "no")))
    assert [get(drift, next=n).status_code for n in (10, 9)] == [504, 429]


# Whose it is, and when


def test_every_answer_has_a_date(sandbox: Serve) -> None:
    def date(drift: Sandbox, **query: Any) -> dt.datetime:
        return parsedate_to_datetime(get(drift, **query).headers["Date"])

    drift = sandbox(3)
    now = dt.datetime.now(dt.UTC)
    assert abs(date(drift) - now) < dt.timedelta(seconds=5)
    assert abs(date(drift, limit=0) - now) < dt.timedelta(seconds=5)
    drift.account.pass_time(10**12)  # never behind what the account says
    assert date(drift).timestamp() * 1000 >= drift.account.now
    fault = answers(error(500, "internal_error", "no"))
    for year in (2020, 2030):
        drift.clock = lambda year=year: dt.datetime(year, 1, 1, tzinfo=dt.UTC)
        for drift.fault in (None, fault):
            assert date(drift).year == year


def test_a_large_account_is_not_of_the_future(sandbox: Serve) -> None:
    drift = sandbox(100_000)
    assert FIRST_TIME < drift.account.now < time.time() * 1000


def test_whose_a_token_is(sandbox: Serve) -> None:
    def info(token: str = TOKEN) -> requests.Response:
        return requests.post(
            f"{drift.url}/app/token_info",
            json={"access_token": token},
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        )

    drift = sandbox(0)
    assert info().json()["authenticated_userid"] == f"orgId:{ORG}"
    assert info("another").status_code == 401
    drift.tokens.add("another")
    drift.account.org = 77
    assert info("another").json()["authenticated_userid"] == "orgId:77"
    for drift.token_info_status in (401, 404):
        assert info().status_code == drift.token_info_status
    assert (drift.token_infos, drift.requests) == (5, [])


# What else there is


def report(drift: Sandbox, low: int, high: int, metrics: list[str]) -> requests.Response:
    between = {"property": "updatedAt", "operation": "BETWEEN", "values": [low, high]}
    body = {"filters": [between], "metrics": metrics}
    return requests.post(
        drift.url + "/reports/conversations", json=body, headers=HEADERS, timeout=10
    )


def test_reports_give_metrics_by_position(sandbox: Serve) -> None:
    drift = sandbox(60)
    rows = drift.account.listing()
    low, high = rows[30]["updatedAt"], rows[10]["updatedAt"]
    names = ["numBotMessages", "firstCloseAt", "createdAt"]
    body = report(drift, low, high, names).json()
    assert body["count"] == 21
    assert {row["conversationId"] for row in body["data"]} == {row["id"] for row in rows[10:31]}
    for row in body["data"]:
        conversation = drift.account.conversations[row["conversationId"]]
        messages = drift.account.messages(conversation["id"])
        closed = conversation["status"] == "closed"
        assert row["metrics"] == [
            sum(message["author"].get("bot", False) for message in messages),
            conversation["updatedAt"] if closed else "NaN",
            conversation["createdAt"],
        ]
    drift.reports.nan = float("nan")
    assert ", NaN, " in report(drift, low, high, names).text
    assert report(drift, low, high, ["noSuchMetric"]).status_code == 400


def test_reports_know_what_the_messages_say(sandbox: Serve) -> None:
    account = sandbox(300).account
    for id_ in account.conversations:
        authors = [message["author"] for message in account.messages(id_)]
        agents = [author for author in authors if author["type"] == "user"]
        bots = sum(author["bot"] for author in agents)
        metrics = account.metrics(id_)
        assert metrics["numBotMessages"] == bots
        assert metrics["numAgentMessages"] == len(agents) - bots
        assert metrics["numEndUserMessages"] == len(authors) - len(agents)
        assert ("lastAgentId" in metrics) == (len(agents) > bots)


def test_reports_that_are_cut_or_come_too_fast(sandbox: Serve) -> None:
    drift = sandbox(60)
    drift.reports.rows = 10
    answered = [report(drift, 0, 10**15, ["createdAt"]) for _ in range(61)]
    assert [answer.status_code for answer in answered] == [200] * 60 + [429]
    body = answered[0].json()
    assert (body["count"], len(body["data"])) == (60, 10)
    drift.reports.seconds = 0.0
    assert report(drift, 0, 10**15, ["createdAt"]).ok


def test_meetings(sandbox: Serve) -> None:
    drift = sandbox(30_000)
    account, path = drift.account, "/users/meetings/org"

    def meetings(**query: int) -> list[Json]:
        data: list[Json] = get(drift, path, **query).json()["data"]
        return data

    first = account.now - 30 * 86_400_000
    known = [row for row in account.meetings() if row["slotStart"] >= first]
    assert 1000 < len(known) < len(account.meetings())
    ever = {"min_start_time": 0, "max_start_time": 15_000_000_000_000}
    assert [len(meetings(**ever, **more)) for more in ({}, {"limit": 1000})] == [100, 1000]

    def halved(low: int, high: int) -> list[Json]:
        found = meetings(min_start_time=low, max_start_time=high, limit=1000)
        middle = (low + high) // 2
        return found if len(found) < 1000 else halved(low, middle) + halved(middle + 1, high)

    found = halved(first, 15_000_000_000_000)
    assert sorted(map(str, found)) == sorted(map(str, known))
    assert any(row["slotStart"] > account.now for row in found)
    have = {("slug" in row, "eventId" in row) for row in found}
    assert have == {(True, True), (True, False), (False, True), (False, False)}
    assert get(drift, path, limit=5).status_code == 400
    assert get(drift, path, **ever, limit=1001).status_code == 400


def test_small_lists(sandbox: Serve) -> None:
    drift = sandbox(60)
    counts = get(drift, "/conversations/stats").json()["conversationCount"]
    shown = [len(drift.account.listing(frozenset({number}))) for number in (1, 2, 3)]
    assert list(counts.items()) == list(zip(["OPEN", "CLOSED", "PENDING"], shown, strict=True))
    assert get(sandbox(0), "/conversations/stats").json() == {"conversationCount": {}}
    pages = get(drift, "/playbooks/clp").json()
    assert {page["playbookId"] for page in pages} < {row["id"] for row in drift.account.playbooks()}
    assert len({page["landingPageUrl"] for page in pages}) == len(pages) == 3
    properties = get(drift, "/contacts/attributes").json()["data"]["properties"]
    assert {row["type"] for row in properties} == {
        "STRING",
        "NUMERIC",
        "BOOLEAN",
        "DATETIME",
        "DATE",
    }


def test_transcripts(sandbox: Serve) -> None:
    drift = sandbox(7)
    for id_ in drift.account.conversations:
        path = f"/conversations/{id_}/transcript"
        drift.transcripts_as_json = False
        answer = get(drift, path)
        assert answer.headers["Content-Type"] == "text/plain"
        text = answer.content.decode()
        assert len(text.splitlines()) == drift.account.messages_in[id_]
        drift.transcripts_as_json = True
        assert get(drift, path).json() == {"data": text}
        assert ("Zoë" in text) == (drift.account.messages_in[id_] > 1)
    assert get(drift, "/conversations/1/transcript").status_code == 404


def test_attachments(sandbox: Serve) -> None:
    drift = sandbox(300)
    attachments = [
        (message, attachment)
        for id_ in drift.account.conversations
        for message in get(drift, f"/conversations/{id_}/messages").json()["data"]["messages"]
        for attachment in message.get("attachments", [])
    ]
    ids = [attachment["id"] for _, attachment in attachments]
    assert len(set(ids)) == len(ids) > 100
    assert max(len(message["attachments"]) for message, _ in attachments) == 2
    assert not any(attachment["url"].startswith(drift.url) for _, attachment in attachments)
    first, second, third = ids[:3]
    drift.account.file_sizes = {second: 0, third: 3_000_000}
    whole = get(drift, f"/attachments/{first}/data")
    assert whole.headers["Content-Type"] == "application/pdf"
    assert whole.content == sandbox(300).account.file(first)
    assert whole.content != get(drift, f"/attachments/{ids[3]}/data").content
    assert get(drift, f"/attachments/{second}/data").content == b""
    assert len(get(drift, f"/attachments/{third}/data").content) == 3_000_000
    assert get(drift, f"/attachments/{first + 7}/data").status_code == 404
    drift.account.delete(attachments[0][0]["conversationId"])
    assert get(drift, f"/attachments/{first}/data").status_code == 404


def test_what_is_expected_of_every_stream(sandbox: Serve) -> None:
    account = sandbox(300).account
    number = {stream: len(expected(account, stream)) for stream in STREAMS}
    assert number["booked_meetings"] == len(account.meetings())
    assert number["conversation_metrics"] == number["transcripts"] == 300
    assert number["landing_pages"] == 3
    assert number["contact_attributes"] == 5
    files = expected(account, "attachments")
    assert {position for _, position in files} == {0, 1}
    for record in files.values():
        content = base64.b64decode(record["content"])
        assert content == account.file(record["id"])
        assert record["size"] == len(content)
