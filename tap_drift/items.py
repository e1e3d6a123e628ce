"""What belongs to conversations: asked for while the list is walked."""

from __future__ import annotations

from http import HTTPStatus
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any, ClassVar

from tap_drift.client import DriftError
from tap_drift.compat import override
from tap_drift.newest_first import NewestFirstStream
from tap_drift.values import integer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tap_drift.newest_first import Page


class ItemsStream(NewestFirstStream):
    """A stream of what belongs to conversations, such as their messages.

    It walks the list itself, with a bookmark of its own, so that it resumes alone, and reads what
    is there already when it is selected later. The items of a page are asked for concurrently, and
    come out in the order of the conversations.
    """

    item_path: ClassVar[str]
    """Where the items are, with `{}` for the number in the field `item_field` of the row."""

    item_field: ClassVar[str] = "id"
    versioned: ClassVar[bool] = True
    """Whether records carry the time of their conversation, for want of one of their own."""

    item_jsonpath: ClassVar[str]
    """Where in the answer the list of items (ending in `[*]`), or the only one, stands."""

    @override
    def read_records(self) -> Iterator[dict[str, Any]]:
        self._gone = 0
        # Its threads do not outlive the process, unlike those of concurrent.futures: a run that is
        # told to end does not wait for answers.
        with ThreadPool(int(self.config["concurrency"])) as self._pool:
            yield from super().read_records()
        if self._gone:
            self.logger.warning(
                "%s: %d were gone when their turn came, and are skipped.", self.name, self._gone
            )

    @override
    def ask_ahead(self, cursor: str | None) -> Callable[[], Page | None]:
        return self._pool.apply_async(self.ask_page, (cursor,)).get

    def wanted(self, id_: int) -> bool:  # noqa: ARG002  (for subclasses that know better)
        """Tell whether to ask for the items of a conversation.

        Args:
            id_: The number that leads to them.

        Returns:
            Always, here.
        """
        return True

    @override
    def records_of(self, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        wanted = [
            (id_, row)
            for row in rows
            if (id_ := self._item_id(row)) is not None and self.wanted(id_)
        ]
        answers = self._pool.imap(self._items, [id_ for id_, _ in wanted])
        for (_, row), items in zip(wanted, answers, strict=True):
            # The version of the conversation that this was read at, where the stream has it.
            known = self.versioned and "updatedAt" in row
            version = {"conversationUpdatedAt": row["updatedAt"]} if known else {}
            self._gone += items is None
            for item in items or ():
                yield self.conform(item | version)

    def _item_id(self, row: dict[str, Any]) -> int | None:
        try:
            return integer(row[self.item_field])
        except (KeyError, ValueError):
            self._warn_once(self.item_field, "of a conversation is missing or no number")
            return None

    def _items(self, id_: int) -> list[dict[str, Any]] | None:
        path = self.item_path.format(id_)
        try:
            return [
                item
                for body in self.pages(path, lambda cursor: {"next": cursor})
                for item in self.rows(body, self.item_jsonpath)
            ]
        except DriftError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return None
