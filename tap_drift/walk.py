"""Reading a list that comes newest first and moves while it is read: the walk, without any IO.

A row that changes jumps to the head of the list, and there is no "since". So a *walk* goes down
from the *top* (the newest row when it began) to the *floor* (where the last finished walk began).
The rules, all of which are in this file:

1.  The bookmark moves when the walk has arrived, and then to its top: the newest row, not in the
    future, of the first page that has one. Until then STATE says where the walk stands.
2.  It may stop below the floor (two times have to say so: one may be absurd), or at an end. Ends
    and refusals have to come twice, the same. What can't be followed is no end.
3.  A page may offer two ways to the one below. `next` counts rows and can be foreseen, so it is
    followed. A `page_token` is a place, at which nothing shifts: it is what STATE keeps, and the
    way on when anything is wrong with a page asked by count. A walk that went on by token stays
    with tokens. A token that leads nowhere: begin again at the head, and don't trust tokens.
4.  Rows that leave the list shift counts. So a page asked by count overlaps the one above by a row,
    and has to join it. If it does not, and there is no token, the page above is asked for again.
5.  A walk that STATE knows is finished first; rows written before are not written again.
6.  Rows that do not come newest first end the stopping early, and the resuming.
7.  Pages that keep coming back lead nowhere, whatever their cursors.

`read` is a generator: it yields what is to be done, and is sent what came of each `Ask`. Whoever
drives it must write the rows of a `Write` before STATE says what its bookmark says, and before the
generator goes on.
"""

from __future__ import annotations

import enum
from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec

from tap_drift.bookmark import NEXT, TOKEN, Bookmark, Time, Walk

RETURNS_TOLERATED = 3
"""How often a page may come back to the one that is remembered."""

STARTS_TOLERATED = 4
"""How often a run goes to where a walk begins."""

LEFT_OUT_TOLERATED = 10
"""How many rows that can't be had are left out: more of them are an outage."""

LOOKS_TOLERATED = 10
"""How often a page is asked for that offers nothing and is another each time."""

CLOCKS_DIFFER = 300.0
"""Seconds by which a time may lie in the future before anything is said of it."""


_DIGITS = 18
"""Of what may be a number of rows."""

_LEFT_OUT = (
    "the conversation below {} in the list can't be had, and is left out. The bookmark stays below "
    "it, so that the next run asks again."
)


class Place(NamedTuple):
    """A row's place in the list."""

    id: int
    updatedAt: Time  # noqa: N815  (Drift's name)


class Row(NamedTuple):
    """A row of the list."""

    place: Place | None
    """Where it stands; `None` if neither it nor a row before it has a time."""

    timed: bool
    """Whether the time is its own; a row without one stands where the row before it does."""

    fields: dict[str, Any]
    """The row as Drift sent it."""


def _count(cursor: str) -> int | None:
    number = cursor.removeprefix(NEXT)
    return int(number) if number.isdecimal() and len(number) <= _DIGITS else None


class Page(NamedTuple):
    """An answer of the list."""

    rows: Sequence[Row]
    next: str | None
    """A cursor that leads to the page below: `next=...`."""

    token: str | None
    """Another: `page_token=...`. The end is where neither is offered."""

    now: Time
    """What time it is for Drift."""

    is_full: bool
    """Whether it has as many rows as were asked for, or as a server may give at the most."""

    is_strained: bool = False
    """Whether Drift had trouble with it, so that nothing should be asked ahead."""

    @property
    def places(self) -> list[Place]:
        """The places of the rows that have a time, in Drift's order."""
        return [row.place for row in self.rows if row.place and row.timed]


class No(enum.Enum):
    """What may come in place of a page."""

    REFUSED = enum.auto()
    """Drift does not like the cursor."""

    UNANSWERED = enum.auto()
    """No answer can be had. Only for an `Ask` that has another way."""


class Way(enum.Enum):
    """What is left if no answer can be had."""

    NONE = enum.auto()
    """Nothing: ask for less, then fail."""

    HEAD = enum.auto()
    """The head of the list: ask for less, then send `No.UNANSWERED`."""

    TOKEN = enum.auto()
    """A token, which is better than asking for less: send `No.UNANSWERED`."""

    BELOW = enum.auto()
    """What stands below the row that can't be had: ask for less, then send `No.UNANSWERED`."""


class Ask(NamedTuple):
    """Ask for a page; send it, or a `No`."""

    cursor: str | None = None
    """`None`: the head of the list."""

    overlap: int = 0
    """How many of its rows are written already: ask for more than that; the page has to join."""

    otherwise: Way = Way.NONE

    above: int | None = None
    """How many rows stand above the page, where that was counted and the cursor does not say so."""

    @property
    def is_at_head(self) -> bool:
        """Whether it asks for the head of the list, as an empty token does."""
        return self.cursor in (None, TOKEN)

    @property
    def is_by_token(self) -> bool:
        """Whether it asks for a place."""
        return not self.is_at_head and str(self.cursor).startswith(TOKEN)

    @property
    def start(self) -> int | None:
        """How many rows stand above the page; `None` if its cursor does not tell."""
        if self.is_at_head:
            return 0
        if self.above is not None:
            return self.above
        return _count(str(self.cursor)) if self.overlap else None

    @property
    def is_below_gap(self) -> bool:
        """Whether the row above the page is left out."""
        return self.above is not None and not self.is_by_token


class Write(NamedTuple):
    """Write these rows; then STATE may say what the bookmark says."""

    rows: Sequence[Row]
    bookmark: Bookmark
    ahead: Sequence[Ask]
    """What will be asked for next if the list does not move, and may be asked for meanwhile. An
    `Ask` that is not the next of these makes all answers worthless that were asked for before."""


class Say(NamedTuple):
    """Tell the user, once."""

    text: str
    is_warning: bool = True
    is_loss: bool = False
    """Whether something could not be read."""


Steps: TypeAlias = Generator[Ask | Write | Say, "Page | No", Any]

HEAD, EMPTY_TOKEN = Ask(), Ask(TOKEN)


class NowhereError(Exception):
    """The list leads nowhere, however often it is begun."""


class _StuckError(Exception):
    """A walk can't get further down: an earlier run began it, or too much had to be left out."""

    def __init__(self, why: str, bookmark: Bookmark) -> None:
        super().__init__(why)
        self.bookmark = bookmark


class _LostPlaceError(Exception):
    """A walk can't tell where it was, so it has to begin again at the head."""

    def __init__(self, why: str, *, by_token: bool = False, in_future: bool = False) -> None:
        super().__init__(why)
        self.by_token = by_token
        self.in_future = in_future


class Circle(NamedTuple):
    """Brent's cycle detection: a page is remembered, for ever longer, and may not come back."""

    rows: Sequence[Any] | None = None
    patience: int = 1
    left: int = 0
    returns: int = 0

    def after(self, rows: Sequence[Any]) -> Circle:
        """Take another page into account; all pages without rows are the same page."""
        if rows == self.rows:
            return self._replace(returns=self.returns + 1)
        if self.left:
            return self._replace(left=self.left - 1)
        return Circle(rows, 2 * self.patience, 2 * self.patience)

    @property
    def is_closed(self) -> bool:
        """Whether the way leads nowhere."""
        return self.returns > RETURNS_TOLERATED


class Stand(NamedTuple):
    """Where a walk stands: on the page that it wrote last."""

    floor: Time | None
    trusts_tokens: bool
    ask: Ask
    last: Place | None
    """The last row that was written and has a time."""

    top: Time | None
    page: Page | None = None
    """`None` if none was written in this run."""

    is_resumed: bool = False
    """Whether an earlier run began the walk."""

    is_in_order: bool = True
    times: tuple[Time, ...] = ()
    """The last two times that differ."""

    def after(self, ask: Ask, page: Page) -> Stand:
        """Say where the walk stands once a page is written."""
        places = page.places
        times = [place.updatedAt for place in places]
        unread = times[places.index(self.last) :] if self.last in places else times
        is_again = self.page is not None and page.rows == self.page.rows
        has_to_follow = not (ask.overlap or ask.is_below_gap or is_again)
        above = [self.last.updatedAt] if self.last and has_to_follow else []
        order = above + times
        # Where the pages above held rows from the future alone, rows may begin between: next time.
        top = self.top or max((time for time in unread if time <= page.now), default=None)
        return self._replace(
            ask=ask,
            last=places[-1] if places else self.last,
            top=top,
            page=page,
            is_in_order=self.is_in_order and order == sorted(order, reverse=True),
            times=tuple(dict.fromkeys([*reversed(times), *self.times]))[:2],
        )

    @property
    def is_below_floor(self) -> bool:
        """Whether the walk has arrived."""
        if self.floor is None or not self.is_in_order or len(self.times) < 2:  # noqa: PLR2004
            return False
        return max(self.times) < self.floor

    @property
    def walk(self) -> Walk:
        """What STATE keeps: the token of the page below, or what leads to this one once more."""
        page = self.page
        token = page.token if page and (self.trusts_tokens or page.next is None) else None
        cursor = token or self.ask.cursor
        if not self.is_in_order or cursor in (None, TOKEN) or self.last is None:
            return Walk()
        return Walk(cursor, self.top, *self.last)

    @property
    def below(self) -> Ask | None:
        """What leads to the page below; below a page that came by token, only a token does."""
        if self.page is None:
            return None
        start, rows = self.ask.start, len(self.page.rows)
        if self.page.next is None or self.ask.is_by_token:
            return self._by_token(self.ask.above and self.ask.above + rows)
        has_token, count = self.trusts_tokens and self.page.token, _count(self.page.next)
        if rows and start is not None and count is not None and 0 <= count - start - rows <= rows:
            # Rows that Drift counts and does not show may be any of the last ones.
            hidden = count - start - rows
            way = Way.TOKEN if has_token else Way.BELOW
            return Ask(f"{NEXT}{start + rows - 1}", 1 + hidden, way)
        return Ask(self.page.next, 0, Way.TOKEN if has_token else self._last_way)

    def _by_token(self, above: int | None) -> Ask | None:
        way = self._last_way if above is None else Way.BELOW
        return Ask(self.page.token, 0, way, above) if self.page and self.page.token else None

    @property
    def _last_way(self) -> Way:
        """What is left where there is no other cursor: new rows must not wait for old ones."""
        return Way.HEAD if self.is_resumed else Way.NONE

    def ahead(self, pages: int) -> Sequence[Ask]:
        """Foresee so many pages below, which is possible where cursors count rows."""
        first = self.below
        if self.page is None or first is None or first.start is None or first.overlap > 1:
            return ()
        step = max(len(self.page.rows) - 1, 1)
        return [first._replace(cursor=f"{NEXT}{first.start + n * step}") for n in range(pages)]

    @property
    def above(self) -> list[dict[str, Any]]:
        """The rows of the page that was written last, as Drift sent them."""
        return [row.fields for row in self.page.rows] if self.page else []

    def joins(self, page: Page) -> bool:
        """Tell whether nothing can be missing between the rows written and a page."""
        above = self.above
        if any(row.fields in above for row in page.rows):
            return True
        if self.last is None:
            return not above
        newer = bool(page.places) and page.places[0].updatedAt > self.last.updatedAt
        return newer or self.last in page.places

    def is_cut_off_by(self, page: Page) -> bool:
        """Tell whether a full page that says of none below can't be the end of what was written.

        Where a host ceases to heed `next`, the head comes: the page above again, or newer rows.
        """
        if page.next or page.token or not page.is_full or not page.places or self.last is None:
            return False
        if self.page and page.rows == self.page.rows:
            return True
        is_above = page.places[-1].updatedAt >= self.last.updatedAt
        overlaps = self.last in page.places or page.rows[0].fields in self.above
        return is_above and not overlaps

    def new_rows(self, page: Page, *, is_in_order: bool) -> list[Row]:
        """Leave out what was written before, and what is below the floor."""
        places = [row.place for row in page.rows]
        start = places.index(self.last) + 1 if is_in_order and self.last in page.places else 0
        known, above = {row.place for row in self.page.rows} if self.page else set(), self.above
        return [
            row
            for row in page.rows[start:]
            if not ((row.place in known or not row.timed) and row.fields in above)
            and (self.floor is None or row.place is None or row.place.updatedAt >= self.floor)
        ]

    def way_around(self, ask: Ask, why: str) -> Ask:
        """Say how to go on when a page can't be had, does not join, or brings nothing new.

        Raises:
            _LostPlaceError: There is no way.
        """
        again = Ask(self.ask.cursor, 1)
        if self.page is None or ask.is_by_token or ask == again:
            # A token from STATE may merely have expired.
            raise _LostPlaceError(why, by_token=self.page is not None and ask.is_by_token)
        above = ask.start + ask.overlap if ask.overlap and ask.start is not None else None
        return (self.trusts_tokens and self._by_token(above)) or again

    def step_over(self, ask: Ask) -> tuple[Ask, Stand]:
        """Leave out a row that can't be had; what it says of the top is void.

        The bookmark will be what stands below, so that the next run asks for it again.
        """
        assert ask.start is not None  # noqa: S101  (which is what `Way.BELOW` means)
        above = ask.start + ask.overlap + 1
        return Ask(f"{NEXT}{above}", 0, self._last_way, above), self._replace(top=None)


def read(bookmark: Bookmark, lookback: int = 0, most_ahead: int = 1) -> Steps:
    """Finish the walk that the bookmark holds, if any; then walk from the head of the list.

    Args:
        bookmark: Where to begin.
        lookback: Seconds before the bookmark that are read again.
        most_ahead: How many pages may be foreseen at the most.

    Yields:
        What is to be done. `Page` or `No` is sent in answer to an `Ask`.

    Raises:
        NowhereError: The list changes faster than it can be read, or its cursors lead nowhere.
    """
    trusts_tokens, why = True, ""
    for _ in range(STARTS_TOLERATED):
        resumed = bookmark.walk.is_under_way
        floor = bookmark.floor(lookback)
        try:
            bookmark = yield from _walk(bookmark, floor, most_ahead, trusts_tokens=trusts_tokens)
        except _StuckError as stuck:
            if resumed:
                yield from _news(stuck.bookmark, most_ahead, trusts_tokens=trusts_tokens)
            msg = f"{stuck} The next run tries again."
            raise NowhereError(msg) from None
        except _LostPlaceError as lost:
            why = str(lost)
            yield Say(f"{why} Starting over from the head of the list, so that nothing is lost.")
            trusts_tokens = trusts_tokens and not lost.by_token
            bookmark = msgspec.structs.replace(bookmark, walk=Walk())
            if lost.in_future:
                bookmark = msgspec.structs.replace(bookmark, replication_key_value=None)
        else:
            if not resumed:
                return
    msg = f"{why} It was begun {STARTS_TOLERATED} times. The next run tries again."
    raise NowhereError(msg)


def _news(bookmark: Bookmark, most_ahead: int, *, trusts_tokens: bool) -> Steps:
    """Read what is newer than a walk that can't get further; STATE keeps that walk as it is."""
    top = bookmark.walk.top
    if top is None:
        return
    yield Say("what is new since that walk began is read all the same.", is_warning=False)
    anew = msgspec.structs.replace(bookmark, walk=Walk())
    steps = _walk(anew, top, most_ahead, trusts_tokens=trusts_tokens)
    reply: Any = None
    while True:
        try:
            step = steps.send(reply)
        except (StopIteration, _LostPlaceError, _StuckError):
            return
        reply = yield step._replace(bookmark=bookmark) if isinstance(step, Write) else step


def _walk(
    bookmark: Bookmark, floor: Time | None, most_ahead: int, *, trusts_tokens: bool
) -> Generator[Ask | Write | Say, Page | No, Bookmark]:
    """Go down the list, from the head or from where the bookmark's walk is, to the floor."""
    ask, at = _beginning(bookmark.walk, floor, trusts_tokens=trusts_tokens)
    circle, window, left_out = Circle(), 1, 0
    while True:
        ask, page, there = yield from _answer(ask, at)
        if isinstance(page, Page):
            circle = circle.after(page.rows)
        if page is No.UNANSWERED and ask.otherwise is Way.BELOW and left_out < LEFT_OUT_TOLERATED:
            (ask, at), window, left_out = at.step_over(ask), 1, left_out + 1
            continue
        if trouble := _trouble(ask, page, at, there, circle):
            if page is No.UNANSWERED and ask.otherwise in {Way.HEAD, Way.BELOW} and at.page:
                raise _StuckError(trouble, msgspec.structs.replace(bookmark, walk=at.walk))
            ask, window = at.way_around(ask, trouble), 1
            circle = Circle() if ask.is_by_token else circle
            continue
        assert isinstance(page, Page)  # noqa: S101  (for the type checker: a No is trouble)
        yield from _remarks(bookmark, at, there, page)
        if ask.is_below_gap:
            yield Say(_LEFT_OUT.format(at.last.id if at.last else "the head"), is_loss=True)
        rows = at.new_rows(page, is_in_order=there.is_in_order)
        if there.is_below_floor or there.below is None:
            if not there.is_below_floor:
                _check_end(ask, page, is_first=at.page is None)
            bookmark = bookmark.arrived(there.top)
            yield Write(rows, bookmark, ())
            return bookmark
        window = min(window + 1, most_ahead) if ask.overlap and not page.is_strained else 1
        at = there
        yield Write(rows, msgspec.structs.replace(bookmark, walk=at.walk), at.ahead(window))
        ask = there.below


def _beginning(walk: Walk, floor: Time | None, *, trusts_tokens: bool) -> tuple[Ask, Stand]:
    """Say what is asked for first, and where the walk stands before."""
    if walk.cursor is None or walk.id is None or walk.updatedAt is None:
        return HEAD, Stand(floor, trusts_tokens, HEAD, None, None)
    ask = Ask(walk.cursor, int(walk.cursor.startswith(NEXT)), Way.HEAD)
    last = Place(walk.id, walk.updatedAt)
    return ask, Stand(floor, trusts_tokens, ask, last, walk.top, is_resumed=True)


def _answer(
    ask: Ask, at: Stand
) -> Generator[Ask | Write | Say, Page | No, tuple[Ask, Page | No, Stand]]:
    """Ask until the answer can be believed: refusals and ends have to come twice, the same.

    At the head, a full page that offers nothing may mean that a token has to be asked for. That
    the empty one is refused says nothing of the head.
    """
    before = None
    for _ in range(LOOKS_TOLERATED):
        page = yield ask
        seen: Any = page
        there = at
        if isinstance(page, Page):
            there, seen = at.after(ask, page), page[:3]  # its rows, and what it offers
            if there.below or there.is_below_floor:
                return ask, page, there
        elif page is No.UNANSWERED or ask.otherwise is Way.TOKEN:
            return ask, page, at
        if seen == before:
            if isinstance(page, Page) and page.is_full and ask in (HEAD, EMPTY_TOKEN):
                yield Say(
                    f"the first page has {len(page.rows)} rows and says of none below, with a "
                    "page_token as without: they are taken for all that there are.",
                    is_warning=False,
                )
            return ask, page, there
        before = seen
        if ask == HEAD and isinstance(page, Page) and page.is_full:
            asked, page, there = yield from _answer(EMPTY_TOKEN, at)
            if isinstance(page, Page):
                return asked, page, there
    return ask, No.REFUSED, at


def _trouble(ask: Ask, page: Page | No, at: Stand, there: Stand, circle: Circle) -> str:
    """Say what is wrong with a page, if anything is."""
    if page is No.REFUSED:
        return "the list can't be gone on with where it was: its cursor is refused."
    if page is No.UNANSWERED:
        return "the list can't be gone on with where it was: there is no answer."
    if circle.is_closed:
        return "the list goes in circles: the same rows come back, whatever its cursors."
    moved = "the list changed, and what was read before can't be found in it again."
    if ask.overlap and isinstance(page, Page) and not at.joins(page):
        return moved
    if ask.overlap and isinstance(page, Page) and there.is_in_order and at.is_cut_off_by(page):
        return moved
    return ""


def _remarks(bookmark: Bookmark, at: Stand, there: Stand, page: Page) -> Generator[Say, Any, None]:
    """Say what is odd about a page.

    Raises:
        _LostPlaceError: The bookmark lies in the future, so it can't be trusted.
    """
    soon = page.now.shifted(CLOCKS_DIFFER)
    if at.page is None:
        for time in (bookmark.replication_key_value, bookmark.walk.top):
            if time and time > soon:
                msg = f"the bookmark {time} lies in the future, so what was read is not known."
                raise _LostPlaceError(msg, in_future=True)
    if any(place.updatedAt > soon for place in page.places):
        yield Say(
            "there are rows that were last updated in the future. They are written each time; the "
            "bookmark passes over them."
        )
    if at.is_in_order and not there.is_in_order:
        yield Say("rows do not come newest first, so the list is read to its end.")


def _check_end(ask: Ask, page: Page, *, is_first: bool) -> None:
    """See whether an end is one.

    Raises:
        _LostPlaceError: It offers what can't be followed from here, or looks cut short.
    """
    if page.next or page.token:
        msg = "the list goes on in a way that can't be followed from a page_token."
        raise _LostPlaceError(msg, by_token=ask.is_by_token)
    if is_first and ask.overlap and page.is_full:
        msg = "the page that was read last does not say what is below it any more."
        raise _LostPlaceError(msg)
