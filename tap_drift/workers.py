"""Threads that ask Drift while the main one writes."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from singer_sdk.exceptions import SingerSDKError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

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
    except RuntimeError as error:
        if "new thread" not in str(error):
            raise
        msg = (
            f"this machine lets the tap start no more threads, which {setting} needs. Lower it or "
            "leave it out, or raise the machine's limit (ulimit -u, or that of a container)."
        )
        raise SingerSDKError(msg) from error


class Workers:
    """A pool of threads that are there once they are needed: most runs have nothing new to read.

    They do not outlive the process, unlike those of concurrent.futures: a run that is told to end
    does not wait for answers. (A ThreadPool's do neither, but hand each piece of work through three
    more threads, which costs a third of the CPU of a run that reads ahead.)

    Args:
        number: How many threads.
        stack: Ends them.
    """

    def __init__(self, number: int, stack: ExitStack) -> None:
        self.number = number
        self._threads: list[threading.Thread] = []
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        stack.callback(self._end)

    def start(self, work: Callable[[], _T]) -> Future[_T]:
        """Let a thread do some work; its result or error can be had when it is done.

        Raises:
            SingerSDKError: This machine gives no threads.
        """
        if len(self._threads) < self.number:
            thread = threading.Thread(target=self._run, daemon=True)
            with starting_threads("concurrency"):
                thread.start()
            self._threads.append(thread)
        future: Future[_T] = Future()
        self._work.put(partial(_do, work, future))
        return future

    def _run(self) -> None:
        while work := self._work.get():
            work()

    def _end(self) -> None:
        """Drop what is not begun."""
        with contextlib.suppress(Empty):
            while True:
                self._work.get_nowait()
        for _ in self._threads:
            self._work.put(None)


def _do(work: Callable[[], _T], future: Future[_T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001  (whoever wants the result gets it)
        future.set_exception(error)
