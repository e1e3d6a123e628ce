"""Streams that are fed by the list of conversations: doing what the walk says.

`walk.py` decides; this asks Drift, writes records, and lets STATE say how far the walk is.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, assert_never

from tap_drift.bookmarked import BookmarkedStream
from tap_drift.compat import override
from tap_drift.drift import DriftError
from tap_drift.list_pages import ListPages
from tap_drift.progress import Progress
from tap_drift.walk import Ask, NowhereError, Say, Write, read
from tap_drift.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from singer_sdk import Tap

    from tap_drift.bookmark import Bookmark
    from tap_drift.drift import Drift
    from tap_drift.walk import No, Page, Steps

MOST_WALKS = 10
"""How often a list is read again for what changed meanwhile, to tell what was deleted."""


class NewestFirstStream(BookmarkedStream):
    """A stream that is fed by the list of conversations, newest first.

    A subclass turns the rows of a page into records; the walk decides which rows those are, when
    to stop, and what STATE says.
    """

    path = "/conversations/list"
    records_jsonpath = "$.data[*]"
    next_page_token_jsonpath = "$.pagination.next"  # noqa: S105
    scope = "conversation_read"

    asks_ahead = True
    """Whether pages of the list are asked for ahead: not where items take most of the time."""

    def __init__(self, tap: Tap, drift: Drift) -> None:
        super().__init__(tap, drift)
        self.progress = Progress()

    @override
    def begin(self) -> Bookmark:
        bookmark = super().begin()
        self.progress.floor = bookmark.floor(int(self.config["lookback_seconds"]))
        return bookmark

    # The walk

    @override
    def read_records(self) -> Iterator[dict[str, Any]]:
        """Do what the walk says.

        Yields:
            Records, shaped as the schema says.

        Raises:
            DriftError: Drift refuses, the state is damaged, or the list leads nowhere.
        """
        bookmark = self.begin()
        self.checkpoint(bookmark)
        concurrency = int(self.config["concurrency"])
        with contextlib.ExitStack() as stack:
            pool = Workers(concurrency, stack)
            pages = ListPages(self, pool if self.asks_ahead and concurrency > 1 else None)
            steps = read(bookmark, int(self.config["lookback_seconds"]), concurrency)
            yield from self._follow(steps, pages, pool)
            yield from self.write_waiting()
            yield from self._catch_up(bookmark, pages, pool)
            yield from self.finish()
        self._report()

    def _catch_up(
        self, before: Bookmark, pages: ListPages, pool: Workers
    ) -> Iterator[dict[str, Any]]:
        """Walk again until nothing has changed meanwhile, if what is not read counts as deleted.

        What changes jumps to the head of the list, and may have jumped over the walk.
        """
        walks = 0
        while self._stream_version is not None and self.is_whole:
            if self.bookmark.replication_key_value == before.replication_key_value:
                return
            walks += 1
            self.is_whole = walks <= MOST_WALKS
            before = self.bookmark
            yield from self._follow(read(before), pages, pool)
            yield from self.write_waiting()
        if walks:
            self.warn("the list changes too fast to tell what was deleted: nothing is.")

    def wrote(self, step: Write) -> None:
        """Let STATE vouch for a page whose last record is out."""
        self.checkpoint(step.bookmark)
        if self.progress.is_due(step.rows):
            self._report()

    def _report(self) -> None:
        self.logger.info("%s: %s", self.name, self.progress.report(self.requests_made))

    def _follow(self, steps: Steps, pages: ListPages, pool: Workers) -> Iterator[dict[str, Any]]:
        reply: Any = None
        while True:
            try:
                step = steps.send(reply)
                reply = self._answer(step, pages) if isinstance(step, Ask) else None
            except StopIteration:
                return
            except (DriftError, NowhereError) as error:
                yield from self.write_waiting()  # what was read before is not lost
                raise DriftError(str(error)) from None
            match step:
                case Ask():
                    pass
                case Write():
                    pages.foresee(step.ahead)
                    yield from self.write(step, pool)
                case Say():
                    self._say(step)
                case _:
                    assert_never(step)

    def _answer(self, ask: Ask, pages: ListPages) -> Page | No:
        if ask.is_at_head:
            self.begin_at_head()
        return pages.get(ask)

    def _say(self, step: Say) -> None:
        if step.is_warning:
            self.warn_once(step.text)
        else:
            self.logger.info("%s: %s", self.name, step.text)

    # What streams of items do otherwise

    def begin_at_head(self) -> None:
        """Take note that a walk begins at the head of the list."""

    def write(self, step: Write, pool: Workers) -> Iterator[dict[str, Any]]:  # noqa: ARG002
        """Turn rows of the list into records, and let STATE say so: at once, or some pages later.

        Args:
            step: Conversations as the list has them, and what STATE may say then.
            pool: What may be used to ask for more.

        Yields:
            Records, shaped as the schema says, in the order of the rows.
        """
        yield from self.progress.counted(self.records(row.fields for row in step.rows))
        self.wrote(step)

    def write_waiting(self) -> Iterator[dict[str, Any]]:
        """Write what waits to be written."""
        yield from ()

    def finish(self) -> Iterator[dict[str, Any]]:
        """Do what is due when the walk has arrived."""
        yield from ()
