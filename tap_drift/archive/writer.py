"""The tap's message writer, which writes files instead of lines."""

from __future__ import annotations

import copy
import datetime as dt
from typing import TYPE_CHECKING

from singer_sdk.contrib.msgspec import MsgSpecWriter
from singer_sdk.singerlib import RecordMessage, SchemaMessage, StateMessage

from tap_drift.archive.folder import ASKED, About
from tap_drift.compat import override
from tap_drift.items import ItemsStream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from singer_sdk.singerlib import Message

    from tap_drift.archive.folder import Folder
    from tap_drift.archive.progress import Progress
    from tap_drift.bookmark import Time
    from tap_drift.stream import DriftStream


STOPPED = "the run was stopped, or is under way"


class ArchiveWriter(MsgSpecWriter):
    """Writes records to the folder, and vouches for them at every STATE.

    Args:
        folder: The archive.
        progress: Who tells the user.
    """

    def __init__(self, folder: Folder, progress: Progress) -> None:
        super().__init__()
        self._folder = folder
        self._progress = progress
        self._streams: Mapping[str, DriftStream] = {}
        self._current: DriftStream | None = None
        self._left_out_before = 0
        self._began_at = ""

    def watch(self, streams: Mapping[str, DriftStream]) -> None:
        """Take note of what is to be read, so that what was not even begun is known.

        Streams of items tell what they have read from now on: also where there was nothing.
        """
        self._streams = {name: stream for name, stream in streams.items() if stream.selected}
        self._progress.expect(len(self._streams))
        for name, stream in self._streams.items():
            self._folder.contents.streams.setdefault(name, _about(stream))
            if isinstance(stream, ItemsStream):
                stream.on_read = self._asked

    @override
    def write_message(self, message: Message) -> None:
        if isinstance(message, RecordMessage):
            self._folder.add(message.stream, message.record)
            self._progress.count(message.stream)
        elif isinstance(message, StateMessage):
            self._commit(message)
        elif isinstance(message, SchemaMessage):
            self._begin(message)

    def end_stream(self) -> None:
        """Take note of how the stream that was read last has ended."""
        stream, self._current = self._current, None
        if not stream:
            return
        about = self._folder.contents.streams[stream.name]
        if stream.failed:
            about.broke_off = stream.cause.partition("\n")[0] or "it failed"
        else:
            about.read_to_end_at, about.as_of, about.broke_off = now(), self._began_at, None
        self._folder.commit()

    def _begin(self, message: SchemaMessage) -> None:
        self.end_stream()
        self._current = stream = self._streams[message.stream]
        known, about = self._folder.contents.streams[stream.name], _about(stream)
        # That it was read to its end once stays true, whatever becomes of this try.
        about.read_to_end_at, about.as_of, about.broke_off = (
            known.read_to_end_at,
            known.as_of,
            STOPPED,
        )
        self._began_at = now()
        if stream.replication_key:
            # What was left out then is not read again now.
            about.left_out, about.asked = known.left_out, known.asked
        self._left_out_before = about.left_out
        self._folder.contents.streams[stream.name] = about
        self._progress.begin(stream)

    def _asked(self, id_: int, version: Time | None, rows: int | None) -> None:
        assert self._current  # noqa: S101  (for the type checker: only a stream under way reads)
        name = self._current.name
        row = {"stream": name, "id": id_, "conversationUpdatedAt": version, "rows": rows}
        self._folder.add(ASKED, row)
        self._folder.contents.streams[name].asked += 1

    def _commit(self, message: StateMessage) -> None:
        if self._current:
            about = self._folder.contents.streams[self._current.name]
            about.left_out = self._left_out_before + self._current.rows_left_out
        self._folder.contents.state = copy.deepcopy(dict(message.value))
        self._folder.commit()
        self._progress.committed()


def _about(stream: DriftStream) -> About:
    each = stream.item_field if isinstance(stream, ItemsStream) else None
    return About(list(stream.primary_keys), each)


def now() -> str:
    """Say what time it is, as RFC 3339 in UTC."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
