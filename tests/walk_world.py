"""A list in memory that moves while it is read, and lies: what `tap_drift.walk` is tried against.

Nothing here knows the walk's rules; it knows what may go wrong with a list, and which of that
gives the walk a reason to say something.
"""

from __future__ import annotations

import base64
import enum
from typing import TYPE_CHECKING, NamedTuple

from tap_drift.bookmark import NEXT, TOKEN, Time
from tap_drift.walk import RETURNS_TOLERATED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

FORMS = ("next", "links", "both", "blank")
"""What answers offer: counts; tokens; both; tokens, but only once an empty one was asked with."""

KINDS = ("offset", "offset", "id", "keyset")
"""What `next` is: a number of rows, the id of the next row, or a place in the order."""

TROUBLES = {
    "none": "The list moves: rows begin, and change.",
    "ties": "Several rows begin or change within the same millisecond.",
    "still": "The list does not move; runs are interrupted.",
    "deletions": "Rows leave the list, one by one and in bursts.",
    "sizes": "Pages have other sizes from request to request.",
    "omits": "An answer leaves out what is below it; the next one to the same question does not.",
    "refuses": "A cursor is refused; asked with again, it is not.",
    "refuses counts": "Below a depth, counts are always refused.",
    "slow": "Below a depth, counts time out.",
    "tokens refused": "No token is accepted.",
    "tokens ignored": "Every token leads to the head.",
    "switches": "Answers take another form, in the middle of a run too.",
    "circle": "The first few rows (or none) come again and again, with new cursors.",
    "counts circle": "So it is by count; tokens are right.",
    "future": "Rows claim to be from the future, until they are mended.",
    "absurd": "A row claims to be as old as computers, one at a time.",
    "late": "Rows become visible some time after they changed; the lookback covers that.",
    "untimed": "Rows have no time.",
    "unreadable": "A page can't be had if it holds a certain row.",
    "hidden": "Rows are counted, and not shown.",
    "poisoned": "STATE holds a time that lies in the future.",
}

NEED_ANOTHER_WAY = {"tokens refused", "tokens ignored", "refuses counts", "slow", "counts circle"}
"""What can be lived with where both forms are offered."""

COUNTS_ARE_LOST = {
    *("deletions", "future", "absurd", "sizes", "refuses counts", "slow", "counts circle"),
}
"""What may make a walk by count begin again."""

BEGINNING = 1_700_000_000_000
FIRST_ID = 3_900_000_000
ABSURD = (0, 1, BEGINNING // 1000)
MOST_ROWS = 22
HIDDEN = {FIRST_ID + 3, FIRST_ID + 9}
"""Two rows, which no page of four has more of than of others."""

LATEST = 2000
"""Milliseconds that a row may be late; the lookback covers them."""

TIMES: dict[int, Time] = {}


def as_time(milliseconds: int) -> Time:
    """Write a time, once."""
    if milliseconds not in TIMES:
        TIMES[milliseconds] = Time(milliseconds)
    return TIMES[milliseconds]


class Trouble(enum.Enum):
    """What the list may answer in place of a page."""

    REFUSED = enum.auto()
    TIMED_OUT = enum.auto()


class Item(NamedTuple):
    """A row: where it stands, and what it says."""

    at: int
    id: int
    version: int
    says: int | None
    """Its `updatedAt`."""


class Answer(NamedTuple):
    items: Sequence[Item]
    next: str | None
    token: str | None
    now: int


class World:
    """The list.

    Args:
        random: What happens.
        chosen: The troubles that there are for sure (others may join them), and form and kind if
            they matter.
    """

    def __init__(self, random: Random, chosen: Sequence[str]) -> None:
        self.random = random
        self.troubles = troubles(random, [name for name in chosen if name in TROUBLES])
        self.form = random.choice(FORMS)
        if self.troubles & NEED_ANOTHER_WAY and random.random() < 0.8:
            self.form = "both"
        if self.form == "blank":  # else nobody could tell that there is more
            self.troubles -= {"tokens refused", "circle"}
        if "switches" in self.troubles:
            self.troubles -= {"tokens refused", "tokens ignored", "circle", "counts circle"}
        self.form = next((name for name in chosen if name in FORMS), self.form)
        self.forms = {self.form}
        self.kind = next((name for name in chosen if name in KINDS), random.choice(KINDS))
        if "hidden" in self.troubles:  # where rows are counted
            self.form, self.kind = random.choice(("next", "both")), "offset"
            self.forms = {self.form}
        self.depth = random.randrange(1, 9)
        self.pace = 0.0 if "still" in self.troubles else random.choice((0.2, 0.5, 0.8))
        self.fault = random.choice((0.1, 0.5, 1.0))
        self.lookback = 2 if "late" in self.troubles else random.choice((0, 0, 0, 2))
        self.is_tiny = False
        self.had, self.moves = frozenset(self.troubles), self.pace > 0
        self.is_running, self.events, self.most_events = False, 0, 0
        self.now, self.next_id, self.version, self.answers = BEGINNING, FIRST_ID, 0, 0
        self.rows: dict[int, Item] = {}
        self.lied: dict[str, int] = {}
        for _ in range(random.choice((random.randrange(4), *(random.randrange(8, 18),) * 5))):
            self.tick()
            self.put(None, self.claim() if random.random() < 0.4 else "none")
        self.unreadable = (
            random.choice([*self.rows, None]) if "unreadable" in self.troubles else None
        )
        if self.unreadable is None:
            self.troubles -= {"unreadable"}

    # what it is

    @property
    def items(self) -> list[Item]:
        """The rows that are shown, newest first."""
        return [item for item in self.counted if not self.hides(item)]

    @property
    def counted(self) -> list[Item]:
        """The rows that counts count, newest first."""
        return sorted(self.rows.values(), reverse=True)

    def hides(self, item: Item) -> bool:
        return "hidden" in self.had and item.id in HIDDEN

    @property
    def newest(self) -> int | None:
        """The newest time that is not in the future."""
        says = (item.says for item in self.items)
        return max((time for time in says if time is not None and time <= self.now), default=None)

    # what happens to it

    def begin_run(self) -> None:
        self.is_running, self.events = True, 0
        self.most_events = self.random.choice((2, 6, 25))
        self.lied.clear()

    def tick(self) -> None:
        ties = (0, 0) if "ties" in self.troubles else (1,)
        self.now += self.random.choice((*ties, 1, 1000, 1 + self.random.randrange(1500)))

    def put(self, id_: int | None, how: str) -> None:
        """Let a row begin, or change."""
        self.version += 1
        if id_ is None:
            self.next_id, id_ = self.next_id + 1, self.next_id
        at, says = self.now, 0
        if how == "late":
            old = self.rows.get(id_)
            at = max(self.now - self.random.randrange(LATEST), old.at if old else 0)
        elif how == "future":
            at += self.random.choice((2000, 10_000, 3_600_000, 10**12))
        says = self.random.choice(ABSURD) if how == "absurd" else at
        self.rows[id_] = Item(at, id_, self.version, None if how == "untimed" else says)

    def claim(self) -> str:
        """Say what the next row claims."""
        special = [name for name in sorted(self.troubles) if name in SPECIAL]
        claim = self.random.choice(special) if special else "none"
        is_second = claim == "absurd" and any(row.says in ABSURD for row in self.rows.values())
        return "none" if is_second else claim

    def happen(self) -> None:
        """Let something happen."""
        self.events += 1
        self.tick()
        items, random = self.items, self.random
        how = self.claim() if random.random() < 0.3 else "none"
        if "deletions" in self.troubles and len(items) > 5 and random.random() < 0.4:
            first = min(random.randrange(len(items)), random.randrange(len(items)))
            for item in items[first : first + random.choice((1, 1, 2, 3, 5))]:
                if item.id != self.unreadable:
                    del self.rows[item.id]
        elif (absurd := [row for row in items if row.says in ABSURD]) and random.random() < 0.3:
            self.put(absurd[0].id, "none")
        elif not items or (random.random() < 1 - len(items) / MOST_ROWS):
            self.put(None, how)
        else:
            item = random.choice(items)
            # A cursor that names a row can't be followed if the row moves down under the walk.
            if item.at <= self.now or self.kind != "id" or not self.is_running:
                self.put(item.id, how if how != "late" or item.at < self.now else "none")
        if "switches" in self.troubles and random.random() < 0.2:
            # A token that is no longer offered can't be told from the end while a run reads.
            self.form = random.choice(FORMS[:3] if self.is_running else (*FORMS, "blank"))
            self.forms.add(self.form)

    def settle(self) -> None:
        """Let the history end; only what can be lived with stays as it is."""
        self.pace = 0.0
        is_both, troubles = self.form == "both", self.troubles
        troubles -= {"circle", "switches"}
        tokens = {"tokens refused", "tokens ignored"}
        counts = {"counts circle", "refuses counts", "slow"}
        if not is_both or troubles & counts:
            troubles -= tokens
        if not is_both:
            troubles -= counts
        if self.random.random() < 0.5:
            troubles -= {"unreadable"}
        if "slow" in troubles or self.random.random() < 0.5:
            self.quieten()

    def quieten(self) -> None:
        """Let answers be right from now on."""
        self.troubles -= {"omits", "refuses", "sizes"}

    # what it answers

    def answer(self, cursor: str | None, limit: int) -> Answer | Trouble:
        """Answer a request; between any two of them, something may happen."""
        self.answers += 1
        if self.events < self.most_events and self.random.random() < self.pace:
            for _ in range(self.random.choice((1, 1, 1, 3))):
                self.happen()
        start = self.start(cursor)
        by_count = cursor is not None and cursor.startswith(NEXT)
        is_deep = by_count and start is not None and start >= self.depth
        if is_deep and "slow" in self.troubles and limit > self.depth % 3:
            return Trouble.TIMED_OUT
        omits = self.lies("omits", str(cursor))
        is_refused = cursor is not None and self.lies("refuses", cursor)
        if start is None or is_refused or (is_deep and "refuses counts" in self.troubles):
            return Trouble.REFUSED
        end = start + limit
        items, is_more = self.counted[start:end], end < len(self.rows)
        items = [item for item in items if not self.hides(item)]
        if "circle" in self.troubles or ("counts circle" in self.troubles and by_count):
            first, is_more = self.items[: self.depth - 1], True
            items = [first[(start + n) % len(first)] for n in range(limit)] if first else []
        if "unreadable" in self.troubles and any(item.id == self.unreadable for item in items):
            return Trouble.TIMED_OUT
        next_, token = self.offers(cursor, start, end, items) if is_more else (None, None)
        if omits:
            next_, token = (next_ if self.random.random() < 0.2 else None), None
        return Answer(items, next_, token, self.now)

    def start(self, cursor: str | None) -> int | None:
        """Say how many rows stand above a page; `None` if its cursor is refused."""
        if cursor is None:
            return 0
        if cursor.startswith(TOKEN):
            if "tokens refused" in self.troubles or (self.form == "next" and self.depth % 2):
                return None
            if cursor == TOKEN or "tokens ignored" in self.troubles:
                return 0
            return self.below(cursor.removeprefix(TOKEN))
        value = cursor.removeprefix(NEXT)
        if self.kind != "id":
            return int(value) if self.kind == "offset" else self.below(value)
        ids = [item.id for item in self.items]
        return ids.index(int(value)) if int(value) in ids else None

    def below(self, place: str) -> int | None:
        """Say how many rows stand at a place or above it."""
        at, id_, _ = map(int, base64.b64decode(place).decode().split("-"))
        if not id_:
            return 0 if self.troubles & {"circle", "counts circle"} else None
        return sum((item.at, item.id) >= (at, id_) for item in self.counted)

    def offers(
        self, cursor: str | None, start: int, end: int, items: Sequence[Item]
    ) -> tuple[str | None, str | None]:
        """Say what leads to the page below: `next` and a token, as the form is."""
        by_token = cursor is not None and cursor.startswith(TOKEN)
        at, id_ = (items[-1].at, items[-1].id) if items else (0, 0)
        place = base64.b64encode(f"{at}-{id_}-{self.answers}".encode()).decode()
        next_ = place
        if self.kind == "offset":  # a page asked for by token counts from there
            length = end - start if self.had & {"hidden"} else len(items) or self.answers
            next_ = str((0 if by_token else start) + length)
        elif self.kind == "id":
            after = self.items[1 + max((self.items.index(item) for item in items), default=-1) :]
            next_ = str((after or self.items or [Item(0, 1, 0, 0)])[0].id)
        has_token = self.form in ("links", "both") or (self.form == "blank" and by_token)
        return (
            NEXT + next_ if self.form in ("next", "both") else None,
            TOKEN + place if has_token else None,
        )

    def lies(self, how: str, cursor: str) -> bool:
        """Decide whether an answer is wrong: twice a run at the most, and not twice in a row."""
        question = f"{how} {cursor}"
        told = self.lied.get(question, 0)
        is_lie = told in (0, 2) and how in self.troubles and self.random.random() < self.fault
        self.lied[question] = told + (is_lie or told == 1)
        return is_lie


def may_hear(world: World, warning: str) -> bool:
    """Tell whether a list gives a reason for a warning of the walk."""
    if "can't be had" in warning or "there is no answer" in warning:
        return bool(world.had & {"slow", "unreadable"})
    if "in the future" in warning:
        return bool(world.had & {"future", "poisoned"})
    if "do not come newest first" in warning:
        by_id = bool(world.forms & {"next", "both"}) and world.kind == "id" and world.moves
        reasons = {"absurd", "circle", "counts circle", "tokens ignored"}
        if "switches" in world.had:  # from a page without times, that rows shifted, to its token
            reasons |= {"untimed"}
        return by_id or bool(world.had & reasons)
    return "tarting over" in warning and may_begin_again(world, warning)


def may_begin_again(world: World, warning: str) -> bool:
    """Tell whether a list gives a reason to begin again at its head."""
    if world.had & {"circle", "switches", "tokens refused", "tokens ignored", "untimed"}:
        return True
    if "goes in circles" in warning and world.events > RETURNS_TOLERATED:
        return True  # the list moved as fast as it was read
    if world.form != "next" and not (world.form == "both" and "omits" in world.had):
        return False  # by token nothing has to be proved
    if "does not say what is below" in warning and world.is_tiny:
        return True  # more than the one row that was asked for before
    # Whether a page of rows that have one time comes below another nobody can tell.
    is_loose = world.moves and (world.kind != "offset" or "ties" in world.had)
    return is_loose or bool(world.had & COUNTS_ARE_LOST)


SPECIAL = ("future", "absurd", "late", "untimed")
"""What a row may claim."""


def troubles(random: Random, wanted: Sequence[str]) -> set[str]:
    """Choose some troubles that can be lived with together."""
    chosen = {*wanted, random.choice(("none", "ties"))}
    while random.random() < 0.4:
        chosen.add(random.choice(list(TROUBLES)))
    if "absurd" in chosen:
        # With an absurd time at the very place where rows leave the list, nothing can be proved.
        chosen -= {"deletions", "untimed", "future", "late"}
    if chosen & {"circle", "counts circle"}:
        chosen -= {"sizes"}  # no page would ever be the same
    if "still" in chosen:
        chosen -= {"deletions", "switches", "poisoned", "future", "absurd", "late"}
    if "hidden" in chosen:  # where pages are all of one size
        chosen -= {"sizes", "circle", "counts circle", "slow", "switches", "unreadable"}
    if "unreadable" in chosen:
        chosen &= {"unreadable", "none", "ties", "deletions", "still"}
    return chosen
