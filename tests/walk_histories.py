"""Histories of a list and of runs that read it, and what has to be true of each of them."""

from __future__ import annotations

import contextlib
import copy
import json
import random
from typing import TYPE_CHECKING, Any

from meltano.core.utils import merge

from tap_drift import walk as walk_module
from tests.walk_world import ABSURD, Answer, Item, Trouble, World, as_time, may_hear

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

State = dict[str, Any]

MOST_REQUESTS = 1000
"""That a run may cost: lists have up to 22 rows, one a page, and may be begun four times."""


class WrongError(AssertionError):
    """The walk broke a promise."""


class KilledError(Exception):
    """The process was killed."""


class FailedError(Exception):
    """No answer can be had, and there is no other way."""


def check(is_right: object, what: str) -> None:
    if not is_right:
        raise WrongError(what)


def merged(before: State, state: State) -> State | None:
    """Do what Meltano does with a STATE and the one before; `None`: it fails."""
    try:
        result: State = merge(state, copy.deepcopy(before))  # type: ignore[no-untyped-call]
    except TypeError:
        return None
    return result


class Driver:
    """Does what a walk says: asks the list, writes to a target, keeps STATE.

    Args:
        world: The list.
        walk: The module `tap_drift.walk`, or one with a mistake.
    """

    def __init__(self, world: World, walk: Any) -> None:
        self.world, self.walk = world, walk
        self.target: dict[int, int] = {}
        self.state: State = {}
        self.states: list[State] = []
        self.limit = 1
        self.begin(None)

    def begin(self, lasts: int | None) -> None:
        """Begin a run, which is killed after so many requests and rows."""
        self.left = lasts if lasts is not None else -1
        self.requests = 0
        self.written: list[Any] = []
        self.said: list[Any] = []
        self.is_in_order = True
        self.early: list[tuple[Any, Any]] = []

    def run(self, lasts: int | None = None) -> None:
        """Run until the walk has arrived, or is interrupted."""
        self.begin(lasts)
        self.world.begin_run()
        bookmark = self.walk.Bookmark.from_state(self.state, "updatedAt")
        most_ahead = self.world.random.randrange(1, 9)
        steps, answer = self.walk.read(bookmark, self.world.lookback, most_ahead), None
        try:
            while True:
                step = steps.send(answer)
                answer = None
                if isinstance(step, self.walk.Ask):
                    self.is_in_order |= step == self.walk.HEAD
                    answer = self.answer_to(step)
                elif isinstance(step, self.walk.Write):
                    self.ask_ahead(step.ahead)
                    self.write(step.rows)
                    self.keep(json.loads(json.dumps(step.bookmark.to_state())))
                else:
                    self.said.append(step)
                    self.is_in_order &= "newest first" not in step.text
        except StopIteration:
            pass
        finally:
            self.world.is_running = False

    def answer_to(self, ask: Any) -> Any:
        """Hand out the answer that came early, or ask: then earlier answers are worth nothing."""
        if self.early and self.early[0][0] == ask:
            _, answer = self.early.pop(0)
            if answer is not self.walk.No.REFUSED:
                return answer
        self.early.clear()
        return self.ask(ask)

    def ask_ahead(self, asks: Sequence[Any]) -> None:
        """Ask some pages early, in order, and none below one that failed."""
        if [ask for ask, _ in self.early] != list(asks[: len(self.early)]):
            return
        for ask in asks[len(self.early) :]:
            if self.world.random.random() < 0.3 or (
                self.early and not isinstance(self.early[-1][1], self.walk.Page)
            ):
                break
            try:
                self.early.append((ask, self.ask(ask)))
            except FailedError:
                break

    def ask(self, ask: Any) -> Any:
        """Ask; where no answer can be had, for less."""
        limit = self.world.random.randrange(1, 6) if "sizes" in self.world.troubles else self.limit
        limit = max(limit, ask.overlap + 1)
        answer, is_strained = self.request(ask, limit), False
        if answer is Trouble.TIMED_OUT and ask.otherwise is not self.walk.Way.TOKEN:
            limit, is_strained = ask.overlap + 1, True
            answer = self.request(ask, limit)
        if isinstance(answer, Answer):
            rows = self.rows(answer.items)
            is_full = len(rows) >= limit
            now = as_time(answer.now)
            return self.walk.Page(rows, answer.next, answer.token, now, is_full, is_strained)
        if answer is Trouble.REFUSED:
            return self.walk.No.REFUSED
        if ask.otherwise is self.walk.Way.NONE:
            raise FailedError
        return self.walk.No.UNANSWERED

    def request(self, ask: Any, limit: int) -> Answer | Trouble:
        self.live()
        self.requests += 1
        check(self.requests < MOST_REQUESTS, "it asks without end")
        return self.world.answer(ask.cursor, limit)

    def rows(self, items: Sequence[Item]) -> list[Any]:
        """Make rows; one without a time stands where the row before it does."""
        rows, place = [], None
        for item in items:
            fields = {"id": item.id, "updatedAt": item.says, "version": item.version}
            if item.says is not None:
                place = self.walk.Place(item.id, as_time(item.says))
            rows.append(self.walk.Row(place, item.says is not None, fields))
        return rows

    def write(self, rows: Sequence[Any]) -> None:
        for row in rows:
            self.live()
            id_, version = row.fields["id"], row.fields["version"]
            check(version >= self.target.get(id_, 0), f"{id_}: an older version over a newer one")
            self.target[id_] = version
            self.written.append(row)

    def keep(self, state: State) -> None:
        """Let STATE be this; Meltano merges it with the one before."""
        check(merged(self.state, state) == state, "Meltano can't merge STATE")
        walk = state["walk"] or {"cursor": None}
        is_as_before = walk == self.state.get("walk")
        check(
            not walk["cursor"] or self.is_in_order or is_as_before,
            "a walk out of order is to be resumed",
        )
        self.state = state
        self.states.append(state)

    def live(self) -> None:
        if not self.left:
            raise KilledError
        self.left -= 1


def tell(
    seed: int, *troubles: str, walk: Any = walk_module, driver: type[Driver] = Driver
) -> list[State]:
    """Tell a history: interrupted runs of a list in trouble, then undisturbed ones.

    Returns:
        Every STATE that was written.

    Raises:
        WrongError: A promise was broken.
    """
    rng = random.Random(seed)
    world = World(rng, troubles)
    tap = driver(world, walk)
    tap.limit = rng.choice((1, 2, 2, 3, 4, 5)) + 4 * ("hidden" in world.had)
    world.is_tiny = tap.limit == 1
    for _ in range(rng.randrange(1, 5)):
        for _ in range(rng.randrange(9) if world.pace else 0):
            world.happen()
        if rng.random() < 0.2:
            tap.state = {}  # a full refresh
        if "poisoned" in world.troubles and tap.state:
            tap.state = poisoned(tap.state, rng)
        if "sizes" in world.troubles:
            tap.limit = rng.randrange(1, 6)
        before = tap.state
        there = set(world.items)
        with contextlib.suppress(KilledError, FailedError, walk.NowhereError):
            tap.run(rng.choice((rng.randrange(15), rng.randrange(50), None)))
            is_lossy = any(say.is_loss for say in tap.said)
            check_holds(tap, () if is_lossy else there & set(world.items))
        check_said(tap)
        if "still" in world.had and world.had <= {"still", "ties", "none", "refuses", "untimed"}:
            check_not_again(tap, before)
    world.settle()
    if rng.random() < 0.3:
        tap.state = {}
    before = tap.state
    if "unreadable" in world.troubles:
        check_unreadable(tap)
    else:
        check_undisturbed(tap, before)
    return tap.states


def check_undisturbed(tap: Driver, before: State) -> None:
    """Run undisturbed: all is there, and the next run has nothing to do."""
    try:
        tap.run()
    except (FailedError, tap.walk.NowhereError) as error:
        check(is_right=False, what=f"an undisturbed run fails: {error!r}")
    check_said(tap)
    check_arrived(tap)
    check_order(tap, before)
    tap.world.quieten()
    check_idle(tap)


def poisoned(state: State, rng: random.Random) -> State:
    """Put a time from the future into STATE."""
    state, future = copy.deepcopy(state), "2099-01-01T00:00:00.000Z"
    if state["walk"]["top"] and rng.random() < 0.5:
        state["walk"]["top"] = future
    elif rng.random() < 0.5:
        state["replication_key_value"] = future
    return state


def check_said(tap: Driver) -> None:
    """No alarm without a reason."""
    for say in tap.said:
        check(not say.is_warning or may_hear(tap.world, say.text), f"false alarm: {say.text}")


def check_not_again(tap: Driver, before: State) -> None:
    """In a list that does not move, nothing is written twice, except where the next walk begins."""
    walk = tap.walk.Bookmark.from_state(before, "updatedAt").walk
    if any("tarting over" in say.text for say in tap.said):
        return
    if not walk.is_under_way:
        twice = len({row.fields["version"] for row in tap.written}) < len(tap.written)
        check(not twice, "a row is written twice")
    elif walk.top:
        last, floor = (walk.updatedAt, walk.id), walk.top.shifted(-tap.world.lookback)
        places = [row.place for row in tap.written if row.timed]
        again = [row for row in places if last <= (row[1], row[0]) and row[1] < floor]
        check(not again, "what was written before is written again")


def check_order(tap: Driver, before: State) -> None:
    """Rows that do not come newest first are noticed."""
    is_resumed = before.get("walk", {}).get("cursor") is not None
    is_straight = not tap.world.had & {"circle", "counts circle", "sizes", "slow"}
    if is_straight and not is_resumed and not any("tarting over" in say.text for say in tap.said):
        times = [row.place.updatedAt for row in tap.written if row.timed]
        is_said = any("newest first" in say.text for say in tap.said)
        check(is_said or times == sorted(times, reverse=True), "nothing is said of the order")


def check_holds(tap: Driver, items: Iterable[Item]) -> None:
    """The target holds rows in their version, except those that claim to be below any floor."""
    for item in items:
        is_held = tap.target.get(item.id) == item.version or item.says in ABSURD
        check(is_held, f"{item} is not in the target")


def check_arrived(tap: Driver) -> None:
    """The target holds the list, and the bookmark is the newest row that is not in the future."""
    world = tap.world
    check_holds(tap, world.items)
    state = tap.walk.Bookmark.from_state(tap.state, "updatedAt")
    check(state.walk == tap.walk.Walk(), "the walk is not over")
    value, newest = state.replication_key_value, world.newest
    check(value is None or value <= as_time(world.now), "the bookmark lies in the future")
    if newest is None or "absurd" in world.had:
        return
    check(value and value >= as_time(newest), "the bookmark lies before the newest row")
    if not world.had & {"deletions", "untimed", "future"}:
        check(value == as_time(newest), "the bookmark is not the newest row")


def check_unreadable(tap: Driver) -> None:
    """One row can't be had, for good: all that is above it arrives, and by count all else."""
    world = tap.world
    for number in range(3):
        world.happen()
        with contextlib.suppress(FailedError, tap.walk.NowhereError):
            tap.run()
        (bad,) = (item for item in world.items if item.id == world.unreadable)
        value = tap.walk.Bookmark.from_state(tap.state, "updatedAt").replication_key_value
        check(
            value is None or value <= as_time(bad.at), "the bookmark passes a row that is left out"
        )
        if world.items[0] == bad:  # there is no way past the head
            continue
        check_holds(tap, [item for item in world.items if item > bad])
        # A walk that was resumed by token does not know the count.
        if number and world.kind == "offset" and world.form in {"next", "both"}:
            check_holds(tap, [item for item in world.items if item != bad])
            check(any(say.is_loss for say in tap.said), "nothing is said of what is left out")


def check_idle(tap: Driver) -> None:
    """A run with nothing new costs one request, and writes nothing below the floor."""
    before, target = tap.state, dict(tap.target)
    tap.run()
    floor = tap.walk.Bookmark.from_state(before, "updatedAt").floor(tap.world.lookback)
    first = [item for item in tap.world.counted[: tap.limit] if not tap.world.hides(item)]
    times = [item.says for item in first if item.says is not None]
    if floor and times == sorted(times, reverse=True):
        times = list(dict.fromkeys(times))
        if len(times) > 1 and as_time(times[-2]) < floor:
            check(tap.requests == 1, f"{tap.requests} requests, and nothing new")
        check(all(not row.place or row.place[1] >= floor for row in tap.written), "below the floor")
    check(tap.state == before or "absurd" in tap.world.had, "STATE changes without a reason")
    check(tap.target == target, "the target changes without a reason")
    check_said(tap)
