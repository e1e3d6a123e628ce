"""Streams that keep a bookmark of Drift's time, whatever way they read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from singer_sdk.singerlib.catalog import REPLICATION_FULL_TABLE

from tap_drift.bookmark import Bookmark, Covers, Time
from tap_drift.compat import override
from tap_drift.drift import DriftError
from tap_drift.stream import DriftStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from singer_sdk import Tap
    from singer_sdk.helpers._batch import BaseBatchFileEncoding, BatchConfig
    from singer_sdk.helpers.types import Context

    from tap_drift.drift import Drift
    from tap_drift.owner import Owner


class BookmarkedStream(DriftStream):
    """A stream whose STATE is a `Bookmark`.

    A subclass begins where `begin` says, and calls `checkpoint` when records are out.
    """

    def __init__(self, tap: Tap, drift: Drift) -> None:
        super().__init__(tap, drift)
        self._owner: Owner = tap.owner  # type: ignore[attr-defined]
        self.bookmark = Bookmark()

    @property
    def bookmark_of(self) -> str | None:
        """The field of Drift's that the bookmark is a time of."""
        return self.replication_key

    # What the SDK would do to the state of a stream (in private hooks, but for the last): a
    # bookmark of Drift's takes its place.

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

    # State

    @property
    @override
    def can_go_on(self) -> bool:
        has_read = self.bookmark.replication_key_value or self.bookmark.walk.is_under_way
        return bool(has_read) and not self.is_full_table

    @property
    def is_full_table(self) -> bool:
        """Whether the catalog asks for everything, and for no bookmark."""
        return self.replication_method == REPLICATION_FULL_TABLE

    def begin(self) -> Bookmark:
        """Hold what the state vouches for against what this run asks for.

        Returns:
            Where to begin.

        Raises:
            DriftError: The state is damaged.
        """
        statuses, start_date = self.config.get("statuses"), self.config.get("start_date")
        asked = Covers(
            tuple(sorted(set(statuses))) if statuses else None,
            Time(start_date) if start_date else None,
        )
        if self.is_full_table:
            self.stream_state.clear()
            self.logger.info("%s: reading everything, as the catalog asks for.", self.name)
            return Bookmark(covers=asked)
        try:
            known = Bookmark.from_state(self.stream_state, self.bookmark_of)
        except ValueError as error:
            msg = (
                f"the state of this stream is damaged ({error}). Restore an older state, or "
                f"remove bookmarks.{self.name} from it to read the stream from the start."
            )
            raise DriftError(msg) from None
        known, warning = known.belonging_to(self._owner.account(known.covers.account))
        if warning:
            self.warn(warning)
        asked = msgspec.structs.replace(asked, account=known.covers.account)
        lookback = int(self.config["lookback_seconds"])
        bookmark, why = known.asked_for(asked, lookback)
        floor = bookmark.floor(lookback) or "none"
        self.logger.info("%s: %s; floor: %s.", self.name, why, floor)
        return bookmark

    def checkpoint(self, bookmark: Bookmark) -> None:
        """Let STATE say how far it is: all records that it vouches for have to be out."""
        self.bookmark = bookmark
        if self.get_batch_config(self.config) is None and not self.is_full_table:
            self._vouch()
            self._write_state_message()

    def _vouch(self) -> None:
        """Let the next STATE say what the bookmark says."""
        if self.bookmark.replication_key:
            # One assignment, so that a signal in between finds the old state or the new.
            self.tap_state["bookmarks"][self.name] = self.bookmark.to_state()
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
