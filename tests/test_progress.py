"""What people see of a run: what may be read, how far it is, how long it may take, how it ended."""

from __future__ import annotations

import collections
import json
import logging
import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tap_drift import newest_first, progress, trial
from tap_drift.bookmark import Bookmark, Time, Walk
from tap_drift.progress import Progress
from tap_drift.tap import TapDrift
from tests.processes import TapProcess
from tests.sandbox import TOKEN
from tests.sandbox.server import answers, as_json, error, slow
from tests.tap import (
    run_here,
    run_tap,
    selecting,
    settings,
    tap_command,
    try_out,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from werkzeug.wrappers import Request, Response

    from tests.sandbox import Sandbox
    from tests.sandbox.server import Fault

    Serve = Callable[..., Sandbox]

STATS = "/conversations/stats"
ALL = tuple(TapDrift(validate_config=False).streams)
LAST_STATE = "The next run goes on from the last STATE that the target confirmed."


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report at every occasion, as if 30 seconds had passed."""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_REPORTS", 0.0)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def lines(log: pytest.LogCaptureFixture, stream: str) -> list[str]:
    said = [record.getMessage() for record in log.records if record.name.startswith("tap-drift")]
    return [line for line in said if line.startswith(f"{stream}: ")]


def forbidden(*paths: str) -> Fault:
    refusal = error(403, "authentication_error", "Not in scope")

    def fault(_: Sandbox, request: Request) -> Response | None:
        return refusal if request.path in paths else None

    return fault


def only_stats(fault: Fault) -> Fault:
    return lambda drift, request: fault(drift, request) if request.path == STATS else None


# How far it is


class Clock:
    """Tells whatever time it is to be."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def day(number: int) -> Time:
    return Time(f"2026-01-{number:02}T00:00:00Z")


def test_a_forecast_by_how_many_there_are() -> None:
    clock = Clock()
    walk = Progress("messages", clock)
    walk.begin()
    walk.walk(Bookmark(), 0)
    walk.page(Bookmark(walk=Walk(top=day(30))), 0)
    walk.total = 20_000
    walk.passed(14_236, day(9))
    walk.records = 83_394
    clock.now += 1777
    assert walk.report() == (
        "14,236 of about 20,000 conversations, 83,394 messages, about 12 min left (floor none)"
    )
    walk.passed(5_764 + 14, day(1))  # more than there are, because there are new ones
    assert walk.report() == ("20,014 of about 20,000 conversations, 83,394 messages (floor none)")


def test_a_forecast_by_time_where_there_is_a_floor() -> None:
    clock = Clock()
    walk = Progress("conversations", clock)
    walk.begin()
    walk.walk(Bookmark(replication_key_value=day(1)), 0)
    assert walk.report() == "0 conversations (floor 2026-01-01)"
    walk.page(Bookmark(replication_key_value=day(1), walk=Walk(top=day(31))), 0)
    walk.passed(50, day(21))
    clock.now += 600
    assert walk.report() == (
        "50 conversations back to 2026-01-21, about 20 min left (floor 2026-01-01)"
    )


def test_a_forecast_of_a_walk_that_goes_on() -> None:
    clock = Clock()
    walk = Progress("conversations", clock)
    walk.begin()
    under_way = Walk(cursor="next=50", top=day(31), id=1, updatedAt=day(16))
    walk.walk(Bookmark(replication_key_value=day(1), walk=under_way), 0)
    walk.page(Bookmark(replication_key_value=day(1), walk=under_way), 0)
    walk.passed(50, day(11))
    clock.now += 600
    assert not walk.is_from_head
    assert "about 20 min left" in walk.report()  # five of fifteen days took ten minutes
    # It has arrived, and the next begins: what has changed meanwhile.
    clock.now += 1200
    walk.page(Bookmark(replication_key_value=day(11), walk=Walk(top=day(31).shifted(60))), 0)
    walk.passed(1, day(31))
    clock.now += 1
    assert walk.report() == (
        "51 conversations back to 2026-01-11, about 8.0 h left (floor 2026-01-11)"
    )
    assert not walk.is_from_head


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (89, "89 s"), (91, "2 min"), (5_300, "88 min"), (12_000, "3.3 h")],
)
def test_times_are_as_precise_as_people_want_them(seconds: float, said: str) -> None:
    assert progress.duration(seconds) == said


def test_what_drift_calls_statuses_is_shown_with_care() -> None:
    census = progress.Census()
    census.by_status = {"OPEN": 2, "a\nb\x1b[1m": 1} | {f"{n}" * 999: 0 for n in range(999)}
    assert str(census).startswith("Drift counts 3 (open 2, a b [1m 1, ")
    assert str(census).isprintable()
    assert len(str(census)) < 1200


@pytest.mark.usefixtures("impatient")
def test_a_first_run_tells_how_far_it_is_inside_a_page(
    sandbox: Serve, log: pytest.LogCaptureFixture
) -> None:
    drift = sandbox(60)
    assert run_here(settings(drift), catalog=selecting("messages")).exit_code == 0
    first, *told, arrived, end = lines(log, "messages")
    assert first == "messages: first run, no bookmark yet; floor: none."
    counted = sum(drift.account.stats().values())
    form = rf"messages: (\d+) of about {counted} conversations, ([\d,]+) messages?"
    found = [re.match(form, line) for line in told]
    assert all(found)
    numbers = [int(one[1]) for one in found if one]
    assert numbers == sorted(numbers)
    assert {7, 23, 51} <= set(numbers)  # which are no ends of pages
    assert re.search(r"messages, about \d+ s left \(floor none\)\.$", told[-300])
    assert arrived.startswith(f"messages: 60 conversations read; Drift counts {counted} (open ")
    assert re.match(r"messages: read to the end: 60 conversations back to [-\d]+, [\d,]+ mes", end)
    assert drift.requests.count(STATS) == 1


@pytest.mark.parametrize("streams", [("conversations",), ("messages", "conversations")])
def test_a_short_run_asks_for_nothing_more(
    sandbox: Serve, streams: tuple[str, ...], log: pytest.LogCaptureFixture
) -> None:
    drift = sandbox(60)
    run_here(settings(drift), catalog=selecting(*streams))
    assert STATS not in drift.requests
    for stream in streams:
        assert len(lines(log, stream)) == 2  # how it begins, and how it ended


@pytest.mark.usefixtures("impatient")
def test_a_run_with_nothing_new_costs_one_request(sandbox: Serve) -> None:
    drift = sandbox(60)
    state = run_here(settings(drift)).state
    before = len(drift.requests)
    run_here(settings(drift), state)
    assert len(drift.requests) == before + 1


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "limit", [{"start_date": "2025-10-09T12:00:00.000Z"}, {"statuses": ["open"]}], ids=str
)
def test_nothing_is_asked_where_drift_counts_something_else(
    sandbox: Serve, log: pytest.LogCaptureFixture, limit: dict[str, Any]
) -> None:
    drift = sandbox(200)
    catalog = selecting("conversations", "messages")
    assert run_here(settings(drift, **limit), catalog=catalog).exit_code == 0
    assert STATS not in drift.requests
    by_time = [line for line in lines(log, "conversations") if " left (floor 2025-10-09)" in line]
    assert bool(by_time) is ("start_date" in limit)
    # What `conversations` has just read is what `messages` will pass.
    (read,) = [line for line in lines(log, "conversations") if "read to the end" in line]
    number = read.split()[5]
    assert any(f" of about {number} conversations, " in line for line in lines(log, "messages"))


@pytest.mark.usefixtures("impatient")
def test_a_run_that_goes_on_does_not_forecast_by_number(
    sandbox: Serve, log: pytest.LogCaptureFixture
) -> None:
    drift = sandbox(200)
    drift.faults[4] = answers(error(401, "authentication_error", "Revoked"))
    state = run_here(settings(drift, page_size=20)).state
    before = len(drift.requests)
    log.clear()
    assert run_here(settings(drift), state).exit_code == 0
    assert STATS not in drift.requests[before:]
    assert " of about " not in " ".join(lines(log, "conversations"))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "fault",
    [
        answers(error(500, "internal_error", "It broke")),
        answers(error(429, "rate_limit", "No", {"Retry-After": "200"})),
        answers(error(401, "authentication_error", "No")),
        answers(as_json({"conversationCount": {"OPEN": "many"}})),
        answers(as_json({"conversationCount": None})),
        answers(as_json([])),
        slow,
    ],
    ids=["500", "429", "401", "no number", "null", "a list", "late"],
)
def test_counts_that_can_not_be_had_are_done_without(
    sandbox: Serve,
    log: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
) -> None:
    monkeypatch.setattr(newest_first, "SECONDS_FOR_STATS", 0.1)
    drift = sandbox(60)
    drift.fault = only_stats(fault)
    output = run_here(
        settings(drift, max_retries=5), catalog=selecting("conversations", "messages")
    )
    assert output.exit_code == 0
    assert drift.requests.count(STATS) == 1
    assert [record for record in log.records if record.levelno > logging.INFO] == []
    assert "Drift counts" not in log.text
    assert " of about " not in " ".join(lines(log, "conversations"))
    assert " of about 60 conversations" in " ".join(lines(log, "messages"))


@pytest.mark.usefixtures("impatient")
def test_other_streams_tell_how_far_they_are_too(
    sandbox: Serve, log: pytest.LogCaptureFixture
) -> None:
    run_here(settings(sandbox(10)), catalog=selecting("accounts"))
    *told, end = lines(log, "accounts")
    assert told[0] == "accounts: 1 account."
    assert end.startswith("accounts: read to the end: 150 accounts, 3 requests, ")


def test_files_are_told_of_once_too(
    sandbox: Serve, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    batches = {"encoding": {"format": "jsonl"}, "storage": {"root": tmp_path.as_uri()}}
    config = settings(sandbox(60), batch_config=batches)
    assert run_here(config).exit_code == 0
    _, end = lines(log, "conversations")
    assert end.startswith("conversations: read to the end: 60 conversations back to ")


# In which order


def test_a_missing_scope_shows_before_the_long_streams_begin(sandbox: Serve) -> None:
    drift = sandbox(60)
    drift.fault = forbidden("/contacts/attributes", "/accounts")
    assert run_here(settings(drift), catalog=selecting(*ALL)).exit_code == 1
    paths = [request.partition("?")[0] for request in drift.requests]
    quick = paths[: paths.index("/conversations/list")]
    assert len(quick) == 8
    assert {"/users/list", "/contacts/attributes", "/accounts", "/playbooks/clp"} < set(quick)


# How it ended


def test_the_metrics_say_what_the_table_says(sandbox: Serve, log: pytest.LogCaptureFixture) -> None:
    drift = sandbox(60)
    output = run_here(settings(drift, concurrency=4), catalog=selecting("messages", "users"))
    totals: collections.Counter[tuple[str, str]] = collections.Counter()
    endpoints = set()
    for record in log.records:
        if record.name == "singer_sdk.metrics":
            point = json.loads(str(record.args[0]))  # type: ignore[index]
            is_timer = point["type"] == "timer"
            totals[point["metric"], point["tags"]["stream"]] += 1 if is_timer else point["value"]
            if is_timer:
                endpoints.add(point["tags"].get("endpoint"))
    requests = {"users": 1, "messages": len(drift.requests) - 1}
    for stream, number in requests.items():
        assert totals["http_request_count", stream] == number
        assert totals["http_request_duration", stream] == number
        assert totals["record_count", stream] == len(output.records(stream))
    of_messages = {"/conversations/list", "/conversations/{id}/messages"}
    assert endpoints - {None} == of_messages | {"/users/list"}


def rows(stderr: str) -> list[list[str]]:
    """The table at the end of a run, heading first."""
    told = [line.split(" | ")[-1] for line in stderr.splitlines()]
    start = next(n for n, line in enumerate(told) if re.match("stream +records", line))
    return [re.split(" {2,}", line.strip()) for line in told[start:] if "  " in line]


def test_a_run_ends_with_a_table_and_the_cause(sandbox: Serve, tmp_path: Path) -> None:
    drift = sandbox(6)
    (bad, *_) = drift.account.conversations

    def fault(drift: Sandbox, request: Request) -> Response | None:
        if request.path == "/conversations/list":
            time.sleep(0.4)  # so that what failed before would show more than no time
        if request.path.endswith(f"/{bad}/messages"):
            return error(400, "validation_error", "No")
        return forbidden("/users/list", "/accounts")(drift, request)

    drift.fault = fault
    catalog = selecting("users", "accounts", "conversations", "messages")
    output = run_tap(tmp_path, settings(drift), None, catalog)
    assert output.exit_code == 1
    number = len(output.records("messages"))
    assert all(row[3] == "0" for row in rows(output.stderr)[1:3])
    heading, *body = rows(output.stderr)
    assert heading == ["stream", "records", "requests", "seconds", "how it ended", "owed"]
    assert [[*row[:3], *row[4:]] for row in body] == [
        ["users", "0", "1", "failed", "0"],
        ["accounts", "0", "1", "failed", "0"],
        ["conversations", "6", "2", "read to the end", "0"],
        ["messages", str(number), "9", "read, but for some", "1"],
    ]
    *_, last = output.stderr.splitlines()
    assert "| Not read to the end: users, accounts. users: GET /users/list: Drift ans" in last
    assert "(authentication_error: Not in scope). The token may lack the scope user_read." in last
    assert last.endswith(LAST_STATE)


@pytest.mark.parametrize("trouble", ["none", "a wrong token", "a damaged state"])
def test_where_the_next_run_goes_on_is_said_only_where_it_can(
    sandbox: Serve, tmp_path: Path, trouble: str
) -> None:
    drift = sandbox(60)
    state: dict[str, Any] = {}
    if trouble == "a damaged state":
        state = {"bookmarks": {"conversations": {"replication_key_value": "yesterday"}}}
    drift.faults[1 if trouble == "a wrong token" else 3] = answers(
        error(401, "authentication_error", "No")
    )
    output = run_tap(tmp_path, settings(drift, page_size=20), state)
    assert output.exit_code == 1
    assert output.stderr.rstrip().endswith(LAST_STATE) == (trouble == "none")
    assert (LAST_STATE in output.stderr) == (trouble == "none")


def test_a_run_that_is_told_to_end_says_what_was_not_read(sandbox: Serve, tmp_path: Path) -> None:
    drift = sandbox(6)
    drift.fault = lambda drift, request: (
        slow(drift, request) if request.path.endswith("/messages") else None
    )
    catalog = selecting("users", "messages", "transcripts")
    command = tap_command(tmp_path, settings(drift), None, catalog)
    stdout, stderr = tmp_path / "stdout", tmp_path / "stderr"
    with TapProcess(command, stdout, stderr, os.environ) as tap:
        wait_until(lambda: len(drift.requests) > 2)
        tap.send_signal(signal.SIGTERM)
        tap.wait(30)
    errors = stderr.read_text()
    assert [row[4] for row in rows(errors)[1:]] == ["read to the end", "broken off", "not begun"]
    assert errors.splitlines()[-1].endswith(f"The run was told to end. {LAST_STATE}")


# Before the run


def may_be_read(drift: Sandbox, *streams: str, **config: Any) -> dict[str, str]:
    tap = TapDrift(config=settings(drift, **config), catalog=selecting(*streams))
    (_, *table), _ = trial.try_out(tap.selected_streams())
    return {name: said for name, _, said in (re.split(" {2,}", line) for line in table)}


def test_each_stream_is_asked_for_once(sandbox: Serve) -> None:
    drift = sandbox(60)
    of_files = "yes (what names the files; no file is asked for)"
    assert may_be_read(drift, *ALL) == dict.fromkeys(ALL, "yes") | {"attachments": of_files}
    # The list is asked for by all that needs to know a conversation.
    assert len(drift.requests) <= len(ALL) + 5


def test_a_scope_that_is_missing_is_found_whatever_there_is_to_read(sandbox: Serve) -> None:
    drift = sandbox(60)
    (first, *_) = drift.account.listing()
    drift.fault = forbidden("/users/list", "/users/meetings/org", f"/contacts/{first['contactId']}")
    said = may_be_read(drift, *ALL)
    assert {name for name, may in said.items() if may == "no"} == {
        "users",
        "booked_meetings",
        "contacts",
    }


@pytest.mark.parametrize("config", [{}, {"start_date": "2099-01-01"}], ids=str)
def test_what_may_be_read_is_known_where_there_is_nothing(
    sandbox: Serve, config: dict[str, Any]
) -> None:
    said = may_be_read(sandbox(0), *ALL, **config)
    of_conversations = ALL[-5:]
    assert [said[name] for name in of_conversations] == ["not known: nothing is there"] * 5
    assert {said[name] for name in ALL[:-5]} == {"yes"}


def test_a_conversation_that_is_gone_is_no_sign(sandbox: Serve) -> None:
    drift = sandbox(60)
    gone = {row["id"] for row in drift.account.listing()[:2]}
    drift.fault = lambda _, request: (
        error(404, "not_found", "Gone")
        if any(request.path.startswith(f"/conversations/{id_}") for id_ in gone)
        else None
    )
    assert may_be_read(drift, "messages") == {"messages": "yes"}
    drift.fault = lambda _, request: (
        error(404, "not_found", "Gone") if request.path.endswith("/messages") else None
    )
    assert may_be_read(drift, "messages") == {
        "messages": "not known: all that was asked for is gone"
    }


def test_a_token_that_is_wrong_is_asked_about_once(sandbox: Serve) -> None:
    drift = sandbox(6)
    drift.tokens.clear()
    said = may_be_read(drift, *ALL)
    assert list(said.values()) == ["no: the token is refused"] + ["not tried"] * (len(ALL) - 1)
    assert len(drift.requests) == 1


def test_a_host_that_is_not_there_says_nothing_of_scopes(tmp_path: Path) -> None:
    config = {"access_token": TOKEN, "api_url": "http://127.0.0.1:9", "max_retries": 0}
    done = try_out(tmp_path, config, selecting("users", "messages"))
    assert [line.split("  ")[-1] for line in done.stdout.splitlines()[1:]] == [
        "not known: see below",
        "not tried",
    ]
    assert "refused the connection" in done.stderr.splitlines()[-1]
    assert done.returncode == 1


def test_the_connection_can_be_tested(sandbox: Serve, tmp_path: Path) -> None:
    drift = sandbox(6)
    done = try_out(tmp_path, settings(drift), selecting("users", "messages"))  # --catalog first
    heading, users, messages, _, scopes = done.stdout.splitlines()
    assert re.split(" {2,}", heading) == ["stream", "scope", "may be read"]
    assert re.split(" {2,}", users) == ["users", "user_read", "yes"]
    assert re.split(" {2,}", messages) == ["messages", "conversation_read", "yes"]
    assert scopes.startswith("Drift lists these scopes of the token: account_read, all_contact_r")
    assert "The settings and the token work." in done.stderr
    assert "ERROR" not in done.stderr
    assert done.returncode == 0
    assert drift.token_infos == 1
    assert len(drift.requests) == 3


def test_the_connection_test_says_what_may_not_be_read(sandbox: Serve, tmp_path: Path) -> None:
    drift = sandbox(6)
    drift.token_info_status = 404
    drift.fault = forbidden("/users/list")
    done = try_out(tmp_path, settings(drift), selecting("users", "conversations"))
    assert [line.split()[0::2] for line in done.stdout.splitlines()[1:]] == [
        ["users", "no"],
        ["conversations", "yes"],
    ]
    *_, last = done.stderr.splitlines()
    assert "| Can't be read: users. GET /users/list: Drift answered 403 (" in last
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_the_connection_test_of_nothing_fails(tmp_path: Path) -> None:
    done = try_out(tmp_path, {"access_token": TOKEN}, selecting())
    assert "| Nothing was tested, since no stream is selected." in done.stderr.splitlines()[-1]
    assert "work" not in done.stderr
    assert (done.returncode, done.stdout) == (1, "")


def test_the_connection_test_names_a_wrong_setting(tmp_path: Path) -> None:
    config = {"access_token": TOKEN, "page_size": 0}
    python, *how = tap_command(tmp_path, config, {}, selecting())
    how = ["-X", "dev", *how[:2], "--test", *how[2:]]
    done = subprocess.run([python, *how], capture_output=True, text=True, check=False)
    assert "page_size" in done.stderr.splitlines()[-1]  # and nothing of files that are left open
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
