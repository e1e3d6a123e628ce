"""What could not be read of what belongs to conversations, and when that fails a stream."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from tap_drift.bookmark import Owed
from tap_drift.drift import LONGEST_WAIT, DriftError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tap_drift.bookmark import Time

FAILURES_TOLERATED = 10
"""So many failures in a row, without a success, are no poisoned items but an outage."""

MOST_OWED = 1000
"""How many items are owed at the most, so that STATE stays small."""


class LedgerFullError(DriftError):
    """One more could not be read than can be remembered."""


class Ledger:
    """The items that are owed, by the number in their path.

    Args:
        owed: What earlier runs could not read.
    """

    def __init__(self, owed: Iterable[Owed] = ()) -> None:
        self._owed = {item.id: item for item in owed}
        self._known = set(self._owed)
        self._failures_in_a_row = 0
        self._has_succeeded = False

    @property
    def items(self) -> tuple[Owed, ...]:
        """What is owed now, in the order in which it is asked for."""
        return tuple(self._owed.values())

    @property
    def news(self) -> list[int]:
        """What is owed now, and was not when the run began."""
        return [id_ for id_ in self._owed if id_ not in self._known]

    def is_left_for_last(self, id_: int, version: Time | None) -> bool:
        """Tell whether the walk may pass over an item: it is owed, and this version is no newer."""
        owed = self._owed.get(id_)
        return owed is not None and (version or "") <= (owed.updatedAt or "")

    def was_read(self, id_: int) -> None:
        """Take note of a success."""
        self._owed.pop(id_, None)
        self._known.discard(id_)
        self._failures_in_a_row = 0
        self._has_succeeded = True

    def put_off(self, id_: int) -> None:
        """Let an item that is owed be the last to be asked for, so that each has its turn."""
        self._owed[id_] = self._owed.pop(id_)

    def could_not_be_read(self, id_: int, version: Time | None, error: DriftError) -> None:
        """Owe an item that the walk met, in this version and no older one.

        It is owed even where that fails the stream, or the next run would fail at it once more.

        Args:
            id_: The number in the item's path.
            version: The time of its conversation.
            error: Why.

        Raises:
            LedgerFullError: No more can be owed.
            DriftError: This is no fault of this item alone.
        """
        if error.status == HTTPStatus.UNAUTHORIZED:
            raise error
        if id_ not in self._owed and len(self._owed) >= MOST_OWED:
            msg = f"{error} {MOST_OWED:,} could not be read before, and no more can be remembered."
            raise LedgerFullError(msg)
        if not self.is_left_for_last(id_, version):
            self._owed[id_] = Owed(id_, version)
        if id_ in self._known:
            return
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= FAILURES_TOLERATED:
            msg = f"{error} That makes {FAILURES_TOLERATED} in a row, so it is no fault of one."
            raise DriftError(msg)
        lacks_scope = error.status == HTTPStatus.FORBIDDEN and not self._has_succeeded
        if lacks_scope or (error.wait or 0) > LONGEST_WAIT:
            raise error
