"""Talking to Drift, without Singer: asking, waiting, and what an answer or an error is.

What can go wrong on the way, and what can come back, stands in two tables; each row says what may
help and what the user is told.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import enum
import http.client
import io
import ipaddress
import logging
import math
import os
import random
import re
import socket
import ssl
import time
from contextvars import ContextVar
from functools import cache
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy

from tap_drift.compat import override
from tap_drift.values import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

FIRST_BACKOFF = 0.5
"""Seconds that the first retry waits, more or less, where Drift does not say how long."""

LONGEST_BACKOFF = 60.0
"""Seconds that a retry waits at the most, more or less, where Drift does not say how long."""

LONGEST_WAIT = 300.0
"""Seconds that are waited if Drift asks for it; if it asks for more, the request ends at once."""

LEAST_SECONDS_FOR_429 = 120.0
"""Seconds for which a 429 is waited out, whatever `max_retries` says, unless that is 0."""

RETRIES_OF_A_GATEWAY = 2
"""Retries of a 403 or 404 that is not in Drift's words, at the most."""

LARGEST = 100_000_000
"""Bytes that an answer has at the most, unpacked."""


class Help(enum.Enum):
    """What may help after an error."""

    NOTHING = enum.auto()
    AGAIN = enum.auto()
    """Asking again."""
    LESS = enum.auto()
    """Asking again, and asking for less as well."""


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


class _TooLargeError(OSError):
    """An answer that does not end where it should."""


class _ClosedMeanwhileError(OSError):
    """A connection that was kept open turned out to be closed, before anything of an answer."""


_CERTIFICATES = (
    "Is api_url right, and does this machine trust the right certificates? Others than its own "
    "are trusted if REQUESTS_CA_BUNDLE, SSL_CERT_FILE or SSL_CERT_DIR names them."
)
_BROKE_OFF = "the connection to {host} broke off in the middle."
_NO_HTTP = "what {host} answers is no proper HTTP ({kind}). Does something else stand there?"

_ON_THE_WAY = (
    _OnTheWay(_TooLargeError, Help.LESS, "the answer has more than {megabytes:,.1f} MB."),
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
    _OnTheWay(ConnectionRefusedError, Help.AGAIN, "{host} refused the connection."),
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

_CAME_BACK = (
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

_SLOW_DOWN = 429

_STATUS_OF_ERROR_TYPE = {
    "validation_error": 400,
    "authentication_error": 403,
    "not_found": 404,
    "rate_limit": 429,
    "internal_error": 500,
}
"""Drift's error types, for errors that arrive with status 200 (Drift's page on errors)."""


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


class Answer(NamedTuple):
    """A good answer."""

    body: Any
    """The JSON document; `None` if it is none, where that is good too."""

    content: bytes
    media_type: str
    """Such as `application/json`; empty if the answer does not say."""

    now: float | None
    """What time the answer says that it is, in milliseconds since 1970; `None` if it does not."""

    bare_nan: bool
    """Whether a bare NaN or Infinity became null in `body`."""


class _Asked(NamedTuple):
    """How a request is to be answered."""

    scope: str
    json: bool
    largest: int
    whole: bool


class Drift:
    """The connections to Drift, shared by all streams and workers of a run.

    It holds what must hold for all of them together: the requests per minute, and the pause that
    Drift asks for.
    """

    def __init__(
        self,
        *,
        token: str,
        request_timeout: int,
        max_retries: int,
        connections: int,
        requests_per_minute: int | None,
    ) -> None:
        """Set up connections; none is opened yet.

        Args:
            token: The access token, which is masked wherever a server repeats it.
            request_timeout: Seconds that an answer may take, from the request to its last byte.
            max_retries: How often a request is tried again.
            connections: How many connections are kept open.
            requests_per_minute: The most requests in any minute; `None` for no limit.
        """
        self.session = _Session()
        adapter = _Adapter(pool_maxsize=connections)
        self.session.mount("https://", adapter)
        self.session.mount("http://", adapter)
        self._adapter = adapter
        self._token = re.compile(re.escape(token) if token else "(?!)", re.IGNORECASE)
        self._seconds = request_timeout
        self._max_retries = max_retries
        self._connections = connections
        self._environments: dict[str, dict[str, Any]] = {}
        self._turns = _Turns(requests_per_minute)

    def ask(  # noqa: PLR0913
        self,
        request: requests.PreparedRequest,
        *,
        scope: str,
        warn: Callable[[str], None],
        retries: int | None = None,
        stop: Callable[[], bool] = lambda: False,
        pauses: bool = True,
        json: bool = True,
        largest: int = LARGEST,
        whole: bool = True,
        limiter: Any = None,
        observe: Callable[[int | None, float], object] = lambda *_: None,
    ) -> Answer:
        """Ask Drift for one thing, again and again if need be.

        Args:
            request: What is asked.
            scope: The scope that a token needs for it.
            warn: Given a line for each retry.
            retries: How often it is tried again; `None` for `max_retries`.
            stop: Whether there is no point in asking any more, because the stream has failed.
            pauses: Whether a wait that Drift asks for here holds for all requests.
            json: Whether a good answer has to be JSON.
            largest: Bytes that the answer has at the most, unpacked.
            whole: Whether `request_timeout` bounds all of it, not only the time without a byte.
            limiter: What bounds such requests besides `requests_per_minute`; see `limiter`.
            observe: Given the status (`None` if there was no answer) and the seconds of each try.

        Returns:
            The answer.

        Raises:
            DriftError: There was no good answer, and the retries are used up.
        """
        asked = _Asked(scope, json, largest, whole)
        patience = _Patience(self._max_retries if retries is None else retries)
        while True:
            self._turns.take(stop, limiter)
            started = time.monotonic()
            status: int | None = None
            try:
                answer = self._try(request, asked)
                status = http.HTTPStatus.OK
                return answer  # noqa: TRY300  (after it was observed)
            except DriftError as error:
                status = error.status
                wait, count = patience.after(error)
                if pauses and (error.status == _SLOW_DOWN or error.wait is not None):
                    self._turns.pause(wait)
                warn(f"{error} Trying again in {wait:.1f} s ({count}).")
            finally:
                observe(status, time.monotonic() - started)
            time.sleep(wait)

    def _try(self, request: requests.PreparedRequest, asked: _Asked) -> Answer:
        origin = "://".join(urlsplit(str(request.url))[:2])
        if origin not in self._environments:  # once per host, since it takes long
            self._environments[origin] = _environment(origin, self._adapter)
        environment = self._environments[origin]
        # Every connection that was kept may turn out to be closed; a new one can't.
        for _ in range(self._connections + 1):
            limits = _Limits(self._seconds, asked)
            _limits.set(limits)
            try:
                response = self.session.send(
                    request, stream=True, timeout=self._seconds, **environment
                )
                with contextlib.closing(response):
                    content = _read(response, limits)
            except (
                OSError,
                ValueError,
                http.client.HTTPException,
                urllib3.exceptions.HTTPError,
            ) as error:
                causes = list(_causes(error))
                if not any(isinstance(cause, _ClosedMeanwhileError) for cause in causes):
                    break
            else:
                return self._answer(response, content, asked)
        way = " (through a proxy)" if environment["proxies"] else ""
        told, help_ = _explained(causes, f"{urlsplit(str(request.url)).hostname}{way}", limits)
        is_too_large = any(isinstance(cause, _TooLargeError) for cause in causes)
        if is_too_large and not asked.json:  # a file is as large as it is, whenever it is asked for
            help_ = Help.NOTHING
        raise DriftError(
            self._line(f"{_what(request)}: {told}"), help=help_, is_too_large=is_too_large
        )

    def _answer(self, response: requests.Response, content: bytes, asked: _Asked) -> Answer:
        """Tell a good answer from an error.

        Drift documents two shapes of error, `{"error": {...}}` and `{"errors": [{...}]}`; either
        is an error on any status.

        Args:
            response: What came back.
            content: Its body, unpacked.
            asked: What was to come back.

        Returns:
            The answer, if it is good.

        Raises:
            DriftError: It is not.
        """
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        body, is_json, bare_nan = None, False, False
        if asked.json or response.status_code != http.HTTPStatus.OK or "json" in media_type:
            with contextlib.suppress(ValueError):
                body, bare_nan = read_json(content)
                is_json = True
        status, complaint, in_drifts_words = _complaint(body, response.status_code)
        now = _milliseconds(response.headers.get("Date"))
        if status == http.HTTPStatus.OK and (is_json or not asked.json):
            return Answer(body, content, media_type, now, bare_nan)

        said = f"Drift answered {status}"
        if complaint:
            said += f" ({self._line(complaint)[:300]})"
        elif not is_json:
            kind = self._line(media_type)[:100] or "nothing"
            said += f" with {kind} " + (
                "that can't be read" if "json" in kind else "instead of JSON"
            )
        row = next(
            row
            for row in _CAME_BACK
            if status in row.statuses and row.in_drifts_words in {None, in_drifts_words}
        )
        told = row.told.format(scope=asked.scope, elsewhere=self._line(_elsewhere(response))[:100])
        wait = _retry_after(response.headers.get("Retry-After", ""), now)
        help_ = row.help
        if wait is not None and wait > LONGEST_WAIT and help_ is not Help.NOTHING:
            help_ = Help.NOTHING
            told = f"It asks to wait {wait:,.0f} s, which is too long: run the tap again later."
        raise DriftError(
            self._line(f"{_what(response.request)}: {said}. {told}"),
            help=help_,
            status=status,
            in_drifts_words=in_drifts_words,
            wait=wait,
        )

    def _line(self, text: str) -> str:
        """One line for the user, without the token and without what can't be printed."""
        printable = "".join(letter if letter.isprintable() else " " for letter in text)
        return self._token.sub("***", " ".join(printable.split()))


def limiter(requests: int, seconds: float) -> Any:
    """Make what lets no more than so many requests start in so many seconds."""
    from pyrate_limiter import Limiter, Rate  # noqa: PLC0415  (few runs need it)

    return Limiter(Rate(requests, math.ceil(seconds * 1000)), buffer_ms=0)


class _Turns:
    """When a request may start, whichever worker asks."""

    def __init__(self, requests_per_minute: int | None) -> None:
        self._go_on_at = 0.0
        # Evenly spaced, not as many as allowed at once.
        self._limiter = limiter(1, 60 / requests_per_minute) if requests_per_minute else None

    def pause(self, seconds: float) -> None:
        """Let no request start within the next `seconds`."""
        self._go_on_at = max(self._go_on_at, time.monotonic() + seconds)

    def take(self, stop: Callable[[], bool], own: Any) -> None:
        """Wait until the next request may start, by its own limiter as well if it has one."""
        while True:
            while (wait := self._go_on_at - time.monotonic()) > 0:
                time.sleep(wait)
            for each in filter(None, (own, self._limiter)):
                each.try_acquire("drift")
            if stop():
                msg = "the stream has failed already."
                raise DriftError(msg)
            # A pause may have begun while this request waited for its turn: then it takes another.
            if self._go_on_at <= time.monotonic():
                return


class _Patience:
    """How long a request is tried again."""

    def __init__(self, retries: int) -> None:
        self._retries = retries
        self._failures = 0
        self._slowed = 0
        self._slowed_until = math.inf

    def after(self, error: DriftError) -> tuple[float, str]:
        """Decide whether to try again.

        Args:
            error: What came of the last try.

        Returns:
            Seconds to wait, and which retry of how many it is.

        Raises:
            DriftError: It is not tried again.
        """
        made = self._failures + self._slowed
        if error.help is Help.NOTHING:
            raise error
        retries = self._retries
        if error.status in {403, 404}:
            retries = min(retries, RETRIES_OF_A_GATEWAY)
        if error.status == _SLOW_DOWN:
            # Being asked to slow down is no failure, so it does not count as one.
            if not self._slowed:
                self._slowed_until = time.monotonic() + LEAST_SECONDS_FOR_429
            self._slowed += 1
            count = self._slowed
            waited_out = retries > 0 and time.monotonic() < self._slowed_until
        else:
            self._failures += 1
            count, waited_out = self._failures, False
        if count > retries and not waited_out:
            if made:
                error.args = (
                    f"{error} Given up after {made} {'retry' if made == 1 else 'retries'}.",
                )
            raise error
        growing = min(FIRST_BACKOFF * 2.0**made, LONGEST_BACKOFF) * random.uniform(0.75, 1.25)  # noqa: S311
        of = (
            f"{count} of {retries}"
            if count <= retries
            else "being asked to slow down is no failure"
        )
        return max(growing, error.wait or 0.0), of


# Connections


class _Session(requests.Session):
    """A session for which nothing holds but what it is told: no settings of this machine."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # .netrc would replace the token
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for name in ("connection", "connectionpool", "response"):
            logging.getLogger(f"urllib3.{name}").addFilter(_below_warning)

    @override
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Follow no redirect, and don't even look where it leads: the token is for Drift alone."""


class _Adapter(HTTPAdapter):
    """Connections whose answers keep to their limits."""

    @override
    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _limited(pool.ConnectionCls)
        return pool


class _Limits:
    """What bounds the answer to one request; reading it uses that up."""

    def __init__(self, seconds: float, asked: _Asked) -> None:
        self.asked = asked
        self.seconds = seconds
        self.received = 0
        """Bytes, as they came."""
        self.renewed = False
        """Whether every byte gets as long as the first had."""
        self._deadline: float | None = None

    def patience(self) -> float:
        """Seconds that the next byte may take."""
        now = time.monotonic()
        if self._deadline is None or self.renewed:
            self._deadline = now + self.seconds
        if now >= self._deadline:
            raise TimeoutError
        return self._deadline - now

    def take(self, number: int) -> None:
        """Note that so many bytes came."""
        self.received += number
        if self.received > self.asked.largest + _LARGEST_HEAD:
            raise _TooLargeError


_LARGEST_HEAD = 1_000_000

_limits: ContextVar[_Limits] = ContextVar("limits")
"""Those of the request that this thread is about."""


class _Limited(io.RawIOBase):
    """A socket to read from, within limits."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        super().__init__()
        self._socket = sock
        self._raw = raw
        self._limits = _limits.get()

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(self._limits.patience())
        number: int | None = self._raw.readinto(buffer)
        self._limits.take(number or 0)
        return number

    @override
    def close(self) -> None:
        self._raw.close()
        super().close()


def _limited_response(sock: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
    response = http.client.HTTPResponse(sock, *args, **kwargs)
    response.fp = io.BufferedReader(_Limited(sock, response.fp.detach()))
    return response


class _Connection:
    """What a connection has on top of urllib3's: limits, and whether it was kept open."""

    response_class = staticmethod(_limited_response)
    _kept = False

    def connect(self) -> None:
        self._kept = False
        super().connect()  # type: ignore[misc]

    def request(self, *args: Any, **kwargs: Any) -> None:
        with self._noticing():
            super().request(*args, **kwargs)  # type: ignore[misc]

    def getresponse(self) -> Any:
        with self._noticing():
            response = super().getresponse()  # type: ignore[misc]
        self._kept = True
        return response

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise
        except OSError as error:
            if self._kept and not _limits.get().received:
                raise _ClosedMeanwhileError from error
            raise


@cache
def _limited(kind: type) -> type:
    """Whatever kind of connection it is: plain, encrypted, through a proxy."""
    return kind if issubclass(kind, _Connection) else type(kind.__name__, (_Connection, kind), {})


def _read(response: requests.Response, limits: _Limits) -> bytes:
    """Read a body, and unpack no more of it than it may have."""
    if response.status_code < http.HTTPStatus.OK:  # what comes next is the answer to nothing
        return b""
    limits.renewed = not limits.asked.whole
    content = bytearray()
    try:
        for part in response.raw.stream(2**16, decode_content=True):
            content += part
            if len(content) > limits.asked.largest:
                raise _TooLargeError
    except ValueError as error:  # urllib3 tries to read a chunk of a size below 0
        raise http.client.HTTPException from error
    return bytes(content)


def _below_warning(record: logging.LogRecord) -> bool:
    """Let no warning of urllib3 pass: they hold URLs and tracebacks, and the tap has its own."""
    return record.levelno < logging.WARNING


_CERTIFICATE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


def _is_loopback(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost" or (host or "").endswith(".localhost")


def _environment(origin: str, adapter: HTTPAdapter) -> dict[str, Any]:
    """Find out what this machine's settings say about proxies and certificates for a host.

    Args:
        origin: The beginning of a URL, up to the host and the port.
        adapter: What makes connections.

    Returns:
        Arguments for `requests.Session.send`.

    Raises:
        DriftError: There is a proxy that can't be used.
    """
    named = next(filter(None, map(os.environ.get, _CERTIFICATE_VARIABLES)), None)
    # OpenSSL takes several directories.
    places = [place for place in (named or "").split(os.pathsep) if place and Path(place).exists()]
    verify: str | bool = places[0] if places else named or True
    proxies = {} if _is_loopback(urlsplit(origin).hostname) else get_environ_proxies(origin)
    proxy = select_proxy(origin, proxies)
    if not proxy:
        return {"proxies": {}, "verify": verify}
    url = proxy if "://" in proxy else f"http://{proxy}"
    try:
        if " " in url or not urllib3.util.parse_url(url).host:
            raise ValueError  # noqa: TRY301
        adapter.proxy_manager_for(url)
    except (OSError, ValueError, urllib3.exceptions.HTTPError):
        variables = (name for name in os.environ if os.environ[name] == proxy)
        name = next((name for name in variables if name.lower().endswith("_proxy")), None)
        where = f"the environment variable {name}" if name else "this machine's settings"
        msg = f"the proxy in {where} can't be used. Is it of the form http://HOST:PORT?"
        raise DriftError(msg) from None
    return {"proxies": {"all": url}, "verify": verify}


# Words


def _what(request: requests.PreparedRequest) -> str:
    return f"{request.method} {urlsplit(str(request.url)).path}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _explained(causes: list[BaseException], host: str, limits: _Limits) -> tuple[str, Help]:
    """Say what went wrong on the way, without the words of others, which may hold secrets."""
    row, cause = next(
        (row, cause)
        for row in _ON_THE_WAY
        for cause in causes
        if isinstance(cause, row.kinds) and row.saying in str(cause)
    )
    told = row.told.format(
        host=host,
        seconds=limits.seconds,
        megabytes=limits.asked.largest / 1e6,
        whole="whole " if limits.received else "",
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


def _complaint(body: Any, status: int) -> tuple[int, str, bool]:
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


def _elsewhere(response: requests.Response) -> str:
    try:
        host = urlsplit(response.headers.get("Location", "")).hostname
    except ValueError:
        host = None
    return host or "no other host"


def _milliseconds(date: str | None) -> float | None:
    """Read a date as HTTP writes it: milliseconds since 1970; `None` if it is none."""
    try:
        time_ = email.utils.parsedate_to_datetime(date or "")
        return (time_ if time_.tzinfo else time_.replace(tzinfo=dt.UTC)).timestamp() * 1000
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _retry_after(asked: str, now: float | None) -> float | None:
    """Read how long an answer asks to wait.

    Args:
        asked: Its `Retry-After`: seconds, or a date.
        now: What time it says that it is, since clocks differ; `None` for this machine's.

    Returns:
        Seconds, not less than 0; `None` if it does not say.
    """
    if re.fullmatch(r"\s*[0-9]+(\.[0-9]+)?\s*", asked):
        return min(float(asked), 1e9)
    then = _milliseconds(asked)
    if then is None:
        return None
    return max(0.0, (then - (time.time() * 1000 if now is None else now)) / 1000)
