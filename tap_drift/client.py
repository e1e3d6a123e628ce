"""Everything about talking to Drift: asking, trying again, reading answers and errors."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import random
import socket
import ssl
import threading
import time
import traceback
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import backoff
import requests
from pyrate_limiter import Limiter, Rate
from requests.adapters import HTTPAdapter
from singer_sdk import RESTStream, SchemaDirectory, StreamSchema
from singer_sdk.authenticators import BearerTokenAuthenticator
from singer_sdk.batch import Batcher
from singer_sdk.exceptions import (
    ConfigValidationError,
    FatalAPIError,
    RetriableAPIError,
    SingerSDKError,
)
from singer_sdk.helpers.conform import TypeConformanceLevel
from singer_sdk.helpers.jsonpath import extract_jsonpath
from urllib3 import Retry
from urllib3.exceptions import HTTPError

from tap_drift import schemas
from tap_drift.compat import override
from tap_drift.values import conformed, whole_text

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from backoff.types import Details
    from singer_sdk import Tap
    from singer_sdk.helpers._batch import BaseBatchFileEncoding, BatchConfig
    from singer_sdk.helpers.types import Auth, Context, RequestFunc

_E = TypeVar("_E", bound=BaseException)

LONGEST_BACKOFF = 60.0
"""Seconds that a retry waits at the most where Drift does not say how long."""

LONGEST_RETRY_AFTER = 300.0
"""Seconds that a retry waits at the most where Drift does say how long."""

LONGEST_CURSOR = 1000
"""Characters that a cursor has at the most; those that were seen have less than a hundred."""

_STATUS_OF_ERROR_TYPE = {
    "validation_error": HTTPStatus.BAD_REQUEST,
    "authentication_error": HTTPStatus.FORBIDDEN,
    "not_found": HTTPStatus.NOT_FOUND,
    "rate_limit": HTTPStatus.TOO_MANY_REQUESTS,
    "internal_error": HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""Drift's error types, for errors that arrive with status 200 (Drift's page on errors)."""


class DriftError(FatalAPIError):
    """Drift, or what stands in its place, gave an answer that asking again won't mend.

    Attributes:
        status: The HTTP status that the answer amounts to; `None` if there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class AskForLessError(RetriableAPIError):
    """No whole answer in time, or a 5xx: asking for less may help where asking again doesn't."""


class DriftSession(requests.Session):
    """The connections to Drift, shared by all streams and workers of a run.

    It holds what must hold for all of them together: the requests per minute, and the pause that
    Drift asks for.
    """

    def __init__(self, *, connections: int, requests_per_minute: int | None) -> None:
        """Set up connections; none is opened yet.

        Args:
            connections: How many connections are kept open.
            requests_per_minute: The most requests in any minute; `None` for no limit.
        """
        super().__init__()
        self._go_on_at = 0.0
        adapter = HTTPAdapter(pool_maxsize=connections)
        self.mount("https://", adapter)
        self.mount("http://", adapter)
        self._turns: Limiter | None = None
        if requests_per_minute:
            # Evenly spaced, not as many as allowed at once.
            milliseconds = math.ceil(60_000 / requests_per_minute)
            self._turns = Limiter(Rate(1, milliseconds), buffer_ms=0)

    def pause(self, seconds: float) -> None:
        """Let no request start within the next `seconds`."""
        self._go_on_at = max(self._go_on_at, time.monotonic() + seconds)

    @override
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Follow no redirect, and don't even look where it leads: the token is for Drift alone."""

    @override
    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        while True:
            while (wait := self._go_on_at - time.monotonic()) > 0:
                time.sleep(wait)
            if self._turns:
                self._turns.try_acquire("drift")
            # A pause may have begun while this request waited for its turn: then it takes another.
            if self._go_on_at <= time.monotonic():
                return super().send(request, **kwargs)


class DriftStream(RESTStream[str]):
    """A stream of Drift's REST API.

    A subclass declares `path`, `records_jsonpath` and `scope`; rows leave it shaped as its schema
    says.
    """

    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE  # conform() has done more than that

    primary_keys = ("id",)
    schema = StreamSchema(SchemaDirectory(schemas))
    selected_by_default = False

    scope: str
    """The scope that a token needs for this stream (Drift's page on authentication)."""

    def __init__(self, tap: Tap, session: DriftSession) -> None:
        super().__init__(tap)
        self._requests_session: DriftSession = session
        self._counting = threading.Lock()
        self._warned: set[str] = set()
        self.requests_made = 0
        self.failed = False

    @property
    @override
    def url_base(self) -> str:
        return str(self.config["api_url"]).rstrip("/")

    @cached_property
    @override
    def authenticator(self) -> Auth:
        return BearerTokenAuthenticator(token=self.config["access_token"])

    @property
    @override
    def timeout(self) -> int:
        return int(self.config["request_timeout"])

    # Records

    @override
    def get_records(self, context: Context | None) -> Iterator[dict[str, Any]]:
        """Read the stream: one record for a connection test (`--test`), else to its end."""
        return itertools.islice(self.read_records(), self.ABORT_AT_RECORD_COUNT)

    # Private in the SDK, where it holds all that can go wrong with a record: reading, mapping,
    # and writing it.
    @override
    def _sync_records(self, *args: Any, **kwargs: Any) -> Generator[dict[str, Any], Any, None]:
        with self._failing_alone():
            yield from super()._sync_records(*args, **kwargs)

    @contextlib.contextmanager
    def _failing_alone(self) -> Iterator[None]:
        """Let an error end this stream alone: the others still run, and `failed` tells the tap."""
        try:
            yield
        except RetriableAPIError as error:
            self._fail(f"{error} Given up after {self.config['max_retries']} retries.")
        except SingerSDKError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001  (whatever it is, the other streams go on)
            # Without the error's own words, which may hold what people wrote.
            where = "".join(traceback.format_tb(error.__traceback__))
            self._fail(
                f"{type(error).__name__}. If no setting (stream_maps, batch_config) explains that, "
                f"it is a bug of the tap; please report it:\n{where}"
            )

    def _fail(self, message: str) -> None:
        self.failed = True
        self.log("%s: %s", self.name, message, level=logging.ERROR)

    def read_records(self) -> Iterator[dict[str, Any]]:
        """Read all rows of the stream, page after page.

        Yields:
            Rows, shaped as the schema says.
        """
        for body in self.pages(self.path, lambda cursor: self.get_url_params(None, cursor)):
            yield from map(self.conform, self.rows(body, self.records_jsonpath))

    def pages(
        self, path: str, params: Callable[[str | None], Mapping[str, Any] | str]
    ) -> Iterator[Any]:
        """Ask for one page after the other.

        Args:
            path: The path below `api_url`.
            params: Gives the query parameters for a cursor, which is `None` for the first page.

        Yields:
            JSON documents.

        Raises:
            DriftError: Drift refuses, or its cursors go in circles.
        """
        cursor: str | None = None
        seen: set[str] = set()
        while True:
            body = self.ask(path, params(cursor))
            yield body
            cursor = self.next_cursor(body)
            if cursor is None:
                return
            if cursor in seen:
                msg = f"GET {path}: Drift's pages go in circles."
                raise DriftError(msg)
            seen.add(cursor)

    def next_cursor(self, body: Any) -> str | None:
        """Find out where the page below is.

        Args:
            body: The JSON document that Drift answered with.

        Returns:
            Its cursor; `None` on the last page, whichever way Drift marks it.

        Raises:
            DriftError: There is more, but the answer does not say where, or in no usable way.
        """
        if not self.next_page_token_jsonpath:
            return None
        place, _, name = self.next_page_token_jsonpath.rpartition(".")
        pagination = next(extract_jsonpath(place, body), None) or {}
        links = body.get("links") if isinstance(body, dict) else None
        if not pagination and isinstance(links, dict) and links.get("next"):
            msg = "Drift goes on by links.next, which this version can't follow yet."
            raise DriftError(msg)
        if not isinstance(pagination, dict):
            pagination = {"more": True}
        more, cursor = pagination.get("more"), pagination.get(name)
        if more is False or (not more and cursor in (None, "")):
            return None
        if (
            not cursor
            or not isinstance(cursor, (str, int))
            or not str(cursor).isprintable()
            or len(str(cursor)) > LONGEST_CURSOR
            or self.config["access_token"] in str(cursor)  # it would be kept in STATE
        ):
            msg = f"Drift says that there is more, but not where ({self.next_page_token_jsonpath})."
            raise DriftError(msg)
        return str(cursor)

    def rows(self, body: Any, jsonpath: str) -> list[dict[str, Any]]:
        """Find the rows in an answer.

        Args:
            body: The JSON document that Drift answered with.
            jsonpath: Where the list of rows (ending in `[*]`), or the only row, stands in it.

        Returns:
            The rows as Drift sent them.

        Raises:
            DriftError: There is no row or list at that place, or it holds something else.
        """
        place = jsonpath.removesuffix("[*]")
        found = next(extract_jsonpath(place, body), None)
        rows = found if place != jsonpath else [found]
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            msg = f"the answer is not what Drift documents: no object, or list of them, at {place}."
            raise DriftError(msg)
        return rows

    def conform(self, row: dict[str, Any]) -> dict[str, Any]:
        """Shape a row as the schema says.

        Fields that the schema does not know, and values that can't be read as what it asks for,
        are left out with one warning each per run. Missing fields stay missing.

        Args:
            row: A row as Drift sent it.

        Returns:
            A new row.

        Raises:
            DriftError: The row has no key.
        """
        record: dict[str, Any] = conformed(row, self.effective_schema, self._warn_once)
        for key in self.primary_keys:
            if record.get(key) is None:
                msg = f"Drift sent a row without a usable {key}, which is its key."
                raise DriftError(msg)
        return record

    def _warn_once(self, field: str, trouble: str) -> None:
        warning = f"{self.name}: the field {field} {trouble} and is left out."
        if warning not in self._warned:
            self._warned.add(warning)
            self.logger.warning(warning)

    @override
    def get_batches(
        self, batch_config: BatchConfig, context: Context | None = None
    ) -> Iterator[tuple[BaseBatchFileEncoding, list[str]]]:
        """Write files of records as they are when they leave the tap.

        The SDK's own writes them as they are read: with the fields that are not selected, and
        without what a stream map was to hash or filter.
        """
        if len(self.stream_maps) > 1:
            msg = f"{self.name}: BATCH can't be combined with a stream map that copies a stream."
            raise ConfigValidationError(msg, errors=[msg])
        with self._failing_alone():
            rows = self._sync_records(context, write_messages=False)
            records = (
                message.record
                for row in rows
                for message in self._generate_record_messages(dict(row))
            )
            batcher = Batcher(
                tap_name=self.tap_name, stream_name=self.name, batch_config=batch_config
            )
            for manifest in batcher.get_batches(records=records):
                yield batch_config.encoding, manifest

    # Requests

    def ask(self, path: str, params: Mapping[str, Any] | str | None = None) -> Any:
        """Ask Drift for one thing, again and again if need be.

        Args:
            path: The path below `api_url`.
            params: Query parameters; a list gives a parameter several times.

        Returns:
            The JSON document that Drift answered with.

        Raises:
            DriftError: Drift refused.
            RetriableAPIError: Drift could not be reached or could not answer, and the retries
                are used up. It is a `AskForLessError` where asking for less may help.
        """
        request = self.build_prepared_request(
            method="GET",
            url=self.url_base + path,
            params=params,
            headers=self.http_headers,
        )
        return self.request_decorator(self._send)(request, None)

    def _send(
        self,
        request: requests.PreparedRequest,
        context: Context | None,  # noqa: ARG002
    ) -> Any:
        if self.failed:  # another thread has found that out meanwhile
            msg = "the stream has failed already."
            raise DriftError(msg)
        session, url = self._requests_session, str(request.url)
        what = f"GET {urlsplit(url).path}"
        with self._counting:
            self.requests_made += 1
        try:
            response = session.send(
                request,
                timeout=self.timeout,
                **session.merge_environment_settings(url, {}, None, None, None),
            )
        except OSError as error:
            raise self._network_error(error, what, urlsplit(url).hostname) from None
        return self._document(response)

    def _network_error(
        self, error: OSError, what: str, host: str | None
    ) -> FatalAPIError | RetriableAPIError:
        if isinstance(error, ValueError) or not isinstance(error, requests.RequestException):
            return DriftError(f"{what}: this machine is not set up for it: {error}")
        if (certificate := _cause(error, ssl.SSLError)) is not None:
            reason = getattr(certificate, "verify_message", "") or certificate.reason
            return DriftError(
                f"{what}: the connection to {host} is not safe ({reason}), so the token was not "
                "sent. Is api_url right, and does this machine trust the right certificates?"
            )
        return self._outage(error, what, host)

    def _outage(self, error: OSError, what: str, host: str | None) -> RetriableAPIError:
        if isinstance(error, requests.exceptions.ProxyError):
            return RetriableAPIError(
                f"{what}: the proxy that this machine's settings name takes no connection."
            )
        if _cause(error, socket.gaierror) is not None:
            return RetriableAPIError(
                f"{what}: the host name {host} can't be resolved. Is api_url right, is this "
                "machine online, and is Drift still there?"
            )
        if isinstance(error, requests.ConnectTimeout):
            return RetriableAPIError(f"{what}: no connection to {host} within {self.timeout} s.")
        if isinstance(error, requests.Timeout) or _cause(error, TimeoutError) is not None:
            return AskForLessError(f"{what}: no answer within {self.timeout} s (request_timeout).")
        if _cause(error, ConnectionRefusedError) is not None:
            return RetriableAPIError(f"{what}: {host} refused the connection.")
        return AskForLessError(f"{what}: the connection to {host} broke off in the middle.")

    def _document(self, response: requests.Response) -> Any:
        """Tell a good answer from an error.

        Drift documents two shapes of error, `{"error": {...}}` and `{"errors": [{...}]}`; either
        is an error on any status.

        Args:
            response: What came back.

        Returns:
            The JSON document in it.

        Raises:
            DriftError: Asking again won't help.
            RetriableAPIError: Asking again may help. It is an `AskForLessError` if that may too.
        """
        try:
            body, is_json = response.json(), True
        except (ValueError, RecursionError):
            body, is_json = None, False
        complaint, error_type = self._complaint(body)
        status = response.status_code
        if complaint and status < HTTPStatus.BAD_REQUEST:
            status = _STATUS_OF_ERROR_TYPE.get(error_type, HTTPStatus.BAD_REQUEST)
        if status == HTTPStatus.OK and is_json:
            # Half an emoji, from a text that was cut, is valid JSON, but can't be written as UTF-8.
            return whole_text(body) if b"\\ud" in response.content.lower() else body

        what = f"GET {urlsplit(response.url).path}: Drift answered {status}"
        if complaint:
            what = f"{what} ({complaint})"
        elif not is_json:
            kind = response.headers.get("Content-Type", "").partition(";")[0] or "nothing"
            what = f"{what} with {kind} instead of JSON"
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            msg = f"{what}. Fewer may be asked for with requests_per_minute or concurrency."
            raise RetriableAPIError(msg, response)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
            msg = f"{what}."
            raise AskForLessError(msg, response)
        if status < HTTPStatus.MULTIPLE_CHOICES:
            msg = f"{what}. Does a proxy or a login page stand between, or is the API gone?"
            raise RetriableAPIError(msg, response)
        msg = f"{what}. {self._advice(status, response)}"
        # Without Drift's own words, a 404 may as well be another server's, or the end of the API.
        raise DriftError(msg, status if complaint else None)

    def _complaint(self, body: Any) -> tuple[str, str]:
        """Read an error from an answer: one line for the user, and Drift's type of it."""
        errors = (body.get("error") or body.get("errors")) if isinstance(body, dict) else None
        if not errors:
            return "", ""
        first = errors[0] if isinstance(errors, list) else errors
        if not isinstance(first, dict):
            return "an error in no documented shape", ""
        said = [str(first[key]) for key in ("type", "message") if first.get(key)]
        if first.get("param"):
            said.append(f"parameter {first['param']}")
        line = " ".join(": ".join(said).split()) or "an error without type and message"
        return line.replace(self.config["access_token"], "***")[:300], str(first.get("type"))

    def _advice(self, status: int, response: requests.Response) -> str:
        if status < HTTPStatus.BAD_REQUEST:
            try:
                host = urlsplit(response.headers.get("Location", "")).hostname
            except ValueError:
                host = None
            return (
                f"That redirects to {host or 'no other host'}, and redirects are not followed, so "
                "that the token stays where it is. Is api_url right, and is Drift still there?"
            )
        if status == HTTPStatus.UNAUTHORIZED:
            return (
                "The access token is wrong, has expired or was revoked: create one on "
                "dev.drift.com and set access_token."
            )
        if status == HTTPStatus.FORBIDDEN:
            return (
                f"The token may lack the scope {self.scope}. Scopes are fixed when a token is "
                "granted: add the scope to the app on dev.drift.com, then create a new token."
            )
        if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            return "Is api_url right, and is this API still there?"
        return "This looks like a bug of the tap or a change of the API: please report it."

    # Retries

    @override
    def request_decorator(self, func: RequestFunc) -> RequestFunc:
        """Retry what may be retried, and log each retry once (the SDK's logs it twice)."""
        return backoff.on_exception(  # type: ignore[no-any-return,unused-ignore]
            self.backoff_wait_generator,
            RetriableAPIError,
            max_tries=self.backoff_max_tries(),
            jitter=None,
            on_backoff=self.backoff_handler,
            logger=None,
        )(func)

    @override
    def backoff_max_tries(self) -> int:
        return int(self.config["max_retries"]) + 1

    @override
    def backoff_wait_generator(self) -> Generator[float, Any, None]:
        """Wait as long as Drift asks for in `Retry-After`, else a jittered 0.5, 1, 2, 4, ... s."""
        error = yield 0.0
        for doublings in itertools.count(-1):
            growing = min(2.0**doublings, LONGEST_BACKOFF) * random.uniform(0.75, 1.25)  # noqa: S311
            asked = retry_after(error.response)
            error = yield growing if asked is None else asked

    @override
    def backoff_handler(self, details: Details) -> None:
        """Log a retry, and while Drift asks to wait, let every worker wait."""
        error, wait = details.get("exception"), details.get("wait", 0.0)
        response = getattr(error, "response", None)
        if response is not None and (
            response.status_code == HTTPStatus.TOO_MANY_REQUESTS
            or retry_after(response) is not None
        ):
            self._requests_session.pause(wait)
        self.logger.warning(
            "%s: %s Trying again in %.1f s (%d of %d).",
            self.name,
            error,
            wait,
            details.get("tries"),
            self.config["max_retries"],
        )


def retry_after(response: requests.Response | None) -> float | None:
    """Read how long Drift asks to wait.

    Args:
        response: An answer; `None` if there was none.

    Returns:
        Seconds, between 0 and `LONGEST_RETRY_AFTER`; `None` if Drift does not say.
    """
    if response is None:
        return None
    try:
        seconds = Retry().get_retry_after(response.raw)
    except (HTTPError, ValueError, OverflowError):
        return None
    return None if seconds is None else min(seconds, LONGEST_RETRY_AFTER)


def _cause(error: BaseException, kind: type[_E]) -> _E | None:
    """Find an error of a kind among those that led to another."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, kind):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None
