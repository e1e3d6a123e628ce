"""What a run leaves in STATE, and what the next run makes of it."""

from __future__ import annotations

import copy
import datetime as dt
import logging
import math
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from singer_sdk.exceptions import ConfigValidationError

from tests.sandbox import Account, Sandbox
from tests.sandbox.expected import as_time, expected
from tests.sandbox.server import (
    answers,
    as_json,
    changing,
    edited,
    error,
    errors,
    settings_of,
)
from tests.tap import (
    ACCOUNT,
    EVERYTHING,
    NO_WALK,
    Output,
    run_here,
    run_tap,
    selecting,
    settings,
    upserted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from werkzeug.wrappers import Request, Response

    from tests.sandbox.server import Way

    Serve = Callable[..., Sandbox]
    Json = dict[str, Any]

REFUSED = answers(error(401, "authentication_error", "The access token is invalid"))


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def said(log: pytest.LogCaptureFixture) -> list[str]:
    """What the tap itself said, without the SDK's metrics."""
    return [
        record.getMessage()
        for record in log.records
        if record.name.startswith("tap-drift") and record.getMessage().startswith("conversations:")
    ]


def warnings(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in log.records if record.levelno >= logging.WARNING]


def newest_first_times(drift: Sandbox) -> list[str]:
    return [as_time(row["updatedAt"]) for row in drift.account.listing()]


def interrupted(drift: Sandbox, at: int, state: Json | None = None, **config: Any) -> Output:
    """A run whose nth request is refused."""
    drift.faults[len(drift.requests) + at] = REFUSED
    output = run_here(settings(drift, **config), state)
    drift.faults.clear()
    assert output.exit_code == 1
    return output


def requests_of(drift: Sandbox, state: Json | None, **config: Any) -> tuple[int, Output]:
    before = len(drift.requests)
    output = run_here(settings(drift, **config), state)
    assert output.exit_code == 0
    return len(drift.requests) - before, output


# What runs cost


def test_interrupted_at_any_page_nothing_is_lost_and_little_is_read_twice(
    sandbox: Serve, cursor: Way
) -> None:
    drift = sandbox(400, cursor)
    whole, _ = requests_of(drift, None)
    for page in range(1, whole + 1):
        before = len(drift.requests)
        first = interrupted(drift, page)
        second = run_here(settings(drift), first.state)
        assert second.exit_code == 0
        loaded = upserted(upserted({}, first.records()), second.records())
        assert loaded == expected(drift.account)
        assert second.bookmark()["replication_key_value"] == newest_first_times(drift)[0]
        assert second.bookmark()["walk"] == NO_WALK
        assert len(drift.requests) - before - 1 <= whole + 3
        if page > 2:
            assert len(second.records()) <= 400 - 49 * (page - 2) + 50


def test_resuming_costs_one_extra_request_at_the_most(sandbox: Serve, cursor: Way) -> None:
    drift = sandbox(1000, cursor)
    whole, _ = requests_of(drift, None)
    first = interrupted(drift, 10)
    rest, _ = requests_of(drift, first.state)
    # The last page once more, where STATE has no token of the page below; and as after every first
    # run, the head, for what changed meanwhile.
    assert 9 + rest == whole + 1 + (cursor not in {"links", "both"})


def test_a_run_with_nothing_new_costs_one_request(sandbox: Serve, cursor: Way) -> None:
    drift = sandbox(1000, cursor)
    state = run_here(settings(drift)).state
    for _ in range(3):
        requests, output = requests_of(drift, state)
        assert requests == 1
        assert len(output.records()) == 1  # the one at the bookmark
        assert output.state == state
        state = output.state


@pytest.mark.parametrize("changes", [1, 48, 49, 99, 200])
def test_a_run_costs_one_request_and_one_for_every_fifty_changes(
    sandbox: Serve, cursor: Way, changes: int
) -> None:
    drift = sandbox(1000, cursor)
    first = run_here(settings(drift))
    for id_ in list(drift.account.conversations)[:changes]:
        drift.account.change(id_, "closed")
    requests, second = requests_of(drift, first.state)
    assert requests <= math.ceil(1 + changes / 50)
    assert upserted(upserted({}, first.records()), second.records()) == expected(drift.account)
    assert len(second.records()) == changes + 1


def test_an_account_without_conversations(sandbox: Serve) -> None:
    drift = sandbox(0)
    empty = run_here(settings(drift))
    assert empty.bookmark()["replication_key_value"] is None
    drift.account.begin()
    _, second = requests_of(drift, empty.state)
    assert upserted({}, second.records()) == expected(drift.account)


# Limits, and what a bookmark covers


def limits(drift: Sandbox, config: Json) -> Json:
    """Settings, with the number of a row for the `start_date`."""
    start = config.get("start_date")
    return config if start is None else config | {"start_date": newest_first_times(drift)[start]}


def test_start_date_is_included_and_older_rows_are_not(sandbox: Serve, cursor: Way) -> None:
    drift = sandbox(300, cursor)
    times = newest_first_times(drift)
    requests, output = requests_of(drift, None, start_date=times[120])
    assert [row["updatedAt"] for row in output.records()] == times[:121]
    assert requests == 3
    just_after = times[120].replace("Z", "001Z")  # microseconds: finer than Drift's times
    assert len(run_here(settings(drift, start_date=just_after)).records()) == 121


def test_start_date_may_have_any_time_zone(sandbox: Serve) -> None:
    drift = sandbox(Account())
    for _ in range(30):
        drift.account.begin(milliseconds=60_000)
    utc = newest_first_times(drift)[10]
    output = run_here(settings(drift, start_date=utc))
    hour = int(utc[11:13])
    assert hour >= 2
    local = f"{utc[:11]}{hour - 2:02d}{utc[13:-1]}-02:00"
    assert run_here(settings(drift, start_date=local)).records() == output.records()


def test_rows_at_the_bookmark_are_read_again(sandbox: Serve, cursor: Way) -> None:
    drift = sandbox(10, cursor)
    first = run_here(settings(drift))
    latecomer = drift.account.begin(milliseconds=0)
    _, second = requests_of(drift, first.state)
    assert latecomer in {row["id"] for row in second.records()}


def test_rows_at_the_floor_may_go_on_to_the_next_page(sandbox: Serve, cursor: Way) -> None:
    account = Account()
    for number in range(150):
        account.begin(milliseconds=0 if 40 < number <= 110 else 1000)
    drift = sandbox(account, cursor)
    floor = as_time(account.conversations[list(account.conversations)[100]]["updatedAt"])
    _, output = requests_of(drift, None, start_date=floor)
    assert upserted({}, output.records()) == {
        id_: row for id_, row in expected(drift.account).items() if row["updatedAt"] >= floor
    }
    assert len(output.records()) == 110


def test_lookback_lowers_the_floor(sandbox: Serve, cursor: Way) -> None:
    account = Account()
    for _ in range(100):
        account.begin(milliseconds=1000)
    drift = sandbox(account, cursor)
    state = run_here(settings(drift)).state
    times = newest_first_times(drift)
    for seconds, rows in [(0, 1), (1, 2), (30, 31), (1_000_000, 100)]:
        output = run_here(settings(drift, lookback_seconds=seconds), state)
        assert [row["updatedAt"] for row in output.records()] == times[:rows]
        assert output.state == state
    limited = settings(drift, lookback_seconds=30, start_date=times[20])
    assert len(run_here(limited, state).records()) == 21  # start_date still holds


def test_lookback_does_not_lower_the_floor_of_a_first_run(sandbox: Serve) -> None:
    drift = sandbox(100)
    times = newest_first_times(drift)
    output = run_here(settings(drift, start_date=times[20], lookback_seconds=10**6))
    assert len(output.records()) == 21


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"statuses": ["open"]}, {}),
        ({"statuses": ["open"]}, {"statuses": ["open", "closed"]}),
        ({"statuses": ["open"]}, {"statuses": ["pending"]}),
        ({"start_date": 50}, {}),
        ({"start_date": 50}, {"start_date": 80}),
        ({"start_date": 50, "statuses": ["open"]}, {"start_date": 50}),
    ],
    ids=str,
)
def test_a_run_that_asks_for_more_starts_over(
    sandbox: Serve, log: pytest.LogCaptureFixture, before: Json, after: Json
) -> None:
    drift = sandbox(200)
    state = run_here(settings(drift, **limits(drift, before))).state
    log.clear()
    _, wider = requests_of(drift, state, **limits(drift, after))
    over = [line for line in said(log) if "starting over, because" in line]
    assert len(over) == 1
    assert warnings(log) == []
    _, fresh = requests_of(drift, None, **limits(drift, after))
    assert wider.records() == fresh.records()
    assert wider.bookmark() == fresh.bookmark()

    # The wider claim must not stand beside the old bookmark, not even for a moment.
    broken = interrupted(drift, 1, state, **limits(drift, after))
    assert broken.bookmark()["replication_key_value"] is None
    _, again = requests_of(drift, broken.state, **limits(drift, after))
    assert again.records() == fresh.records()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"statuses": ["open"]}),
        ({"statuses": ["open", "closed"]}, {"statuses": ["closed"]}),
        ({"statuses": ["open", "closed"]}, {"statuses": ["closed", "open", "open"]}),
        ({"start_date": 80}, {"start_date": 80, "statuses": ["open"]}),
    ],
    ids=str,
)
def test_a_run_that_asks_for_less_keeps_the_bookmark_and_narrows_what_it_covers(
    sandbox: Serve, log: pytest.LogCaptureFixture, before: Json, after: Json
) -> None:
    drift = sandbox(200)
    state = run_here(settings(drift, **limits(drift, before))).state
    log.clear()
    requests, narrower = requests_of(drift, state, **limits(drift, after))
    assert requests == 1
    assert not any("starting over" in line for line in said(log))
    statuses = after.get("statuses")
    assert narrower.bookmark()["covers"] == {
        "statuses": sorted(set(statuses)) if statuses else None,
        "start_date": limits(drift, after).get("start_date"),
        "account": ACCOUNT,
    }
    if sorted(set(before.get("statuses", []))) != sorted(set(after.get("statuses", []))):
        log.clear()
        run_here(settings(drift, **limits(drift, before)), narrower.state)
        assert any("starting over" in line for line in said(log))


@pytest.mark.parametrize("before", [{}, {"start_date": 80}], ids=str)
@pytest.mark.parametrize("lookback", [0, 300])
def test_a_later_start_date_narrows_only_what_is_not_read(
    sandbox: Serve, before: Json, lookback: int
) -> None:
    drift = sandbox(200)
    first = run_here(settings(drift, lookback_seconds=lookback, **limits(drift, before)))
    begun = limits(drift, before).get("start_date")
    assert first.bookmark()["covers"]["start_date"] == begun
    value = dt.datetime.fromisoformat(first.bookmark()["replication_key_value"])
    for after, kept in ((-lookback - 1, True), (-lookback, True), (1 - lookback, False)):
        later = (value + dt.timedelta(seconds=after)).isoformat(timespec="milliseconds")
        later = later.replace("+00:00", "Z")
        _, narrower = requests_of(drift, first.state, start_date=later, lookback_seconds=lookback)
        assert narrower.bookmark()["covers"]["start_date"] == (begun if kept else later)
    drift.account.change(next(iter(drift.account.conversations)))
    _, again = requests_of(drift, narrower.state, **limits(drift, before))
    assert len(again.records()) == len(run_here(settings(drift, **limits(drift, before))).records())


def test_a_walk_is_finished_only_with_the_same_statuses(
    sandbox: Serve, cursor: Way, log: pytest.LogCaptureFixture
) -> None:
    drift = sandbox(400, cursor)
    first = interrupted(drift, 3)
    assert first.bookmark()["walk"]["cursor"]
    log.clear()
    _, closed = requests_of(drift, first.state, statuses=["closed"])
    assert not any("resuming" in line for line in said(log))
    records = upserted({}, closed.records())
    assert records == {k: v for k, v in expected(drift.account).items() if v["status"] == "closed"}
    _, everything = requests_of(drift, closed.state)
    assert upserted({}, everything.records()) == expected(drift.account)

    first = interrupted(drift, 3, None, statuses=["open", "closed"], page_size=20)
    log.clear()
    _, again = requests_of(drift, first.state, statuses=["closed", "open"], page_size=20)
    assert any("resuming" in line for line in said(log))
    assert again.bookmark()["walk"] == NO_WALK


def test_an_earlier_start_date_finishes_the_walk_further_down(sandbox: Serve, cursor: Way) -> None:
    drift = sandbox(400, cursor)
    times = newest_first_times(drift)
    first = interrupted(drift, 3, start_date=times[150])
    _, second = requests_of(drift, first.state, start_date=times[350])
    records = upserted(upserted({}, first.records()), second.records())
    assert len(records) == 351
    assert second.bookmark()["covers"]["start_date"] == times[350]


def test_a_catalog_that_asks_for_the_full_table_gets_everything_and_no_bookmark(
    sandbox: Serve, cursor: Way
) -> None:
    drift = sandbox(300, cursor)
    incremental = run_here(settings(drift))
    full_table = selecting("conversations", method="FULL_TABLE")
    for state in (None, incremental.state):
        output = run_here(settings(drift), state, full_table)
        assert upserted({}, output.records()) == expected(drift.account)
        left = output.states[-1]["bookmarks"].get("conversations", {}) if output.states else {}
        assert not left.get("replication_key_value")
        assert left.get("walk", NO_WALK) == NO_WALK
        again = run_here(settings(drift), output.state)
        assert upserted({}, again.records()) == expected(drift.account)


# State of other shapes


def bookmarks(**conversations: Any) -> Json:
    return {"bookmarks": {"conversations": conversations}}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"starting_replication_value": "2020-01-01T00:00:00Z"},
        {"replication_key_signpost": "2030-01-01T00:00:00Z"},
        {"progress_markers": {"Note": "...", "replication_key_value": "2030-01-01T00:00:00Z"}},
        {"progress_markers": []},
        {"partitions": [{"context": {}, "replication_key_value": "2030-01-01T00:00:00Z"}]},
        {"partitions": "none"},
    ],
    ids=str,
)
def test_state_in_the_shape_of_the_sdk_works(sandbox: Serve, more: Json) -> None:
    drift = sandbox(200)
    times = newest_first_times(drift)
    for written in (times[30], times[30].replace("Z", "+00:00"), times[30].replace("Z", "000")):
        state = bookmarks(replication_key="updatedAt", replication_key_value=written, **more)
        requests, output = requests_of(drift, state)
        assert requests == 1
        assert [row["updatedAt"] for row in output.records()] == times[:31]
        assert output.bookmark() == {
            "replication_key": "updatedAt",
            "replication_key_value": times[0],
            "covers": EVERYTHING,
            "walk": NO_WALK,
            "owed": [],
        }


@pytest.mark.parametrize(
    "state",
    [{}, {"bookmarks": {}}, {"bookmarks": {"conversations": {}}}, {"bookmarks": None}],
    ids=str,
)
def test_state_without_a_bookmark_reads_everything(sandbox: Serve, state: Json) -> None:
    drift = sandbox(60)
    assert upserted({}, requests_of(drift, state)[1].records()) == expected(drift.account)


def test_state_of_other_streams_is_kept(sandbox: Serve) -> None:
    drift = sandbox(10)
    other = {"replication_key": "at", "replication_key_value": "2020", "mine": [1]}
    output = run_here(settings(drift), {"bookmarks": {"another": other}})
    assert output.state["bookmarks"]["another"] == other


TIME = "2025-10-09T10:00:00.000Z"
LAST: Json = {"id": 1, "updatedAt": TIME}

DAMAGED: list[Json] = [
    {"replication_key_value": 1_760_000_000_000},
    {"replication_key_value": ["2025"]},
    {"replication_key_value": "last tuesday"},
    {"replication_key_value": "2025-13-45T00:00:00Z"},
    {"replication_key_value": "0001-01-01T00:00:00+10:00"},
    {"replication_key_value": TIME, "covers": "everything"},
    {"replication_key_value": TIME, "covers": {"statuses": "open"}},
    {"replication_key_value": TIME, "covers": {"statuses": [1]}},
    {"replication_key_value": TIME, "covers": {"start_date": 5}},
    {"replication_key_value": TIME, "covers": {"start_date": "soon"}},
    {"walk": "150"},
    {"walk": {"cursor": 150, "top": TIME, "last": LAST}},
    {"walk": {"cursor": "next=150", "top": TIME, "id": "1", "updatedAt": TIME}},
    {"walk": {"cursor": "next=150", "top": TIME, "id": 1, "updatedAt": "then"}},
    {"owed": {"id": 1}},
    {"owed": [1]},
    {"owed": [{"id": "1", "updatedAt": TIME}]},
    {"walk": {"cursor": "150", "top": 1_760_000_000_000, "last": LAST}},
    {"walk": {"cursor": "150", "top": TIME, "last": {"id": "1", "updatedAt": TIME}}},
    {"walk": {"cursor": "150", "top": TIME, "last": {"id": 1, "updatedAt": 1_760_000_000_000}}},
    {"walk": {"cursor": "150", "top": "then", "last": LAST}},
]


@pytest.mark.parametrize("damaged", DAMAGED, ids=str)
def test_damaged_state_ends_with_one_clear_line(
    sandbox: Serve, log: pytest.LogCaptureFixture, damaged: Json
) -> None:
    drift = sandbox(300)
    output = run_here(settings(drift), bookmarks(**damaged))
    (line,) = warnings(log)
    assert "the state of this stream is damaged" in line
    assert output.exit_code == 1
    assert output.records() == []
    assert drift.requests == []


def test_damaged_state_shows_no_traceback(sandbox: Serve, tmp_path: Path) -> None:
    output = run_tap(tmp_path, settings(sandbox(10)), bookmarks(replication_key_value=5))
    assert output.exit_code == 1
    assert "damaged" in output.stderr
    assert "Traceback" not in output.stderr
    assert "An unhandled error" not in output.stderr


@pytest.mark.parametrize(
    "walk",
    [
        {"cursor": "no such cursor", "top": TIME, "last": LAST},
        {"cursor": "100000", "top": TIME, "last": LAST},
        {"cursor": "0", "top": TIME, "last": LAST},
        {"cursor": "", "top": TIME, "last": LAST},
        {"cursor": None, "top": None, "last": None},
        {"cursor": "150", "top": TIME, "last": None},
        {"cursor": "150", "top": None, "last": None},
    ],
    ids=str,
)
def test_a_walk_that_leads_nowhere_is_begun_again(sandbox: Serve, cursor: Way, walk: Json) -> None:
    drift = sandbox(300, cursor)
    _, output = requests_of(drift, bookmarks(covers=EVERYTHING, walk=walk))
    assert upserted({}, output.records()) == expected(drift.account)
    assert output.bookmark()["replication_key_value"] == newest_first_times(drift)[0]


@pytest.mark.parametrize("rewritten", ["digits", "another time zone"])
def test_times_in_other_notations_prove_no_more_than_their_own(
    sandbox: Serve, rewritten: str
) -> None:
    """That nothing is missing is seen from times, which can be written in many ways."""
    drift = sandbox(400)
    first = interrupted(drift, 4)
    state = copy.deepcopy(first.state)
    last = state["bookmarks"]["conversations"]["walk"]
    row = drift.account.conversations[last["id"]]
    last["updatedAt"] = (
        str(row["updatedAt"])
        if rewritten == "digits"
        else as_time(row["updatedAt"] - 43_200_000).replace("Z", "-12:00")
    )
    for above in drift.account.listing()[:60]:  # the list moves: cursors that count rows skip some
        drift.account.delete(above["id"])
    _, second = requests_of(drift, state)
    loaded = upserted(upserted({}, first.records()), second.records())
    assert {id_: loaded.get(id_) for id_ in expected(drift.account)} == expected(drift.account)


@pytest.mark.parametrize("rewritten", ["digits", "another time zone"])
def test_what_is_covered_is_compared_as_times(sandbox: Serve, rewritten: str) -> None:
    drift = sandbox(100)
    rows = drift.account.listing()
    _, first = requests_of(drift, None, start_date=as_time(rows[20]["updatedAt"]))
    state = copy.deepcopy(first.state)
    limit = rows[20]["updatedAt"]
    state["bookmarks"]["conversations"]["covers"]["start_date"] = (
        str(limit) if rewritten == "digits" else as_time(limit - 43_200_000).replace("Z", "-12:00")
    )
    _, second = requests_of(drift, state, start_date=as_time(rows[60]["updatedAt"]))
    assert len(second.records()) == 61


@pytest.mark.parametrize(
    ("lookback", "bookmark"),
    [(10**6, "0001-01-02T00:00:00.000Z"), (10**12, TIME), (10**17, TIME)],
)
def test_a_lookback_before_all_times_reads_everything(
    sandbox: Serve, lookback: int, bookmark: str
) -> None:
    drift = sandbox(60)
    state = bookmarks(replication_key_value=bookmark)
    _, output = requests_of(drift, state, lookback_seconds=lookback)
    assert upserted({}, output.records()) == expected(drift.account)


# Any damage


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for number in range(len(value)):
            yield from places(value[number], (*path, number))


junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.sampled_from(["", "0", "7", "1760000000000", "99999999999999999999", "20", "2020-01-01"]),
    st.sampled_from([{}, [], [1], {"x": 1}, ["open"], {"id": 1, "updatedAt": "no"}]),
)


@given(
    data=st.data(),
    form=st.sampled_from(["offset", "id", "keyset", "links", "both"]),
    deleted=st.integers(0, 12),
)
@hypothesis_settings(
    max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
def test_state_damaged_anywhere_never_skips_a_row(
    data: st.DataObject, form: Way, deleted: int
) -> None:
    """No row is skipped, unless one time became another: that can't be told from a true one."""
    with Sandbox(Account(40), **settings_of(form)) as drift:
        first = interrupted(drift, 4, page_size=5)
        state = copy.deepcopy(first.state)
        for _ in range(data.draw(st.integers(1, 3))):
            path = data.draw(st.sampled_from(list(places(state))))
            parent = state
            for key in path[:-1]:
                parent = parent[key]
            value = copy.deepcopy(data.draw(junk))  # a later damage may hit it
            if path[-1] in {"replication_key_value", "top", "updatedAt"} and isinstance(value, str):
                value = f"no time: {value}"
            parent[path[-1]] = value
        for row in drift.account.listing()[:deleted]:
            drift.account.delete(row["id"])
        try:
            second = run_here(settings(drift, page_size=5), state)
        except ConfigValidationError as refused:
            assert len(refused.errors) == 1  # noqa: PT017
            return
        if second.exit_code:
            assert second.records() == []
            return
        loaded = upserted(upserted({}, first.records()), second.records())
        assert {id_: loaded.get(id_) for id_ in expected(drift.account)} == expected(drift.account)


# What the list does meanwhile

ties = pytest.mark.parametrize("apart", [1000, 0], ids=["times differ", "all at one time"])


def account_of(conversations: int, apart: int) -> Account:
    """An account whose conversations were last updated so many milliseconds apart."""
    account = Account()
    for _ in range(conversations):
        account.begin(milliseconds=apart)
    return account


@ties
def test_deletions_above_the_cursor_between_runs_lose_nothing(
    sandbox: Serve, cursor: Way, apart: int, log: pytest.LogCaptureFixture
) -> None:
    drift = sandbox(account_of(400, apart), cursor)
    first = interrupted(drift, 5)
    for row in drift.account.listing()[:60]:
        drift.account.delete(row["id"])
    log.clear()
    _, second = requests_of(drift, first.state)
    loaded = upserted(upserted({}, first.records()), second.records())
    assert {id_: loaded.get(id_) for id_ in expected(drift.account)} == expected(drift.account)
    over = [line for line in warnings(log) if "Starting over from the head" in line]
    assert warnings(log) == over
    assert len(over) == (cursor == "offset")
    if apart:  # else all rows are at the floor of the last walk, and read again
        assert (len(second.records()) >= 340) == (cursor == "offset")


def test_few_deletions_above_the_cursor_need_no_new_start(
    sandbox: Serve, log: pytest.LogCaptureFixture
) -> None:
    drift = sandbox(400, "offset")
    first = interrupted(drift, 5)
    for row in drift.account.listing()[:20]:
        drift.account.delete(row["id"])
    log.clear()
    _, second = requests_of(drift, first.state)
    loaded = upserted(upserted({}, first.records()), second.records())
    assert {id_: loaded.get(id_) for id_ in expected(drift.account)} == expected(drift.account)
    assert warnings(log) == []
    assert len(second.records()) < 300


def test_the_row_at_the_cursor_is_gone_between_runs(
    sandbox: Serve, cursor: Way, log: pytest.LogCaptureFixture
) -> None:
    drift = sandbox(400, cursor)
    first = interrupted(drift, 5)
    drift.account.delete(first.bookmark()["walk"]["id"])
    if cursor == "id":
        drift.account.delete(int(first.bookmark()["walk"]["cursor"].removeprefix("next=")))
    log.clear()
    _, second = requests_of(drift, first.state)
    loaded = upserted(upserted({}, first.records()), second.records())
    assert {id_: loaded.get(id_) for id_ in expected(drift.account)} == expected(drift.account)
    assert len(warnings(log)) == (cursor == "id")


def test_what_changes_between_two_runs_is_read_after_the_walk(sandbox: Serve, cursor: Way) -> None:
    drift = sandbox(400, cursor)
    first = interrupted(drift, 5)
    drift.account.move_on()
    _, second = requests_of(drift, first.state)
    assert upserted(upserted({}, first.records()), second.records()) == expected(drift.account)
    assert second.bookmark()["replication_key_value"] == newest_first_times(drift)[0]


def test_rows_that_do_not_come_newest_first_end_the_stopping_early(
    sandbox: Serve, cursor: Way, log: pytest.LogCaptureFixture
) -> None:
    drift = sandbox(300, cursor)

    def shuffled(sandbox: Sandbox, request: Request) -> Response | None:
        body = sandbox.answer(request).get_json()
        at_head = not request.args.keys() & {"next", "page_token"}
        if at_head or len(body["data"]) < 40:
            return None
        body["data"][20:40] = reversed(body["data"][20:40])
        return as_json(body)

    drift.fault = shuffled
    start = newest_first_times(drift)[120]
    output = run_here(settings(drift, start_date=start))
    assert output.exit_code == 0
    assert len(upserted({}, output.records())) == 121
    assert len([line for line in warnings(log) if "do not come newest first" in line]) == 1
    assert len(drift.requests) >= 6


def test_a_list_that_is_not_sorted_is_not_resumed(sandbox: Serve, cursor: Way) -> None:
    drift = sandbox(300, cursor)
    drift.fault = edited(lambda body: body["data"].reverse())
    first = interrupted(drift, 4)
    assert first.bookmark()["walk"] == NO_WALK
    assert first.bookmark()["replication_key_value"] is None


@ties
@pytest.mark.parametrize("page_size", [2, 50])
def test_deletions_above_the_cursor_within_a_run_lose_nothing(
    sandbox: Serve, cursor: Way, page_size: int, apart: int
) -> None:
    drift = sandbox(account_of(page_size * 6, apart), cursor)

    def delete_a_page(account: Account) -> None:
        for row in account.listing()[:page_size]:
            account.delete(row["id"])

    drift.faults[3] = changing(delete_a_page)
    first = run_here(settings(drift, page_size=page_size))
    second = run_here(settings(drift, page_size=page_size), first.state)
    loaded = upserted(upserted({}, first.records()), second.records())
    assert {id_: loaded.get(id_) for id_ in expected(drift.account)} == expected(drift.account)


def delete_the_newest(account: Account) -> None:
    account.delete(account.listing()[0]["id"])


def test_deletions_between_pages_of_one_row_lose_nothing(sandbox: Serve, cursor: Way) -> None:
    drift = sandbox(12, cursor)
    for number in (5, 9, 14):
        drift.faults[number] = changing(delete_the_newest)
    output = run_here(settings(drift, page_size=1))
    assert output.exit_code == 0
    arrived = upserted({}, output.records())
    assert {id_: arrived.get(id_) for id_ in expected(drift.account)} == expected(drift.account)


@pytest.mark.parametrize("number", range(2, 24))
def test_a_deletion_that_a_new_conversation_hides_loses_nothing(
    sandbox: Serve, number: int
) -> None:
    drift = sandbox(12)
    drift.faults[number] = changing(delete_the_newest)
    drift.faults[number + 1] = changing(lambda account: account.begin())
    arrived: dict[Any, Json] = {}
    state = None
    for _ in range(7):  # what begins while a run is under way is for the next
        output = run_here(settings(drift, page_size=1), state)
        arrived, state = upserted(arrived, output.records()), output.state
    assert {id_: arrived.get(id_) for id_ in expected(drift.account)} == expected(drift.account)


def test_deletions_after_a_refused_cursor_lose_nothing(sandbox: Serve, cursor: Way) -> None:
    drift = sandbox(40, cursor)
    drift.faults[3] = answers(errors("validation_error", "unknown cursor", "next"))

    def delete_two(account: Account) -> None:
        delete_the_newest(account)
        delete_the_newest(account)

    drift.faults[7] = changing(delete_two)
    output = run_here(settings(drift, page_size=5))
    assert output.exit_code == 0
    arrived = upserted({}, output.records())
    assert {id_: arrived.get(id_) for id_ in expected(drift.account)} == expected(drift.account)


# What people read


def test_a_first_run_says_so_and_what_it_did(sandbox: Serve, log: pytest.LogCaptureFixture) -> None:
    drift = sandbox(1000, "keyset")
    run_here(settings(drift))
    oldest = newest_first_times(drift)[-1][:10]
    start, end = said(log)
    assert start == "conversations: first run, no bookmark yet; floor: none."
    read = f"1,000 conversations back to {oldest}, 21 requests, "
    assert re.fullmatch(rf"conversations: read to the end: {read}\d+ s \(floor none\)\.", end)


def test_an_incremental_run_names_bookmark_and_floor(
    sandbox: Serve, log: pytest.LogCaptureFixture
) -> None:
    drift = sandbox(100)
    times = newest_first_times(drift)
    top = times[0]
    state = run_here(settings(drift)).state
    log.clear()
    run_here(settings(drift), state)
    start, end = said(log)
    assert start == f"conversations: reading what changed since the bookmark {top}; floor: {top}."
    read = f"1 conversation back to {times[1][:10]}, 1 request, "
    assert re.fullmatch(rf"conversations: read to the end: {read}\d+ s \(floor {top[:10]}\)\.", end)


def test_a_resumed_run_names_the_time_where_it_goes_on(
    sandbox: Serve, cursor: Way, log: pytest.LogCaptureFixture
) -> None:
    drift = sandbox(300, cursor)
    first = interrupted(drift, 4)
    log.clear()
    run_here(settings(drift), first.state)
    at = first.bookmark()["walk"]["updatedAt"]
    lines = said(log)
    assert lines[0] == f"conversations: resuming an interrupted walk at {at}; floor: none."
    assert len(lines) == 2


def test_starting_over_says_why(sandbox: Serve, log: pytest.LogCaptureFixture) -> None:
    drift = sandbox(100)
    state = run_here(settings(drift, statuses=["open"])).state
    log.clear()
    run_here(settings(drift), state)
    assert said(log)[0] == (
        "conversations: starting over, because the bookmark covers less (status open, from any "
        "time) than this run asks for (every status, from any time); floor: none."
    )


def test_many_deletions_in_one_run_are_no_circle(sandbox: Serve) -> None:
    drift = sandbox(1000)
    newest_first = list(reversed(drift.account.conversations))
    for number in range(3, 30, 3):
        drift.faults[number] = changing(lambda account: account.delete(newest_first.pop(0)))
    output = run_here(settings(drift))
    assert output.exit_code == 0
    arrived = upserted({}, output.records())
    assert all(arrived[id_] == record for id_, record in expected(drift.account).items())
