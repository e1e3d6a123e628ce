"""Threads that ask Drift while the main one writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack
    from multiprocessing.pool import AsyncResult, ThreadPool

_T = TypeVar("_T")


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
        """Let a thread do some work; its result or error can be had when it is done."""
        if self._pool is None:
            # Its threads do not outlive the process, unlike those of concurrent.futures: a run
            # that is told to end does not wait for answers.
            from multiprocessing.pool import ThreadPool  # noqa: PLC0415

            self._pool = self._stack.enter_context(ThreadPool(self.number))
        return self._pool.apply_async(work)
