"""Drift's reports: what they say of conversations that have changed, read by windows of time."""

from __future__ import annotations

import math
import time
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from singer_sdk.singerlib.catalog import REPLICATION_INCREMENTAL

from tap_drift.answers import rows_at
from tap_drift.bookmark import Time
from tap_drift.bookmarked import BookmarkedStream
from tap_drift.compat import override
from tap_drift.drift import DriftError, limiter
from tap_drift.values import integer
from tap_drift.walk import CLOCKS_DIFFER
from tap_drift.windows import FAR_AHEAD, STILL_TO_COME, Part, Window, Windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from singer_sdk import Tap

    from tap_drift.bookmark import Bookmark
    from tap_drift.drift import Drift

    Row = dict[str, Any]

OVERLAP_SECONDS = 60 * 60
"""How long before the end of a window the next run begins: reports may be late."""

REQUESTS, SECONDS = 10, 10
"""How many reports are asked for in so many seconds: never more than 60 in a minute."""


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
        self._has_given_metrics = False

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
        self._has_given_metrics = self._has_given_metrics or any(map(self._has_metrics, rows))
        if rows and not self._has_given_metrics:
            msg = "Drift's report does not give the metrics that were asked for."
            raise DriftError(msg, status=HTTPStatus.OK)
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

    def _has_metrics(self, row: Row) -> bool:
        values = row.get("metrics")
        return isinstance(values, list) and len(values) == len(self.metrics)

    def _row(self, row: Row) -> Row:
        """Give every metric its name: they come in the order in which they were asked for.

        Where others came, which is which can't be known: `otherFields` has them then.
        """
        if not self._has_metrics(row):
            self.is_incomplete = True
            return {"metrics": None, **row}  # none at all is said too
        named = {
            name: None if value == "NaN" else value
            for name, value in zip(self.metrics, row["metrics"], strict=True)
        }
        return {name: value for name, value in row.items() if name != "metrics"} | named
