"""Reading by windows of time, which are halved where an answer does not hold all that is in one."""

from __future__ import annotations

import math
import time
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import msgspec
from singer_sdk.singerlib.catalog import REPLICATION_INCREMENTAL

from tap_drift.answers import rows_at
from tap_drift.bookmark import Time
from tap_drift.bookmarked import BookmarkedStream
from tap_drift.compat import override
from tap_drift.drift import DriftError, Help, limiter
from tap_drift.stream import DriftStream
from tap_drift.values import integer
from tap_drift.walk import CLOCKS_DIFFER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from singer_sdk import Tap

    from tap_drift.answers import Rows
    from tap_drift.bookmark import Bookmark
    from tap_drift.drift import Drift

    Row = dict[str, Any]

FAR_AHEAD = 15_000_000_000_000
"""A time in the year 2445, which Drift's own code asks with for all that is still to come."""

DAY = 24 * 60 * 60 * 1000

HALVINGS_IN_A_ROW = 6
"""How often a window that can't be answered is halved before the stream fails."""

CROWDED_TOLERATED = 100
"""How many milliseconds may each have more in them than Drift answers with."""

OVERLAP_SECONDS = 60 * 60
"""How long before the end of a window the next run begins: reports may be late."""

REQUESTS, SECONDS = 10, 10
"""How many reports are asked for in so many seconds: never more than 60 in a minute."""


class Window(NamedTuple):
    """A time with both of its ends, in milliseconds since 1970."""

    first: int
    last: int

    @property
    def is_moment(self) -> bool:
        """Whether it can't be halved."""
        return self.first >= self.last

    def halves(self, likely: Window) -> tuple[Window, Window]:
        """Cut it in two.

        Args:
            likely: Where most rows are, so that the halves of a window that is far longer have
                rows too.
        """
        first, last = max(self.first, likely.first), min(self.last, likely.last)
        middle = (first + last if first < last else self.first + self.last) // 2
        return Window(self.first, middle), Window(middle + 1, self.last)


STILL_TO_COME = Window(FAR_AHEAD - DAY, FAR_AHEAD)
"""A window with nothing in it, to try whether windows may be read."""


class Part(NamedTuple):
    """What Drift answers for a window."""

    rows: Rows
    is_cut: bool = False
    """Whether there may be more in the window."""

    counted: int | None = None
    """How many Drift says that there are in the window, if it says so."""

    def is_like(self, whole: Part) -> bool:
        """Tell whether it has all that a window has of which this is one half."""
        if whole.counted is None or self.counted is None:
            return self.is_cut and self.rows == whole.rows
        return self.is_cut and self.counted >= whole.counted


class Windows:
    """Reads a window, in as many pieces as it takes."""

    def __init__(
        self, get: Callable[[Window], Part], days: tuple[int, int], warn: Callable[[str], None]
    ) -> None:
        """Read nothing yet.

        Args:
            get: Asks for a window.
            days: Between which days most rows are, from today on.
            warn: Told of windows that can't be answered.
        """
        now = int(time.time() * 1000)  # a guess is enough to cut by
        self._likely = Window(now + days[0] * DAY, now + days[1] * DAY)
        self._get = get
        self._warn = warn
        self._failures = 0
        self._crowded = 0
        self._most = 1

    def read(self, whole: Window) -> Iterator[tuple[Window | None, Part]]:
        """Read a window.

        Args:
            whole: What is to be read.

        Yields:
            Windows and what is in them, the oldest first. One that is cut: halves bring no more.
            No window: rows that say nothing of what else there is, before the error.

        Raises:
            DriftError: Drift refuses, does not heed windows, or can't answer for a short time
                either.
        """
        return self._read(whole, self._ask(whole))

    def _read(self, window: Window, part: Part | None) -> Iterator[tuple[Window | None, Part]]:
        """Read a window whose answer is known; `None`: there is none."""
        if part and (not part.is_cut or window.is_moment or self._is_believed(window, part)):
            yield window, part
            self._crowded += part.is_cut and window.is_moment
            if self._crowded > CROWDED_TOLERATED:
                raise _not_heeded()
            return
        left, right = window.halves(self._likely)
        first, asked = self._ask(left), []
        if part and first and first.is_like(part):
            asked = [self._ask(right)]
            if asked[0] and asked[0].is_like(part):
                yield None, part
                raise _not_heeded()
        yield from self._read(left, first)
        yield from self._read(right, asked[0] if asked else self._ask(right))

    def _ask(self, window: Window) -> Part | None:
        """Ask for a window; `None` if that is too much, and less may help."""
        try:
            part = self._get(window)
        except DriftError as error:
            self._failures += 1
            can_be_less = error.help is Help.LESS and not window.is_moment
            if not can_be_less or self._failures > HALVINGS_IN_A_ROW:
                raise
            self._warn(f"{error} Asking for half the time.")
            return None
        self._failures = 0
        self._most = max(self._most, len(part.rows))
        return part

    def _is_believed(self, window: Window, part: Part) -> bool:
        """Tell whether Drift counts some that it never names, which would be halved in vain.

        No limit cut an answer that counts but half of what another one named. Trouble of Drift's
        may have: so it has to come twice, the same.
        """
        few = part.counted is not None and part.counted <= (self._most + 1) // 2
        return few and self._ask(window) == part


def _not_heeded() -> DriftError:
    msg = (
        "Drift does not heed the time that it is asked for: its answers do not hold all that there "
        "is, and asking for less time brings no less. What it named is written."
    )
    return DriftError(msg, status=HTTPStatus.OK)


class WindowStream(DriftStream):
    """A stream of what happens within a window of time, all of which is read in every run."""

    window_parameters: ClassVar[tuple[str, str]]
    """The query parameters of both ends."""

    most_rows: ClassVar[int]
    """How many rows an answer has at the most."""

    days: ClassVar[tuple[int, int]]
    """Between which days most rows are, from today on."""

    @override
    def read_records(self) -> Iterator[Row]:
        windows = Windows(self._part, self.days, self.warn)
        for window, part in windows.read(Window(0, FAR_AHEAD)):
            yield from self.records(map(self.with_key, part.rows))
            if window and part.is_cut:
                self.is_incomplete = True
                self.warn_once(f"Drift gives no more than {self.most_rows:,} of one moment.")

    @override
    def try_out(self) -> str:
        self._part(STILL_TO_COME)
        return "yes"

    def with_key(self, row: Row) -> Row:
        """Give a row what tells it from others, if Drift does not.

        Args:
            row: As Drift sent it.

        Returns:
            A new row.
        """
        return row

    def _part(self, window: Window) -> Part:
        params = {**self.first_page, **dict(zip(self.window_parameters, window, strict=True))}
        answer = self.ask(self.path, params)
        rows = rows_at(self.records_jsonpath, answer.body)
        return Part(rows, len(rows) >= self.most_rows)


class _AheadError(Exception):
    """The bookmark is a time that has not come."""


class ReportStream(BookmarkedStream):
    """What Drift's reports say of conversations: of those that have changed since the bookmark.

    The bookmark is the end of the last window that was read, less an overlap. It never passes the
    time for which there are two witnesses: this machine's clock when the run began, and each answer
    so far. One that is too late would hide what changes until then; one that is too early costs no
    more than reading again.
    """

    records_jsonpath = "$.data[*]"
    keeps_history = True

    metrics: ClassVar[tuple[str, ...]]
    """What is asked for, in this order."""

    days = (-12 * 365, 0)
    """Drift is not older."""

    def __init__(self, tap: Tap, drift: Drift) -> None:
        super().__init__(tap, drift)
        # No record has the time that it is incremental by: it can be asked by, not for.
        self.forced_replication_method = REPLICATION_INCREMENTAL
        self._began = 0
        self._earliest = math.inf
        self._missing: tuple[int, Window | None] = (0, None)
        self._has_named = False

    @property
    @override
    def bookmark_of(self) -> str:
        return "updatedAt"

    @override
    def read_records(self) -> Iterator[Row]:
        """Read what has changed, window by window.

        Yields:
            Records, shaped as the schema says.

        Raises:
            DriftError: Drift refuses, or has no reports any more.
        """
        bookmark = self.begin()
        self._began = int(time.time() * 1000)
        try:
            try:
                yield from self._read_from(bookmark)
            except _AheadError as error:
                self.warn(f"{error} Starting over, so that nothing is lost.")
                yield from self._read_from(
                    msgspec.structs.replace(bookmark, replication_key_value=None)
                )
        except DriftError as error:
            if error.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
                error.args = (f"{error} If the rest of it is, Drift has no reports any more.",)
            raise
        finally:
            self._tell_what_is_missing()

    @override
    def try_out(self) -> str:
        self._part(STILL_TO_COME)
        return "yes"

    def _read_from(self, bookmark: Bookmark) -> Iterator[Row]:
        self.checkpoint(bookmark)
        floor = bookmark.floor(int(self.config["lookback_seconds"]))
        first = min(max(floor.milliseconds, 0), FAR_AHEAD) if floor else 0
        windows = Windows(self._part, self.days, self.warn)
        for window, part in windows.read(Window(first, FAR_AHEAD)):
            yield from self.records(map(self._row, part.rows))
            if window is None:
                continue
            if part.is_cut:
                self._miss(window, part)
            if self._missing[0] and not self._has_named:
                continue  # that may be an outage
            if math.isfinite(self._earliest):
                surely = int(max(min(window.last, self._began, self._earliest), 0))
                end = Time(surely).shifted(-OVERLAP_SECONDS)
                self.checkpoint(self.bookmark.arrived(end))
            else:
                self.warn_once(
                    "Drift's answers do not say what time it is, so the bookmark does not move."
                )

    def _miss(self, window: Window, part: Part) -> None:
        """Take note of conversations that are counted, but not named."""
        self.is_incomplete = True
        missing, before = self._missing
        first = before.first if before else window.first
        self._missing = missing + (part.counted or 0) - len(part.rows), Window(first, window.last)

    def _tell_what_is_missing(self) -> None:
        missing, window = self._missing
        if window:
            what_now = "passes over them" if self._has_named else "stays: nothing else was named"
            self.warn(
                f"Drift's reports count {missing:,} more than they name, however short the time "
                f"that is asked for: last updated between {Time(window.first)} and "
                f"{Time(window.last)}. The bookmark {what_now}."
            )

    @cached_property
    def _limiter(self) -> Any:
        return limiter(REQUESTS, SECONDS)

    def _part(self, window: Window) -> Part:
        filters: list[Row] = [
            {"property": self.bookmark_of, "operation": "BETWEEN", "values": list(window)}
        ]
        if statuses := self.config.get("statuses"):
            filters += [{"property": "status", "operation": "IN", "values": sorted(set(statuses))}]
        body = {"filters": filters, "metrics": list(self.metrics)}
        answer = self.ask(self.path, method="POST", body=body, limiter=self._limiter)
        self._look_at_clocks(answer.now)
        rows = rows_at(self.records_jsonpath, answer.body)
        self._has_named = self._has_named or bool(rows)
        try:
            count = integer(answer.body.get("count"))
        except ValueError:
            count = -1
        if count < len(rows):
            self.warn_once(
                "Drift's report does not count what it names, so whether it names all can't be "
                "known."
            )
        return Part(rows, count > len(rows), count)

    def _look_at_clocks(self, date: float | None) -> None:
        """Take note of what time an answer says that it is.

        Raises:
            _AheadError: The bookmark that the run began with can't be.
        """
        is_first = math.isinf(self._earliest)
        if date is not None:
            self._earliest = min(date, self._earliest)
        known = self.bookmark.replication_key_value
        soon = min(self._began, self._earliest) + CLOCKS_DIFFER * 1000
        if is_first and known and known.milliseconds > soon:
            msg = f"the bookmark {known} lies in the future, so what was read is not known."
            raise _AheadError(msg)

    def _row(self, row: Row) -> Row:
        """Give every metric its name: they come in the order in which they were asked for."""
        values = row.get("metrics")
        if not isinstance(values, list) or len(values) != len(self.metrics):
            msg = "Drift's report does not give the metrics that were asked for."
            raise DriftError(msg, status=HTTPStatus.OK)
        named = {
            name: None if value == "NaN" else value
            for name, value in zip(self.metrics, values, strict=True)
        }
        return {name: value for name, value in row.items() if name != "metrics"} | named
