"""What a person is told while the archive is made: on stderr, a line every so often."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from tap_drift.items import ItemsStream

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
        self._said_at = 0.0

    def say(self, text: str) -> None:
        """Say something that stays."""
        click.echo("\r\x1b[K" * self._on_terminal + text, err=True)

    def expect(self, streams: int) -> None:
        """Take note of how many streams are to be read."""
        self._streams, self._turn = streams, 0

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
        text = f"{self._turn}/{self._streams} {stream.name}{how}: {self._rows:,} rows"
        if isinstance(stream, ItemsStream):
            asked = contents.streams[stream.name].asked
            now = asked - self._asked_before
            what = "contacts" if stream.item_field == "contactId" else "conversations"
            all_ = contents.files["conversations"].rows if "conversations" in contents.files else 0
            if done or not self._is_first or what == "contacts" or all_ < asked:
                text += f" of {now:,} {what}"
            else:
                text += f" of {asked:,} of {all_:,} {what}"
                if now:
                    text += f", about {_duration(seconds / now * (all_ - asked))} to go"
        size = sum(length.bytes for length in contents.files.values())
        return f"{text}; {_duration(seconds)}; {size / 1e6:,.1f} MB in {len(contents.files)} files"


def _duration(seconds: float) -> str:
    if seconds < 90:  # noqa: PLR2004  (from there on, minutes say enough)
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"  # noqa: PLR2004
