"""How far a stream is, how long it may take, and how a run ended: in words, without any IO."""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from tap_drift.values import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tap_drift.bookmark import Bookmark, Time

SECONDS_BETWEEN_REPORTS = 30.0

COLUMNS = ("stream", "records", "requests", "seconds", "how it ended", "owed")


class Leg(NamedTuple):
    """What a walk has before it in this run: from where to where, and when it began."""

    began: float
    floor: Time | None = None
    top: Time | None = None
    """The newest row, not in the future."""
    start: Time | None = None
    """Where it goes on; `None` for the first of a run, if that begins at the head."""

    def seconds_left(self, share: float | None, oldest: Time | None, now: float) -> float | None:
        """Forecast: what is left takes as long as what was read.

        Args:
            share: What share of it is done; `None` to take the share of time.
            oldest: How far back it is.
            now: What the clock says.

        Returns:
            Seconds; `None` where nothing is known.
        """
        before = 0.0
        if share is None:
            if not (self.floor and self.top and oldest) or self.floor >= self.top:
                return None
            whole = self.top.milliseconds - self.floor.milliseconds
            share = (self.top.milliseconds - oldest.milliseconds) / whole
            if self.start:
                before = (self.top.milliseconds - self.start.milliseconds) / whole
        if not before < share < 1:
            return None
        return (now - self.began) * (1 - share) / (share - before)


class Progress:
    """How far a stream is.

    Args:
        noun: What its records are called.
        clock: Tells seconds.

    Attributes:
        records: How many records left the stream.
        requests: How many requests were made for it.
        total: How many conversations there are, as far as that is known and of use.
    """

    def __init__(self, noun: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.records = 0
        self.requests = 0
        self.total: int | None = None
        self._noun = noun.replace("_", " ")
        self._clock = clock
        self._began: float | None = None
        self._ended: float | None = None
        self._reported = 0.0
        self._conversations: int | None = None
        self._last: Time | None = None
        self._oldest: Time | None = None
        self._leg = Leg(0.0)

    # What happens

    def begin(self) -> None:
        """Take note that reading begins."""
        self._began = self._reported = self._clock()

    def walk(self, bookmark: Bookmark, lookback: int) -> None:
        """Take note that a walk begins, or goes on."""
        start = bookmark.walk.updatedAt if bookmark.walk.is_under_way else None
        floor = bookmark.floor(lookback)
        self._leg = Leg(self._clock(), floor, bookmark.walk.top if start else None, start)
        self._conversations = 0

    def page(self, bookmark: Bookmark, lookback: int) -> None:
        """Take note of what STATE may say when the next conversations are done with."""
        top, leg = bookmark.walk.top, self._leg
        if top and leg.top is None:
            self._leg = leg._replace(top=top)
        elif top and top != leg.top:  # it has arrived, and another has begun
            self._leg = Leg(self._clock(), bookmark.floor(lookback), top, start=top)
            self.total = None

    def passed(self, conversations: int, oldest: Time | None) -> None:
        """Take note that so many conversations are done with, down to this time."""
        self._conversations = self.conversations + conversations
        self._last = oldest or self._last
        self._oldest = min(filter(None, (oldest, self._oldest)), default=None)

    def end(self) -> None:
        """Take note that it ended."""
        self._ended = self._clock()

    # What can be said

    @property
    def has_begun(self) -> bool:
        """Whether it was its turn."""
        return self._began is not None

    @property
    def has_ended(self) -> bool:
        """Whether it ended by itself."""
        return self._ended is not None

    @property
    def is_from_head(self) -> bool:
        """Whether it is the first walk of the run, and all that it passes is counted here."""
        return self._conversations is not None and self._leg.start is None

    @property
    def floor(self) -> Time | None:
        """The time down to which it reads; `None` if to the end."""
        return self._leg.floor

    @property
    def conversations(self) -> int:
        """How many conversations are done with."""
        return self._conversations or 0

    @property
    def seconds(self) -> float:
        """How long it took, until now."""
        if self._began is None:
            return 0.0
        return (self._clock() if self._ended is None else self._ended) - self._began

    def is_due(self) -> bool:
        """Tell whether it is time for a report, and if so begin to wait for the next."""
        now = self._clock()
        if now - self._reported < SECONDS_BETWEEN_REPORTS:
            return False
        self._reported = now
        return True

    def report(self) -> str:
        """Say how far it is, and how long it may still take."""
        share = self.conversations / self.total if self.total else None
        left = self._leg.seconds_left(share, self._last, self._clock())
        return self._said([] if left is None else [f"about {duration(left)} left"])

    def summary(self) -> str:
        """Say what was read."""
        self.total = None
        return self._said([counted(self.requests, "requests"), duration(self.seconds)])

    def _said(self, more: list[str]) -> str:
        parts = []
        if self._conversations is not None:
            passed = counted(self.conversations, "conversations")
            if self.total:
                passed = f"{self.conversations:,} of about {self.total:,} conversations"
            elif self._oldest:
                passed += f" back to {self._oldest[:10]}"
            parts.append(passed)
        if self._noun != "conversations":
            parts.append(counted(self.records, self._noun))
        floor = "" if self._conversations is None else f" (floor {(self.floor or 'none')[:10]})"
        return ", ".join(parts + more) + floor


class Census:
    """How many conversations there are, as it becomes known in a run.

    Attributes:
        walked: How many a walk from the head has passed, by its floor.
        by_status: What Drift counts; `None` if it was not asked, empty if it does not say.
    """

    def __init__(self) -> None:
        self.walked: dict[Time | None, int] = {}
        self.by_status: dict[str, int] | None = None

    def total(self, floor: Time | None) -> int | None:
        """Say how many a walk down to a floor will pass; `None` if that is not known."""
        counts = self.by_status if floor is None else None
        return self.walked.get(floor) or sum((counts or {}).values()) or None

    def __str__(self) -> str:
        counts = self.by_status or {}
        by_status = ", ".join(
            f"{one_line(status[:50]).lower()} {count:,}"
            for status, count in islice(counts.items(), 20)
        )
        return f"Drift counts {sum(counts.values()):,} ({by_status}), and none of other statuses"


def counted(number: int, noun: str) -> str:
    """Say how many there are of something."""
    return f"{number:,} {noun.removesuffix('s') if number == 1 else noun}"


def duration(seconds: float) -> str:
    """Say how long something takes, as precisely as people want to know."""
    if seconds < 90:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"  # noqa: PLR2004


def table(columns: Sequence[str], rows: Iterable[Sequence[str | int]]) -> list[str]:
    """Lay out a table in lines.

    Args:
        columns: Their names.
        rows: Their values; numbers stand on the right.
    """
    body = [list(row) for row in rows]
    cells = [list(columns), *([f"{c:,}" if isinstance(c, int) else c for c in r] for r in body)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [all(isinstance(row[n], int) for row in body) for n in range(len(columns))]
    return [
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]


def failures(causes: Mapping[str, str]) -> str:
    """Say which streams failed, and why: of the first of them, since each has said so before.

    Args:
        causes: By stream.
    """
    first, *others = causes
    named = f"{', '.join(causes)}. " + (f"{first}: " if others else "")
    return named + causes[first].partition("\n")[0]
