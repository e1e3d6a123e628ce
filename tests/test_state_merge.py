"""Meltano merges the state of a run that broke off into the one before, key by key."""

from __future__ import annotations

import copy
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from meltano.core.state_store.base import MeltanoState

from tap_drift.bookmark import Bookmark
from tests.sandbox.expected import as_time, expected
from tests.sandbox.server import answers, error, first_of, items_never_load
from tests.tap import NO_WALK, run_here, selecting, settings, upserted

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox import Sandbox
    from tests.sandbox.server import Fault, Way

    Serve = Callable[..., Sandbox]
    Json = dict[str, Any]

LIST = "/conversations/list"


def merged(onto: Json, state: Json) -> Json:
    """What Meltano gives the next run: a partial state, onto one that is complete."""
    both = MeltanoState("id", copy.deepcopy(state), copy.deepcopy(onto))
    as_read: Json = json.loads(both.json_merged())
    return as_read


def refused_at(page: int) -> Fault:
    """Drift fails when the list is asked for the nth time."""
    asked = itertools.count(1)
    refuse = answers(error(401, "authentication_error", "The access token is invalid"))
    return lambda drift, request: (
        refuse(drift, request) if request.path == LIST and next(asked) == page else None
    )


def states_of_all_kinds(drift: Sandbox, stream: str) -> list[Json]:
    """What runs say of a stream: broken off at a page, resumed, arrived, limited, owing."""
    found: list[Json] = []
    oldest, *_, newest = conversations = list(drift.account.conversations)
    gone = items_never_load([newest], error(410, "gone", "Gone"))

    def run(state: Json | None, *faults: Fault, **limits: Any) -> Json:
        drift.fault = first_of(*faults)
        output = run_here(settings(drift, page_size=4, **limits), state, selecting(stream))
        found.extend(state for state in output.states if state not in found)
        return output.state

    start = as_time(drift.account.conversations[oldest]["updatedAt"])
    for limits in ({}, {"statuses": ["open", "closed"]}, {"start_date": start}):
        arrived = run(run(run(None, refused_at(3), **limits), refused_at(2), **limits), **limits)
        for id_ in conversations[:10]:
            drift.account.change(id_)
        run(run(arrived, refused_at(3), **limits), **limits)
    if stream == "messages":
        run(run(None, gone, refused_at(3)), gone)
    return found


@pytest.mark.parametrize("form", ["offset", "both"])
@pytest.mark.parametrize("stream", ["conversations", "messages"])
def test_what_meltano_makes_of_any_two_states_is_the_later_one(
    sandbox: Serve, stream: str, form: Way
) -> None:
    states = states_of_all_kinds(sandbox(20, form), stream)
    bookmarks = [state["bookmarks"][stream] for state in states]
    kinds = {
        (b["walk"] != NO_WALK, b["replication_key_value"] is not None, bool(b["owed"]))
        for b in bookmarks
    }
    owing = {(True, False, True), (False, True, True)} if stream == "messages" else set()
    assert kinds >= owing | {(walk, value, False) for walk in (0, 1) for value in (0, 1)}
    assert len({str(b["covers"]) for b in bookmarks}) >= 3
    for before, after in itertools.product(states, states):
        assert merged(before, after) == after


@pytest.mark.parametrize("stream", ["conversations", "messages"])
def test_a_full_table_run_keeps_no_bookmark_and_spoils_none(sandbox: Serve, stream: str) -> None:
    drift = sandbox(20)
    config, catalog = settings(drift, page_size=5), selecting(stream)
    drift.fault = refused_at(3)
    broken_off = run_here(config, None, catalog).state
    drift.fault = None
    arrived = run_here(config, broken_off, catalog).state
    for before in (broken_off, arrived):
        full = run_here(config, before, selecting(stream, method="FULL_TABLE"))
        drift.account.move_on()
        # It says nothing of a bookmark: the one that was there holds, if Meltano keeps it.
        again = run_here(config, merged(before, full.state), catalog)
        loaded = upserted(upserted({}, full.records(stream)), again.records(stream))
        assert loaded == expected(drift.account, stream)
        assert merged(full.state, again.state) == again.state


FIRST_EDITIONS_COVERS = {"statuses": None, "start_date": None}


def of_first_edition(**stated: Any) -> Json:
    """STATE as the first edition of the tap wrote it."""
    return {
        "bookmarks": {
            "conversations": {
                "replication_key": "updatedAt",
                "replication_key_value": None,
                "covers": FIRST_EDITIONS_COVERS,
                **stated,
            }
        }
    }


@pytest.mark.parametrize("form", ["offset", "id", "keyset", "both"])
@pytest.mark.parametrize("rows_written", [50, 150])
def test_a_walk_of_the_first_edition_is_finished(
    sandbox: Serve, form: Way, rows_written: int
) -> None:
    drift = sandbox(230, form)
    listing = drift.account.listing()
    last = listing[rows_written - 1]
    walk = {
        # Where the page began that was read last: it was asked for again, to prove the place.
        "cursor": drift.cursor_below(listing[rows_written - 21], rows_written - 20),
        "top": as_time(listing[0]["updatedAt"]),
        "last": {"id": last["id"], "updatedAt": as_time(last["updatedAt"])},
    }
    written = {row["id"] for row in listing[:rows_written]}
    drift.account.begin()
    output = run_here(settings(drift), of_first_edition(walk=walk))
    assert output.exit_code == 0
    arrived = [row["id"] for row in output.records()]
    assert written | set(arrived) == set(drift.account.conversations)
    assert len(arrived) == 230 - rows_written + 2  # the new one, and the one at the bookmark
    assert output.bookmark()["walk"] == NO_WALK
    assert list(output.bookmark()["covers"]) == ["statuses", "start_date", "account"]


def test_a_bookmark_of_the_first_edition_is_gone_on_from(sandbox: Serve) -> None:
    drift = sandbox(230)
    newest = as_time(drift.account.listing()[0]["updatedAt"])
    drift.account.begin()
    state = of_first_edition(replication_key_value=newest, walk=None)
    requests = len(drift.requests)
    output = run_here(settings(drift), state)
    assert len(drift.requests) == requests + 1
    assert len(output.records()) == 2
    assert output.bookmark()["replication_key_value"] > newest
    assert output.bookmark()["owed"] == []


def test_what_is_merged_onto_a_walk_of_the_first_edition_counts() -> None:
    time = "2026-01-01T00:00:00.000Z"
    old = {"walk": {"cursor": "150", "top": time, "last": {"id": 1, "updatedAt": time}}}
    later = "2026-02-01T00:00:00.000Z"
    today = {"walk": {"cursor": "next=99", "top": later, "id": 2, "updatedAt": later}}
    states = (
        {"bookmarks": {"conversations": {"replication_key": "updatedAt"} | one}}
        for one in (old, today)
    )
    both = merged(*states)["bookmarks"]["conversations"]
    assert both["walk"]["last"]
    assert Bookmark.from_state(both, "updatedAt").to_state()["walk"] == today["walk"]
