"""Whatever interrupts runs, and whatever changes in between: nothing is lost."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.sandbox import Account, Sandbox
from tests.sandbox.expected import as_time, expected
from tests.sandbox.server import Way, answers, changing, error, settings_of
from tests.tap import EVERYTHING, NO_WALK, Output, Target, run_here, selecting, settings, upserted

if TYPE_CHECKING:
    from collections.abc import Callable

    Serve = Callable[..., Sandbox]

REFUSED = answers(error(401, "authentication_error", "The access token is invalid"))

changes = st.lists(
    st.tuples(
        st.sampled_from(["begin", "begin at the same time", "change", "close", "delete"]),
        st.integers(0, 30),
    ),
    max_size=4,
)


def apply(account: Account, what: list[tuple[str, int]]) -> None:
    """Let things happen to the nth conversations of an account, counted from the newest."""
    for name, number in what:
        ids = [row["id"] for row in account.listing()]
        id_ = ids[number % len(ids)] if ids else None
        if name == "begin" or id_ is None:
            account.begin()
        elif name == "begin at the same time":
            account.begin(milliseconds=0)
        elif name == "change":
            account.change(id_, milliseconds=number % 3)
        elif name == "close":
            account.change(id_, "closed")
        else:
            account.delete(id_)


@pytest.mark.parametrize(
    ("stream", "conversations", "page_size"), [("conversations", 13, 3), ("messages", 3, 1)]
)
def test_a_target_that_dies_after_any_message_loses_nothing(
    sandbox: Serve, cursor: Way, stream: str, conversations: int, page_size: int
) -> None:
    drift = sandbox(conversations, cursor)
    config, catalog = settings(drift, page_size=page_size), selecting(stream)
    whole = run_here(config, None, catalog).messages
    for messages in range(len(whole)):
        first = run_here(config, None, catalog, Target(dies_after=messages))
        assert first.exit_code == 1
        second = run_here(config, first.state if first.states else None, catalog)
        loaded = upserted({}, first.records(stream) + second.records(stream), stream)
        assert loaded == expected(drift.account, stream)


class Interruptions(RuleBasedStateMachine):
    """Runs, interruptions and changes in any order; then one undisturbed run."""

    cursor: Way
    stream: str

    def __init__(self) -> None:
        super().__init__()
        self.drift = Sandbox(Account(), **settings_of(self.cursor)).__enter__()
        self.state: dict[str, Any] | None = None
        self.target: dict[int | str, dict[str, Any]] = {}
        self.catalog = selecting(self.stream)

    def teardown(self) -> None:
        self.run_undisturbed(page_size=5)
        self.drift.__exit__()

    @property
    def account(self) -> Account:
        return self.drift.account

    @initialize(conversations=st.integers(4, 25), ties=st.integers(0, 6))
    def fill(self, conversations: int, ties: int) -> None:
        for number in range(conversations):
            self.account.begin(milliseconds=0 if ties and number % ties else 1000)

    @rule(what=changes)
    def change(self, what: list[tuple[str, int]]) -> None:
        apply(self.account, what)

    @precondition(lambda self: len(self.account.conversations) > 4)
    @rule(rows=st.integers(2, 4))
    def delete_the_newest(self, rows: int) -> None:
        apply(self.account, [("delete", 0)] * rows)

    @rule(
        page_size=st.integers(2, 5),
        failing_request=st.one_of(st.none(), st.integers(2, 12)),
        messages_taken=st.integers(3, 50),
        meanwhile=st.dictionaries(st.integers(2, 6), changes, max_size=2),
    )
    def run_interrupted(
        self,
        page_size: int,
        failing_request: int | None,
        messages_taken: int,
        meanwhile: dict[int, list[tuple[str, int]]],
        **config: Any,
    ) -> None:
        first = len(self.drift.requests)
        for number, what in meanwhile.items():
            self.drift.faults[first + number] = changing(functools.partial(apply, what=what))
        target = Target(dies_after=messages_taken)
        if failing_request:
            self.drift.faults[first + failing_request] = REFUSED
            target = Target()
        config |= {"page_size": page_size}
        config = settings(self.drift, concurrency=4, **config)
        self.load(run_here(config, self.state, self.catalog, target))
        self.drift.faults.clear()

    @precondition(lambda self: self.account.conversations)
    @rule(
        statuses=st.sampled_from([[], ["open"], ["open", "closed"]]),
        start=st.one_of(st.none(), st.integers(0, 20)),
        failing_request=st.integers(2, 9),
    )
    def run_with_limits(self, statuses: list[str], start: int | None, failing_request: int) -> None:
        limits: dict[str, Any] = {"statuses": statuses}
        if start is not None:
            listing = self.account.listing()
            limits["start_date"] = as_time(listing[start % len(listing)]["updatedAt"])
        self.run_interrupted(2, failing_request, 0, {}, **limits)

    @rule(
        page_size=st.integers(2, 5),
        meanwhile=st.dictionaries(st.integers(2, 6), changes, max_size=2),
    )
    def run_to_the_end(self, page_size: int, meanwhile: dict[int, list[tuple[str, int]]]) -> None:
        self.run_interrupted(page_size, None, 10_000, meanwhile)

    def run_undisturbed(self, page_size: int) -> None:
        output = run_here(settings(self.drift, page_size=page_size), self.state, self.catalog)
        assert output.exit_code == 0
        self.load(output)
        in_account = expected(self.account, self.stream)
        assert {id_: self.target.get(id_) for id_ in in_account} == in_account
        bookmark = output.bookmark(self.stream)
        newest = max((r["updatedAt"] for r in expected(self.account).values()), default="")
        assert bookmark["walk"] == NO_WALK
        assert (bookmark["replication_key_value"] or "") >= newest

    def load(self, output: Output) -> None:
        self.target = upserted(self.target, output.records(self.stream))
        self.state = output.state if output.states else self.state

    @invariant()
    def every_key_is_there(self) -> None:
        if not self.state or not self.state["bookmarks"]:
            return
        bookmark = self.state["bookmarks"][self.stream]
        keys = ["replication_key", "replication_key_value", "covers", "walk", "owed"]
        assert list(bookmark) == keys
        assert list(bookmark["covers"]) == list(EVERYTHING)
        assert list(bookmark["walk"]) == list(NO_WALK)


def machine(stream: str, form: Way, examples: int) -> Any:
    members = {"stream": stream, "cursor": form}
    case: Any = type(f"{stream}_{form}", (Interruptions,), members).TestCase  # type: ignore[attr-defined]
    case.settings = hypothesis_settings(
        max_examples=examples,
        stateful_step_count=8,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    return case


# Thousands of histories are in `test_walk.py`, without HTTP.
TestConversationsWithOffsetCursors = machine("conversations", "offset", 15)
TestConversationsWithIdCursors = machine("conversations", "id", 10)
TestConversationsWithKeysetCursors = machine("conversations", "keyset", 10)
TestConversationsWithLinks = machine("conversations", "links", 15)
TestConversationsWithBoth = machine("conversations", "both", 20)
TestMessagesWithOffsetCursors = machine("messages", "offset", 8)
TestMessagesWithLinks = machine("messages", "links", 6)
TestMessagesWithBoth = machine("messages", "both", 10)
