"""The walk against a list in memory: whatever happens, and whenever, nothing is lost.

`tests/walk_world.py` is the list, and all that may be wrong with it; `tests/walk_histories.py`
reads it as the walk says, kills runs, and says what has to be true afterwards. Here stand an
example to begin with, the thousands of histories, and the mistakes that they would find.
"""

from __future__ import annotations

import inspect
import random
import sys
import types
from typing import Any, NamedTuple

import pytest

from tap_drift import bookmark as bookmark_module
from tap_drift import walk as walk_module
from tap_drift.bookmark import Bookmark, Time, Walk
from tap_drift.walk import Ask, Page, Place, Row, Way, Write, read
from tests.walk_histories import Driver, WrongError, merged, tell
from tests.walk_world import TROUBLES

HISTORIES = 200
"""How many are told of every trouble."""

SEEDS = {name: 1_000_000 * number for number, name in enumerate(TROUBLES)}
"""Where the histories of a trouble begin."""


def page(*rows: tuple[int, int], below: str | None, now: int = 100) -> Page:
    """Make a page of rows: id and second."""
    made = []
    for id_, second in rows:
        time = Time(second * 1000)
        made.append(Row(Place(id_, time), timed=True, fields={"id": id_, "updatedAt": time}))
    return Page(made, below, None, Time(now * 1000), is_full=True)


def written(step: Any) -> list[int]:
    assert isinstance(step, Write)
    return [row.fields["id"] for row in step.rows]


def test_a_walk_step_by_step() -> None:
    """Read five rows, two or three a page; then the run is interrupted, and another resumes."""
    steps: Any = read(Bookmark(), most_ahead=2)
    assert next(steps) == Ask(None)  # the head
    step = steps.send(page((5, 50), (4, 40), below="next=2"))
    assert written(step) == [5, 4]
    assert step.bookmark == Bookmark()  # STATE: nothing is known, as nothing would lead back here
    assert step.ahead == [Ask("next=1", overlap=1, otherwise=Way.BELOW)]

    assert next(steps) == Ask(
        "next=1", overlap=1, otherwise=Way.BELOW
    )  # it has to join: 4 is on it again
    step = steps.send(page((4, 40), (3, 30), (2, 20), below="next=4"))
    assert written(step) == [3, 2]
    under_way = Bookmark(walk=Walk("next=1", Time(50_000), 2, Time(20_000)))
    assert step.bookmark == under_way  # the bookmark itself moves when the walk has arrived
    assert [ask.cursor for ask in step.ahead] == ["next=3", "next=5"]

    steps = read(under_way)  # here the process was killed, and 6 was added
    assert next(steps) == Ask("next=1", overlap=1, otherwise=Way.HEAD)
    step = steps.send(page((5, 50), (4, 40), (3, 30), below="next=4"))
    assert written(step) == [5, 4, 3]  # they may have changed; that they join is what counts
    below = Ask("next=3", overlap=1, otherwise=Way.BELOW)
    assert next(steps) == below
    last = page((3, 30), (2, 20), (1, 10), below=None)
    assert steps.send(last) == below  # an end has to come twice
    step = steps.send(last)
    assert written(step) == [2, 1]
    assert step.bookmark.replication_key_value == Time(50_000)  # arrived; now from the head

    assert next(steps) == Ask(None)
    step = steps.send(page((6, 60), (5, 50), (4, 40), (3, 30), below="next=4"))
    assert written(step) == [6, 5]  # down to the floor; two times below it end the walk
    assert step.bookmark == Bookmark(replication_key_value=Time(60_000))
    with pytest.raises(StopIteration):
        next(steps)


def test_a_page_below_rows_of_one_time_joins_by_any_row_of_the_page_above() -> None:
    steps = read(Bookmark())
    next(steps)
    assert written(steps.send(page((5, 50), (4, 40), (3, 40), below="next=3"))) == [5, 4, 3]
    assert next(steps) == Ask("next=2", 1, Way.BELOW)  # before it is answered, 3 moves to the head
    step = steps.send(page((4, 40), (2, 20), (1, 10), below="next=5"))
    assert written(step) == [2, 1]


def test_the_bookmark_does_not_pass_over_rows_that_begin_below_the_future() -> None:
    """Clocks differ by seconds, and `Date` has no fractions of them."""
    steps: Any = read(Bookmark())
    next(steps)
    assert written(steps.send(page((2, 105), (1, 104), below="next=2", now=100))) == [2, 1]
    assert next(steps) == Ask("next=1", 1, Way.BELOW)  # before it is answered, 3, 4 and 5 begin
    rows = ((4, 107), (3, 106), (2, 105), (1, 104), (0, 50))
    last = page(*rows, below=None, now=110)
    steps.send(last)
    step = steps.send(last)
    assert written(step) == [0]  # the next run reads the others
    assert step.bookmark.replication_key_value <= Time(106_000)


def test_rows_without_a_time_need_a_proof_too() -> None:
    rows = [Row(None, timed=False, fields={"id": id_}) for id_ in (5, 4, 3, 2)]
    steps = read(Bookmark())
    next(steps)
    steps.send(Page(rows[:2], "next=2", None, Time(100_000), is_full=True))
    assert next(steps) == Ask(
        "next=1", 1, Way.BELOW
    )  # before it is answered, 5 and 4 leave the list
    step = steps.send(Page(rows[3:], "next=2", None, Time(100_000), is_full=False))
    assert step == Ask(None, overlap=1)  # 3 is not lost: the page above is asked for again


@pytest.mark.parametrize("trouble", TROUBLES)
def test_nothing_is_lost(trouble: str) -> None:
    for seed in range(SEEDS[trouble], SEEDS[trouble] + HISTORIES):
        try:
            tell(seed, trouble)
        except Exception as error:
            error.add_note(f"tell({seed}, {trouble!r})")
            raise


def test_any_two_states_can_be_merged() -> None:
    states = [state for trouble in TROUBLES for state in tell(SEEDS[trouble], trouble)]
    states += [state for seed in range(60) for state in tell(seed, "none")]
    rng = random.Random(0)
    for _ in range(5000):
        a, b = rng.choice(states), rng.choice(states)
        assert merged(a, b) == b


class KeepsEarlyAnswers(Driver):
    def answer_to(self, ask: Any) -> Any:
        for place, (early, answer) in enumerate(self.early):
            if early == ask and isinstance(answer, self.walk.Page):
                del self.early[place]
                return answer
        return self.ask(ask)


class Mistake(NamedTuple):
    """Something that is easily got wrong."""

    name: str
    troubles: str
    within: int
    """Histories in which it is found; it takes a third of them or fewer."""

    changes: tuple[tuple[str, str], ...] = ()
    """What stands in the source, and what would be wrong."""

    of: Any = walk_module
    driver: type[Driver] = Driver


def mistake(name: str, troubles: str, within: int, *changes: str, **more: Any) -> Any:
    """Name a mistake: what stands in the source, what would be wrong, and so on."""
    pairs = tuple(zip(changes[::2], changes[1::2], strict=True))
    return pytest.param(Mistake(name, troubles, within, pairs, **more), id=name)


MISTAKES = [
    # when the bookmark moves, and STATE says so
    mistake(
        "STATE before the rows",
        "still",
        100,
        "yield Write(rows, msgspec.structs.replace(bookmark, walk=at.walk), at.ahead(window))",
        "yield Write((), msgspec.structs.replace(bookmark, walk=at.walk), ());"
        "yield Write(rows, msgspec.structs.replace(bookmark, walk=at.walk), at.ahead(window))",
    ),
    mistake(
        "the bookmark moves before the walk has arrived",
        "none",
        50,
        "(bookmark, walk=at.walk), at",
        "(bookmark, walk=at.walk, replication_key_value=at.top), at",
    ),
    mistake(
        "the bookmark is the newest row, be it in the future",
        "future",
        50,
        "for time in unread if time <= page.now",
        "for time in unread",
    ),
    mistake(
        "every page moves the top",
        "none",
        50,
        "top = self.top or max((time for time in unread if time <= page.now), default=None)",
        "top = max((time for time in unread if time <= page.now), default=self.top)",
    ),
    mistake(
        "a bookmark in the future is trusted",
        "poisoned",
        50,
        "if time and time > soon:",
        "if False:",
    ),
    mistake(
        "a walk that has arrived stays in STATE",
        "none",
        50,
        "replication_key_value=value, walk=Walk())",
        "replication_key_value=value)",
        of=bookmark_module,
    ),
    mistake(
        "STATE without a walk says null",
        "none",
        50,
        "        return state\n\n    def asked_for",
        "        state['walk'] = state['walk'] if self.walk.is_under_way else None\n"
        "        return state\n\n    def asked_for",
        of=bookmark_module,
    ),
    # where a walk may stop
    mistake(
        "rows at the floor are left out",
        "ties",
        100,
        "row.place.updatedAt >= self.floor",
        "row.place.updatedAt > self.floor",
    ),
    mistake(
        "the lookback is ignored",
        "late",
        50,
        "if value and lookback:",
        "if False:",
        of=bookmark_module,
    ),
    mistake(
        "one time below the floor is enough",
        "absurd",
        200,
        "len(self.times) < 2",
        "len(self.times) < 1",
        "max(self.times) < self.floor",
        "self.times[0] < self.floor",
    ),
    mistake(
        "an end is believed at once",
        "omits",
        50,
        "if seen == before:",
        "if seen == before or isinstance(page, Page):",
    ),
    mistake(
        "an end is believed when it came twice, but not in a row",
        "omits, refuses",
        50,
        "before = None",
        "before = []",
        "if seen == before:",
        "if seen in before:",
        "before = seen",
        "before.append(seen)",
    ),
    mistake(
        "a refusal is believed at once",
        "refuses",
        50,
        "if seen == before:",
        "if seen == before or page is No.REFUSED:",
    ),
    mistake(
        "what can't be followed is taken for an end",
        "switches",
        400,
        "if page.next or page.token:",
        "if False:",
    ),
    mistake(
        "an empty token is not tried",
        "none, blank",
        50,
        "if ask == HEAD and isinstance(page, Page) and page.is_full:",
        "if False:",
    ),
    mistake(
        "what an empty token brings is believed at once",
        "omits, blank",
        50,
        "asked, page, there = yield from _answer(EMPTY_TOKEN, at)",
        "asked, page = EMPTY_TOKEN, (yield EMPTY_TOKEN);"
        "there = at.after(asked, page) if isinstance(page, Page) else at",
    ),
    mistake(
        "after a walk that was resumed the run ends",
        "none",
        50,
        "            if not resumed:\n                return",
        "            return",
    ),
    # pages join
    mistake(
        "a resumed walk proves nothing",
        "deletions, next, offset",
        100,
        "Ask(walk.cursor, int(walk.cursor.startswith(NEXT)), Way.HEAD)",
        "Ask(walk.cursor, 0, Way.HEAD)",
    ),
    mistake(
        "the overlap proves nothing",
        "deletions, next, offset",
        50,
        "if ask.overlap and isinstance(page, Page) and not at.joins(page):",
        "if False:",
    ),
    mistake(
        "rows that are not shown end the counting",
        "hidden, deletions, next, offset",
        200,
        "0 <= count - start - rows <= rows",
        "count == start + rows",
    ),
    mistake(
        "rows that are not shown are not overlapped",
        "hidden, deletions",
        200,
        "hidden = count - start - rows",
        "hidden = 0; start = count - rows",
    ),
    # what can't be had
    mistake(
        "a row that is left out is above the bookmark",
        "unreadable, next, offset",
        100,
        "self._replace(top=None)",
        "self",
    ),
    mistake(
        "what is below a row that can't be had is not read",
        "unreadable, next, offset",
        100,
        "way = Way.TOKEN if has_token else Way.BELOW",
        "way = Way.TOKEN if has_token else self._last_way",
    ),
    mistake(
        "new rows wait for old ones",
        "unreadable, next, keyset",
        100,
        "                yield from _news(",
        "                (lambda *_, **__: None)(",
    ),
    mistake(
        "rows without a time need no proof",
        "untimed, deletions, next, offset",
        4000,
        "return not above",
        "return True",
    ),
    mistake(
        "answers that came early outlive a change of plan",
        "deletions, next, offset",
        4000,
        driver=KeepsEarlyAnswers,
    ),
    # what is written
    mistake(
        "rows above the last one are written again",
        "still, next, offset",
        50,
        "places.index(self.last) + 1 if is_in_order and self.last in page.places else 0",
        "0",
    ),
    mistake(
        "the row below the last one is left out",
        "none",
        50,
        "places.index(self.last) + 1 if",
        "places.index(self.last) + 2 if",
    ),
    mistake(
        "rows are the same if their place is",
        "untimed",
        50,
        "((row.place in known or not row.timed) and row.fields in above)",
        "(row.place in known)",
    ),
    mistake(
        "rows without a time are forgotten to be the same",
        "untimed, still",
        100,
        "(row.place in known or not row.timed)",
        "row.place in known",
    ),
    mistake(
        "rows without a place are left out",
        "untimed",
        50,
        "or row.place is None or row.place.updatedAt",
        "or row.place is not None and row.place.updatedAt",
    ),
    # order
    mistake(
        "order from page to page is ignored",
        "absurd, links",
        200,
        "order = above + times",
        "order = times",
    ),
    mistake(
        "order within a page is ignored",
        "absurd",
        400,
        "order == sorted(order, reverse=True)",
        "order[:2] == sorted(order[:2], reverse=True)",
    ),
    mistake(
        "a walk out of order is resumed",
        "absurd",
        50,
        "if not self.is_in_order or cursor in",
        "if cursor in",
    ),
    # both ways down
    mistake(
        "STATE keeps the count where there is a token",
        "deletions, both, offset",
        400,
        "cursor = token or self.ask.cursor",
        "cursor = self.ask.cursor",
    ),
    mistake(
        "a count is followed below a token",
        "refuses counts",
        50,
        "if self.page.next is None or self.ask.is_by_token:",
        "if self.page.next is None:",
    ),
    mistake(
        "counts that time out are waited for although there is a token",
        "slow",
        100,
        "way = Way.TOKEN if has_token else Way.BELOW",
        "way = Way.NONE",
    ),
    mistake(
        "tokens are trusted after they led nowhere",
        "tokens ignored, refuses",
        50,
        "trusts_tokens = trusts_tokens and not lost.by_token",
        "trusts_tokens = True",
    ),
    # circles
    mistake("circles are not noticed", "circle", 50, "if circle.is_closed:", "if False:"),
    mistake(
        "tokens that are ignored are not noticed",
        "tokens ignored",
        50,
        "if circle.is_closed:",
        "if circle.is_closed and not ask.is_by_token:",
    ),
    mistake(
        "patience with circles does not grow",
        "circle",
        50,
        "Circle(rows, 2 * self.patience, 2 * self.patience)",
        "Circle(rows, 2, 2)",
    ),
]


def with_mistake(monkeypatch: pytest.MonkeyPatch, wrong: Mistake) -> Any:
    """Make the walk anew, with the mistake in it."""
    made: Any = None
    for module in (bookmark_module, walk_module):
        source = inspect.getsource(module)
        for right, mistaken in wrong.changes if module is wrong.of else ():
            assert source.count(right) == 1, f"{module.__name__} does not say any more: {right}"
            source = source.replace(right, mistaken)
        made = types.ModuleType(module.__name__)
        monkeypatch.setitem(sys.modules, module.__name__, made)
        exec(compile(source, str(module.__file__), "exec"), made.__dict__)  # noqa: S102
    return made


@pytest.mark.parametrize("wrong", MISTAKES)
def test_mistakes_would_be_found(wrong: Mistake, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = with_mistake(monkeypatch, wrong)
    for seed in range(wrong.within):
        try:
            tell(seed, *wrong.troubles.split(", "), walk=walk, driver=wrong.driver)
        except WrongError:
            return
    pytest.fail(f"not found in {wrong.within} histories")
