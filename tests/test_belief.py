"""Nothing is believed blindly: clocks, times, order, ends, and lists that lead nowhere."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import logging
import math
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.runs import REFUSED, Run, said, warnings
from tests.sandbox import Account
from tests.sandbox.expected import as_time, expected
from tests.sandbox.server import changing, dated, error, never_ending, without_pagination
from tests.tap import run_here, selecting, settings, upserted

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Request, Response

    from tests.sandbox import Sandbox
    from tests.sandbox.server import Fault, Way
    from tests.tap import Json

    Serve = Callable[..., Sandbox]
    Log = pytest.LogCaptureFixture

MINUTE = 60_000
IN_2099 = 4_070_908_800_000
IN_FUTURE = "there are rows that were last updated in the future."

ways = pytest.mark.parametrize("way", ["offset", "id", "links", "blank", "both"])


@pytest.fixture(autouse=True)
def log(caplog: Log) -> Log:
    caplog.set_level(logging.INFO)
    return caplog


def on_time(drift: Sandbox) -> Sandbox:
    """A Drift whose clock is the account's."""
    drift.clock = lambda: dt.datetime.fromtimestamp(math.ceil(drift.account.now / 1000), dt.UTC)
    return drift


def change(account: Account, rows: int, milliseconds: int | None = None) -> None:
    for row in account.listing()[-rows:]:
        account.change(row["id"], milliseconds=milliseconds)


# Clocks


@ways
@pytest.mark.parametrize("rows", [1, 3, 60])
@pytest.mark.parametrize("ahead", [10 * MINUTE, None], ids=["ten minutes", "2099"])
def test_rows_of_the_future_hide_nothing(
    sandbox: Serve, log: Log, way: Way, rows: int, ahead: int | None
) -> None:
    drift = on_time(sandbox(120, way))
    run = Run(drift)
    odd = list(drift.account.conversations)[10 : 10 + rows]
    newest = as_time(drift.account.now)
    for number, id_ in enumerate(odd):
        drift.account.date(id_, number + (drift.account.now + ahead if ahead else IN_2099))
    first = run.here()
    assert run.target == expected(drift.account)
    assert first.bookmark()["replication_key_value"] == newest
    assert [IN_FUTURE in line for line in warnings(log)] == [True]
    change(drift.account, 60, milliseconds=1000)
    run.here()
    assert run.target == expected(drift.account)
    for id_ in odd:  # they are mended
        drift.account.change(id_, milliseconds=1000)
    log.clear()
    last = run.here()
    assert run.target == expected(drift.account)
    assert last.bookmark()["replication_key_value"] == as_time(drift.account.now)
    assert warnings(log) == []
    run.here()
    assert len(run.requests) == 1


def test_a_minute_is_no_future_to_speak_of(sandbox: Serve, log: Log) -> None:
    drift = on_time(sandbox(60))
    run = Run(drift)
    now = drift.account.now
    drift.account.date(drift.account.listing()[20]["id"], now + MINUTE)
    assert run.here().bookmark()["replication_key_value"] == as_time(now)
    assert warnings(log) == []
    change(drift.account, 1, milliseconds=MINUTE // 2)
    run.here()
    assert run.target == expected(drift.account)


@pytest.mark.parametrize("stream", ["conversations", "conversation_details", "messages"])
@pytest.mark.parametrize("ahead", [10 * MINUTE, None], ids=["ten minutes", "2099"])
def test_a_bookmark_of_the_future_is_not_trusted(
    sandbox: Serve, log: Log, stream: str, ahead: int | None
) -> None:
    drift = on_time(sandbox(20))
    run = Run(drift, stream)
    first = run.here()
    drift.account.begin(milliseconds=1000)
    future = as_time(drift.account.now + ahead if ahead else IN_2099)
    assert run.state
    run.state["bookmarks"][stream]["replication_key_value"] = future
    output = run.here()
    assert run.target == expected(drift.account, stream)
    assert len(output.records(stream)) >= len(first.records(stream))
    newest = as_time(drift.account.now)
    assert output.bookmark(stream)["replication_key_value"] == newest
    (line,) = warnings(log)
    assert line.startswith(f"{stream}: the bookmark {future} lies in the future, so what was read")
    log.clear()
    run.here()
    assert warnings(log) == []


@ways
def test_the_top_of_a_walk_is_not_trusted_in_the_future(sandbox: Serve, log: Log, way: Way) -> None:
    drift = on_time(sandbox(230, way))
    run = Run(drift)
    run.interrupted(4)
    assert run.state
    run.state["bookmarks"]["conversations"]["walk"]["top"] = as_time(IN_2099)
    log.clear()
    run.here()
    assert run.target == expected(drift.account)
    assert run.bookmark_is_newest
    assert run.state["bookmarks"]["conversations"]["replication_key_value"] < as_time(IN_2099)
    (line,) = warnings(log)
    assert "lies in the future" in line


@pytest.mark.parametrize("hours", [-300_000, -26, -1, 1, 26, 300_000])
def test_the_clock_of_the_machine_does_not_matter(
    sandbox: Serve, log: Log, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    drift = on_time(sandbox(120))
    drift.account.begin(milliseconds=10)
    right = run_here(settings(drift))
    change(drift.account, 60)
    right_then = run_here(settings(drift), right.state)
    drift.account = Account(120)
    drift.account.begin(milliseconds=10)
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 3600 * hours)
    run = Run(drift)
    first = run.here()
    assert (first.records(), first.states) == (right.records(), right.states)
    change(drift.account, 60)
    second = run.here()
    assert (second.records(), second.states) == (right_then.records(), right_then.states)
    assert warnings(log) == said(log) == []


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_drift_whose_clock_was_wrong_loses_nothing(sandbox: Serve, log: Log, hours: int) -> None:
    drift = on_time(sandbox(120))
    run = Run(drift)
    right = drift.clock
    assert right
    drift.clock = lambda: right() + dt.timedelta(hours=hours)
    run.here()
    change(drift.account, 60, milliseconds=1000)
    drift.clock = right
    run.here()
    assert run.target == expected(drift.account)


# Absurd times

ABSURD = [0, -1, 1_760_000_000, "1970-01-01T00:00:00Z"]


@pytest.mark.parametrize("way", ["offset", "id", "links"])
@pytest.mark.parametrize("absurd", ABSURD)
@pytest.mark.parametrize("ties", [False, True], ids=["", "ties"])
def test_one_absurd_time_ends_nothing(sandbox: Serve, way: Way, absurd: Any, *, ties: bool) -> None:
    for page_size, place in ((50, 49), (1, 3)):
        drift = sandbox(120 if page_size > 1 else 12, way)
        run = Run(drift)
        run.here()
        change(drift.account, 70 if page_size > 1 else 7, 0 if ties else 1000)
        id_ = drift.account.listing()[place]["id"]
        drift.fault = dated({id_: absurd})
        run.here(page_size=page_size)
        account = expected(drift.account)
        del account[id_]
        assert {**run.target, **account} == run.target
        assert id_ in run.target
        assert run.bookmark_is_newest


@ways
@pytest.mark.parametrize("ties", [False, True], ids=["", "ties"])
def test_an_absurd_time_in_a_resumed_walk_ends_nothing(
    sandbox: Serve, way: Way, *, ties: bool
) -> None:
    for place, at in ((18, 3), (19, 3), (19, 4), (28, 4)):
        drift = sandbox(120, way)
        run = Run(drift)
        run.here()
        change(drift.account, 70, 0 if ties else 1000)
        id_ = drift.account.listing()[place]["id"]
        drift.fault = dated({id_: 0})
        drift.faults[len(drift.requests) + at] = REFUSED
        run.here(1, page_size=10)
        run.here(page_size=10)
        account = expected(drift.account)
        del account[id_]
        assert {**run.target, **account} == run.target
        assert run.bookmark_is_newest


# Late rows


@ways
def test_late_rows_are_what_the_lookback_is_for(sandbox: Serve, way: Way) -> None:
    drift = on_time(sandbox(60, way))
    run = Run(drift)
    for _ in range(60):
        drift.account.begin(milliseconds=2000)
    late = [row["id"] for row in drift.account.listing()[1:51]]
    for id_ in late:
        drift.account.hide(id_)
    run.here(lookback_seconds=300)
    assert not {*late} & run.target.keys()
    for id_ in late:
        drift.account.appear(id_)
    without = run_here(settings(drift), run.state)
    assert len(without.records()) == 1
    run.here(lookback_seconds=300)
    assert run.target == expected(drift.account)


def test_the_lookback_is_five_minutes_and_costs_no_request(sandbox: Serve) -> None:
    drift = on_time(sandbox(60))
    config = settings(drift)
    del config["lookback_seconds"]
    first = run_here(config)
    before = len(drift.requests)
    newest = drift.account.now
    second = run_here(config, first.state)
    assert len(drift.requests) == before + 1
    assert all(row["updatedAt"] >= as_time(newest - 5 * MINUTE) for row in second.records())
    assert second.state == first.state


# Ends that are none


@ways
def test_an_answer_that_forgets_the_page_below_once_loses_nothing(
    sandbox: Serve, log: Log, way: Way
) -> None:
    for number in range(1, 8):
        drift = sandbox(230, way)
        drift.faults[number] = without_pagination
        run = Run(drift)
        run.here()
        assert run.target == expected(drift.account)
        assert run.bookmark_is_newest
        before = len(drift.requests)
        change(drift.account, 120)
        drift.faults[before + number] = without_pagination
        run.here()
        assert run.target == expected(drift.account)
    assert warnings(log) == []


@ways
@pytest.mark.parametrize("number", [1, 2])
def test_an_answer_that_forgets_it_where_a_run_resumes_loses_nothing(
    sandbox: Serve, way: Way, number: int
) -> None:
    for at in (3, 5):
        drift = sandbox(230, way)
        run = Run(drift)
        run.interrupted(at)
        drift.faults[len(drift.requests) + number] = without_pagination
        run.here()
        assert run.is_complete
        assert run.bookmark_is_newest


@ways
def test_answers_that_forget_it_ahead_lose_nothing(sandbox: Serve, way: Way) -> None:
    for number in (2, 4, 6, 9):
        drift = sandbox(230, way, latency=0.002)
        drift.faults[number] = without_pagination
        run = Run(drift)
        run.here(concurrency=8, page_size=20)
        assert run.target == expected(drift.account)


# Order


class Unsorted(Account):
    """An account whose list is in an order of its own."""

    def __init__(self, order: list[int]) -> None:
        super().__init__()
        for _ in order:
            self.begin(milliseconds=1000)
        self.order = order

    def listing(self, status_ids: frozenset[int] = frozenset()) -> list[Json]:
        rows = super().listing(status_ids)
        return [rows[place] for place in self.order]


def blocks(*order: int, of: int = 10) -> list[int]:
    return [block * of + place for block in order for place in range(of)]


@pytest.mark.parametrize("way", ["offset", "id"])
@pytest.mark.parametrize(
    ("order", "start"),
    [
        (blocks(1, 0, 4, 3, 2), 35),
        (blocks(0, 2, 1, 5, 3, 4), 50),
        (blocks(*[1, 0, 7, 2, 6, 3, 5, 4], of=1), 5),
        (blocks(*[2, 1, 0, 6, 7, 3, 4, 5], of=1), 5),
    ],
)
def test_rows_that_are_out_of_order_from_page_to_page_are_noticed(
    sandbox: Serve, log: Log, way: Way, order: list[int], start: int
) -> None:
    account = Unsorted(order)
    floor = as_time(sorted(row["updatedAt"] for row in account.listing())[-1 - start])
    run = Run(sandbox(account, way))
    run.here(page_size=10 if len(order) > 10 else 1, start_date=floor)
    wanted = {k: row for k, row in expected(account).items() if row["updatedAt"] >= floor}
    assert run.target == wanted
    (line,) = warnings(log)
    assert "rows do not come newest first, so the list is read to its end." in line


# What leaves while it is read


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("gone", [1, 2, 50])
def test_messages_deleted_between_pages_hide_no_other(
    sandbox: Serve, concurrency: int, gone: int
) -> None:
    drift = sandbox(1)
    (id_,) = drift.account.conversations
    drift.account.messages_in[id_] = 170
    for number in (4, 5, 6):
        run = Run(drift, "messages")
        deleted: set[int] = set()
        every = drift.account.__class__.messages

        def messages(
            conversation: int, deleted: set[int] = deleted, every: Any = every
        ) -> list[Json]:
            rows = every(drift.account, conversation)
            return [row for row in rows if row["id"] not in deleted]

        def delete(account: Account, deleted: set[int] = deleted) -> None:
            deleted.update(row["id"] for row in account.messages(id_)[:gone])

        drift.account.messages = messages  # type: ignore[method-assign, assignment]
        drift.faults[len(drift.requests) + number] = changing(delete)
        run.here(concurrency=concurrency)
        assert len(deleted) == gone
        assert run.is_complete
        drift.faults.clear()


@pytest.mark.parametrize("gone", [1, 2, 65])
def test_accounts_deleted_between_pages_hide_no_other(sandbox: Serve, gone: int) -> None:
    for number in (2, 3):
        drift = sandbox()
        every = drift.account.accounts()
        drift.account.accounts = every.copy  # type: ignore[method-assign]

        def delete(account: Account, every: list[Json] = every) -> None:
            del every[:gone]

        drift.faults[number] = changing(delete)
        run = Run(drift, "accounts")
        output = run_here(settings(drift), None, run.catalog)
        assert output.exit_code == 0
        arrived = upserted({}, output.records("accounts"), "accounts")
        kept = {row["accountId"] for row in every}
        assert kept <= arrived.keys()
        assert len(drift.requests) <= 8


# Lists that never end

# Pages that come by count have to join, which those of a circle do not all do.
NOWHERE = (
    "the list goes in circles: the same rows come back, whatever its cursors.",
    "the list changed, and what was read before can't be found in it again.",
)


@pytest.mark.parametrize(
    ("way", "pages", "concurrency"),
    [
        *itertools.product(("offset", "links"), (0, 1, 3), (1,)),
        *itertools.product(("id", "both"), (0, 1, 3), (8,)),
        *itertools.product(("blank",), (1, 2, 3), (1,)),  # an empty page without links is an end
    ],
)
def test_a_list_that_never_ends_ends_in_a_clear_line(
    sandbox: Serve, log: Log, way: Way, pages: int, concurrency: int
) -> None:
    drift = sandbox(230, way)
    drift.fault = never_ending(pages)
    run = Run(drift)
    output = run.here(1, concurrency=concurrency)
    assert any(nowhere in warnings(log)[-1] for nowhere in NOWHERE)
    assert "It was begun 4 times." in warnings(log)[-1]
    assert len(run.requests) < 260
    assert output.bookmark()["replication_key_value"] is None
    drift.fault = None
    run.here()
    assert run.is_complete


@pytest.mark.parametrize("pages", [0, 1, 3])
@ways
def test_a_list_that_never_ends_from_the_middle_on(
    sandbox: Serve, log: Log, way: Way, pages: int
) -> None:
    drift = sandbox(230, way)
    never = never_ending(pages)
    drift.fault = lambda drift, request: (
        never(drift, request) if {"next", "page_token"} & request.args.keys() else None
    )
    run = Run(drift)
    run.here(1)
    assert any(nowhere in warnings(log)[-1] for nowhere in NOWHERE)
    assert len(run.requests) < 260
    drift.fault = None
    run.here()
    assert run.is_complete


@pytest.mark.parametrize("pages", [0, 1, 2, 3])
def test_accounts_and_messages_that_never_end(sandbox: Serve, log: Log, pages: int) -> None:
    drift = sandbox()
    drift.fault = never_ending(pages)
    assert run_here(settings(drift), None, selecting("accounts")).exit_code == 1
    assert warnings(log) == ["accounts: Drift's pages go in circles."]
    assert len(drift.requests) < 30

    log.clear()
    drift = sandbox(2)
    for id_ in drift.account.conversations:
        drift.account.messages_in[id_] = 150

    def messages_only(drift: Sandbox, request: Request) -> Response | None:
        return endless(drift, request) if request.path.endswith("/messages") else None

    endless: Fault = never_ending(pages)
    drift.fault = messages_only
    run = Run(drift, "messages")
    run.here(1)
    assert sum("Drift's pages go in circles." in line for line in warnings(log)) >= 2
    assert len(run.requests) < 120
    drift.fault = None
    run.here()
    assert run.is_complete


# What can't be had


@pytest.mark.parametrize("stream", ["conversations", "messages"])
@pytest.mark.parametrize("way", ["offset", "id", "keyset", "links", "both"])
def test_a_row_that_drift_can_not_list_holds_up_no_new_one(
    sandbox: Serve, log: Log, way: Way, stream: str
) -> None:
    drift = sandbox(40, way)
    listing = drift.account.listing()
    bad, above = listing[20]["id"], {row["id"] for row in listing[:20]}

    def fault(drift: Sandbox, request: Request) -> Response | None:
        rows = json.loads(drift.answer(request).get_data()).get("data", [])
        is_hit = request.path == "/conversations/list" and any(row["id"] == bad for row in rows)
        return error(500, "internal_error", "no") if is_hit else None

    drift.fault = fault
    run = Run(drift, stream)

    def conversations(rows: dict[Any, Json]) -> set[int]:
        return {row["conversationId" if stream == "messages" else "id"] for row in rows.values()}

    for _ in range(3):
        above.add(drift.account.begin())
        run.here(1, page_size=8)
        there, arrived = conversations(expected(drift.account, stream)), conversations(run.target)
        assert there & above <= arrived
        if way in {"offset", "both"}:  # which count rows
            assert there - {bad} <= arrived
            assert any("can't be had, and is left out" in line for line in warnings(log))
    drift.fault = None
    run.here()
    assert run.is_complete
