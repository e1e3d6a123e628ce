"""What every stream of Drift's does: ask, find the rows, shape them, and fail alone."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import logging
import re
import threading
import traceback
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qsl

from singer_sdk import RESTStream, SchemaDirectory, StreamSchema, metrics
from singer_sdk.authenticators import BearerTokenAuthenticator
from singer_sdk.exceptions import SingerSDKError
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.mapper import SameRecordTransform
from singer_sdk.singerlib import RecordMessage

from tap_drift import schemas
from tap_drift.answers import offers, read_pages, rows_at
from tap_drift.batches import in_files
from tap_drift.compat import override
from tap_drift.drift import DriftError
from tap_drift.progress import Progress
from tap_drift.values import one_line, shaper

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from requests import PreparedRequest
    from singer_sdk import Tap
    from singer_sdk.helpers._batch import BaseBatchFileEncoding, BatchConfig
    from singer_sdk.helpers.types import Auth, Context

    from tap_drift.answers import Form
    from tap_drift.drift import Answer, Drift

    Row = dict[str, Any]

LONGEST_NAME, MOST_ODD_FIELDS = 100, 50
"""How much of a field's name stands in a warning, and how many fields a stream warns of."""


class _BearerToken(BearerTokenAuthenticator):
    """A token in the headers, and nothing else done to a request.

    The SDK's own takes the query apart as well, and drops what is empty: `page_token=`.
    """

    @override
    def authenticate_request(self, request: PreparedRequest) -> PreparedRequest:
        request.headers.update(self.auth_headers)
        return request


class WarningStream(RESTStream[str]):
    """A stream that warns in its name, and of the same thing once."""

    def __init__(self, tap: Tap) -> None:
        super().__init__(tap)
        self._warned: set[str] = set()
        self._odd_fields = 0

    def warn_of_field(self, field: str, trouble: str) -> None:
        """Warn the user of what is odd about a field, once; of rows without a key at the end."""
        text = f"the field {one_line(field[:LONGEST_NAME])} {trouble}."
        if field in self.primary_keys or text in self._warned:
            return
        self._odd_fields += 1
        if self._odd_fields > MOST_ODD_FIELDS:
            text = f"more than {MOST_ODD_FIELDS} fields are odd, and no more are named."
        self.warn_once(text)

    def warn(self, text: str) -> None:
        """Warn the user, in the name of the stream."""
        self.logger.warning("%s: %s", self.name, one_line(text))

    def warn_once(self, text: str) -> None:
        """Warn the user of something that may come up again and again."""
        if text not in self._warned:
            self._warned.add(text)
            self.warn(text)


class ActivatingStream(WarningStream):
    """A stream that tells targets, once it was read whole, that rows they know else are deleted."""

    keeps_history: ClassVar[bool] = False
    """Whether rows that do not come again are history, since Drift itself forgets them."""

    is_whole = True
    """Whether nothing is known to be missing."""

    @property
    @override
    def emit_activate_version_messages(self) -> bool:
        limits = ("start_date", "statuses", "batch_config")
        is_limited = self.keeps_history or any(self.config.get(name) for name in limits)
        return super().emit_activate_version_messages and not is_limited

    # Private in the SDK, which calls it before the first record: an interruption would then cost
    # the target its old rows.
    @override
    def _write_activate_version_message(self, full_table_version: int) -> None:
        """Do nothing yet."""

    def activate_version(self) -> None:
        """Say so, after the last record."""
        is_test = self.ABORT_AT_RECORD_COUNT is not None
        if self._stream_version is not None and self.is_whole and not is_test:
            super()._write_activate_version_message(self._stream_version)


class HandingOnStream(ActivatingStream):
    """A stream that spends nothing on records that nothing changes."""

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE  # they are shaped as the schema says

    # Private in the SDK, which walks through every record even if there is nothing to do to it.
    @override
    def _generate_record_messages(self, record: Row) -> Generator[RecordMessage, None, None]:
        if self._leaves_records_alone:
            version, now = self._stream_version, dt.datetime.now(dt.UTC)
            yield RecordMessage(self.name, record, version, now)
        else:
            yield from super()._generate_record_messages(record)

    @override
    def generate_child_contexts(self, record: Row, context: Context | None) -> Iterator[Context]:
        """Give none: there are no child streams, and the SDK's own makes contexts all the same."""
        yield from ()

    @cached_property
    def _leaves_records_alone(self) -> bool:
        """Whether everything is selected, and no stream map or flattening applies."""
        (first, *others) = self.stream_maps
        is_plain = type(first) is SameRecordTransform and not first.flattening_enabled
        return is_plain and not others and all(self.mask.values())


class TellingStream(HandingOnStream):
    """A stream that tells how far it is, and once how it ended."""

    def __init__(self, tap: Tap) -> None:
        super().__init__(tap)
        self.progress = Progress(self.name)
        self.failed = False
        """Whether it could not be read to its end."""
        self.cause = ""
        """Why it failed."""
        self.is_incomplete = False
        """Whether something in it could not be read; it was read to its end all the same."""
        self._lock = threading.Lock()
        self._requests_counted = self.get_http_request_counter()

    @property
    def owed(self) -> int:
        """How many of its items are owed."""
        return 0

    @property
    def can_go_on(self) -> bool:
        """Whether STATE says where the next run goes on."""
        return False

    @property
    def ending(self) -> str:
        """How it ended."""
        if self.failed:
            return "failed"
        if not self.progress.has_begun:
            return "not begun"
        if not self.progress.has_ended:
            return "broken off"
        return "read, but for some" if self.is_incomplete else "read to the end"

    def tell(self) -> None:
        """Tell how far it is, if that is due."""
        if self.progress.is_due():
            self.look_ahead()
            self.logger.info("%s: %s.", self.name, self.progress.report())

    def look_ahead(self) -> None:
        """Learn what a report has to say of what is still to come."""

    def told(self, records: Iterator[Row]) -> Iterator[Row]:
        """Count records on their way."""
        for record in records:
            self.progress.records += 1
            self.tell()
            yield record

    @contextlib.contextmanager
    def _failing_alone(self) -> Iterator[None]:
        """Let an error end this stream alone: the others still run, and `failed` tells the tap."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  (whatever it is, the other streams go on)
            self.failed = True
            self.progress.end()
            self.cause = _explained(error)
            self.log("%s: %s", self.name, self.cause, level=logging.ERROR)

    def end(self) -> None:
        """Tell how it ended, unless the error did."""
        if not self.failed:
            self.progress.end()
            self.logger.info("%s: %s: %s.", self.name, self.ending, self.progress.summary())

    def _observe(self, path: str, status: int | None, seconds: float) -> None:
        """Tell the SDK's metrics of a request: of its path without numbers, so that few differ."""
        with self._lock:
            self.progress.requests += 1
            self._requests_counted.increment()
        tags: dict[str, Any] = {
            metrics.Tag.STREAM: self.name,
            metrics.Tag.ENDPOINT: re.sub(r"/-?\d+", "/{id}", path),
            metrics.Tag.HTTP_STATUS_CODE: status,
        }
        self._log_metric(
            metrics.Point("timer", metrics.Metric.HTTP_REQUEST_DURATION, seconds, tags)
        )


class DriftStream(TellingStream):
    """A stream of Drift's REST API.

    A subclass declares `path`, `records_jsonpath` and `scope`; rows are shaped as its schema says.
    """

    primary_keys: tuple[str, ...] = ("id",)
    schema = StreamSchema(SchemaDirectory(schemas))
    selected_by_default = False

    scope: str
    costs = "1"
    """What a token needs (Drift's page on authentication); the requests for all of it, in words."""

    pagination: ClassVar[Form | None] = None
    """Where an answer says that it goes on; `None` if Drift answers with all at once."""

    first_page: ClassVar[Mapping[str, Any]] = {}
    """The query parameters of the first page."""

    def __init__(self, tap: Tap, drift: Drift) -> None:
        super().__init__(tap)
        self.drift = drift
        self._requests_session = drift.session
        self._slots = threading.Semaphore(int(self.config["concurrency"]))
        self.rows_left_out = 0

    @property
    @override
    def url_base(self) -> str:
        return str(self.config["api_url"]).rstrip("/")

    @cached_property
    @override
    def authenticator(self) -> Auth:
        return _BearerToken(token=self.config["access_token"])

    # Records

    @override
    def get_records(self, context: Context | None) -> Iterator[Row]:
        """Read the stream: one record for the SDK's connection test, else to its end."""
        return self.told(itertools.islice(self.read_records(), self.ABORT_AT_RECORD_COUNT))

    def try_out(self) -> str:
        """Ask once for what the stream reads.

        Returns:
            Whether it may be read, in a few words.

        Raises:
            DriftError: It may not.
        """
        rows_at(self.records_jsonpath, self.ask(self.path, self.first_page).body)
        return "yes"

    def read_records(self) -> Iterator[Row]:
        """Read all rows of the stream, page after page.

        Yields:
            Rows, shaped as the schema says.
        """
        for rows in self.read_pages(self.path, self.records_jsonpath):
            yield from self.records(rows or ())

    def records(self, rows: Any) -> Iterator[Row]:
        """Shape rows as the schema says; those without a usable key are left out and counted.

        Args:
            rows: Rows as Drift sent them.

        Yields:
            New rows.
        """
        for row in rows:
            record = self._shape(row)
            if None in map(record.get, self.primary_keys):
                self.rows_left_out += 1
            else:
                yield record

    @cached_property
    def _shape(self) -> Callable[[Row], Row]:
        return shaper_of(self)

    # Private in the SDK, where it holds all that can go wrong with a record: reading, mapping,
    # and writing it.
    @override
    def _sync_records(
        self, context: Context | None = None, *, write_messages: bool = True
    ) -> Generator[Row, Any, None]:
        self.progress.begin()
        with self._failing_alone(), self._requests_counted:
            yield from super()._sync_records(context, write_messages=write_messages)
        if self.rows_left_out:
            self.is_incomplete = True
            keys = " and ".join(self.primary_keys)
            self.warn(f"{self.rows_left_out:,} without a usable {keys} had to be left out.")
        if not self.failed and not self.is_incomplete:
            self.activate_version()
        if write_messages:
            self.end()

    @override
    def get_batches(
        self, batch_config: BatchConfig, context: Context | None = None
    ) -> Iterator[tuple[BaseBatchFileEncoding, list[str]]]:
        """Write files of records as they are when they leave the tap.

        The SDK's own writes them as they are read: with the fields that are not selected, and
        without what a stream map was to hash or filter.
        """
        with self._failing_alone():
            rows = self._sync_records(context, write_messages=False)
            messages = (m for row in rows for m in self._generate_record_messages(dict(row)))
            for manifest in in_files(self, batch_config, messages):
                yield batch_config.encoding, manifest
            self.all_in_files()
        self.end()

    def all_in_files(self) -> None:
        """Do what is due when all records that were read are in files, also if reading failed."""

    # Answers

    def ask(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        method: str = "GET",
        body: Any = None,
        **how: Any,
    ) -> Answer:
        """Ask Drift for one thing, again and again if need be.

        Args:
            path: The path below `api_url`.
            params: Query parameters; a list gives a parameter several times.
            method: GET, or POST where that is how Drift lets itself be asked.
            body: What is sent as JSON; `None` for nothing.
            **how: What else `Drift.ask` takes.

        Returns:
            What Drift answered.

        Raises:
            DriftError: Drift refused, could not be reached, or could not answer.
        """
        request = self.build_prepared_request(
            method=method,
            url=self.url_base + path,
            params=params,
            json=body,
            headers=self.http_headers,
        )
        options: dict[str, Any] = {
            "scope": self.scope,
            "warn": self.warn,
            "stop": lambda: self.failed,
            "observe": partial(self._observe, path),
            **how,
        }
        with self._slots:
            answer = self.drift.ask(request, **options)
        if answer.bare_nan:
            self.warn_once("Drift sent NaN or Infinity, which no JSON has; they are null here.")
        return answer

    @override
    def get_url_params(self, context: Context | None, next_page_token: str | None) -> Row:
        """Give the query parameters for a cursor, which is a query string itself."""
        return {**self.first_page, **dict(parse_qsl(next_page_token or "", keep_blank_values=True))}

    def cursors(self, body: Any, *forms: Form) -> list[str | None]:
        """Say where an answer goes on, by each form of pagination: see `answers.offers`."""
        return offers(body, forms, self.config["access_token"])

    def read_pages(self, path: str, jsonpath: str, **how: Any) -> Iterator[list[Row] | None]:
        """Ask for one page after the other: see `answers.read_pages`.

        Args:
            path: The path below `api_url`.
            jsonpath: Where the rows stand in an answer; see `answers.rows_at`.
            **how: What else `Drift.ask` takes.

        Raises:
            DriftError: Drift refuses, or its answers lead nowhere.
        """

        def get(cursor: str | None) -> tuple[list[Row], str | None]:
            body = self.ask(path, self.get_url_params(None, cursor), **how).body
            below = self.cursors(body, self.pagination)[0] if self.pagination else None
            return rows_at(jsonpath, body), below

        return read_pages(get, self.pagination)


def _explained(error: Exception) -> str:
    if isinstance(error, DriftError):
        return one_line(str(error))
    if isinstance(error, SingerSDKError):
        return str(error)
    # Without the error's own words, which may hold what people wrote.
    where = "".join(traceback.format_tb(error.__traceback__))
    return (
        f"{type(error).__name__}. If no setting (stream_maps, batch_config) explains that, "
        f"it is a bug of the tap; please report it:\n{where}"
    )


def shaper_of(stream: DriftStream) -> Callable[[Row], Row]:
    """Make the function that shapes a stream's rows; what is odd about a field is said once."""
    # What is masked or left out may not come back by way of `otherFields`.
    left_out = [path[1::2] for path, selected in stream.mask.items() if not selected]
    mapped = stream.config.get("stream_maps", {}).get(stream.name) or {}
    guarded = {".".join(path) for path in left_out} | set(mapped)
    schema = stream.effective_schema
    there = schema.get("properties", {}).keys()
    if keys := ", ".join(key for key in stream.primary_keys if key not in there):
        msg = f"the catalog has no {keys}, by which records are told apart. Run discovery again."
        raise SingerSDKError(msg)
    lacking = stream.schema["properties"].keys() - there
    if lacking:
        names = ", ".join(sorted(lacking))
        stream.warn(f"the catalog lacks {names}: is it older than the tap? Run discovery again.")

    def warn(field: str, trouble: str) -> None:
        if field not in lacking:
            stream.warn_of_field(field, trouble)

    return shaper(schema, warn, guarded=guarded)
