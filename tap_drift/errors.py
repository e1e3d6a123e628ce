"""What may go wrong between the tap and Drift, what may help, and what the user is told.

What can go wrong on the way, and what can come back, stands in two tables.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import enum
import http.client
import re
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import requests
import urllib3.exceptions

if TYPE_CHECKING:
    from collections.abc import Container, Iterator


class Help(enum.Enum):
    """What may help after an error."""

    NOTHING = enum.auto()
    AGAIN = enum.auto()
    """Asking again."""
    LESS = enum.auto()
    """Asking again, and asking for less as well."""


class DriftError(Exception):
    """Drift, or what stands in its place, gave no good answer.

    Attributes:
        help: What may help. Asking again was tried, if it may.
        status: The HTTP status that the answer amounts to; `None` if there was no answer.
        in_drifts_words: Whether the answer was an error in a shape that Drift documents. Without
            that, a 404 may as well be another server's, or the end of the API.
        wait: Seconds that the answer asks to wait; `None` if it does not.
        is_too_large: Whether the answer had more bytes than it may.
    """

    def __init__(  # noqa: PLR0913
        self,
        message: str,
        *,
        help: Help = Help.NOTHING,  # noqa: A002
        status: int | None = None,
        in_drifts_words: bool = False,
        wait: float | None = None,
        is_too_large: bool = False,
    ) -> None:
        super().__init__(message)
        self.help = help
        self.status = status
        self.in_drifts_words = in_drifts_words
        self.wait = wait
        self.is_too_large = is_too_large


class TooLargeError(OSError):
    """An answer that does not end where it should."""


class ClosedMeanwhileError(OSError):
    """A connection that was kept open turned out to be closed, before anything of an answer."""


class _OnTheWay(NamedTuple):
    """A row of the table of exceptions: the first that fits one of those that led to an error."""

    kinds: type[BaseException] | tuple[type[BaseException], ...]
    help: Help
    told: str
    saying: str = ""
    """What the exception says, where its kind alone does not tell."""


class _CameBack(NamedTuple):
    """A row of the table of statuses; the first that fits."""

    statuses: Container[int]
    help: Help
    told: str
    in_drifts_words: bool | None = None
    """Whether it is for errors in Drift's words, or for others; `None`: for both."""


_CERTIFICATES = (
    "Is api_url right, and does this machine trust the right certificates? Others than its own "
    "are trusted if REQUESTS_CA_BUNDLE, SSL_CERT_FILE or SSL_CERT_DIR names them."
)
_BROKE_OFF = "the connection to {host} broke off in the middle."
_NO_HTTP = "what {host} answers is no proper HTTP ({kind}). Does something else stand there?"

ON_THE_WAY = (
    _OnTheWay(TooLargeError, Help.LESS, "the answer has more than {megabytes:,.1f} MB."),
    _OnTheWay(
        ssl.SSLCertVerificationError,
        Help.NOTHING,
        "the connection to {host} is not safe ({reason}), so the token was not sent. "
        + _CERTIFICATES,
    ),
    _OnTheWay(
        OSError,
        Help.NOTHING,
        "this machine's settings name certificates that do not exist. " + _CERTIFICATES,
        "CA certificate",
    ),
    _OnTheWay(
        OSError,
        Help.AGAIN,
        "the proxy that this machine's settings name lets nothing through: it answers {reason}.",
        "Tunnel connection failed",
    ),
    _OnTheWay(
        requests.exceptions.ProxyError,
        Help.AGAIN,
        "the proxy that this machine's settings name takes no connection.",
    ),
    _OnTheWay(
        socket.gaierror,
        Help.AGAIN,
        "the host name {host} can't be resolved. Is api_url right, is this machine online, and is "
        "Drift still there?",
    ),
    _OnTheWay(requests.ConnectTimeout, Help.AGAIN, "no connection to {host} within {seconds:g} s."),
    _OnTheWay(
        ConnectionRefusedError, Help.AGAIN, "{host}{port} refused the connection. Is api_url right?"
    ),
    _OnTheWay(
        urllib3.exceptions.NewConnectionError,
        Help.AGAIN,
        "there is no way from this machine to {host} ({reason}).",
    ),
    _OnTheWay(
        (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError),
        Help.LESS,
        "no {whole}answer within {seconds:g} s (request_timeout).",
    ),
    _OnTheWay(
        urllib3.exceptions.DecodeError,
        Help.AGAIN,
        "the answer can't be unpacked: it is not compressed in the way that it says.",
    ),
    _OnTheWay(
        (requests.exceptions.InvalidHeader, urllib3.exceptions.InvalidHeader),
        Help.AGAIN,
        "the answer names two lengths (Content-Length), so none can be trusted.",
    ),
    _OnTheWay((ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError), Help.LESS, _BROKE_OFF),
    _OnTheWay(
        (ssl.SSLError, requests.exceptions.SSLError),
        Help.NOTHING,
        "no safe connection to {host} comes about ({reason}), so the token was not sent. "
        + _CERTIFICATES,
    ),
    _OnTheWay(urllib3.exceptions.InvalidChunkLength, Help.AGAIN, _NO_HTTP),
    _OnTheWay(http.client.IncompleteRead, Help.LESS, _BROKE_OFF),
    _OnTheWay(http.client.HTTPException, Help.AGAIN, _NO_HTTP),
    _OnTheWay(urllib3.exceptions.ProtocolError, Help.LESS, _BROKE_OFF),
    _OnTheWay(
        ValueError, Help.NOTHING, "this can't be asked for ({kind}). Are api_url and token right?"
    ),
    _OnTheWay(Exception, Help.LESS, _BROKE_OFF),
)

CAME_BACK = (
    _CameBack({429}, Help.AGAIN, "Fewer may be asked for with requests_per_minute or concurrency."),
    _CameBack({408}, Help.LESS, ""),
    _CameBack({425}, Help.AGAIN, ""),
    _CameBack(range(500, 1000), Help.LESS, ""),
    _CameBack(range(200), Help.AGAIN, "That only announces an answer."),
    _CameBack(
        range(200, 300),
        Help.AGAIN,
        "Does a proxy or a login page stand between, or is the API gone?",
    ),
    _CameBack(
        {304},
        Help.NOTHING,
        "That means that nothing has changed, which was not asked. Does a cache stand between?",
    ),
    _CameBack(
        range(300, 400),
        Help.NOTHING,
        "That redirects to {elsewhere}, and redirects are not followed, so that the token stays "
        "where it is. Is api_url right, and is Drift still there?",
    ),
    _CameBack(
        {401},
        Help.NOTHING,
        "The access token is wrong, has expired or was revoked: create one on dev.drift.com and "
        "set access_token.",
    ),
    _CameBack(
        {403},
        Help.NOTHING,
        "The token may lack the scope {scope}. Scopes are fixed when a token is granted: add the "
        "scope to the app on dev.drift.com, then create a new token.",
        in_drifts_words=True,
    ),
    _CameBack(
        {403},
        Help.AGAIN,
        "Those are not Drift's words: does a proxy or a firewall stand between? If not, the token "
        "may lack the scope {scope}.",
    ),
    _CameBack(
        {404},
        Help.AGAIN,
        "Those are not Drift's words. Is api_url right, and is this API still there?",
        in_drifts_words=False,
    ),
    _CameBack({404, 410}, Help.NOTHING, "Is api_url right, and is this API still there?"),
    _CameBack(
        range(1000),
        Help.NOTHING,
        "This looks like a bug of the tap or a change of the API: please report it.",
    ),
)

SLOW_DOWN = 429

_STATUS_OF_ERROR_TYPE = {
    "validation_error": 400,
    "authentication_error": 403,
    "not_found": 404,
    "rate_limit": 429,
    "internal_error": 500,
}
"""Drift's error types, for errors that arrive with status 200 (Drift's page on errors)."""


def what(request: requests.PreparedRequest) -> str:
    """Say what is asked: the path, not the query, which may hold more than a log should."""
    return f"{request.method} {urlsplit(str(request.url)).path}"


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """Go from an error to what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def explained(  # noqa: PLR0913
    causes: list[BaseException],
    host: str,
    *,
    port: int | None,
    seconds: float,
    largest: int,
    received: int,
) -> tuple[str, Help]:
    """Say what went wrong on the way, without the words of others, which may hold secrets."""
    row, cause = next(
        (row, cause)
        for row in ON_THE_WAY
        for cause in causes
        if isinstance(cause, row.kinds) and row.saying in str(cause)
    )
    told = row.told.format(
        host=host,
        port=f":{port}" if port else "",
        seconds=seconds,
        megabytes=largest / 1e6,
        whole="whole " if received else "",
        kind=type(cause).__name__,
        reason=_reason(causes[causes.index(cause) :]),
    )
    return told, row.help


def _reason(causes: list[BaseException]) -> str:
    for cause in causes:
        if refused := re.search(r"Tunnel connection failed: (\d+)", str(cause)):
            return refused[1]
        for name in ("verify_message", "reason", "strerror"):
            if isinstance(said := getattr(cause, name, None), str) and said:
                return said
    return type(causes[0]).__name__


def complaint_in(body: Any, status: int) -> tuple[int, str, bool]:
    """Read an error from an answer.

    Args:
        body: The JSON document.
        status: The status that came with it.

    Returns:
        The status that it amounts to, what Drift says (empty if the document is no error), and
        whether it says so in a shape that it documents.
    """
    errors = (body.get("error") or body.get("errors")) if isinstance(body, dict) else None
    if not errors:
        return status, "", False
    first = errors[0] if isinstance(errors, list) else errors
    in_drifts_words = isinstance(first, dict)
    line, type_ = "an error in no documented shape", ""
    if isinstance(first, dict):
        type_ = str(first.get("type"))
        said = [str(first[key]) for key in ("type", "message") if first.get(key)]
        if first.get("param"):
            said.append(f"parameter {first['param']}")
        line = ": ".join(said) or "an error without type and message"
    if status < http.HTTPStatus.BAD_REQUEST:
        status = _STATUS_OF_ERROR_TYPE.get(type_, 400)
    return status, line, in_drifts_words


def elsewhere(response: requests.Response) -> str:
    """Say which host a redirect leads to."""
    try:
        host = urlsplit(response.headers.get("Location", "")).hostname
    except ValueError:
        host = None
    return host or "no other host"


def milliseconds(date: str | None) -> float | None:
    """Read a date as HTTP writes it: milliseconds since 1970; `None` if it is none, or before."""
    try:
        time_ = email.utils.parsedate_to_datetime(date or "")
        # In UTC, where the first and the last year have days that are beyond the calendar.
        utc = time_.astimezone(dt.UTC) if time_.tzinfo else time_.replace(tzinfo=dt.UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return utc.timestamp() * 1000 if utc.timestamp() >= 0 else None


def retry_after(asked: str, now: float | None) -> float | None:
    """Read how long an answer asks to wait.

    Args:
        asked: Its `Retry-After`: seconds, or a date.
        now: What time it says that it is, since clocks differ; `None` for this machine's.

    Returns:
        Seconds, not less than 0; `None` if it does not say.
    """
    if re.fullmatch(r"\s*[0-9]+(\.[0-9]+)?\s*", asked):
        return min(float(asked), 1e9)
    then = milliseconds(asked)
    if then is None:
        return None
    return max(0.0, (then - (time.time() * 1000 if now is None else now)) / 1000)
