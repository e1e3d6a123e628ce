"""The walk down a list that comes newest first: stop early, checkpoint, resume.

Drift's `/conversations/list` puts the most recently updated conversation first and offers no
"since". A walk goes from the *top* (the newest row of its first page) down to the *floor* (where
the last finished walk began). Only when it has arrived does the bookmark move, and then to the
top; until then, STATE says after each page how far the walk is, so that the next run goes on
there, having seen proof that nothing slipped through in between.
"""

from __future__ import annotations

import datetime as dt
import itertools
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from singer_sdk.singerlib.catalog import REPLICATION_FULL_TABLE

from tap_drift.bookmark import Bookmark, Covers, Place, Time, Walk
from tap_drift.client import AskForLessError, DriftError, DriftStream
from tap_drift.compat import override
from tap_drift.values import integer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from singer_sdk.helpers._batch import BaseBatchFileEncoding, BatchConfig
    from singer_sdk.helpers.types import Context

STATUS_IDS = {"open": 1, "closed": 2, "pending": 3}
"""Drift's numbers for the statuses that its list can be filtered by (Drift's page on the list)."""

RETURNS_TOLERATED = 3
"""How often a walk may come back to a cursor: the list moves, but it must not go in circles."""

SECONDS_BETWEEN_REPORTS = 30.0

_REFUSALS = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.GONE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
}


class Row(NamedTuple):
    """A row of the list."""

    place: Place | None
    """Where it stands; `None` if neither it nor a row before it has a time."""

    timed: bool
    """Whether the time is its own; a row without one stands where the row before it does."""

    fields: dict[str, Any]
    """The row as Drift sent it."""


class Page(NamedTuple):
    """One answer of the list."""

    rows: list[Row]
    next: str | None
    """The cursor of the page below; `None` at the end of the list."""

    @property
    def places(self) -> list[Place]:
        """The places of the rows that have a time, in Drift's order."""
        return [row.place for row in self.rows if row.place and row.timed]

    @property
    def is_sorted(self) -> bool:
        """Whether the rows come newest first."""
        return all(a.updatedAt >= b.updatedAt for a, b in itertools.pairwise(self.places))

    def joins(self, walk: Walk, *, again: bool) -> bool:
        """Tell whether nothing can be missing between where a walk is and this page.

        It begins above the last row, or that row is on it, unchanged. That its first row is no
        older would not do: of rows that share one time, some could be skipped.

        Args:
            walk: Where the walk is.
            again: Whether this is its last page, asked for again.
        """
        places = self.places
        if not self.is_sorted:
            return not again  # the walk reads to the end from here, but it can't resume
        return (
            walk.last is not None
            and bool(places)
            and (places[0].updatedAt > walk.last.updatedAt or walk.last in places)
        )


class LostPlaceError(Exception):
    """A walk can't tell where it was, so it has to begin again at the head of the list."""


class NewestFirstStream(DriftStream):
    """A stream that is fed by the list of conversations, newest first.

    A subclass turns the rows of a page into records; this class decides which rows those are, when
    to stop, and what STATE says.
    """

    path = "/conversations/list"
    records_jsonpath = "$.data[*]"
    next_page_token_jsonpath = "$.pagination.next"  # noqa: S105
    scope = "conversation_read"

    _bookmark: Bookmark | None = None

    def records_of(self, rows: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        """Turn rows of the list into records of this stream.

        Args:
            rows: Conversations as the list has them.

        Returns:
            Records, shaped as the schema says, in the order of the rows.
        """
        return map(self.conform, rows)

    # What the SDK would do to the state of a stream (in private hooks, but for the last), and what
    # the walk does instead.

    @override
    def _increment_stream_state(
        self, latest_record: Any, *, context: Context | None = None
    ) -> None:
        """Do nothing: the newest record comes first, so it is no bookmark."""

    @override
    def _write_starting_replication_value(self, context: Context | None) -> None:
        """Do nothing: it would add a key to the state that Meltano never forgets."""

    @override
    def get_replication_key_signpost(self, context: Context | None = None) -> None:
        """Return nothing: the bookmark is a time of Drift's, not of this machine's clock."""

    @property
    def bookmark(self) -> Bookmark:
        """The state of the stream.

        Setting it writes a STATE message: all records that it vouches for have to be out.

        Raises:
            DriftError: What the state says is damaged.
        """
        if self._bookmark is None:
            try:
                self._bookmark = Bookmark.from_state(self.stream_state, self.replication_key)
            except ValueError as error:
                msg = (
                    f"the state of this stream is damaged ({error}). Restore an older state, or "
                    f"remove bookmarks.{self.name} from it to read the stream from the start."
                )
                raise DriftError(msg) from None
        return self._bookmark

    @bookmark.setter
    def bookmark(self, bookmark: Bookmark) -> None:
        self._bookmark = bookmark
        if self.get_batch_config(self.config) is None:
            self._vouch()
            self._write_state_message()

    def _vouch(self) -> None:
        """Let the next STATE say what the bookmark says."""
        if self._bookmark:
            # One assignment, so that a signal in between finds the old state or the new.
            self.tap_state["bookmarks"][self.name] = self._bookmark.to_state()
            self.state_manager.is_flushed = False

    @override
    def get_batches(
        self, batch_config: BatchConfig, context: Context | None = None
    ) -> Iterator[tuple[BaseBatchFileEncoding, list[str]]]:
        """Write files of records; STATE vouches for those that are in a file."""
        for batch in super().get_batches(batch_config, context):
            self._vouch()  # the SDK writes the BATCH message, then STATE
            yield batch
        if not self.failed:
            self._vouch()
            self._write_state_message()

    # Walks

    @override
    def read_records(self) -> Iterator[dict[str, Any]]:
        """Finish the walk that an earlier run began, if any; then walk from the head of the list.

        Yields:
            Records, shaped as the schema says.

        Raises:
            DriftError: Drift refuses, the state is damaged, or the list goes in circles.
        """
        self._in_order = True
        self._page_size = int(self.config["page_size"])
        self._pages_until_growth = self._patience = 3
        self._records_read = 0
        self._oldest: str | None = None
        self._reported_at = time.monotonic()
        walk = self._begin()
        for _ in range(RETURNS_TOLERATED + 1):
            try:
                yield from self._walk(walk)
            except LostPlaceError as error:
                self.logger.warning(
                    "%s: %s Starting over from the head of the list, so that nothing is lost.",
                    self.name,
                    error,
                )
            else:
                if walk is None:
                    self._report()
                    return
            walk = None
        msg = "the list changes faster than it can be read. The next run tries again."
        raise DriftError(msg)

    def _begin(self) -> Walk | None:
        """Hold what the state vouches for against what this run asks for.

        Returns:
            The walk to finish first, if there is one.
        """
        if self.replication_method == REPLICATION_FULL_TABLE:
            self.stream_state.clear()
            self.logger.info("%s: reading everything, as the catalog asks for.", self.name)
            return None
        bookmark = self.bookmark
        statuses, start_date = self.config.get("statuses"), self.config.get("start_date")
        asked = Covers(
            tuple(sorted(set(statuses))) if statuses else None,
            Time(start_date) if start_date else None,
        )
        value, walk = bookmark.replication_key_value, bookmark.walk
        if walk and (walk.cursor is None or bookmark.covers.statuses != asked.statuses):
            walk = None
        if value and not bookmark.covers.includes(asked):
            why = f"starting over, because the bookmark covers less ({bookmark.covers})"
            why += f" than this run asks for ({asked})"
            value = None
        elif walk:
            why = f"resuming an interrupted walk at cursor {walk.cursor}"
        elif value:
            why = f"reading what changed since the bookmark {value}"
        else:
            why = "first run, no bookmark yet"
        self.bookmark = Bookmark(self.replication_key, value, asked, walk)
        self.logger.info("%s: %s; floor: %s.", self.name, why, self._find_floor() or "none")
        return walk

    def _find_floor(self) -> Time | None:
        """Say down to which time to read: the later of bookmark (less lookback) and start date."""
        bookmark = self.bookmark
        value = bookmark.replication_key_value
        if value and (lookback := int(self.config["lookback_seconds"])):
            try:
                lower = dt.datetime.fromisoformat(value) - dt.timedelta(seconds=lookback)
                value = Time(lower.isoformat())
            except OverflowError:  # before all calendars
                value = None
        return max(filter(None, (value, bookmark.covers.start_date)), default=None)

    def _walk(self, resumed: Walk | None) -> Iterator[dict[str, Any]]:
        """Read one walk, from the head or from where another run left it, down to the floor.

        Args:
            resumed: Where the other run left it; `None` to begin at the head.

        Yields:
            Records.

        Raises:
            LostPlaceError: What lies between two pages can't be told.
            DriftError: Drift refuses, or the list goes in circles.
        """
        floor = self._floor = self._find_floor()
        above: set[Place | None] = set()
        for page, walk, arrived in self._descend(resumed, floor):
            rows = [
                fields
                for place, _, fields in page.rows
                if place is None or (place not in above and place.updatedAt >= (floor or ""))
            ]
            for record in self.records_of(rows):
                self._records_read += 1
                yield record
            # Here the last record of the page is out.
            self._oldest = max(walk.last.updatedAt, floor or "") if walk.last else None
            self._checkpoint(walk, arrived=arrived)
            above = {row.place for row in page.rows}
            if time.monotonic() - self._reported_at >= SECONDS_BETWEEN_REPORTS:
                self._report()

    def _descend(
        self, resumed: Walk | None, floor: Time | None
    ) -> Iterator[tuple[Page, Walk, bool]]:
        """Go down the list page by page, each proved to miss nothing below the one before.

        Args:
            resumed: Where another run left the walk; `None` to begin at the head.
            floor: Where it may stop.

        Yields:
            A page, where the walk is once its records are out, and whether it has arrived then.

        Raises:
            LostPlaceError: What lies between two pages can't be told.
            DriftError: Drift refuses, or the list goes in circles.
        """
        walk, unproven, alone = resumed, resumed is not None, False
        cursor = resumed.cursor if resumed else None
        self._counts_rows, self._refused, empty_end_seen = True, set[str](), False
        asked: list[str | None] = []
        deepest: Time | None = None
        proved: Page | None = None
        while True:
            asked.append(cursor)
            if (returns := len(asked) - len(set(asked))) > RETURNS_TOLERATED:
                msg = f"the list goes in circles: its cursors came back {returns} times."
                raise DriftError(msg)
            answer = self.ask_ahead(cursor)
            if proved and walk:
                yield proved, walk, False
                proved = None
            page = answer()
            # An empty end is documented nowhere: believe it when it shows again.
            empty_end = walk is not None and page == Page([], None)
            if (
                page is None
                or (unproven and walk and not page.joins(walk, again=cursor == walk.cursor))
                or (alone and walk and not self._is_there_still(walk))
                or (empty_end and not empty_end_seen)
            ):
                empty_end_seen |= empty_end
                if walk is None or cursor == walk.cursor:
                    msg = "the list changed, and what was read before can't be found in it again."
                    raise LostPlaceError(msg)
                # Whatever happened above, the page that was read last shows where to go on.
                cursor, unproven, alone = walk.cursor, True, False
                continue

            places = page.places
            if page.rows or walk is None:
                top = (walk and walk.top) or max((one.updatedAt for one in places), default=None)
                walk = Walk(cursor, top, places[-1] if places else (walk.last if walk else None))
            self._check_order(page)
            if walk.last and (deepest is None or walk.last.updatedAt < deepest):
                # Further down than ever: however often the list has moved, that is no circle.
                deepest, asked = walk.last.updatedAt, [cursor]
            below_floor = floor and walk.last and walk.last.updatedAt < floor
            if page.next is None or (self._in_order and below_floor):
                if not alone or self._is_there_still(walk):
                    yield page, walk, True
                    return
                cursor, unproven, alone = walk.cursor, True, False
                continue
            cursor, unproven = self._below(page, cursor)
            alone = self._counts_rows and self._in_order and bool(places) and not unproven
            proved = page

    def _check_order(self, page: Page) -> None:
        if self._in_order and not page.is_sorted:
            self._in_order = False
            self.logger.warning(
                "%s: rows do not come newest first, so the list is read to its end.", self.name
            )

    def _is_there_still(self, walk: Walk) -> bool:
        """Look whether the last row is where it was, if the page below can't overlap to show it."""
        page = self.ask_page(walk.cursor)
        return page is not None and walk.last in page.places

    def _below(self, page: Page, cursor: str | None) -> tuple[str, bool]:
        """Say which cursor to ask for the page below, and whether that page has to prove itself.

        A cursor that counts rows skips some when rows above it leave the list (a conversation is
        deleted, or closed while open ones are read). It is asked so much higher that its page
        begins with the last row of this one, or shows that the list moved.
        """
        following, start = str(page.next), cursor or "0"
        # From the first page of the walk on, so that ids which happen to fit are not mistaken.
        self._counts_rows = (
            self._counts_rows
            and following.isdecimal()
            and start.isdecimal()
            and int(following) == int(start) + len(page.rows)
        )
        overlap = next((n for n, row in enumerate(reversed(page.rows), 1) if row.timed), 0)
        if self._counts_rows and self._in_order and 0 < overlap < len(page.rows):
            higher = str(int(following) - overlap)
            if higher not in self._refused:
                return higher, True
        return following, False

    def _checkpoint(self, walk: Walk, *, arrived: bool) -> None:
        """Let STATE say how far the walk is, or that it has arrived."""
        if self.replication_method == REPLICATION_FULL_TABLE:
            return
        bookmark = self.bookmark
        if arrived:
            value = max(filter(None, (bookmark.replication_key_value, walk.top)), default=None)
            bookmark = msgspec.structs.replace(bookmark, replication_key_value=value, walk=None)
        else:
            bookmark = msgspec.structs.replace(bookmark, walk=walk if self._in_order else None)
        self.bookmark = bookmark

    def _report(self) -> None:
        self._reported_at = time.monotonic()
        self.logger.info(
            "%s: %s read, back to %s (floor %s), %s request%s",
            self.name,
            f"{self._records_read:,}",
            (self._oldest or "now")[:10],
            (self._floor or "none")[:10],
            f"{self.requests_made:,}",
            "s" * (self.requests_made != 1),
        )

    # Pages

    def ask_ahead(self, cursor: str | None) -> Callable[[], Page | None]:
        """Prepare to ask for a page; the records of the page above are not out yet.

        Args:
            cursor: The page's cursor; `None` for the head of the list.

        Returns:
            What gives the page, or `None` if Drift refuses the cursor.
        """
        return lambda: self.ask_page(cursor)

    def ask_page(self, cursor: str | None) -> Page | None:
        """Ask for a page of the list: for fewer rows if Drift can't answer in time.

        Drift says that its list may time out for large organisations. Where retries do not help,
        half as many rows may; after some good pages their number doubles again.

        Args:
            cursor: The page's cursor; `None` for the head of the list.

        Returns:
            The page, or `None` if Drift refuses the cursor.

        Raises:
            DriftError: Drift refuses for another reason, or breaks its own documentation.
            RetriableAPIError: Drift does not answer, not even for a single row.
        """
        while True:
            try:
                body = self.ask(self.path, self.get_url_params(None, cursor))
            except AskForLessError as error:
                if self._page_size == 1:
                    raise
                self._page_size //= 2
                self._patience *= 2
                self._pages_until_growth = self._patience
                self.logger.warning(
                    "%s: %s Asking for %d rows at a time.", self.name, error, self._page_size
                )
            except DriftError as error:
                if cursor is None or error.status not in _REFUSALS:
                    raise
                self.logger.info("%s: cursor %s is refused: %s", self.name, cursor, error)
                self._refused.add(cursor)
                return None
            else:
                self._pages_until_growth -= 1
                if self._pages_until_growth <= 0:
                    self._page_size = min(self._page_size * 2, int(self.config["page_size"]))
                    self._pages_until_growth = self._patience
                return self._page(body)

    @override
    def get_url_params(
        self, context: Context | None, next_page_token: str | None
    ) -> dict[str, Any]:
        """Use every parameter that Drift documents for the list: one `statusId` per status."""
        statuses = self.config.get("statuses") or []
        return {
            "limit": self._page_size,
            "next": next_page_token,
            "statusId": sorted({STATUS_IDS[status] for status in statuses}),
        }

    def _page(self, body: Any) -> Page:
        rows: list[Row] = []
        place: Place | None = None
        for fields in self.rows(body, self.records_jsonpath):
            try:
                id_ = integer(fields.get("id"))
            except ValueError:
                msg = f"{self.path}: Drift sent a conversation without a usable id."
                raise DriftError(msg) from None
            try:
                place, timed = Place(id_, Time(fields["updatedAt"])), True
            except (KeyError, TypeError, ValueError):
                place, timed = place and Place(id_, place.updatedAt), False
                self._warn_once("updatedAt", "of a conversation is missing or no time")
            rows.append(Row(place, timed, fields))
        return Page(rows, self.next_cursor(body))
