"""What a person is told while the archive is made: on stderr, a line every so often."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from tap_drift.archive.files import sized
from tap_drift.items import ItemsStream
from tap_drift.progress import counted, duration

if TYPE_CHECKING:
    from tap_drift.archive.folder import Folder
    from tap_drift.stream import DriftStream

SECONDS_BETWEEN_LINES = 30.0
SECONDS_ON_A_TERMINAL = 0.5


class Progress:
    """How far the archive is.

    Args:
        folder: The archive.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._on_terminal = sys.stderr.isatty()
        self._every = SECONDS_ON_A_TERMINAL if self._on_terminal else SECONDS_BETWEEN_LINES
        self._streams = self._turn = 0
        self._stream: DriftStream | None = None
        self._is_first = False
        self._began_at = 0.0
        self._asked_before = 0
        self._rows = 0
        self._conversations = 0
        self._said_at = 0.0

    def say(self, text: str) -> None:
        """Say something that stays."""
        click.echo("\r\x1b[K" * self._on_terminal + text, err=True)

    def expect(self, streams: int) -> None:
        """Take note of how many streams are to be read."""
        self._streams, self._turn = streams, 0
        self._conversations = 0

    def begin(self, stream: DriftStream) -> None:
        """Take note that a stream is read from now on."""
        self.end()
        self._stream, self._rows, self._turn = stream, 0, self._turn + 1
        self._began_at = self._said_at = time.monotonic()
        contents = self._folder.contents
        state = contents.state.get("bookmarks", {}).get(stream.name, {})
        self._is_first = not state.get("replication_key_value")
        self._asked_before = contents.streams[stream.name].asked

    def count(self, stream: str) -> None:
        """Take note of a row."""
        self._rows += self._stream is not None and stream == self._stream.name

    def committed(self) -> None:
        """Say how far it is, if that is due."""
        if self._stream and time.monotonic() - self._said_at >= self._every:
            self._said_at = time.monotonic()
            if self._on_terminal:
                click.echo(f"\r\x1b[K{self._line()}", nl=False, err=True)
            else:
                self.say(self._line())

    def end(self) -> None:
        """Say how far the stream that was read came."""
        if self._stream:
            self.say(self._line(done=True))
        self._stream = None

    def _line(self, *, done: bool = False) -> str:
        stream, contents = self._stream, self._folder.contents
        if not stream:
            return ""
        seconds = time.monotonic() - self._began_at
        how = " failed" if stream.failed else " done" if done else ""
        text = f"{self._turn}/{self._streams} {stream.name}{how}: {counted(self._rows, 'rows')}"
        if isinstance(stream, ItemsStream):
            asked = contents.streams[stream.name].asked
            now = asked - self._asked_before
            what = "contacts" if stream.item_field == "contactId" else "conversations"
            is_told = done or not self._is_first or what == "contacts"
            all_ = 0 if is_told else self._all_conversations()
            if is_told or all_ < asked:
                text += f"; {counted(now, what)}"
            else:
                text += f"; {asked:,} of {counted(all_, what)}"
                if now:
                    text += f", about {duration(seconds / now * (all_ - asked))} to go"
        size = sized(sum(length.bytes for length in contents.files.values()))
        return f"{text}; {duration(seconds)}; {size} in {counted(len(contents.files), 'files')}"

    def _all_conversations(self) -> int:
        """Count conversations once in a run: the list is read first, and one may stand twice."""
        if not self._conversations:
            ids = {row["id"] for row in self._folder.rows("conversations")}
            self._conversations = len(ids)
        return self._conversations
