"""Files that belong to conversations: few of them are held in memory at a time."""

from __future__ import annotations

import base64
import hashlib
from collections import deque
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar

from tap_drift.compat import override
from tap_drift.drift import DriftError
from tap_drift.items import ItemsStream
from tap_drift.values import integer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from multiprocessing.pool import AsyncResult

    from singer_sdk import Tap

    from tap_drift.bookmark import Time
    from tap_drift.drift import Drift
    from tap_drift.items import Asked, Items
    from tap_drift.walk import Write
    from tap_drift.workers import Workers

    Row = dict[str, Any]


class FilesStream(ItemsStream):
    """A stream of the files that the items of conversations name.

    The items are asked for as those of any `ItemsStream`. Files are asked for when the turn of
    their page of the list comes: in order, as many at a time as there are workers, so that no more
    than that are in memory. They come from `file_path`, whatever URL an item names.
    """

    file_path: ClassVar[str]
    """Where a file is, with `{}` for its number."""

    def __init__(self, tap: Tap, drift: Drift) -> None:
        super().__init__(tap, drift)
        self._pool: Workers | None = None
        self._files: Iterator[AsyncResult[Row]] = iter(())

    def rows_of(self, item: Row, id_: int) -> list[Row]:
        """Say which files an item names.

        Args:
            item: As Drift sent it.
            id_: The number of its conversation.

        Returns:
            A row for each, without content.

        Raises:
            DriftError: The item is not what Drift documents.
        """
        raise NotImplementedError

    @override
    def try_out(self) -> str:
        said = super().try_out()
        return f"{said} (what names the files; no file is asked for)" if said == "yes" else said

    @override
    def write(self, step: Write, pool: Workers) -> Iterator[Row]:
        self._pool = pool
        yield from super().write(step, pool)

    @override
    def _items(self, id_: int, **how: Any) -> Items | None:
        items = super()._items(id_, **how)
        return items and [row for item in items for row in self.rows_of(item, id_)]

    @override
    def _write_oldest(self) -> Iterator[Row]:
        assert self._pool is not None  # noqa: S101  (for the type checker: something was written)
        self._files = self._ahead(self._waiting[0].asked, self._pool)
        try:
            yield from super()._write_oldest()
        finally:
            self._files = iter(())  # those of a page that failed belong to nothing else

    @override
    def _records_of(
        self, items: Iterable[Row] | None, id_: int, version: Time | None
    ) -> Iterator[Row]:
        filled = None if items is None else self._filled(items)
        yield from super()._records_of(filled, id_, version)

    def _ahead(self, asked: Sequence[Asked], pool: Workers) -> Iterator[AsyncResult[Row]]:
        """Ask for the files of a page of the list, and give them in order."""
        under_way: deque[AsyncResult[Row]] = deque()
        for one in asked:
            one.answer.wait()
            for row in (one.answer.successful() and one.answer.get()) or ():
                under_way.append(pool.start(partial(self._with_content, row)))
                if len(under_way) >= pool.number:
                    yield under_way.popleft()
        while under_way:
            yield under_way.popleft()

    def _filled(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Give the rows of a conversation their files.

        Raises:
            DriftError: A file could not be read; the others are out.
        """
        failure = None
        for row in rows:
            file = next(self._files, None)
            try:
                # What is owed is asked for when nothing is asked for ahead any more.
                yield file.get() if file else self._with_content(row, retries=0)
            except DriftError as error:
                failure = failure or error
            file = None
        if failure:
            raise failure

    def _with_content(self, row: Row, **how: Any) -> Row:
        """Ask for a file, and put it into its row; or why there is none."""
        try:
            number = integer(row.get("id"))
        except ValueError:
            return row | {"whyNoContent": "Drift names no id for it"}
        largest = int(self.config["max_attachment_bytes"])
        try:
            content = self.read_content(
                self.file_path.format(number), kind="file", whole=False, largest=largest, **how
            ).content
        except DriftError as error:
            if error.is_too_large:
                return row | {"whyNoContent": f"it has more than {largest} bytes"}
            if error.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE} and error.in_drifts_words:
                return row | {"whyNoContent": "it is gone"}
            raise
        found = {
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "content": base64.b64encode(content).decode(),
        }
        said = row.get("size")  # which Drift does not document
        if type(said) is int and said != len(content):
            found["whyNoContent"] = f"it may not be all: Drift says that it has {said} bytes"
        return row | found
