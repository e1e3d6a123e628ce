"""How a call of the archive ends, and the exit code that says so."""

from __future__ import annotations

COMPLETE = 0
FAILED = 1
"""Settings are wrong, or the folder can't be written."""
NOT_COMPLETE = 3
DAMAGED = 4
NO_ARCHIVE = 5
IN_USE = 6
OTHER_ACCOUNT = 7


class ArchiveEnd(SystemExit):
    """The end of a call, with a line that says why.

    Not an `Exception`, because an error of the folder is none of the stream that is being read:
    no other stream is to be tried.

    Args:
        code: The exit code.
        text: What the user is told.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code)
        self.text = text
