"""What STATE says of a stream: its bookmark, what that vouches for, and the walk under way.

All keys are always written, and none ever changes between null and an object: Meltano merges
states key by key, and fails where an object meets null.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Self
from urllib.parse import quote

import msgspec

from tap_drift.values import rfc3339

NEXT, TOKEN = "next=", "page_token="
"""How the cursors of the list begin: those that count rows (or name one), and those that are a
place in the order."""


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


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

    @property
    def milliseconds(self) -> int:
        """Milliseconds since 1970."""
        return (dt.datetime.fromisoformat(self) - _EPOCH) // dt.timedelta(milliseconds=1)

    def shifted(self, seconds: float) -> Time:
        """Say what time it is so many seconds later; calendars have a first and a last moment."""
        try:
            return Time(
                (dt.datetime.fromisoformat(self) + dt.timedelta(seconds=seconds)).isoformat()
            )
        except OverflowError:
            return Time("0001-01-01T00:00:00Z" if seconds < 0 else "9999-12-31T23:59:59.999Z")


class Covers(msgspec.Struct, frozen=True):
    """What a bookmark vouches for. `None` means no limit, and for `account`: not known."""

    statuses: tuple[str, ...] | None = None
    start_date: Time | None = None
    account: str | None = None

    def includes(self, other: Covers) -> bool:
        """Tell whether what `other` asks for is vouched for, the account aside."""
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
    """A walk under way: where it goes on, its top, and the row written last. All null: none is."""

    cursor: str | None = None
    top: Time | None = None
    id: int | None = None
    updatedAt: Time | None = None  # noqa: N815  (Drift's name)

    @property
    def is_under_way(self) -> bool:
        """Whether it can be gone on with: without the row written last, nothing can be proved."""
        return None not in (self.cursor, self.id, self.updatedAt)


class Owed(msgspec.Struct, frozen=True):
    """An item that could not be read: the number in its path, and its conversation's version."""

    id: int
    updatedAt: Time | None = None  # noqa: N815  (Drift's name)


class Bookmark(msgspec.Struct, frozen=True):
    """The state of a stream."""

    replication_key: str | None = None
    replication_key_value: Time | None = None
    covers: Covers = Covers()
    walk: Walk = Walk()
    owed: tuple[Owed, ...] = ()

    @classmethod
    def from_state(cls, state: dict[str, Any], replication_key: str | None) -> Bookmark:
        """Read the state of a stream, in the shape of this tap, of its first edition, or the SDK's.

        Args:
            state: What stands under `bookmarks.<stream>`.
            replication_key: The stream's; a bookmark of another field is of no use.

        Returns:
            The bookmark; an empty one where there is none.

        Raises:
            ValueError: The state is damaged.
        """
        bookmark = msgspec.convert(_in_todays_shape(state), cls, dec_hook=_time)
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

    def asked_for(self, asked: Covers, lookback: int = 0) -> tuple[Bookmark, str]:
        """Say where a run begins, given what it asks for.

        A run that asks for more than the bookmark covers can't use it; one that asks for less
        narrows what it covers, unless it reads all that there is since the bookmark. A walk is
        finished only with the filter that it was begun with.

        Args:
            asked: What this run is to read.
            lookback: Seconds before the bookmark that are read again.

        Returns:
            The bookmark to begin with, and why, in words.
        """
        value, walk = self.replication_key_value, self.walk
        if not walk.is_under_way or self.covers.statuses != asked.statuses:
            walk = Walk()
        asks_for_more, floor = not self.covers.includes(asked), self.floor()
        if asks_for_more and floor and walk.updatedAt and walk.updatedAt < floor:
            walk = Walk()  # the last rows that it read were below the floor, and not written
        if value and asks_for_more:
            why = f"starting over, because the bookmark covers less ({self.covers})"
            why += f" than this run asks for ({asked})"
            value = None
        elif walk.is_under_way:
            why = f"resuming an interrupted walk at {walk.updatedAt}"
        elif value:
            why = f"reading what changed since the bookmark {value}"
        else:
            why = "first run, no bookmark yet"
        replace = msgspec.structs.replace
        if value and asked.start_date and asked.start_date <= value.shifted(-lookback):
            asked = replace(asked, start_date=self.covers.start_date)
        return replace(self, replication_key_value=value, covers=asked, walk=walk), why

    def belonging_to(self, account: str | None) -> tuple[Bookmark, str]:
        """Say what is left of the bookmark for an account: nothing, if it is another's.

        Args:
            account: The organisation, if it is known, and a hash of the token; `None`, like what
                STATE says, if nothing could be learnt.

        Returns:
            The bookmark, and a warning; empty if there is nothing to warn of.
        """
        known, warning, bookmark = self.covers.account, "", self
        is_used = self.replication_key_value is not None or self.walk.is_under_way
        if known and account and known != account and (is_used or self.owed):
            before, now = (of.partition(":")[0] for of in (known, account))
            if not before or not now:
                warning = (
                    "the access token is another than before, and whether it belongs to the same "
                    "account can't be known. If not, run once with `meltano run --full-refresh`, "
                    "or without --state."
                )
            elif before != now:
                warning = f"the bookmark is of account {before}, the token of {now}: starting over."
                bookmark = Bookmark(self.replication_key)
        covers = msgspec.structs.replace(bookmark.covers, account=account)
        return msgspec.structs.replace(bookmark, covers=covers), warning

    def floor(self, lookback: int = 0) -> Time | None:
        """Say where a walk may stop: at the later of bookmark (less lookback) and start date.

        Args:
            lookback: Seconds.

        Returns:
            A time; `None` if only the end of the list will do.
        """
        value = self.replication_key_value
        if value and lookback:
            value = value.shifted(-lookback)
        return max(filter(None, (value, self.covers.start_date)), default=None)

    def arrived(self, top: Time | None) -> Bookmark:
        """Say what the bookmark is when a walk with this top has arrived: it never moves back."""
        value = max(filter(None, (self.replication_key_value, top)), default=None)
        return msgspec.structs.replace(self, replication_key_value=value, walk=Walk())


def _in_todays_shape(state: dict[str, Any]) -> dict[str, Any]:
    """Rewrite what the first edition wrote: no walk, its last row, cursors without a name."""
    walk = state.get("walk")
    if isinstance(walk, dict):
        walk = dict(walk)
        last = walk.pop("last", None)
        if last is not None and "id" not in walk:  # else Meltano has merged today's shape into it
            walk |= last if isinstance(last, dict) else {"id": last}
        cursor = walk.get("cursor")
        if isinstance(cursor, str) and not cursor.startswith((NEXT, TOKEN)):
            walk["cursor"] = NEXT + quote(cursor, safe="")
    today = {"walk": {} if walk is None else walk, "owed": state.get("owed") or []}
    return state | today


def _time(_: type, value: Any) -> Time:
    if not isinstance(value, str):
        msg = "Expected a time"
        raise TypeError(msg)
    return Time(value)
