"""Meetings, reports, counts, transcripts and files: what is read otherwise than the list."""

from __future__ import annotations

import base64
import datetime as dt
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.http import http_date

from tap_drift import drift as drift_module
from tap_drift import reports, windows
from tests.sandbox.expected import as_time, expected
from tests.sandbox.items import DAY
from tests.sandbox.organisation import PERSONAL
from tests.sandbox.reports import METRICS, Reports
from tests.sandbox.server import (
    TOKEN,
    Response,
    answers,
    as_json,
    drip,
    edited,
    error,
    first_of,
    html,
    items_never_load,
    since,
)
from tests.tap import EVERYTHING, NO_WALK, Target, run_here, selecting, settings
from tests.tap import upserted as by_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Request

    from tests.sandbox import Sandbox

    Serve = Callable[..., Sandbox]
    Json = dict[str, Any]

REPORT = "/reports/conversations"
HOUR = 60 * 60 * 1000


def read(drift: Sandbox, stream: str, state: Json | None = None, **changed: Any) -> Any:
    return run_here(settings(drift, **changed), state, selecting(stream))


def asked(drift: Sandbox, path: str) -> list[str]:
    return [request for request in drift.requests if request.startswith(path)]


def said(caplog: pytest.LogCaptureFixture, level: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == level]


# What a run costs


@pytest.mark.parametrize(
    ("stream", "requests"),
    [
        ("landing_pages", 1),
        ("contact_attributes", 1),
        ("conversation_stats", 1),
        ("booked_meetings", 1),
        ("conversation_metrics", 1),
        ("transcripts", 2),
        ("attachments", 3),
    ],
)
def test_an_unchanged_second_run_costs_what_the_readme_says(
    sandbox: Serve, stream: str, requests: int
) -> None:
    drift = sandbox(60)
    drift.account.messages_in[drift.account.begin()] = 4  # the newest has a file
    first = read(drift, stream)
    before = len(drift.requests)
    second = read(drift, stream, first.state)
    assert second.exit_code == 0
    assert len(drift.requests) - before == requests


@pytest.mark.parametrize(
    "stream", ["booked_meetings", "conversation_metrics", "conversation_stats", "landing_pages"]
)
def test_what_drift_forgets_is_never_deleted_from_a_target(sandbox: Serve, stream: str) -> None:
    drift = sandbox(10)
    catalog = selecting(stream, method="FULL_TABLE")
    config = settings(drift, emit_activate_version_messages=True)
    kinds = {message["type"] for message in run_here(config, None, catalog).messages}
    assert ("ACTIVATE_VERSION" in kinds) == (stream == "landing_pages")


# Counts


def test_counts_have_the_time_of_drifts_clock(sandbox: Serve) -> None:
    drift = sandbox(60)
    drift.account.now = (int(time.time()) + 10 * 24 * 3600) * 1000
    first = read(drift, "conversation_stats")
    counted_at = as_time(drift.account.now)
    stats = drift.account.stats()
    assert {row["status"]: row["count"] for row in first.records("conversation_stats")} == stats
    assert {row["countedAt"] for row in first.records("conversation_stats")} == {counted_at}
    drift.account.pass_time(60_000)
    again = read(drift, "conversation_stats", first.state)
    both = [*first.records("conversation_stats"), *again.records("conversation_stats")]
    assert len(by_key({}, both, "conversation_stats")) == 2 * len(stats)


# Meetings


def meeting(drift: Sandbox, number: int, start: int, **more: Any) -> Json:
    return {"agentId": 501, "slotStart": start, "schedulerId": number, **more}


@pytest.mark.parametrize("meetings", [999, 1000, 2300])
def test_windows_that_are_full_are_halved(sandbox: Serve, meetings: int) -> None:
    drift = sandbox()
    now = int(time.time() * 1000)
    drift.account.now = now
    drift.account.booked = [
        meeting(drift, number, now + (number % 90 - 29) * DAY, slug=f"slug-{number}")
        for number in range(meetings)
    ]
    output = read(drift, "booked_meetings")
    assert output.exit_code == 0
    due = expected(drift.account, "booked_meetings")
    assert len(due) == meetings
    assert by_key({}, output.records("booked_meetings"), "booked_meetings") == due
    assert len(output.records("booked_meetings")) == meetings
    requests = asked(drift, "/users/meetings/org")
    assert requests[0].endswith("min_start_time=0&max_start_time=15000000000000")
    assert len(requests) == 1 if meetings < 1000 else 3 <= len(requests) <= 9


def test_a_moment_with_more_meetings_than_drift_gives_is_told(
    sandbox: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    drift = sandbox()
    drift.account.now = now = int(time.time() * 1000)
    drift.account.booked = [meeting(drift, number, now) for number in range(1001)]
    drift.account.booked.append(meeting(drift, 1, now + DAY))
    output = read(drift, "booked_meetings")
    assert output.exit_code == 1
    assert len(output.records("booked_meetings")) == 1001
    assert "booked_meetings: Drift gives no more than 1,000 of one moment." in said(
        caplog, "WARNING"
    )


def test_meetings_without_slug(sandbox: Serve) -> None:
    drift = sandbox()
    start = drift.account.now
    drift.account.booked = [
        meeting(drift, 1, start, slug="a", eventId="b"),
        meeting(drift, 2, start, slug="", eventId="c"),
        meeting(drift, 3, start, slug=None),
        meeting(drift, 4, start) | {"agentId": None},
    ]
    output = read(drift, "booked_meetings")
    keys = [row["meetingKey"] for row in output.records("booked_meetings")]
    assert keys == ["a", "c", f"501-{start}-3"]
    assert output.exit_code == 1  # one has no key at all, and is counted


def test_a_window_that_drift_cant_answer_is_asked_for_in_halves(sandbox: Serve) -> None:
    drift = sandbox()
    drift.account.now = now = int(time.time() * 1000)
    drift.account.booked = [
        meeting(drift, number, now + (number - 29) * DAY) for number in range(90)
    ]

    def too_long(drift: Sandbox, request: Request) -> Response | None:
        first, last = (int(request.args[f"{end}_start_time"]) for end in ("min", "max"))
        days = (min(last, now + 90 * DAY) - max(first, now - 30 * DAY)) / DAY
        return html(504)(drift, request) if days > 40 else None

    drift.fault = too_long
    output = read(drift, "booked_meetings")
    assert output.exit_code == 0
    due = expected(drift.account, "booked_meetings")
    assert by_key({}, output.records("booked_meetings"), "booked_meetings") == due
    drift.fault = html(504)
    before = len(drift.requests)
    assert read(drift, "booked_meetings").exit_code == 1
    assert len(drift.requests) - before == 7


# Reports


@pytest.mark.parametrize("nan", ["NaN", float("nan")])
def test_a_metric_that_is_missing_is_null(sandbox: Serve, nan: float | str) -> None:
    drift = sandbox(60)
    drift.reports.nan = nan
    output = read(drift, "conversation_metrics")
    assert output.exit_code == 0
    records = output.records("conversation_metrics")
    assert by_key({}, records, "conversation_metrics") == expected(
        drift.account, "conversation_metrics"
    )
    assert any(record["lastAgentId"] is None for record in records)


def test_the_bookmark_is_a_time_that_has_come_less_an_hour(sandbox: Serve) -> None:
    drift = sandbox(60)
    # Drift's clock is far behind this machine's.
    now = drift.account.now = drift.account.now // 1000 * 1000 + 5 * HOUR
    drift.clock = lambda: dt.datetime.fromtimestamp(drift.account.now / 1000, dt.UTC)
    first = read(drift, "conversation_metrics")
    assert first.bookmark("conversation_metrics") == {
        "replication_key": "updatedAt",
        "replication_key_value": as_time(now - HOUR),
        "covers": EVERYTHING,
        "walk": NO_WALK,
        "owed": [],
    }
    changed = list(drift.account.conversations)[:2]
    drift.account.change(changed[0], milliseconds=5 * HOUR)
    drift.account.date(changed[1], now - HOUR)
    second = read(drift, "conversation_metrics", first.state)
    assert [row["conversationId"] for row in second.records("conversation_metrics")] == changed
    window = drift.reports.asked[-1]["filters"][0]
    assert window["property"] == "updatedAt"
    assert window["values"] == [now - HOUR, 15_000_000_000_000]
    third = read(drift, "conversation_metrics", second.state, lookback_seconds=7200)
    assert drift.reports.asked[-1]["filters"][0]["values"][0] == now + 2 * HOUR
    assert third.bookmark("conversation_metrics") == second.bookmark("conversation_metrics")


def test_reports_keep_to_start_date_and_statuses(sandbox: Serve) -> None:
    drift = sandbox(60)
    middle = sorted(row["updatedAt"] for row in drift.account.conversations.values())[30]
    config: Json = {"start_date": as_time(middle), "statuses": ["open", "closed"]}
    output = read(drift, "conversation_metrics", **config)
    assert {row["conversationId"] for row in output.records("conversation_metrics")} == {
        row["id"]
        for row in drift.account.conversations.values()
        if row["updatedAt"] >= middle and row["status"] in {"open", "closed"}
    }
    more = read(drift, "conversation_metrics", output.state)
    due = expected(drift.account, "conversation_metrics")
    assert by_key({}, more.records("conversation_metrics"), "conversation_metrics") == due


def test_reports_that_are_cut_are_halved_at_sixty_a_minute_and_resumed(
    sandbox: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (reports.REQUESTS, reports.SECONDS) == (10, 10)
    monkeypatch.setattr(reports, "SECONDS", 0.5)  # what is waited for is waited for, only shorter
    drift = sandbox(60)
    now = int(time.time() * 1000)
    for number, id_ in enumerate(drift.account.conversations):
        drift.account.date(id_, now - number * 70 * DAY)
    drift.reports.rows = 10
    arrived: list[float] = []
    refused = answers(error(401, "authentication_error", "no"))
    drift.fault = first_of(
        lambda drift, request: arrived.append(time.monotonic()), since(12, refused)
    )
    failed = read(drift, "conversation_metrics", requests_per_minute=60_000)
    assert failed.exit_code == 1
    assert len(arrived) == 12
    assert arrived[10] - arrived[0] > 0.45
    drift.fault = None
    again = read(drift, "conversation_metrics", failed.state)
    assert again.exit_code == 0
    before, after = (run.records("conversation_metrics") for run in (failed, again))
    due = expected(drift.account, "conversation_metrics")
    assert by_key({}, before + after, "conversation_metrics") == due
    assert before
    assert len(before + after) == len(due)


@pytest.mark.parametrize("wrong", [[1, 2], None, "NaN"])
def test_metrics_that_were_not_asked_for_are_not_guessed(
    sandbox: Serve, caplog: pytest.LogCaptureFixture, wrong: Any
) -> None:
    drift = sandbox(3)
    drift.fault = edited(lambda body: body["data"][0].update(metrics=wrong))
    output = read(drift, "conversation_metrics")
    assert output.exit_code == 1
    assert [r.get("otherFields") for r in output.records("conversation_metrics")] == [
        {"metrics": wrong},
        None,
        None,
    ]
    assert output.bookmark("conversation_metrics")["replication_key_value"] is not None
    (warning,) = said(caplog, "WARNING")
    assert "the field metrics" in warning
    drift.fault = edited(lambda body: [row.update(metrics=wrong) for row in body["data"]])
    failed = read(drift, "conversation_metrics")
    assert failed.exit_code == 1
    assert failed.records("conversation_metrics") == []
    assert failed.bookmark("conversation_metrics")["replication_key_value"] is None


@pytest.mark.parametrize("gone", [error(404, "not_found", "no"), Response(status=410)])
def test_reports_that_are_gone_are_one_line(
    sandbox: Serve, caplog: pytest.LogCaptureFixture, gone: Response
) -> None:
    drift = sandbox(3)
    drift.fault = lambda _, request: gone if request.path == REPORT else None
    output = run_here(settings(drift), None, selecting("conversations", "conversation_metrics"))
    assert output.exit_code == 1
    assert len(output.records()) == 3
    (line,) = said(caplog, "ERROR")
    assert line.startswith(
        f"conversation_metrics: POST {REPORT}: Drift answered {gone.status_code}"
    )
    assert line.endswith("Drift has no reports any more.")


def test_a_post_is_asked_again_like_a_get(
    sandbox: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift_module, "FIRST_BACKOFF", 0.01)
    drift = sandbox(3)
    drift.faults = {
        1: answers(error(429, "rate_limit", "no", {"Retry-After": "1"})),
        2: html(503),
    }
    started = time.monotonic()
    output = read(drift, "conversation_metrics", max_retries=2)
    assert output.exit_code == 0
    assert time.monotonic() - started > 1
    assert len(output.records("conversation_metrics")) == 3
    assert len(drift.reports.asked) == 1
    assert len([line for line in said(caplog, "WARNING") if f"POST {REPORT}" in line]) == 2


# What time it is for reports


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reports be asked for as fast as may be."""
    monkeypatch.setattr(reports, "REQUESTS", 1_000_000)


@pytest.mark.usefixtures("unlimited")
def test_metrics_that_a_part_of_a_report_lacks_are_said_and_stop_nothing(
    sandbox: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    drift = sandbox(20, reports=Reports(rows=3))
    lacking = set(list(drift.account.conversations)[8:14])

    def forget(body: Json) -> None:
        for row in body["data"]:
            if row["conversationId"] in lacking:
                del row["metrics"]

    drift.fault = edited(forget)
    output = read(drift, "conversation_metrics")
    assert output.exit_code == 1
    records = by_key({}, output.records("conversation_metrics"), "conversation_metrics")
    assert len(records) == 20
    assert {id_ for id_, row in records.items() if "otherFields" in row} == lacking
    assert output.bookmark("conversation_metrics")["replication_key_value"] is not None
    (warning,) = said(caplog, "WARNING")
    assert "the field metrics" in warning


def report_of(
    drift: Sandbox, monkeypatch: pytest.MonkeyPatch, *, here: float = 0, there: float = 0
) -> Json:
    """Read all reports while the clocks are so many hours ahead; give the STATE."""
    now, clock = time.time(), time.time
    drift.clock = lambda: dt.datetime.fromtimestamp(now + there * 3600, dt.UTC)
    monkeypatch.setattr(time, "time", lambda: clock() + here * 3600)
    state: Json = read(drift, "conversation_metrics").state
    monkeypatch.setattr(time, "time", clock)
    drift.clock = None
    return state


def lately(drift: Sandbox) -> None:
    """Let all conversations have changed a while ago."""
    now = int(time.time() * 1000)
    for number, id_ in enumerate(drift.account.conversations):
        drift.account.date(id_, now - (number + 100) * DAY)


@pytest.mark.parametrize("ahead", [{"there": 48}, {"here": 48}, {"here": 48, "there": -9}])
def test_one_wrong_clock_hides_nothing(
    sandbox: Serve, monkeypatch: pytest.MonkeyPatch, ahead: dict[str, float]
) -> None:
    drift = sandbox(5)
    lately(drift)
    begun = int(time.time() * 1000)
    state = report_of(drift, monkeypatch, **ahead)
    bookmark = state["bookmarks"]["conversation_metrics"]["replication_key_value"]
    assert as_time(begun - 11 * HOUR) < bookmark <= as_time(int(time.time() * 1000) - HOUR)
    changed = next(iter(drift.account.conversations))
    drift.account.date(changed, int(time.time() * 1000))
    again = read(drift, "conversation_metrics", state)
    assert [row["conversationId"] for row in again.records("conversation_metrics")] == [changed]


@pytest.mark.usefixtures("unlimited")
def test_of_several_answers_the_earliest_says_what_time_it_is(
    sandbox: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    drift = sandbox(5)
    lately(drift)
    drift.reports.rows = 3
    right = {"Date": http_date(time.time())}
    latest = int(time.time() * 1000) - HOUR

    def once_right(drift: Sandbox, request: Request) -> Response | None:
        if len(drift.requests) != 2:
            return None
        answer = drift.answer(request)
        answer.headers.update(right)
        return answer

    drift.fault = once_right
    state = report_of(drift, monkeypatch, here=72, there=48)
    assert len(drift.requests) > 2
    bookmark = state["bookmarks"]["conversation_metrics"]["replication_key_value"]
    assert as_time(latest - HOUR) < bookmark <= as_time(latest)


@pytest.mark.usefixtures("unlimited")
def test_without_a_date_the_bookmark_does_not_move(
    sandbox: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    drift = sandbox(5)
    lately(drift)
    drift.reports.rows = 3

    def undated(drift: Sandbox, request: Request) -> Response:
        answer = drift.answer(request)
        answer.headers["Date"] = "soon"
        return answer

    drift.fault = undated
    output = read(drift, "conversation_metrics")
    assert output.exit_code == 0
    assert len(output.records("conversation_metrics")) == 5
    assert output.bookmark("conversation_metrics")["replication_key_value"] is None
    (line,) = said(caplog, "WARNING")
    assert "do not say what time it is" in line


@pytest.mark.parametrize("minutes", [4, 6, 60 * 24 * 365 * 70])
def test_a_bookmark_in_the_future_starts_over_with_one_warning(
    sandbox: Serve, caplog: pytest.LogCaptureFixture, minutes: int
) -> None:
    drift = sandbox(5)
    lately(drift)
    state = read(drift, "conversation_metrics").state
    future = as_time(int(time.time() * 1000) + minutes * 60_000)
    state["bookmarks"]["conversation_metrics"]["replication_key_value"] = future
    output = read(drift, "conversation_metrics", state)
    assert output.exit_code == 0
    due = expected(drift.account, "conversation_metrics") if minutes > 5 else {}
    records = by_key({}, output.records("conversation_metrics"), "conversation_metrics")
    assert records == due
    warned = said(caplog, "WARNING")
    if minutes > 5:
        (line,) = warned
        assert f"the bookmark {future} lies in the future" in line
        bookmark = output.bookmark("conversation_metrics")["replication_key_value"]
        assert bookmark < as_time(int(time.time() * 1000))
    else:
        assert warned == []


# What reports count, and do not name


def with_ghosts(sandbox: Serve, conversations: int, *ghosts: int) -> tuple[Sandbox, set[int]]:
    """Serve reports that count some conversations which they do not name."""
    drift = sandbox(conversations)
    lately(drift)
    drift.reports.calls = 1_000_000
    ids = list(drift.account.conversations)
    hidden = {ids[number] for number in ghosts}

    def hide(body: Json) -> None:
        body["data"] = [row for row in body["data"] if row["conversationId"] not in hidden]

    drift.fault = edited(hide)
    return drift, hidden


@pytest.mark.usefixtures("unlimited")
@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize(
    ("conversations", "ghosts"),
    [(40, (30,)), (40, (0, 39)), (40, tuple(range(0, 40, 3))), (2, (0,)), (2, (1,)), (5, (1, 2))],
)
def test_conversations_that_are_counted_but_not_named_block_nothing(
    sandbox: Serve,
    caplog: pytest.LogCaptureFixture,
    conversations: int,
    ghosts: tuple[int, ...],
    concurrency: int,
) -> None:
    drift, hidden = with_ghosts(sandbox, conversations, *ghosts)
    output = read(drift, "conversation_metrics", concurrency=concurrency)
    assert output.exit_code == 1
    assert len(drift.requests) < 200
    due = expected(drift.account, "conversation_metrics")
    due = {id_: row for id_, row in due.items() if id_ not in hidden}
    assert by_key({}, output.records("conversation_metrics"), "conversation_metrics") == due
    (line,) = said(caplog, "WARNING")
    assert f"count {len(ghosts)} more than they name" in line
    changed = next(id_ for id_ in due)
    drift.account.date(changed, int(time.time() * 1000))
    again = read(drift, "conversation_metrics", output.state)
    assert again.exit_code == 0
    assert [row["conversationId"] for row in again.records("conversation_metrics")] == [changed]


@pytest.mark.usefixtures("unlimited")
def test_reports_that_name_nothing_are_asked_for_again(
    sandbox: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    drift, _ = with_ghosts(sandbox, 5, *range(5))
    failed = read(drift, "conversation_metrics")
    assert failed.exit_code == 1
    assert len(drift.requests) < 200
    (line,) = said(caplog, "WARNING")
    assert "count 5 more than they name" in line
    drift.fault = None
    again = read(drift, "conversation_metrics", failed.state)
    assert again.exit_code == 0
    assert len(again.records("conversation_metrics")) == 5


@pytest.mark.usefixtures("unlimited")
def test_a_run_that_ends_at_any_request_of_the_halving_loses_nothing(sandbox: Serve) -> None:
    drift, hidden = with_ghosts(sandbox, 12, 7)
    drift.reports.rows = 6
    ghosted = drift.fault
    assert ghosted
    due = expected(drift.account, "conversation_metrics").keys() - hidden
    read(drift, "conversation_metrics")
    for number in range(1, len(drift.requests) + 1):
        refused = since(number, answers(error(401, "authentication_error", "no")))
        drift.requests.clear()
        drift.fault = first_of(refused, ghosted)
        failed = read(drift, "conversation_metrics")
        assert failed.exit_code == 1
        drift.fault = ghosted
        again = read(drift, "conversation_metrics", failed.state, lookback_seconds=0)
        records = [*failed.records("conversation_metrics"), *again.records("conversation_metrics")]
        assert {row["conversationId"] for row in records} == due


@pytest.mark.usefixtures("unlimited")
def test_a_moment_with_more_changes_than_a_report_names_is_told(
    sandbox: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    drift, _ = with_ghosts(sandbox, 20)
    drift.reports.rows = 4
    moment = int(time.time() * 1000) - 50 * DAY
    for id_ in list(drift.account.conversations)[:7]:
        drift.account.date(id_, moment)
    output = read(drift, "conversation_metrics")
    assert output.exit_code == 1
    assert len(output.records("conversation_metrics")) == 17
    (line,) = said(caplog, "WARNING")
    assert "count 3 more than they name" in line
    assert f"between {as_time(moment)} and {as_time(moment)}" in line
    assert read(drift, "conversation_metrics", output.state).exit_code == 0


@pytest.mark.parametrize("count", [None, "NaN", -1, 4, [], 4.5])
def test_a_count_that_can_not_be_is_told(
    sandbox: Serve, caplog: pytest.LogCaptureFixture, count: Any
) -> None:
    drift = sandbox(5)
    drift.fault = edited(lambda body: body.update(count=count))
    output = read(drift, "conversation_metrics")
    assert output.exit_code == 0
    assert len(output.records("conversation_metrics")) == 5
    assert len(drift.requests) == 1
    (line,) = said(caplog, "WARNING")
    assert "does not count what it names" in line


@pytest.mark.usefixtures("unlimited")
def test_counts_of_one_too_many_end(sandbox: Serve) -> None:
    drift = sandbox(30)
    lately(drift)
    drift.reports.calls = 1_000_000
    drift.fault = edited(lambda body: body.update(count=body["count"] + 1))
    output = read(drift, "conversation_metrics")
    assert output.exit_code == 1
    due = expected(drift.account, "conversation_metrics")
    assert by_key({}, output.records("conversation_metrics"), "conversation_metrics") == due
    assert len(drift.requests) < 200


# Windows that are not heeded


def always_full(_: Sandbox, request: Request) -> Response | None:
    if request.path == REPORT:
        data = [{"conversationId": n, "metrics": [1] * len(METRICS)} for n in range(100)]
        return as_json({"count": 5000, "data": data})
    return as_json({"data": [{"slug": f"slug-{n}", "agentId": 1} for n in range(1000)]})


@pytest.mark.parametrize(
    ("stream", "rows"), [("booked_meetings", 1000), ("conversation_metrics", 100)]
)
def test_windows_that_drift_does_not_heed_end_the_stream(
    sandbox: Serve, caplog: pytest.LogCaptureFixture, stream: str, rows: int
) -> None:
    drift = sandbox()
    drift.fault = always_full
    output = read(drift, stream)
    assert output.exit_code == 1
    assert len(drift.requests) == 3
    assert len(output.records(stream)) == rows
    (line,) = said(caplog, "ERROR")
    assert line.startswith(f"{stream}: Drift does not heed the time")
    if stream == "conversation_metrics":
        assert output.bookmark(stream)["replication_key_value"] is None


@pytest.mark.parametrize(
    "heeds", ["the first end", "the last end", "days", "nothing, and shuffles"]
)
def test_windows_that_drift_heeds_in_part_end_the_stream(
    sandbox: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, heeds: str
) -> None:
    monkeypatch.setattr(windows, "CROWDED_TOLERATED", 10)
    drift = sandbox()
    now = int(time.time() * 1000)
    starts = [now // DAY * DAY + number * HOUR // 60 for number in range(1500)]

    def meetings(drift: Sandbox, request: Request) -> Response:
        first, last = (int(request.args[f"{end}_start_time"]) for end in ("min", "max"))
        if heeds == "days":
            first, last = first // DAY * DAY, (last // DAY + 1) * DAY
        first = first if heeds in {"the first end", "days"} else 0
        last = last if heeds in {"the last end", "days"} else max(starts)
        found = [start for start in starts if first <= start <= last]
        if "shuffles" in heeds:
            turn = len(drift.requests) * 7
            found = found[turn % 1500 :] + found[: turn % 1500]
        return as_json(
            {"data": [meeting(drift, 1, start, slug=f"{start}") for start in found[:1000]]}
        )

    drift.fault = meetings
    output = read(drift, "booked_meetings")
    assert output.exit_code == 1
    assert len(drift.requests) < 150
    assert len(by_key({}, output.records("booked_meetings"), "booked_meetings")) >= 900
    (line,) = said(caplog, "ERROR")
    assert "does not heed" in line


# Transcripts


@pytest.mark.parametrize("as_json_", [False, True])
def test_transcripts_as_text_and_in_json(sandbox: Serve, as_json_: bool) -> None:  # noqa: FBT001
    drift = sandbox(40, transcripts_as_json=as_json_)
    output = read(drift, "transcripts")
    due = expected(drift.account, "transcripts")
    assert by_key({}, output.records("transcripts"), "transcripts") == due
    assert any("Zoë" in row["transcript"] for row in output.records("transcripts"))


def test_a_transcript_is_utf_8_whatever_the_header_says(sandbox: Serve) -> None:
    drift = sandbox(1)
    content = "Zoë\0 ✓".encode() + b"\xff"
    answer = Response(content, content_type="text/plain; charset=latin-1")
    drift.fault = lambda _, request: answer if "transcript" in request.path else None
    (record,) = read(drift, "transcripts").records("transcripts")
    assert record["transcript"] == "Zoë\ufffd ✓\ufffd"


@pytest.mark.parametrize(
    "answer",
    [
        Response("<html>Log in</html>", mimetype="text/html"),
        as_json({"data": {"messages": []}}),
        Response("cut", mimetype="application/json"),
    ],
)
def test_a_transcript_that_is_no_text_is_owed(sandbox: Serve, answer: Response) -> None:
    drift = sandbox(5)
    bad = list(drift.account.conversations)[2]
    drift.fault = items_never_load([bad], answer)
    failed = read(drift, "transcripts")
    assert failed.exit_code == 1
    assert [owed["id"] for owed in failed.bookmark("transcripts")["owed"]] == [bad]
    drift.fault = None
    again = read(drift, "transcripts", failed.state)
    assert again.exit_code == 0
    records = failed.records("transcripts") + again.records("transcripts")
    assert by_key({}, records, "transcripts") == expected(drift.account, "transcripts")


def test_an_error_in_place_of_a_transcript_is_one_and_an_odd_name_beside_it_is_none(
    sandbox: Serve,
) -> None:
    drift = sandbox(5, transcripts_as_json=True)
    ids = list(drift.account.conversations)
    drift.fault = first_of(
        items_never_load([ids[1]], error(200, "not_found", "No")),
        items_never_load([ids[2]], error(200, "internal_error", "No")),
        items_never_load([ids[3]], as_json({"data": "text", "error": "none"})),
    )
    output = read(drift, "transcripts")
    assert output.exit_code == 1
    assert [owed["id"] for owed in output.bookmark("transcripts")["owed"]] == [ids[2]]
    rows = {row["conversationId"]: row for row in output.records("transcripts")}
    assert rows.keys() == set(ids) - {ids[1], ids[2]}
    assert rows[ids[3]]["transcript"] == "text"
    assert rows[ids[3]]["otherFields"] == {"error": "none"}


@pytest.mark.parametrize("stream", ["transcripts", "attachments"])
def test_nothing_where_text_or_a_file_is_due_is_believed_when_it_comes_twice(
    sandbox: Serve, stream: str
) -> None:
    drift = sandbox(3)
    path = "/transcript" if stream == "transcripts" else "/data"
    with_files(drift, 4, 4, 4)

    def once(drift: Sandbox, request: Request) -> Response | None:
        is_first = len([one for one in drift.requests if one.endswith(path)]) == 1
        return Response(b"") if request.path.endswith(path) and is_first else None

    drift.fault = once
    output = read(drift, stream)
    assert by_key({}, output.records(stream), stream) == expected(drift.account, stream)
    drift.fault = lambda _, request: Response(b"") if request.path.endswith(path) else None
    again = read(drift, stream)
    assert again.exit_code == 0
    assert {row.get("content", row.get("transcript")) for row in again.records(stream)} == {""}


# Attachments


def with_files(drift: Sandbox, *messages: int) -> list[int]:
    """Give the conversations so many messages; 4 of them have a file, of which this is the id."""
    ids = list(drift.account.conversations)
    drift.account.messages_in = dict(zip(ids, messages, strict=True))
    return [(id_ * 1000 + 3) * 10 for id_ in ids]


def test_files_of_no_bytes_of_the_largest_size_and_above(
    sandbox: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    drift = sandbox(3)
    empty, largest, larger = with_files(drift, 4, 4, 4)
    drift.account.file_sizes = {empty: 0, largest: 200_000, larger: 200_001}
    output = read(drift, "attachments", max_attachment_bytes=200_000, max_retries=3)
    assert output.exit_code == 0
    records = {row["id"]: row for row in output.records("attachments")}
    due = {row["id"]: row for row in expected(drift.account, "attachments").values()}
    assert records[empty] == due[empty]
    assert records[empty]["content"] == ""
    assert records[largest] == due[largest]
    without = {k: v for k, v in due[larger].items() if k not in {"size", "sha256", "content"}}
    assert records[larger] == without | {"whyNoContent": "it has more than 200000 bytes"}
    assert len(asked(drift, f"/attachments/{larger}/")) == 1
    assert said(caplog, "WARNING") == []


def test_a_file_that_is_gone_or_has_no_id_keeps_its_row(sandbox: Serve) -> None:
    drift = sandbox(2)
    gone, nameless = with_files(drift, 4, 4)

    def forget(body: Json) -> None:
        for message in body["data"]["messages"]:
            for file in message.get("attachments", []):
                del file["id"]

    path = f"/conversations/{nameless // 10_000}/messages"
    forgetting = edited(forget)
    drift.fault = first_of(
        items_never_load([gone], error(404, "not_found", "No attachment")),
        lambda drift, request: forgetting(drift, request) if request.path == path else None,
    )
    output = read(drift, "attachments")
    assert output.exit_code == 0
    why = {row["messageId"]: row.get("whyNoContent") for row in output.records("attachments")}
    assert why == {gone // 10: "it is gone", nameless // 10: "Drift names no id for it"}
    assert not any("content" in row for row in output.records("attachments"))
    assert asked(drift, "/attachments/") == [f"/attachments/{gone}/data"]


@pytest.mark.parametrize(
    "words",
    [
        {"error": {"type": "not_found", "message": PERSONAL}},
        {"errors": [{"message": PERSONAL}]},
        {"error": PERSONAL},
        {"error": {"type": "rate_limit"}},
    ],
)
def test_a_file_of_json_is_content_whatever_it_says(
    sandbox: Serve, caplog: pytest.LogCaptureFixture, words: Json
) -> None:
    drift = sandbox(3)
    bad = with_files(drift, 4, 4, 4)[1]
    drift.fault = items_never_load([bad], as_json(words))
    output = read(drift, "attachments")
    assert output.exit_code == 0
    rows = {row["id"]: row for row in output.records("attachments")}
    assert len(rows) == 3
    assert json.loads(base64.b64decode(rows[bad]["content"])) == words
    assert "whyNoContent" not in rows[bad]
    assert said(caplog, "WARNING") == []
    assert PERSONAL not in caplog.text


def test_a_file_of_another_size_than_drift_says_is_told(sandbox: Serve) -> None:
    drift = sandbox(2)
    right, wrong = with_files(drift, 4, 4)
    drift.account.file_sizes = {right: 20, wrong: 30}

    def tell(body: Json) -> None:
        for message in body["data"].get("messages", []) if "data" in body else []:
            for file in message.get("attachments", []):
                file["size"] = 20

    telling = edited(tell)
    drift.fault = lambda drift, request: (
        telling(drift, request) if request.path.endswith("/messages") else None
    )
    output = read(drift, "attachments")
    assert output.exit_code == 0
    rows = {row["id"]: row for row in output.records("attachments")}
    assert "whyNoContent" not in rows[right]
    assert rows[wrong]["whyNoContent"] == "it may not be all: Drift says that it has 20 bytes"
    assert len(base64.b64decode(rows[wrong]["content"])) == rows[wrong]["size"] == 30


def test_a_file_that_fails_makes_its_conversation_owed(sandbox: Serve) -> None:
    drift = sandbox(3)
    bad = with_files(drift, 25, 25, 4)[1]
    drift.fault = items_never_load([bad], html(404))
    failed = read(drift, "attachments", concurrency=4)
    assert failed.exit_code == 1
    due = expected(drift.account, "attachments")
    records = by_key({}, failed.records("attachments"), "attachments")
    assert records == {key: row for key, row in due.items() if row["id"] != bad}
    assert [one["id"] for one in failed.bookmark("attachments")["owed"]] == [bad // 10_000]
    still = read(drift, "attachments", failed.state, concurrency=4)
    assert still.exit_code == 0
    assert still.bookmark("attachments")["owed"]
    drift.fault = None
    mended = read(drift, "attachments", still.state, concurrency=4)
    assert mended.exit_code == 0
    assert mended.bookmark("attachments")["owed"] == []
    assert by_key(records, mended.records("attachments"), "attachments") == due


def test_a_slow_file_is_no_answer_that_takes_too_long(sandbox: Serve) -> None:
    drift = sandbox(1)
    (slow,) = with_files(drift, 4)
    drift.account.file_sizes = {slow: 30}
    drift.fault = lambda drift, request: (
        drip(0.05)(drift, request) if request.path.startswith("/attachments/") else None
    )
    started = time.monotonic()
    output = read(drift, "attachments", request_timeout=1)
    assert time.monotonic() - started > 1.4
    assert output.exit_code == 0
    assert output.records("attachments")[0]["size"] == 30


def test_the_host_that_a_message_names_is_never_contacted(sandbox: Serve) -> None:
    drift, elsewhere = sandbox(30), sandbox(30)
    drift.account.files_at = elsewhere.url
    output = read(drift, "attachments", concurrency=8)
    records = output.records("attachments")
    assert records
    assert by_key({}, records, "attachments") == expected(drift.account, "attachments")
    assert elsewhere.requests == []
    assert TOKEN not in str(output.messages)


class SlowTarget(Target):
    """Takes its time with each file, and looks how many were asked for meanwhile."""

    def __init__(self, drift: Sandbox) -> None:
        super().__init__()
        self.drift = drift
        self.ahead: list[int] = []
        self.taken = 0

    def take(self, message: Json) -> None:
        super().take(message)
        if message["type"] == "RECORD" and self.taken < 6:
            time.sleep(0.15)
            self.ahead.append(len(asked(self.drift, "/attachments/")) - self.taken)
            self.taken += 1


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_files_are_in_memory_than_requests_under_way(
    sandbox: Serve, concurrency: int
) -> None:
    drift = sandbox(12)
    with_files(drift, *[4, 25, 25] * 4)
    target = SlowTarget(drift)
    config = settings(drift, concurrency=concurrency, page_size=4)
    output = run_here(config, None, selecting("attachments"), target)
    assert by_key({}, output.records("attachments"), "attachments") == expected(
        drift.account, "attachments"
    )
    assert max(target.ahead) == concurrency


def test_a_target_that_dies_after_any_message_loses_no_file(sandbox: Serve) -> None:
    drift = sandbox(4)
    with_files(drift, 4, 25, 0, 4)
    config, catalog = settings(drift, page_size=2, concurrency=3), selecting("attachments")
    whole = run_here(config, None, catalog).messages
    for messages in range(len(whole)):
        first = run_here(config, None, catalog, Target(dies_after=messages))
        second = run_here(config, first.state if first.states else None, catalog)
        records = first.records("attachments") + second.records("attachments")
        due = expected(drift.account, "attachments")
        assert by_key({}, records, "attachments") == due


def test_a_conversation_that_changes_has_its_files_again(sandbox: Serve) -> None:
    drift = sandbox(10)
    first = read(drift, "attachments")
    id_ = list(drift.account.conversations)[4]
    drift.account.messages_in[id_] = 24
    drift.account.change(id_)
    second = read(drift, "attachments", first.state)
    records = first.records("attachments") + second.records("attachments")
    due = expected(drift.account, "attachments")
    assert by_key({}, records, "attachments") == due
    new = [row for row in second.records("attachments") if row["messageId"] == id_ * 1000 + 24]
    assert [row["position"] for row in new] == [0, 1]
    assert base64.b64decode(new[1]["content"]) == drift.account.file(new[1]["id"])
