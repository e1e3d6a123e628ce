"""What a user is told while a list is read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tap_drift.walk import Row

SECONDS_BETWEEN_REPORTS = 30.0


class Progress:
    """How far a stream is.

    Attributes:
        floor: The time down to which it reads; `None` if to the end.
    """

    def __init__(self) -> None:
        self.floor: str | None = None
        self._records = 0
        self._oldest: str | None = None
        self._reported_at = time.monotonic()

    def counted(self, records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Count records on their way."""
        for record in records:
            self._records += 1
            yield record

    def is_due(self, rows: Sequence[Row]) -> bool:
        """Take note of rows of the list that are done with; tell whether a report is due."""
        if rows and (place := rows[-1].place):
            self._oldest = place.updatedAt
        return time.monotonic() - self._reported_at >= SECONDS_BETWEEN_REPORTS

    def report(self, requests: int) -> str:
        """Say in a line what was read, with so many requests."""
        self._reported_at = time.monotonic()
        return (
            f"{self._records:,} read, back to {(self._oldest or 'now')[:10]} (floor "
            f"{(self.floor or 'none')[:10]}), {requests:,} request{'s' * (requests != 1)}"
        )
