"""What STATE says of a stream: its bookmark, what that vouches for, and the walk under way."""

from __future__ import annotations

from typing import Any, Self

import msgspec

from tap_drift.values import rfc3339


class Time(str):
    """A time in the one form that it leaves the tap in, so that times compare as strings do."""

    __slots__ = ()

    def __new__(cls, value: float | str) -> Self:
        """Read a time.

        Args:
            value: What `rfc3339` takes.

        Raises:
            ValueError: It is no time.
        """
        return super().__new__(cls, rfc3339(value))


class Place(msgspec.Struct, frozen=True):
    """A row's place in the list: rows are ordered by time, and equal places are the same row."""

    id: int
    updatedAt: Time  # noqa: N815  (Drift's name)


class Covers(msgspec.Struct, frozen=True):
    """What a bookmark vouches for. `None` means no limit."""

    statuses: tuple[str, ...] | None = None
    start_date: Time | None = None

    def includes(self, other: Covers) -> bool:
        """Tell whether what `other` asks for is vouched for."""
        statuses = self.statuses is None or (
            other.statuses is not None and set(other.statuses) <= set(self.statuses)
        )
        start_date = self.start_date is None or (
            other.start_date is not None and other.start_date >= self.start_date
        )
        return statuses and start_date

    def __str__(self) -> str:
        statuses = f"status {' or '.join(self.statuses)}" if self.statuses else "every status"
        return f"{statuses}, {f'from {self.start_date}' if self.start_date else 'from any time'}"


class Walk(msgspec.Struct, frozen=True):
    """A walk under way: the cursor that its last finished page was asked with, and its last row."""

    cursor: str | None
    top: Time | None
    last: Place | None


class Bookmark(msgspec.Struct, frozen=True):
    """The state of a stream. All keys are always written: Meltano merges states."""

    replication_key: str | None = None
    replication_key_value: Time | None = None
    covers: Covers = Covers()
    walk: Walk | None = None

    @classmethod
    def from_state(cls, state: dict[str, Any], replication_key: str | None) -> Bookmark:
        """Read the state of a stream, in the shape of this tap or of the SDK.

        Args:
            state: What stands under `bookmarks.<stream>`.
            replication_key: The stream's; a bookmark of another field is of no use.

        Returns:
            The bookmark; an empty one where there is none.

        Raises:
            ValueError: The state is damaged.
        """
        bookmark = msgspec.convert(state, cls, dec_hook=_time)
        if bookmark.replication_key not in {None, replication_key}:
            bookmark = cls()
        return msgspec.structs.replace(bookmark, replication_key=replication_key)

    def to_state(self) -> dict[str, Any]:
        """Write what `from_state` reads.

        Returns:
            JSON.
        """
        state: dict[str, Any] = msgspec.to_builtins(self, enc_hook=str)
        return state


def _time(_: type, value: Any) -> Time:
    if not isinstance(value, str):
        msg = "Expected a time"
        raise TypeError(msg)
    return Time(value)
