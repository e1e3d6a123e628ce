"""All that belongs to conversations, and to the organisation."""

from __future__ import annotations

import statistics
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.expected import expected
from tests.sandbox.server import answers, edited, error, html
from tests.tap import run_here, selecting, settings, upserted

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Request, Response

    from tests.sandbox import Sandbox

    Serve = Callable[..., Sandbox]

OF_CONVERSATIONS = ["conversation_details", "messages", "contacts", "transcripts", "attachments"]
OF_ORGANISATION = [
    "users",
    "teams",
    "accounts",
    "playbooks",
    "landing_pages",
    "contact_attributes",
    "booked_meetings",
    "conversation_metrics",
]


@pytest.mark.parametrize("stream", OF_CONVERSATIONS + OF_ORGANISATION)
def test_everything_arrives(sandbox: Serve, stream: str) -> None:
    drift = sandbox(120)
    output = run_here(settings(drift), None, selecting(stream))
    assert output.exit_code == 0
    assert upserted({}, output.records(stream), stream) == expected(drift.account, stream)
    assert len(output.records(stream)) == len(expected(drift.account, stream))
    assert {m["stream"] for m in output.messages if m["type"] == "RECORD"} == {stream}


@pytest.mark.parametrize("stream", OF_CONVERSATIONS)
def test_only_what_changed_is_asked_for_again(sandbox: Serve, stream: str) -> None:
    drift = sandbox(120)
    catalog = selecting(stream)
    first = run_here(settings(drift), None, catalog)
    before = len(drift.requests)
    changed = list(drift.account.conversations)[7]
    drift.account.change(changed)
    second = run_here(settings(drift), first.state, catalog)
    # One page of the list, and the items (up to three pages each) of what changed, and of what
    # was the newest before.
    asked = {request.partition("?")[0] for request in drift.requests[before:]}
    assert len([path for path in asked if not path.startswith("/attachments/")]) <= 3
    loaded = upserted({}, first.records(stream) + second.records(stream), stream)
    assert loaded == expected(drift.account, stream)


def test_one_run_reads_several_streams(sandbox: Serve) -> None:
    drift = sandbox(60)
    streams = ["conversations", *OF_CONVERSATIONS, *OF_ORGANISATION]
    output = run_here(settings(drift), None, selecting(*streams))
    for stream in streams:
        assert upserted({}, output.records(stream), stream) == expected(drift.account, stream)


def test_a_stream_that_is_selected_later_is_read_from_the_start(sandbox: Serve) -> None:
    drift = sandbox(60)
    first = run_here(settings(drift))
    second = run_here(settings(drift), first.state, selecting("conversations", "messages"))
    assert upserted({}, second.records("messages")) == expected(drift.account, "messages")


LISTS = ["users", "teams", "accounts", "playbooks", "landing_pages", "contact_attributes"]


@pytest.mark.parametrize("stream", ["messages", "attachments", *LISTS])
def test_no_row_at_all_is_believed_when_it_comes_twice(sandbox: Serve, stream: str) -> None:
    drift = sandbox(3)
    drift.account.messages_in = dict.fromkeys(drift.account.messages_in, 4)

    def empty(body: Any) -> None:
        rows = body if isinstance(body, list) else body["data"]
        for name in ("accounts", "messages", "properties"):
            rows = rows[name] if isinstance(rows, dict) and name in rows else rows
        rows.clear()
        if isinstance(body, dict):
            body.pop("pagination", None)
            body["data"].pop("next", None) if isinstance(body["data"], dict) else None

    def once(drift: Sandbox, request: Request) -> Response | None:
        path = request.full_path.rstrip("?")
        if request.path == "/conversations/list" or request.path.startswith("/attachments/"):
            return None
        return edited(empty)(drift, request) if drift.requests.count(path) == 1 else None

    drift.fault = once
    config = settings(drift, emit_activate_version_messages=True)
    output = run_here(config, None, selecting(stream))
    assert output.exit_code == 0
    assert upserted({}, output.records(stream), stream) == expected(drift.account, stream)


def test_nothing_costs_a_second_request(sandbox: Serve) -> None:
    drift = sandbox(2)
    drift.account.messages_in = dict.fromkeys(drift.account.messages_in, 0)
    assert run_here(settings(drift), None, selecting("messages")).records("messages") == []
    paths = [path for path in drift.requests if path.endswith("/messages")]
    assert [paths.count(path) for path in set(paths)] == [2, 2]


def test_what_is_not_selected_costs_nothing(sandbox: Serve) -> None:
    drift = sandbox(60)
    run_here(settings(drift))
    assert {request.partition("?")[0] for request in drift.requests} == {"/conversations/list"}
    output = run_here(settings(drift), None, selecting("messages", without=("body",)))
    assert output.records("messages")
    assert not any("body" in record for record in output.records("messages"))


def test_accounts_are_asked_for_by_index_and_size(sandbox: Serve) -> None:
    drift = sandbox()
    run_here(settings(drift), None, selecting("accounts"))
    assert drift.requests == [f"/accounts?index={index}&size=65" for index in (0, 64, 128)]


def test_long_conversations_are_read_page_by_page(sandbox: Serve) -> None:
    drift = sandbox(1)
    conversation = next(iter(drift.account.conversations))
    drift.account.messages_in[conversation] = 130
    output = run_here(settings(drift), None, selecting("messages"))
    path = f"/conversations/{conversation}/messages"
    # The end of the list shows twice. Pages overlap, to show that no message has left between.
    assert drift.requests[2:] == [path, f"{path}?next=49", f"{path}?next=98"]
    ids = [record["id"] for record in output.records("messages")]
    assert ids == sorted(ids)
    assert len(ids) == 130


def test_contacts_are_asked_for_once_per_run(sandbox: Serve) -> None:
    drift = sandbox(200)
    run_here(settings(drift), None, selecting("contacts"))
    asked = [request for request in drift.requests if request.startswith("/contacts/")]
    assert len(asked) == len(set(asked)) == len(expected(drift.account, "contacts"))


@pytest.mark.parametrize("stream", OF_CONVERSATIONS)
def test_items_that_are_gone_are_skipped_and_counted(
    sandbox: Serve, caplog: pytest.LogCaptureFixture, stream: str
) -> None:
    drift = sandbox(30)
    gone = [id_ for id_, number in drift.account.messages_in.items() if number > 3][3:5]

    def delete(drift: Sandbox, request: Request) -> Response | None:
        paths = [f"/conversations/{id_}" for id_ in gone]
        paths += [f"/conversations/{id_}/messages" for id_ in gone]
        paths += [f"/conversations/{id_}/transcript" for id_ in gone]
        paths += [f"/contacts/{drift.account.conversations[id_]['contactId']}" for id_ in gone]
        return error(404, "not_found", "gone") if request.path in paths else None

    drift.fault = delete
    output = run_here(settings(drift), None, selecting(stream))
    assert output.exit_code == 0
    said = [r.getMessage() for r in caplog.records if "were gone" in r.getMessage()]
    number = len({drift.account.conversations[id_]["contactId"] for id_ in gone})
    number = number if stream == "contacts" else 2
    assert said == [f"{stream}: {number} were gone when their turn came, and are skipped."]
    missing = (
        expected(drift.account, stream).keys() - upserted({}, output.records(stream), stream).keys()
    )
    assert missing


@pytest.mark.parametrize("status", [404, 410])
def test_an_api_that_is_gone_is_no_item_that_is_gone(sandbox: Serve, status: int) -> None:
    drift = sandbox(20)
    gone = html(status)
    drift.fault = lambda drift, request: (
        gone(drift, request) if request.path != "/conversations/list" else None
    )
    output = run_here(settings(drift), None, selecting("messages"))
    assert output.exit_code == 1
    assert output.bookmark("messages")["replication_key_value"] is None


@pytest.mark.parametrize("stream", OF_CONVERSATIONS)
def test_a_token_that_is_refused_fails_the_stream_where_it_can_resume(
    sandbox: Serve, stream: str
) -> None:
    drift = sandbox(120)
    catalog = selecting(stream)
    drift.faults[36 if stream == "contacts" else 70] = answers(
        error(401, "authentication_error", "no")
    )
    failed = run_here(settings(drift, page_size=10), None, catalog)
    assert failed.exit_code == 1
    assert failed.bookmark(stream)["walk"]["cursor"]  # some pages are out
    again = run_here(settings(drift), failed.state, catalog)
    loaded = upserted({}, failed.records(stream) + again.records(stream), stream)
    due = expected(drift.account, stream)
    if stream == "contacts":  # which of its conversations led to a contact may differ
        for record in [*loaded.values(), *due.values()]:
            del record["conversationUpdatedAt"]
    assert loaded == due


def test_a_contact_that_changes_after_a_resumed_walk_read_it_is_read_again(sandbox: Serve) -> None:
    drift = sandbox(30)
    contacts = selecting("contacts")
    drift.fault = lambda _, request: (
        error(401, "authentication_error", "no") if len(drift.requests) > 12 else None
    )
    config = settings(drift, page_size=5, concurrency=1)
    failed = run_here(config, None, contacts)
    assert failed.bookmark("contacts")["walk"]["cursor"]
    heads = []

    def change(drift: Sandbox, request: Request) -> None:
        if request.path == "/conversations/list" and "next" not in request.args:
            heads.append(request)
            oldest = drift.account.listing()[-1]
            drift.account.contact_names[oldest["contactId"]] = "New"
            drift.account.change(oldest["id"])
            drift.account.begin()  # or the next run would read the other one again, at its floor

    drift.fault = change
    resumed = run_here(config, failed.state, contacts)
    assert len(heads) == 1
    drift.fault = None
    last = run_here(config, resumed.state, contacts)
    records = [run.records("contacts") for run in (failed, resumed, last)]
    loaded = upserted(upserted(upserted({}, records[0]), records[1]), records[2])
    for id_, record in expected(drift.account, "contacts").items():
        assert loaded[id_]["attributes"] == record["attributes"]


def test_a_pause_holds_for_requests_that_wait_for_their_turn(sandbox: Serve) -> None:
    drift = sandbox(30)
    arrived: list[float] = []
    busy = error(429, "rate_limit", "slow down", {"Retry-After": "2"})

    def note(drift: Sandbox, request: Request) -> Response | None:
        arrived.append(time.monotonic())
        return busy if len(arrived) == 3 else None

    drift.fault = note
    config = settings(drift, max_retries=1, requests_per_minute=600, concurrency=16)
    assert run_here(config, None, selecting("conversation_details")).exit_code == 0
    assert not any(arrived[2] + 0.4 < moment < arrived[2] + 1.9 for moment in arrived)


@pytest.mark.parametrize(
    ("stream", "path", "scope"),
    [
        ("users", "/users/list", "user_read"),
        ("accounts", "/accounts", "account_read"),
        ("playbooks", "/playbooks/list", "playbook_read"),
        ("landing_pages", "/playbooks/clp", "playbook_read"),
        ("contact_attributes", "/contacts/attributes", "all_contact_read"),
        ("booked_meetings", "/users/meetings/org", "user_read"),
        ("conversation_metrics", "/reports/conversations", "conversation_read"),
        ("conversation_stats", "/conversations/stats", "conversation_read"),
        ("attachments", "/attachments/", "conversation_read"),
        ("contacts", "/contacts/", "contact_read"),
        ("messages", "/conversations/39", "conversation_read"),
    ],
)
def test_a_missing_scope_is_named_and_the_other_streams_go_on(
    sandbox: Serve, caplog: pytest.LogCaptureFixture, stream: str, path: str, scope: str
) -> None:
    drift = sandbox(20)
    drift.fault = lambda _, request: (
        error(403, "authentication_error", "no") if request.path.startswith(path) else None
    )
    output = run_here(settings(drift), None, selecting("conversations", "teams", stream))
    errors = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert len(errors) == 1
    assert errors[0].startswith(f"{stream}: ")
    assert scope in errors[0]
    assert output.exit_code == 1
    for other in ("conversations", "teams"):
        assert upserted({}, output.records(other), other) == expected(drift.account, other)


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_no_more_requests_are_under_way_than_allowed(sandbox: Serve, concurrency: int) -> None:
    drift = sandbox(30, latency=0.03)
    run_here(settings(drift, concurrency=concurrency), None, selecting("messages"))
    assert drift.most_under_way == concurrency


def test_the_order_of_records_does_not_depend_on_concurrency(sandbox: Serve) -> None:
    drift = sandbox(100)

    def lines(concurrency: int) -> list[dict[str, Any]]:
        output = run_here(settings(drift, concurrency=concurrency), None, selecting("messages"))
        return [
            {name: value for name, value in message.items() if name != "time_extracted"}
            for message in output.messages
        ]

    assert lines(8) == lines(1)


def test_requests_per_minute_hold_for_all_streams_together(sandbox: Serve) -> None:
    drift = sandbox(20)
    arrived: list[float] = []
    drift.fault = lambda _, request: arrived.append(time.monotonic())
    catalog = selecting("conversation_details", "users", "teams")
    run_here(settings(drift, requests_per_minute=600), None, catalog)
    assert len(arrived) == 24
    # 600 in a minute are one every 0.1 s: no more, and not much less.
    assert arrived[-1] - arrived[0] > 2.2
    assert statistics.median(later - earlier for earlier, later in pairwise(arrived)) < 0.13


def test_while_drift_asks_to_wait_every_worker_waits(sandbox: Serve) -> None:
    drift = sandbox(40)
    arrived: list[float] = []
    busy = error(429, "rate_limit", "slow down", {"Retry-After": "1"})

    def note(drift: Sandbox, request: Request) -> Response | None:
        arrived.append(time.monotonic())
        return busy if len(arrived) == 10 else None

    drift.fault = note
    output = run_here(settings(drift, max_retries=1), None, selecting("messages"))
    assert output.exit_code == 0
    pause = max(later - earlier for earlier, later in pairwise(arrived[9:]))
    assert pause > 0.9
    # What was under way already may still arrive, but nothing new starts.
    assert not any(arrived[9] + 0.4 < moment < arrived[9] + 0.9 for moment in arrived)
