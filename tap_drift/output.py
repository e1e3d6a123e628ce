"""What leaves the tap: whole lines on stdout, and nothing secret in the logs."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from singer_sdk.contrib.msgspec import MsgSpecWriter, serialize_jsonl
from singer_sdk.singerlib import RecordMessage, StateMessage

from tap_drift.compat import override
from tap_drift.signals import SIGNALLED

if TYPE_CHECKING:
    from singer_sdk.singerlib import Message

logger = logging.getLogger("tap-drift")

MOST_BYTES_WAITING = 250_000
"""Bytes of records that wait to be written together, more or less."""

BROKEN_PIPE = SIGNALLED + 13
"""The exit code when nobody reads the output any more."""


GOES_ON = "The next run goes on from the last STATE that the target confirmed."
"""What a user is told of a run that did not arrive."""


class Writer(MsgSpecWriter):
    """Writes whole lines, whatever signal arrives in between, and remembers the last STATE."""

    def __init__(self) -> None:
        super().__init__()
        self._last_state = b""
        self._ends_in_state = False
        self._waiting = bytearray()
        self._writing = False
        self._exit_code: int | None = None

    @override
    def write_message(self, message: Message) -> None:
        """Write a message as one line; leave if nobody reads on, or the run was told to end.

        Records wait for what follows them: no STATE vouches for them yet, and one write for a page
        of them is cheaper than many.
        """
        if isinstance(message, StateMessage):
            self.remember(message)
            self._waiting += self._last_state
            self._ends_in_state = True
        else:
            self._waiting += self.format_message(message)
            self._ends_in_state = False
        if not isinstance(message, RecordMessage) or len(self._waiting) > MOST_BYTES_WAITING:
            self.flush()

    def remember(self, state: StateMessage) -> None:
        """Keep a STATE as it is now: it is the last one from now on."""
        # The message's own way to a dictionary copies all of it, level by level.
        self._last_state = bytes(serialize_jsonl({"type": state.type, "value": state.value}))

    def write_document(self, text: str) -> None:
        """Write what is no message, such as a catalog, in the same way."""
        self._waiting += f"{text}\n".encode()
        self.flush()

    def flush(self) -> None:
        """Write what waits; leave if nobody reads on, or the run was told to end."""
        lines = bytes(self._waiting)
        self._writing = True
        try:
            self._waiting.clear()
            self._write(lines)
        finally:
            self._writing = False
        if self._exit_code is not None:
            exit_code, self._exit_code = self._exit_code, None
            sys.exit(exit_code)

    def _write(self, lines: bytes) -> None:
        # The SDK's own trusts one write to take all, which it need not if stdout is unbuffered.
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[sys.stdout.buffer.write(rest) :]
            sys.stdout.flush()
        except OSError as error:
            # Python would complain once more when it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if isinstance(error, BrokenPipeError):
                logger.warning(
                    "Nobody reads the output any more. %s", GOES_ON if self._last_state else ""
                )
                sys.exit(BROKEN_PIPE)
            logger.error("The output can't be written: %s", error)  # noqa: TRY400
            sys.exit(1)

    def write_last_state(self) -> None:
        """Repeat the last STATE, unless it is the last line: many targets keep no other."""
        if not self._ends_in_state:
            self._waiting += self._last_state
            self._ends_in_state = True
        self.flush()  # also what a signal came before

    def end_run(self, exit_code: int) -> None:
        """Leave the run: at once, or as soon as the line that is being written is out.

        Args:
            exit_code: What the process is to exit with.

        Raises:
            SystemExit: Always, here or from `write_message`.
        """
        if not self._writing:
            sys.exit(exit_code)
        self._exit_code = exit_code


def mask(secret: str) -> None:
    """Keep a secret out of every log line from now on, whoever writes it.

    Args:
        secret: What three asterisks stand for then.
    """

    class MaskedRecord(logging.LogRecord):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if secret in (line := self.getMessage()):
                self.msg, self.args = line.replace(secret, "***"), ()

    logging.setLogRecordFactory(MaskedRecord)
