"""Streams that are fed by the list of conversations: doing what the walk says.

`walk.py` decides; this asks Drift, writes records, and lets STATE say how far the walk is.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, assert_never

from tap_drift.bookmarked import BookmarkedStream
from tap_drift.compat import override
from tap_drift.drift import DriftError
from tap_drift.list_pages import SCOPE, ListPages
from tap_drift.progress import counted
from tap_drift.values import integer
from tap_drift.walk import Ask, NowhereError, Page, Say, Write, read
from tap_drift.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from singer_sdk import Tap

    from tap_drift.bookmark import Bookmark
    from tap_drift.drift import Drift
    from tap_drift.progress import Census
    from tap_drift.walk import No, Row, Steps

MOST_WALKS = 10
"""How often a list is read again for what changed meanwhile, to tell what was deleted."""

STATS = "/conversations/stats"
SECONDS_FOR_STATS = 5.0
"""How long it may take to learn what is only nice to know."""


class NewestFirstStream(BookmarkedStream):
    """A stream that is fed by the list of conversations, newest first.

    A subclass turns the rows of a page into records; the walk decides which rows those are, when
    to stop, and what STATE says.
    """

    path = "/conversations/list"
    records_jsonpath = "$.data[*]"
    next_page_token_jsonpath = "$.pagination.next"  # noqa: S105
    scope = SCOPE
    costs = "1 per 50"

    asks_ahead = True
    """Whether pages of the list are asked for ahead: not where items take most of the time."""

    def __init__(self, tap: Tap, drift: Drift) -> None:
        super().__init__(tap, drift)
        self._census: Census = tap.census  # type: ignore[attr-defined]
        self._lookback = int(self.config["lookback_seconds"])

    @override
    def begin(self) -> Bookmark:
        bookmark = super().begin()
        self.progress.walk(bookmark, self._lookback)
        return bookmark

    @override
    def try_out(self) -> str:
        self.rows_of_head()
        return "yes"

    def rows_of_head(self) -> Sequence[Row]:
        """Ask for the head of the list."""
        page = ListPages(self, None).get(Ask())
        return page.rows if isinstance(page, Page) else ()

    # What is told of it

    @override
    def look_ahead(self) -> None:
        if self.progress.total is not None or not self.progress.is_from_head:
            return
        floor, census = self.progress.floor, self._census
        is_whole = floor is None and not self.config.get("statuses")
        if is_whole and census.total(floor) is None and census.by_status is None:
            census.by_status = self._counts()
        self.progress.total = census.total(floor)

    def _counts(self) -> dict[str, int]:
        """Ask Drift how many conversations there are; whatever comes of it, once is enough."""
        how: dict[str, Any] = {"retries": 0, "pauses": False, "seconds": SECONDS_FOR_STATS}
        try:
            counts = self.ask(STATS, **how).body["conversationCount"]
            return {str(status): integer(count) for status, count in counts.items()}
        except (DriftError, LookupError, TypeError, AttributeError, ValueError):
            return {}

    def _arrive(self) -> None:
        """Take note that the walk has arrived."""
        if self.progress.is_from_head:
            floor, passed = self.progress.floor, self.progress.conversations
            self._census.walked.setdefault(floor, passed)
            if floor is None and self._census.by_status:
                read = counted(passed, "conversations")
                self.logger.info("%s: %s read; %s.", self.name, read, self._census)

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
            steps = read(bookmark, self._lookback, concurrency)
            yield from self._follow(steps, pages, pool)
            yield from self.write_waiting()
            self._arrive()
            yield from self._catch_up(bookmark, pages, pool)
            yield from self.finish()

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

    def wrote(self, step: Write, conversations: int) -> None:
        """Let STATE vouch for a page whose last record is out.

        Args:
            step: The page.
            conversations: How many of it are not counted yet.
        """
        place = step.rows[-1].place if step.rows else None
        self.progress.passed(conversations, place and place.updatedAt)
        self.checkpoint(step.bookmark)
        self.tell()

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
        self.is_incomplete |= step.is_loss
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
        self.progress.page(step.bookmark, self._lookback)
        yield from self.records(row.fields for row in step.rows)
        self.wrote(step, len(step.rows))

    def write_waiting(self) -> Iterator[dict[str, Any]]:
        """Write what waits to be written."""
        yield from ()

    def finish(self) -> Iterator[dict[str, Any]]:
        """Do what is due when the walk has arrived."""
        yield from ()
