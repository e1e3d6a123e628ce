"""What belongs to conversations: asked for while the list is walked."""

from __future__ import annotations

from collections import deque
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import msgspec

from tap_drift.compat import override
from tap_drift.drift import DriftError
from tap_drift.newest_first import NewestFirstStream
from tap_drift.owed import FAILURES_TOLERATED, Ledger, LedgerFullError
from tap_drift.values import integer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.pool import AsyncResult

    from singer_sdk import Tap

    from tap_drift.bookmark import Bookmark, Time
    from tap_drift.drift import Answer, Drift
    from tap_drift.walk import Row, Write
    from tap_drift.workers import Workers

    Items = list[dict[str, Any]]


MOST_ITEMS = 100_000
"""How many items a conversation may have, since they are held in memory until all are there."""

TRIES = 3
"""How many conversations are tried to learn whether items may be read: some may be gone."""


class Asked(NamedTuple):
    """The items of a conversation, which are being asked for."""

    id: int
    version: Time | None
    """The time of the conversation; `None` if it has none of its own."""

    answer: AsyncResult[Items | None]


class Waiting(NamedTuple):
    """A page of the list whose items are not written yet."""

    asked: list[Asked]
    step: Write

    @property
    def is_there(self) -> bool:
        """Whether nothing of it has to be waited for."""
        return all(one.answer.ready() for one in self.asked)


class PerConversationStream(NewestFirstStream):
    """A stream that asks for something of each conversation of the list."""

    costs = "1 per conversation, and the list"

    item_path: ClassVar[str]
    """Where the items are, with `{}` for the number in the field `item_field` of the row."""

    item_field: ClassVar[str] = "id"
    versioned: ClassVar[bool] = True
    """Whether records carry the time of their conversation, for want of one of their own."""

    item_jsonpath: ClassVar[str]
    """Where in the answer the list of items (ending in `[*]`), or the only one, stands."""

    item_repeats: ClassVar[str] = "conversationId"
    """The field of an item that repeats the number; where it is missing, nothing can be checked."""

    asks_ahead = False

    @override
    def try_out(self) -> str:
        ids = [id_ for row in self.rows_of_head() if (id_ := self._item_id(row)) is not None]
        if any(self._items(id_) is not None for id_ in ids[:TRIES]):
            return "yes"
        return "not known: all that was asked for is gone" if ids else "not known: nothing is there"

    def wanted(self, id_: int) -> bool:  # noqa: ARG002  (for subclasses that know better)
        """Tell whether to ask for the items of a conversation.

        Args:
            id_: The number that leads to them.

        Returns:
            Always, here.
        """
        return True

    def read_items(self, id_: int, **how: Any) -> Iterator[Items | None]:
        """Ask for the items of a conversation, page after page.

        Args:
            id_: The number that leads to them.
            **how: What else `Drift.ask` takes.

        Yields:
            Rows as Drift sent them; `None` where they begin again.

        Raises:
            DriftError: Drift refuses, or its answers lead nowhere.
        """
        yield from self.read_pages(self.item_path.format(id_), self.item_jsonpath, **how)

    def read_content(self, path: str, **how: Any) -> Answer:
        """Ask for what is no JSON; nothing at all is believed when it comes twice.

        Args:
            path: The path below `api_url`.
            **how: What else `Drift.ask` takes.

        Returns:
            What Drift answered.

        Raises:
            DriftError: Drift refuses.
        """
        answer = self.ask(path, **how)
        return answer if answer.content else self.ask(path, **how)

    def _item_id(self, row: Row) -> int | None:
        try:
            return integer(row.fields.get(self.item_field))
        except ValueError:
            if self.item_field == "id":
                self.rows_left_out += 1
            else:
                self.warn_once(f"the {self.item_field} of a conversation is missing or no number.")
            return None

    def _items(self, id_: int, **how: Any) -> Items | None:
        """Ask for items.

        Returns:
            Rows as Drift sent them; `None` if they are gone.
        """
        try:
            return self._all_items(id_, **how)
        except DriftError as error:
            if error.status != HTTPStatus.NOT_FOUND or not error.in_drifts_words:
                raise
            return None

    def _all_items(self, id_: int, **how: Any) -> Items:
        items: Items = []
        odd = ""
        for rows in self.read_items(id_, **how):
            if rows is None:  # they begin again
                items.clear()
            else:
                items += rows
            if len(items) > MOST_ITEMS:
                odd = f"Drift sends more than {MOST_ITEMS:,}, so it may never end."
            elif any(self._is_of_another(row, id_) for row in rows or ()):
                odd = "Drift sent those of another conversation."
            if odd:
                msg = f"GET {self.item_path.format(id_)}: {odd}"
                raise DriftError(msg, status=HTTPStatus.OK)
        return items

    def _is_of_another(self, row: dict[str, Any], id_: int) -> bool:
        try:
            return integer(row.get(self.item_repeats)) != id_
        except ValueError:
            return False


class ItemsStream(PerConversationStream):
    """A stream of what belongs to conversations, such as their messages.

    It walks the list itself, with a bookmark of its own, so that it resumes alone, and reads what
    is there already when it is selected later. Items are asked for concurrently, across the pages
    of the list, and come out in the order of the conversations. One that can't be read is owed.
    """

    def __init__(self, tap: Tap, drift: Drift) -> None:
        super().__init__(tap, drift)
        self._ledger = Ledger()
        self._waiting: deque[Waiting] = deque()
        self._gone = 0
        self.on_read: Callable[[int, Time | None, int | None], object] | None = None
        """Who is told what was read: an id, its version, and how many items (`None`: gone)."""

    @override
    def begin(self) -> Bookmark:
        bookmark = super().begin()
        self._ledger = Ledger(bookmark.owed)
        return bookmark

    @property
    @override
    def owed(self) -> int:
        return len(self._ledger.items)

    @override
    def checkpoint(self, bookmark: Bookmark) -> None:
        super().checkpoint(msgspec.structs.replace(bookmark, owed=self._ledger.items))

    @override
    def write(self, step: Write, pool: Workers) -> Iterator[dict[str, Any]]:
        asked = [
            Asked(id_, version, pool.start(partial(self._items, id_)))
            for row in step.rows
            if (id_ := self._item_id(row)) is not None and self.wanted(id_)
            for version in [row.place.updatedAt if row.place and row.timed else None]
            if not self._ledger.is_left_for_last(id_, version)
        ]
        self._waiting.append(Waiting(asked, step))
        # The workers have something to do until the next page of the list is there. Pages of which
        # nothing is asked for count too, or they would pile up behind one that takes long.
        while self._waiting and (
            self._waiting[0].is_there
            or sum(len(page.asked) or 1 for page in list(self._waiting)[1:]) >= 2 * pool.number
        ):
            yield from self._write_oldest()

    @override
    def write_waiting(self) -> Iterator[dict[str, Any]]:
        while self._waiting:
            yield from self._write_oldest()

    @override
    def read_records(self) -> Iterator[dict[str, Any]]:
        """Do what the walk says.

        Yields:
            Records, shaped as the schema says.

        Raises:
            DriftError: Drift refuses, the state is damaged, or the list leads nowhere.
        """
        try:
            yield from super().read_records()
        except LedgerFullError:
            yield from self._pay()  # or it would be full for the next run too, and for ever
            raise

    @override
    def finish(self) -> Iterator[dict[str, Any]]:
        yield from self._pay()
        if self._gone:
            self.warn(f"{self._gone} were gone when their turn came, and are skipped.")
        if news := self._ledger.news:
            self.is_incomplete = True
            self.warn(f"{len(news)} could not be read. The next run asks for them again.")

    def _pay(self) -> Iterator[dict[str, Any]]:
        """Ask once more for what is owed: last, once, without retries, while it is of use."""
        failures = 0
        for number, owed in enumerate(before := self._ledger.items, 1):
            try:
                items = self._items(owed.id, retries=0)
                yield from self._records_of(items, owed.id, owed.updatedAt)
                failures = 0
            except DriftError as error:
                if error.status == HTTPStatus.UNAUTHORIZED:
                    raise
                self.warn(f"{owed.id} still can't be read, and stays owed: {error}")
                self._ledger.put_off(owed.id)
                failures += 1
                why = f"That makes {failures} in a row." if failures >= FAILURES_TOLERATED else ""
                if error.status == HTTPStatus.TOO_MANY_REQUESTS or error.wait:
                    why = "Drift asks to wait."
                if why and number < len(before):
                    self.warn(f"{why} What else is owed is left for the next run.")
                    break
        self.checkpoint(self.bookmark)

    @override
    def all_in_files(self) -> None:
        # What is owed has to be in STATE even if the stream failed with no file to follow.
        if self.failed:
            self._vouch()
            self._write_state_message()

    def _write_oldest(self) -> Iterator[dict[str, Any]]:
        asked, step = self._waiting.popleft()
        self.progress.page(step.bookmark, self._lookback)
        for id_, version, answer in asked:
            try:
                yield from self._records_of(answer.get(), id_, version)
            except DriftError as error:
                self._owe(id_, version, error)
            self.progress.passed(1, version)
            self.tell()
        self.wrote(step, len(step.rows) - len(asked))

    def _owe(self, id_: int, version: Time | None, error: DriftError) -> None:
        try:
            self._ledger.could_not_be_read(id_, version, error)
        except DriftError:
            # What is owed may be said at any time, wherever the walk stands.
            self.checkpoint(self.bookmark)
            raise
        self.warn(f"{id_} can't be read, and is owed: {error}")

    def _records_of(
        self, items: Iterable[dict[str, Any]] | None, id_: int, version: Time | None
    ) -> Iterator[dict[str, Any]]:
        """Shape items; their conversation is owed if one of them has no key.

        Raises:
            DriftError: One had none; the others are out.
        """
        left_out = self.rows_left_out
        known = {"conversationUpdatedAt": version} if self.versioned and version else {}
        number = 0
        for record in self.records(item | known for item in items or ()):
            number += 1
            yield record
        if self.rows_left_out > left_out:
            self.rows_left_out = left_out
            msg = f"Drift sent one without a usable {' and '.join(self.primary_keys)}."
            raise DriftError(msg)
        self._gone += items is None
        self._ledger.was_read(id_)
        if self.on_read:
            self.on_read(id_, version, None if items is None else number)
