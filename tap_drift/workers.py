"""Threads that ask Drift while the main one writes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

from singer_sdk.exceptions import SingerSDKError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack
    from multiprocessing.pool import AsyncResult, ThreadPool

_T = TypeVar("_T")


@contextlib.contextmanager
def starting_threads(setting: str) -> Iterator[None]:
    """Say it in a line if this machine gives no threads.

    Args:
        setting: What they are for.

    Raises:
        SingerSDKError: It gives none.
    """
    try:
        yield
    except (RuntimeError, AttributeError) as error:
        # ThreadPool trips over what it has to clean up then.
        if "new thread" not in f"{error} {error.__context__}":
            raise
        msg = (
            f"this machine lets the tap start no more threads, which {setting} needs. Lower it or "
            "leave it out, or raise the machine's limit (ulimit -u, or that of a container)."
        )
        raise SingerSDKError(msg) from error


class Workers:
    """A pool of threads that is there once it is needed: most runs have nothing new to read.

    Args:
        number: How many threads.
        stack: Ends them.
    """

    def __init__(self, number: int, stack: ExitStack) -> None:
        self.number = number
        self._stack = stack
        self._pool: ThreadPool | None = None

    def start(self, work: Callable[[], _T]) -> AsyncResult[_T]:
        """Let a thread do some work; its result or error can be had when it is done.

        Raises:
            SingerSDKError: This machine gives no threads.
        """
        if self._pool is None:
            # Its threads do not outlive the process, unlike those of concurrent.futures: a run
            # that is told to end does not wait for answers.
            from multiprocessing.pool import ThreadPool  # noqa: PLC0415

            with starting_threads("concurrency"):
                pool = ThreadPool(self.number)
            self._pool = self._stack.enter_context(pool)
        return self._pool.apply_async(work)
