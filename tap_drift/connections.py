"""Connections that keep to limits, whoever answers, and go where this machine's settings say."""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import logging
import os
import time
import zlib
from contextvars import ContextVar
from functools import cache
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy
from urllib3.response import GzipDecoder, GzipDecoderState

from tap_drift.compat import override
from tap_drift.errors import ClosedMeanwhileError, DriftError, TooLargeError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator


class Session(requests.Session):
    """A session for which nothing holds but what it is told: no settings of this machine."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # .netrc would replace the token
        # No other way of packing, since others may be cut without a trace: see `_is_cut`.
        self.headers["Accept-Encoding"] = "gzip, deflate"
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for name in ("connection", "connectionpool", "response"):
            logging.getLogger(f"urllib3.{name}").addFilter(_below_warning)

    @override
    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Prepare a request with headers and authentication: a session of ours has nothing else.

        The library's own also merges what there is none of, which takes three times as long.
        """
        request.headers = {**self.headers, **request.headers}
        request.auth = request.auth or self.auth
        return request.prepare()

    @override
    def get_redirect_target(self, resp: requests.Response) -> None:
        """Follow no redirect, and don't even look where it leads: the token is for Drift alone."""


class Adapter(HTTPAdapter):
    """Connections whose answers keep to their limits."""

    @override
    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _limited(pool.ConnectionCls)
        return pool


class Limits:
    """What bounds the answer to one request; reading it uses that up."""

    def __init__(self, seconds: float, largest: int, *, whole: bool) -> None:
        self.largest = largest
        self.whole = whole
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
        if self.received > self.largest + _LARGEST_HEAD:
            raise TooLargeError


_LARGEST_HEAD = 1_000_000

limits_now: ContextVar[Limits] = ContextVar("limits")
"""Those of the request that this thread is about."""


class _Limited(io.RawIOBase):
    """A socket to read from, within limits."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        super().__init__()
        self._socket = sock
        self._raw = raw
        self._limits = limits_now.get()

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
            if self._kept and not limits_now.get().received:
                raise ClosedMeanwhileError from error
            raise


@cache
def _limited(kind: type) -> type:
    """Whatever kind of connection it is: plain, encrypted, through a proxy."""
    return kind if issubclass(kind, _Connection) else type(kind.__name__, (_Connection, kind), {})


def read_within(response: requests.Response, limits: Limits) -> bytes:
    """Read a body, and unpack no more of it than it may have."""
    if response.status_code < http.HTTPStatus.OK:  # what comes next is the answer to nothing
        return b""
    limits.renewed = not limits.whole
    content = bytearray()
    _init_decoder(response.raw)
    try:
        for part in response.raw.stream(2**16, decode_content=True):
            content += part
            if len(content) > limits.largest:
                raise TooLargeError
    except (ValueError, zlib.error) as error:  # such as a chunk of a size below 0
        raise http.client.HTTPException from error
    if (content or response.raw.tell()) and _is_cut(getattr(response.raw, "_decoder", None)):
        raise http.client.IncompleteRead(bytes(content))
    return bytes(content)


def _init_decoder(raw: Any) -> None:
    """Let nothing be asked for at the end of what was packed by gzip.

    Nothing is left then. From Python 3.14.8 on, it is an error to ask if there was more after the
    end, which urllib3 passes over: see its issue 5268.
    """
    raw._init_decoder()  # noqa: SLF001
    decoder = raw._decoder  # noqa: SLF001
    for layer in getattr(decoder, "_decoders", [decoder]):
        if isinstance(layer, GzipDecoder):
            layer.flush = bytes  # type: ignore[method-assign]


def _is_cut(decoder: Any) -> bool:
    """Tell whether what was packed lacks its end, which urllib3 itself does not look at."""
    if layers := getattr(decoder, "_decoders", None):
        return any(map(_is_cut, layers))
    if getattr(decoder, "_state", None) == GzipDecoderState.SWALLOW_DATA:
        return False  # it came, and more after it
    return not getattr(getattr(decoder, "_obj", None), "eof", True)


def _below_warning(record: logging.LogRecord) -> bool:
    """Let no warning of urllib3 pass: they hold URLs and tracebacks, and the tap has its own."""
    return record.levelno < logging.WARNING


_CERTIFICATE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


def _is_loopback(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost" or (host or "").endswith(".localhost")


def environment_for(origin: str, adapter: HTTPAdapter) -> dict[str, Any]:
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
