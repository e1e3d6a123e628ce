"""What could not be read of what belongs to conversations, and when that fails a stream."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from tap_drift.bookmark import Owed
from tap_drift.drift import LONGEST_WAIT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tap_drift.bookmark import Time
    from tap_drift.drift import DriftError

FAILURES_TOLERATED = 10
"""So many failures in a row, without a success, are no poisoned items but an outage."""

MOST_OWED = 1000
"""How many items are owed at the most, so that STATE stays small."""


class Ledger:
    """The items that are owed, by the number in their path.

    Args:
        owed: What earlier runs could not read.
    """

    def __init__(self, owed: Iterable[Owed] = ()) -> None:
        self._owed = {item.id: item for item in owed}
        self._known = frozenset(self._owed)
        self._failures_in_a_row = 0
        self._has_succeeded = False

    @property
    def items(self) -> tuple[Owed, ...]:
        """What is owed now."""
        return tuple(self._owed.values())

    @property
    def news(self) -> list[int]:
        """What is owed now, and was not when the run began."""
        return [id_ for id_ in self._owed if id_ not in self._known]

    def is_left_for_last(self, id_: int, version: Time | None) -> bool:
        """Tell whether the walk may pass over an item: it is owed in the very same version."""
        return id_ in self._owed and self._owed[id_].updatedAt == version

    def was_read(self, id_: int) -> None:
        """Take note of a success."""
        self._owed.pop(id_, None)
        self._failures_in_a_row = 0
        self._has_succeeded = True

    def could_not_be_read(self, id_: int, version: Time | None, error: DriftError) -> None:
        """Owe an item, in this version and no older one.

        Args:
            id_: The number in the item's path.
            version: The time of its conversation.
            error: Why.

        Raises:
            DriftError: It is `error`, where that is no fault of this item alone.
        """
        is_new = id_ not in self._known
        self._failures_in_a_row += is_new
        if (
            error.status == HTTPStatus.UNAUTHORIZED
            or (error.status == HTTPStatus.FORBIDDEN and not self._has_succeeded)
            or (error.wait or 0) > LONGEST_WAIT
            or self._failures_in_a_row >= FAILURES_TOLERATED
            or (id_ not in self._owed and len(self._owed) >= MOST_OWED)
        ):
            raise error
        self._owed[id_] = Owed(id_, version)
