"""Reading by windows of time, which are halved where an answer does not hold all that is in one."""

from __future__ import annotations

import time
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from singer_sdk.singerlib.catalog import REPLICATION_INCREMENTAL

from tap_drift.answers import rows_at
from tap_drift.bookmark import Time
from tap_drift.bookmarked import BookmarkedStream
from tap_drift.compat import override
from tap_drift.drift import DriftError, Help, limiter
from tap_drift.stream import DriftStream
from tap_drift.values import integer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from singer_sdk import Tap

    from tap_drift.answers import Rows
    from tap_drift.drift import Drift

    Row = dict[str, Any]

FAR_AHEAD = 15_000_000_000_000
"""A time in the year 2445, which Drift's own code asks with for all that is still to come."""

DAY = 24 * 60 * 60 * 1000

HALVINGS_IN_A_ROW = 6
"""How often a window that can't be answered is halved before the stream fails."""

OVERLAP_SECONDS = 60 * 60
"""How long before the end of a window the next run begins: reports may be late."""

REQUESTS, SECONDS = 10, 10
"""How many reports are asked for in so many seconds: never more than 60 in a minute."""


class Window(NamedTuple):
    """A time with both of its ends, in milliseconds since 1970."""

    first: int
    last: int

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
    is_cut: bool
    """Whether there may be more in the window."""

    now: int
    """What time it was for Drift, in milliseconds since 1970."""


def read_windows(
    get: Callable[[Window], Part], whole: Window, days: tuple[int, int], warn: Callable[[str], None]
) -> Iterator[tuple[Window, Part]]:
    """Read a window, in as many pieces as it takes.

    Args:
        get: Asks for a window.
        whole: What is to be read.
        days: Between which days most rows are, from today on.
        warn: Told of windows that can't be answered.

    Yields:
        Windows and what is in them, the oldest first. One that is cut can't be halved any more.

    Raises:
        DriftError: Drift refuses, or can't answer for a short time either.
    """
    now = int(time.time() * 1000)  # a guess is enough to cut by
    likely = Window(now + days[0] * DAY, now + days[1] * DAY)
    due, failures = [whole], 0
    while due:
        window = due.pop()
        is_moment = window.first >= window.last
        try:
            part = get(window)
        except DriftError as error:
            failures += 1
            if error.help is not Help.LESS or is_moment or failures > HALVINGS_IN_A_ROW:
                raise
            warn(f"{error} Asking for half the time.")
        else:
            failures = 0
            if is_moment or not part.is_cut:
                yield window, part
                continue
        due += reversed(window.halves(likely))


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
        whole = Window(0, FAR_AHEAD)
        for _, part in read_windows(self._part, whole, self.days, self.warn):
            yield from self.records(map(self.with_key, part.rows))
            if part.is_cut:
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
        return Part(rows, len(rows) >= self.most_rows, int(answer.now or 0))


class ReportStream(BookmarkedStream):
    """What Drift's reports say of conversations: of those that have changed since the bookmark.

    The bookmark is the end of the last window that was read, less an overlap, and never a time that
    has not come for Drift.
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
        self.checkpoint(bookmark)
        floor = bookmark.floor(int(self.config["lookback_seconds"]))
        first = min(max(floor.milliseconds, 0), FAR_AHEAD) if floor else 0
        parts = read_windows(self._part, Window(first, FAR_AHEAD), self.days, self.warn)
        try:
            for window, part in parts:
                yield from self.records(map(self._row, part.rows))
                if part.is_cut:
                    self.is_incomplete = True
                    self.warn_once("Drift does not give all that changed in one moment.")
                end = Time(min(window.last, part.now)).shifted(-OVERLAP_SECONDS)
                self.checkpoint(self.bookmark.arrived(end))
        except DriftError as error:
            if error.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
                error.args = (f"{error} If the rest of it is, Drift has no reports any more.",)
            raise

    @override
    def try_out(self) -> str:
        self._part(STILL_TO_COME)
        return "yes"

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
        rows = rows_at(self.records_jsonpath, answer.body)
        try:
            count = integer(answer.body.get("count"))
        except ValueError:
            count = len(rows)
        if count > len(rows) <= 1 and window.first < window.last:
            msg = f"Drift's report counts {count:,} conversations, but names {len(rows)}."
            raise DriftError(msg, status=HTTPStatus.OK)
        return Part(rows, count > len(rows), int(answer.now or time.time() * 1000))

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
