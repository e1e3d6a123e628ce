"""The signals that tell a run to end. Light, so that it is there before the rest is imported."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

SIGNALLED = 128
"""What shells add to the number of the signal that ended a process."""

TO_END = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""Those that this platform has: a key, a scheduler, a terminal that closes."""


def handle(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    """Have a function called when the process is told to end.

    Args:
        handler: Gets the number of the signal, and what was being done; or `signal.SIG_IGN`.
    """
    for number in TO_END:
        # `nohup` lets SIGHUP be ignored, and that is to stay so.
        if number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) is signal.SIG_IGN:
            continue
        signal.signal(number, handler)


def end_at_once(signum: int, _: FrameType | None) -> None:
    """Leave the process where nothing is to be finished yet."""
    # An exception would be told of with a traceback where imports swallow it.
    os._exit(SIGNALLED + signum)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Hold while the rest is imported, for half a second: a signal ends that without a traceback.

    What imports leave in memory stays, so looking for garbage in it would take long for nothing.
    """
    handle(end_at_once)
    gc.disable()
    yield
    gc.freeze()
    gc.enable()
