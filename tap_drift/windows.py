"""Reading by windows of time, which are halved where an answer does not hold all that is in one."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from tap_drift.answers import rows_at
from tap_drift.compat import override
from tap_drift.drift import DriftError, Help
from tap_drift.stream import DriftStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tap_drift.answers import Rows

    Row = dict[str, Any]

FAR_AHEAD = 15_000_000_000_000
"""A time in the year 2445, which Drift's own code asks with for all that is still to come."""

DAY = 24 * 60 * 60 * 1000

HALVINGS_IN_A_ROW = 6
"""How often a window that can't be answered is halved before the stream fails."""

CROWDED_TOLERATED = 100
"""How many milliseconds may each have more in them than Drift answers with."""


class Window(NamedTuple):
    """A time with both of its ends, in milliseconds since 1970."""

    first: int
    last: int

    @property
    def is_moment(self) -> bool:
        """Whether it can't be halved."""
        return self.first >= self.last

    def halves(self, likely: Window) -> tuple[Window, Window]:
        """Cut it in two.

        Args:
            likely: Where most rows are, so that the halves of a window that is far longer have
                rows too.
        """
        first, last = max(self.first, likely.first), min(self.last, likely.last)
        middle = (first + last if first < last else self.first + self.last) // 2
        return Window(self.first, middle), Window(middle + 1, self.last)


STILL_TO_COME = Window(FAR_AHEAD - DAY, FAR_AHEAD)
"""A window with nothing in it, to try whether windows may be read."""


class Part(NamedTuple):
    """What Drift answers for a window."""

    rows: Rows
    is_cut: bool = False
    """Whether there may be more in the window."""

    counted: int | None = None
    """How many Drift says that there are in the window, if it says so."""

    def is_like(self, whole: Part) -> bool:
        """Tell whether it has all that a window has of which this is one half."""
        if whole.counted is None or self.counted is None:
            return self.is_cut and self.rows == whole.rows
        return self.is_cut and self.counted >= whole.counted


class Windows:
    """Reads a window, in as many pieces as it takes."""

    def __init__(
        self, get: Callable[[Window], Part], days: tuple[int, int], warn: Callable[[str], None]
    ) -> None:
        """Read nothing yet.

        Args:
            get: Asks for a window.
            days: Between which days most rows are, from today on.
            warn: Told of windows that can't be answered.
        """
        now = int(time.time() * 1000)  # a guess is enough to cut by
        self._likely = Window(now + days[0] * DAY, now + days[1] * DAY)
        self._get = get
        self._warn = warn
        self._failures = 0
        self._crowded = 0
        self._most = 1

    def read(self, whole: Window) -> Iterator[tuple[Window | None, Part]]:
        """Read a window.

        Args:
            whole: What is to be read.

        Yields:
            Windows and what is in them, the oldest first. One that is cut: halves bring no more.
            No window: rows that say nothing of what else there is, before the error.

        Raises:
            DriftError: Drift refuses, does not heed windows, or can't answer for a short time
                either.
        """
        return self._read(whole, self._ask(whole))

    def _read(self, window: Window, part: Part | None) -> Iterator[tuple[Window | None, Part]]:
        """Read a window whose answer is known; `None`: there is none."""
        if part and (not part.is_cut or window.is_moment or self._is_believed(window, part)):
            yield window, part
            self._crowded += part.is_cut and window.is_moment
            if self._crowded > CROWDED_TOLERATED:
                raise _not_heeded()
            return
        left, right = window.halves(self._likely)
        first, asked = self._ask(left), []
        if part and first and first.is_like(part):
            asked = [self._ask(right)]
            if asked[0] and asked[0].is_like(part):
                yield None, part
                raise _not_heeded()
        yield from self._read(left, first)
        yield from self._read(right, asked[0] if asked else self._ask(right))

    def _ask(self, window: Window) -> Part | None:
        """Ask for a window; `None` if that is too much, and less may help."""
        try:
            part = self._get(window)
        except DriftError as error:
            self._failures += 1
            can_be_less = error.help is Help.LESS and not window.is_moment
            if not can_be_less or self._failures > HALVINGS_IN_A_ROW:
                raise
            self._warn(f"{error} Asking for half the time.")
            return None
        self._failures = 0
        self._most = max(self._most, len(part.rows))
        return part

    def _is_believed(self, window: Window, part: Part) -> bool:
        """Tell whether Drift counts some that it never names, which would be halved in vain.

        No limit cut an answer that counts but half of what another one named. Trouble of Drift's
        may have: so it has to come twice, the same.
        """
        few = part.counted is not None and part.counted <= (self._most + 1) // 2
        return few and self._ask(window) == part


def _not_heeded() -> DriftError:
    msg = (
        "Drift does not heed the time that it is asked for: its answers do not hold all that there "
        "is, and asking for less time brings no less. What it named is written."
    )
    return DriftError(msg, status=HTTPStatus.OK)


class WindowStream(DriftStream):
    """A stream of what happens within a window of time, all of which is read in every run."""

    window_parameters: ClassVar[tuple[str, str]]
    """The query parameters of both ends."""

    most_rows: ClassVar[int]
    """How many rows an answer has at the most."""

    days: ClassVar[tuple[int, int]]
    """Between which days most rows are, from today on."""

    @override
    def read_records(self) -> Iterator[Row]:
        windows = Windows(self._part, self.days, self.warn)
        for window, part in windows.read(Window(0, FAR_AHEAD)):
            yield from self.records(map(self.with_key, part.rows))
            if window and part.is_cut:
                self.is_incomplete = True
                self.warn_once(f"Drift gives no more than {self.most_rows:,} of one moment.")

    @override
    def try_out(self) -> str:
        self._part(STILL_TO_COME)
        return "yes"

    def with_key(self, row: Row) -> Row:
        """Give a row what tells it from others, if Drift does not.

        Args:
            row: As Drift sent it.

        Returns:
            A new row.
        """
        return row

    def _part(self, window: Window) -> Part:
        params = {**self.first_page, **dict(zip(self.window_parameters, window, strict=True))}
        answer = self.ask(self.path, params)
        rows = rows_at(self.records_jsonpath, answer.body)
        return Part(rows, len(rows) >= self.most_rows)
