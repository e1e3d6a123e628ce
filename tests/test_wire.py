"""Whatever stands at the other end: what is asked again, how long it takes, what the user is told.

Over real sockets, since most of this is nothing that a server in good health can say.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import gzip
import itertools
import json
import logging
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import requests
import trustme

from tap_drift import drift as drift_module
from tap_drift.drift import Drift, DriftError, Help

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tap_drift.drift import Answer

    Say = bytes | Callable[[socket.socket], None]
    Serve = Callable[..., "Peer"]

TOKEN = "wire-token-0123456789"  # noqa: S105
GOOD = b'{"data": []}'
DATE = {"Date": "Wed, 21 Oct 2015 07:28:00 GMT"}
NOW = 1_445_412_480_000


def http(
    status: int, body: bytes = b"", headers: dict[str, str] | None = None, kind: str = "text/html"
) -> bytes:
    fields = {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode("latin-1") + body


def as_json(status: int, body: Any, headers: dict[str, str] | None = None) -> bytes:
    return http(status, json.dumps(body).encode(), headers, "application/json")


def error(status: int, type_: str = "some_error", message: str = "No", **headers: str) -> bytes:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return as_json(status, {"error": {"type": type_, "message": message}}, fields)


OK = http(200, GOOD, DATE, "application/json")


class Peer:
    """Answers one request after the other with what it is given; the last one again and again.

    An answer is bytes, or does with the connection what it likes and hangs up.
    """

    def __init__(self, *says: Say, tls: ssl.SSLContext | None = None) -> None:
        self.says = itertools.chain(says, itertools.repeat(says[-1]))
        self.requests: list[bytes] = []
        self.connections = 0
        self.lock = threading.Lock()
        self.closed = threading.Event()
        self.tls = tls
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.closed.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.suppress(OSError))
            stack.enter_context(connection)
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
                stack.enter_context(connection)
            while head := self._head(connection):
                with self.lock:
                    self.requests.append(head)
                    say = next(self.says)
                if not isinstance(say, bytes):
                    say(connection)
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                    return
                connection.sendall(say)

    def _head(self, connection: socket.socket) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head and not head.startswith(b"\x16"):  # the greeting of TLS
            part = connection.recv(2**16)
            if not part:
                return b""
            head += part
        return head


def hang_up(connection: socket.socket) -> None:
    """Say nothing."""


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def silence(connection: socket.socket) -> None:
    connection.recv(1)  # until the other side has had enough


def then_hang_up(said: bytes) -> Say:
    return lambda connection: connection.sendall(said)


def for_ever(said: bytes, start: bytes = b"", pause: float = 0.0) -> Say:
    def say(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(said)
            time.sleep(pause)

    return say


def dripping(said: bytes, pause: float = 0.02, start: bytes = b"") -> Say:
    def say(connection: socket.socket) -> None:
        connection.sendall(start)
        for byte in said:
            connection.sendall(bytes([byte]))
            time.sleep(pause)

    return say


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_module, "FIRST_BACKOFF", 0.01)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def serve() -> Iterator[Serve]:
    running: list[Peer] = []

    def start(*says: Say, tls: ssl.SSLContext | None = None) -> Peer:
        running.append(Peer(*says, tls=tls))
        return running[-1]

    yield start
    for peer in running:
        peer.close()


class Client:
    """One that asks for one thing, and remembers what it was told meanwhile."""

    def __init__(self, url: str, **changed: Any) -> None:
        settings: dict[str, Any] = {
            "token": TOKEN,
            "request_timeout": 10,
            "max_retries": 0,
            "connections": 2,
            "requests_per_minute": None,
            **changed,
        }
        self.drift = Drift(**settings)
        self.request = self.drift.session.prepare_request(
            requests.Request(
                "GET",
                f"{url}/conversations/list",
                params={"ask": "wh4t"},
                headers={"Authorization": f"Bearer {TOKEN}"},
            )
        )
        self.warnings: list[str] = []

    def ask(self, **how: Any) -> Answer:
        return self.drift.ask(self.request, scope="some_scope", warn=self.warnings.append, **how)

    def fail(self, **how: Any) -> DriftError:
        with pytest.raises(DriftError) as caught:
            self.ask(**how)
        said = str(caught.value)
        for line in [said, *self.warnings]:
            assert line.startswith("GET /conversations/list: ") or "proxy in" in line
            assert line.isprintable()
            assert TOKEN not in line
            assert "wh4t" not in line
        return caught.value


# What comes back


def test_a_good_answer_is_a_document_with_its_time(serve: Serve) -> None:
    peer = serve(OK)
    answer = Client(peer.url).ask()
    assert tuple(answer) == ({"data": []}, GOOD, "application/json", NOW, False)
    assert f"Authorization: Bearer {TOKEN}".encode() in peer.requests[0]


@pytest.mark.parametrize(
    "date",
    [
        None,
        "yesterday",
        "Wed, 99 Oct 2015 07:28:00 GMT",
        "1445412480",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Wed, 31 Dec 1969 23:59:59 GMT",
    ],
)
def test_an_answer_without_a_usable_date_has_no_time(serve: Serve, date: str | None) -> None:
    peer = serve(http(200, GOOD, {"Date": date} if date else None))
    assert Client(peer.url).ask().now is None


@pytest.mark.parametrize("kind", ["text/html; charset=latin-1", "application/json; charset=utf-16"])
def test_json_is_utf_8_whatever_its_label_says(serve: Serve, kind: str) -> None:
    peer = serve(http(200, '{"data": "žluťoučký 🐎"}'.encode(), None, kind))
    assert Client(peer.url).ask().body == {"data": "žluťoučký 🐎"}


class Case(NamedTuple):
    """What comes back, and what is made of it."""

    say: Say
    told: str
    help: Help = Help.NOTHING
    status: int | None = None
    in_drifts_words: bool = False
    retries: int | None = None
    """How often it is tried again if ten retries are allowed; `None`: ten times if at all."""


ANSWERS = {
    "100 in the end": Case(
        http(103, b""),
        "Drift answered 103 with text/html instead of JSON. That only",
        Help.AGAIN,
        103,
    ),
    "200 as a page": Case(
        http(200, b"<html>"),
        "answered 200 with text/html instead of JSON. Does a proxy or a login page stand between",
        Help.AGAIN,
        200,
    ),
    "200 with nothing": Case(
        http(200, b"", kind=""), "answered 200 with nothing instead of JSON", Help.AGAIN, 200
    ),
    "200 with half of it": Case(
        http(200, GOOD[:5], kind="application/json"),
        "answered 200 with application/json that can't be read",
        Help.AGAIN,
        200,
    ),
    "200 nested deep": Case(
        http(200, b"[" * 100_000, kind="application/json"),
        "answered 200 with application/json that can't be read",
        Help.AGAIN,
        200,
    ),
    "200 with an error": Case(
        error(200, "validation_error"),
        "Drift answered 400 (validation_error: No)",
        status=400,
        in_drifts_words=True,
    ),
    "200 with an error that passes": Case(
        error(200, "internal_error"),
        "Drift answered 500 (internal_error: No)",
        Help.LESS,
        500,
        in_drifts_words=True,
    ),
    "200 with a rate limit": Case(
        error(200, "rate_limit"),
        "answered 429 (rate_limit: No). Fewer may be",
        Help.AGAIN,
        429,
        in_drifts_words=True,
    ),
    "200 with errors": Case(
        as_json(200, {"data": [], "errors": [{"type": "t", "message": "m", "param": "p"}]}),
        "Drift answered 400 (t: m: parameter p). ",
        status=400,
        in_drifts_words=True,
    ),
    "200 with an error of no known shape": Case(
        as_json(200, {"error": "what people wrote"}),
        "Drift answered 400 (an error in no documented shape). ",
        status=400,
    ),
    "201": Case(as_json(201, {"data": []}), "Drift answered 201. Does a", Help.AGAIN, 201),
    "204": Case(b"HTTP/1.1 204 No Content\r\n\r\n", "Drift answered 204 with", Help.AGAIN, 204),
    "301": Case(
        http(301, b"", {"Location": "https://Www.Example.com/a?b=c"}),
        "That redirects to www.example.com, and redirects are not followed",
        status=301,
    ),
    "302 to nowhere": Case(
        http(302, b"", {"Location": "http://[::1"}), "That redirects to no other host", status=302
    ),
    "304": Case(
        http(304),
        "Drift answered 304 with text/html instead of JSON. That means that nothing has "
        "changed, which was not asked",
        status=304,
    ),
    "400": Case(
        as_json(400, {"errors": [{"type": "validation_error", "message": "No", "param": "limit"}]}),
        "answered 400 (validation_error: No: parameter limit). This looks like a bug of the tap",
        status=400,
        in_drifts_words=True,
    ),
    "401": Case(
        error(401, "authentication_error"),
        "The access token is wrong, has expired or was revoked",
        status=401,
        in_drifts_words=True,
    ),
    "401 as a page": Case(http(401), "The access token is wrong, has expired", status=401),
    "403": Case(
        error(403),
        "The token may lack the scope some_scope. Scopes are fixed when",
        status=403,
        in_drifts_words=True,
    ),
    "403 as a page": Case(
        http(403, b"<html>"),
        "Drift answered 403 with text/html instead of JSON. Those are not Drift's words: does a",
        Help.AGAIN,
        403,
        retries=2,
    ),
    "403 of another API": Case(
        as_json(403, {"message": "Forbidden"}),
        "Drift answered 403. Those are not Drift's words",
        Help.AGAIN,
        403,
        retries=2,
    ),
    "404": Case(
        error(404, "not_found"),
        "Is api_url right, and is this API still there?",
        status=404,
        in_drifts_words=True,
    ),
    "404 as a page": Case(
        http(404, b"<html>"),
        "Is api_url right, and is this API still there?",
        Help.AGAIN,
        404,
        retries=2,
    ),
    "405": Case(http(405), "This looks like a bug of the tap", status=405),
    "407": Case(http(407), "Drift answered 407", status=407),
    "408": Case(http(408), "Drift answered 408", Help.LESS, 408),
    "410": Case(http(410), "is this API still there", status=410),
    "422": Case(error(422), "(some_error: No)", status=422, in_drifts_words=True),
    "425": Case(http(425), "Drift answered 425", Help.AGAIN, 425),
    "429": Case(
        http(429),
        "Fewer may be asked for with requests_per_minute or concurrency.",
        Help.AGAIN,
        429,
    ),
    "451": Case(http(451), "Drift answered 451", status=451),
    "500": Case(
        error(500, "internal_error"),
        "Drift answered 500 (internal_error: No).",
        Help.LESS,
        500,
        in_drifts_words=True,
    ),
    **{
        str(status): Case(http(status), f"Drift answered {status} with", Help.LESS, status)
        for status in (502, 503, 504, 520, 599, 999)
    },
}

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
TIMED_OUT = "answer within 0.3 s (request_timeout)."
BROKE_OFF = "the connection to 127.0.0.1 broke off in the middle."
NO_HTTP = "is no proper HTTP ("
UNPACKED = "the answer can't be unpacked"
TOO_LARGE = "the answer has more than 0.1 MB."

ON_THE_WAY = {
    "silence": Case(silence, f"no {TIMED_OUT}", Help.LESS),
    "dripping headers": Case(dripping(OK * 9), f"no whole {TIMED_OUT}", Help.LESS),
    "dripping body": Case(
        dripping(GOOD * 99, start=ENDLESS),
        f"no whole {TIMED_OUT}",
        Help.LESS,
    ),
    "dripping chunks": Case(
        for_ever(b"1\r\n \r\n", CHUNKED, 0.05), f"no whole {TIMED_OUT}", Help.LESS
    ),
    "100 Continue for ever": Case(
        for_ever(b"HTTP/1.1 100 Continue\r\n\r\n", b"", 0.01), f"no whole {TIMED_OUT}", Help.LESS
    ),
    "100 Continue without a pause": Case(  # of which Python itself may take a hundred at most
        for_ever(b"HTTP/1.1 100 Continue\r\nA: %b\r\n\r\n" % (b"a" * 50_000)), TOO_LARGE, Help.LESS
    ),
    "a body without end": Case(for_ever(b" " * 9999, ENDLESS), TOO_LARGE, Help.LESS),
    "chunks without end": Case(
        for_ever(b"270F\r\n" + b" " * 9999 + b"\r\n", CHUNKED), TOO_LARGE, Help.LESS
    ),
    "a body longer than allowed": Case(http(200, b" " * 100_001), TOO_LARGE, Help.LESS),
    "headers without end": Case(for_ever(b"A: b\r\n", b"HTTP/1.1 200 OK\r\n"), NO_HTTP, Help.AGAIN),
    "a header without end": Case(for_ever(b"a" * 9999, b"HTTP/1.1 200 "), NO_HTTP, Help.AGAIN),
    "a chunk without a size": Case(
        lambda connection: connection.sendall(CHUNKED + b"zzz\r\n"), NO_HTTP, Help.AGAIN
    ),
    "a chunk of less than nothing": Case(
        lambda connection: connection.sendall(CHUNKED + b"-5\r\n"), NO_HTTP, Help.AGAIN
    ),
    "no HTTP": Case(then_hang_up(b"SSH-2.0-OpenSSH_9.6\r\n"), NO_HTTP, Help.AGAIN),
    "another HTTP": Case(then_hang_up(b"HTTP/2.0 200\r\n\r\n"), NO_HTTP, Help.AGAIN),
    "hung up": Case(hang_up, BROKE_OFF, Help.LESS),
    "reset": Case(reset, BROKE_OFF, Help.LESS),
    "hung up in the headers": Case(
        then_hang_up(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), BROKE_OFF, Help.LESS
    ),
    "hung up in the body": Case(then_hang_up(OK[:-3]), BROKE_OFF, Help.LESS),
    "hung up in a chunk": Case(then_hang_up(CHUNKED + b"9\r\n1234"), BROKE_OFF, Help.LESS),
    "hung up between chunks": Case(then_hang_up(CHUNKED + b"1\r\n[\r\n"), BROKE_OFF, Help.LESS),
    "two lengths": Case(
        http(200, GOOD, {"Content-length": "5"}), "names two lengths (Content-Length)", Help.AGAIN
    ),
    "gzip that is none": Case(http(200, GOOD, {"Content-Encoding": "gzip"}), UNPACKED, Help.AGAIN),
    **{
        f"{name} without its end": Case(
            http(200, packed, {"Content-Encoding": name}), BROKE_OFF, Help.LESS
        )
        for name, packed in {
            "gzip": gzip.compress(GOOD)[:-9],
            "x-gzip": gzip.compress(GOOD)[:-8],  # but for the sum that says whether it is whole
            "deflate": zlib.compress(GOOD)[:-1],
            "gzip, gzip": gzip.compress(gzip.compress(GOOD)[:-9]),
            "identity, gzip": gzip.compress(GOOD)[:5],
        }.items()
    },
    "deflate that is none": Case(
        http(200, GOOD, {"Content-Encoding": "deflate"}), UNPACKED, Help.AGAIN
    ),
}

CASES = {**ANSWERS, **ON_THE_WAY}


def patience(case: Case) -> float:
    """Let no answer be too late on a busy machine but those that are meant to be."""
    return 0.3 if TIMED_OUT in case.told else 10


every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@every_case
def test_whatever_goes_wrong_is_one_line_and_data(serve: Serve, case: Case) -> None:
    asking = Client(serve(case.say).url, request_timeout=patience(case))
    seen: list[int | None] = []
    error = asking.fail(largest=100_000, observe=lambda status, _: seen.append(status))
    assert case.told in str(error)
    assert (error.help, error.status) == (case.help, case.status)
    assert error.in_drifts_words == case.in_drifts_words
    assert "what people wrote" not in str(error)
    assert "Given up" not in str(error)
    assert asking.warnings == []
    assert seen == [case.status]


@every_case
def test_it_is_asked_again_where_that_may_help(serve: Serve, case: Case) -> None:
    peer = serve(case.say, OK)
    asking = Client(peer.url, request_timeout=patience(case), max_retries=1)
    if case.help is Help.NOTHING:
        asking.fail(largest=100_000)
        assert asking.warnings == []
    else:
        assert asking.ask(largest=100_000).content == GOOD
        (line,) = asking.warnings
        assert case.told in line
        assert re.search(r" Trying again in 0\.0 s \(1 of 1\)\.$", line)


@pytest.mark.parametrize("name", ["403 as a page", "404 as a page", "403 of another API", "502"])
@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_gateway_is_asked_three_times_at_most(serve: Serve, name: str, retries: int) -> None:
    peer = serve(ANSWERS[name].say)
    asking = Client(peer.url, max_retries=9)
    most = retries if name == "502" else min(retries, 2)
    given_up = {0: "", 1: " Given up after 1 retry."}.get(most, f" Given up after {most} retries.")
    said = str(asking.fail(retries=retries))
    assert said.partition(" Given up")[1:] == given_up.partition(" Given up")[1:]
    assert len(peer.requests) == most + 1
    assert len(asking.warnings) == most


def test_what_is_no_json_may_be_good(serve: Serve) -> None:
    peer = serve(
        http(200, b"\0\1", kind="IMAGE/PNG; a=b"),
        as_json(200, {"a": 1}),
        http(200, b"{", kind="application/json"),
        error(200, "not_found"),
        error(404, "not_found"),
        http(404),
    )
    asking = Client(peer.url)
    assert asking.ask(kind="text")[:3] == (None, b"\0\1", "image/png")
    assert asking.ask(kind="text").body == {"a": 1}
    assert asking.ask(kind="text")[:2] == (None, b"{")
    for in_drifts_words in (True, True, False):
        error_ = asking.fail(kind="text")
        assert (error_.status, error_.in_drifts_words) == (404, in_drifts_words)


@pytest.mark.parametrize("type_", ["not_found", "rate_limit", "authentication_error"])
def test_what_people_wrote_into_a_file_is_no_error_of_drifts(serve: Serve, type_: str) -> None:
    words = {"error": {"type": type_, "message": "what people wrote"}}
    peer = serve(as_json(200, words), as_json(206, words), error(404, "not_found", "Drift's own"))
    asking = Client(peer.url)
    answer = asking.ask(kind="file")
    assert (answer.body, json.loads(answer.content)) == (None, words)
    assert "people" not in str(asking.fail(kind="file"))
    assert "Drift's own" in str(asking.fail(kind="file"))


# How long it takes


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("silence", True),
        ("dripping headers", True),
        ("dripping chunks", True),
        ("silence", False),
        ("dripping headers", False),
        ("100 Continue for ever", False),
    ],
)
def test_an_answer_takes_no_longer_than_it_may(serve: Serve, name: str, whole: bool) -> None:  # noqa: FBT001
    asking = Client(serve(ON_THE_WAY[name].say).url, request_timeout=0.5)
    started = time.monotonic()
    asking.fail(whole=whole)
    assert 0.45 < time.monotonic() - started < 0.8


def test_a_file_may_take_long_as_long_as_something_comes(serve: Serve) -> None:
    body = b"%050d" % 1
    peer = serve(
        dripping(body, start=http(200, body)[: -len(body)]),
        dripping(b" ", 9.0, start=http(200, body)[:-2]),
    )
    asking = Client(peer.url, request_timeout=0.3)
    assert asking.ask(kind="file", whole=False).content == body
    assert TIMED_OUT in str(asking.fail(kind="file", whole=False))


def deflated(size: int) -> bytes:
    return zlib.compress(b" " * size, 9)


@pytest.mark.parametrize(
    "bomb",
    [
        http(200, gzip.compress(b" " * 50_000_000), {"Content-Encoding": "gzip"}),
        http(200, deflated(50_000_000), {"Content-Encoding": "deflate"}),
        http(
            200, gzip.compress(gzip.compress(b" " * 99_000_000)), {"Content-Encoding": "gzip, gzip"}
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"%x\r\n" % len(gzip.compress(b" " * 50_000_000))
            + gzip.compress(b" " * 50_000_000)
            + b"\r\n0\r\n\r\n"
        ),
    ],
    ids=["gzip", "deflate", "twice", "in a chunk"],
)
def test_what_is_packed_takes_no_more_memory_than_it_may(serve: Serve, bomb: bytes) -> None:
    asking = Client(serve(bomb).url)
    tracemalloc.start()
    try:
        assert "more than 1.0 MB" in str(asking.fail(largest=1_000_000))
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_what_is_packed_well_is_good(serve: Serve) -> None:
    body = json.dumps({"data": ["x" * 300_000]}).encode()
    packed = {
        "gzip": [gzip.compress(body), gzip.compress(body) + b"\0" * 9],
        "deflate": [zlib.compress(body), zlib.compress(body, wbits=-15)],
        "gzip, deflate": [
            zlib.compress(gzip.compress(body)),
            zlib.compress(gzip.compress(body) + b"\0" * 9),
        ],
    }
    says = [
        http(200, one, {"Content-Encoding": name}) for name, ones in packed.items() for one in ones
    ]
    peer = serve(*says)
    for _ in says:
        assert Client(peer.url).ask().content == body


def test_nothing_needs_no_unpacking(serve: Serve) -> None:
    peer = serve(http(429, b"", {"Content-Encoding": "gzip"}))
    assert Client(peer.url).fail().status == 429
    assert b"Accept-Encoding: gzip, deflate\r\n" in peer.requests[0]


# Waiting


def http_date(seconds: float) -> str:
    return email.utils.formatdate(NOW / 1000 + seconds, usegmt=True)


def real_date(seconds: float) -> str:
    then = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
    return email.utils.format_datetime(then, usegmt=True)


@pytest.mark.parametrize("status", [429, 503, 403])
@pytest.mark.parametrize(
    ("asked", "wait"),
    [
        ("0", 0.0),
        ("00000", 0.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("86400", 86_400.0),
        ("9" * 5000, 1e9),
        (http_date(60), 60.0),
        (http_date(-60), 0.0),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 2_688_568_319.0),
        ("-5", None),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("1e3", None),
        ("\N{SUPERSCRIPT TWO}", None),
        ("", None),
    ],
)
def test_what_an_answer_asks_to_wait_is_read_by_its_own_clock(
    serve: Serve, status: int, asked: str, wait: float | None
) -> None:
    peer = serve(http(status, b"", {"Retry-After": asked, **DATE}))
    assert Client(peer.url).fail().wait == wait


def test_a_date_without_a_clock_is_held_against_this_machines(serve: Serve) -> None:
    peer = serve(http(503, b"", {"Retry-After": real_date(100)}))
    wait = Client(peer.url).fail().wait
    assert wait is not None
    assert 98 < wait < 101


@pytest.mark.parametrize(
    "asked", ["0", "-1", real_date(-900)], ids=["nothing", "less than nothing", "a past date"]
)
def test_a_wait_of_nothing_does_not_use_up_the_retries(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    monkeypatch.setattr(drift_module, "FIRST_BACKOFF", 0.05)
    peer = serve(*[http(503, b"", {"Retry-After": asked})] * 4, OK)
    asking = Client(peer.url, max_retries=4)
    started = time.monotonic()
    asking.ask()
    assert time.monotonic() - started > 0.75 * 0.05 * (1 + 2 + 4 + 8)


def test_a_wait_that_is_asked_for_is_waited(serve: Serve) -> None:
    peer = serve(http(503, b"", {"Retry-After": "1"}), OK)
    asking = Client(peer.url, max_retries=1)
    started = time.monotonic()
    asking.ask()
    assert time.monotonic() - started >= 1
    assert asking.warnings[0].endswith(" Trying again in 1.0 s (1 of 1).")


@pytest.mark.parametrize("status", [429, 503, 200, 403])
@pytest.mark.parametrize(
    ("asked", "told"), [("86400", "86,400 s"), (http_date(301), "301 s"), ("301", "301 s")]
)
def test_a_wait_that_is_too_long_ends_the_request_at_once(
    serve: Serve, status: int, asked: str, told: str
) -> None:
    peer = serve(http(status, b"", {"Retry-After": asked, **DATE}))
    asking = Client(peer.url, max_retries=5)
    error = asking.fail()
    assert f"Drift answered {status} with text/html" in str(error)
    assert f"It asks to wait {told}" in str(error)
    assert error.help is Help.NOTHING
    assert len(peer.requests) == 1
    assert asking.warnings == []


def test_a_rate_limit_is_waited_out_whatever_max_retries_says(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift_module, "LEAST_SECONDS_FOR_429", 1.0)
    opens = time.monotonic() + 0.6

    def window(connection: socket.socket) -> None:
        connection.sendall(OK if time.monotonic() > opens else http(429))

    asking = Client(serve(window).url, max_retries=1)
    assert asking.ask().content == GOOD
    assert len(asking.warnings) > 3
    assert asking.warnings[0].endswith("(1 of 1).")
    assert asking.warnings[1].endswith("(being asked to slow down is no failure).")


def test_a_rate_limit_that_lasts_is_a_failure_in_the_end(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift_module, "LEAST_SECONDS_FOR_429", 0.3)
    peer = serve(http(429))
    asking = Client(peer.url, max_retries=1)
    started = time.monotonic()
    made = len(peer.requests)
    assert re.search(r"Given up after \d+ retries\.$", str(asking.fail()))
    assert 0.3 < time.monotonic() - started < 1.5
    made = len(peer.requests)
    asking.fail(retries=0)
    assert len(peer.requests) == made + 1


def test_being_asked_to_slow_down_uses_up_no_retry(serve: Serve) -> None:
    peer = serve(http(429), http(503), http(429), http(503), OK)
    asking = Client(peer.url, max_retries=2)
    assert asking.ask().content == GOOD
    assert len(asking.warnings) == 4


@pytest.mark.parametrize("pauses", [True, False])
def test_while_drift_asks_to_wait_all_requests_wait(serve: Serve, pauses: bool) -> None:  # noqa: FBT001
    peer = serve(http(503, b"", {"Retry-After": "1"}), OK)
    asking = Client(peer.url, max_retries=1)
    first = threading.Thread(target=lambda: asking.ask(pauses=pauses))
    first.start()
    while not asking.warnings:
        time.sleep(0.005)
    started = time.monotonic()
    asking.ask()
    assert (time.monotonic() - started > 0.8) == pauses
    first.join()


def test_no_more_requests_start_than_allowed(serve: Serve) -> None:
    asking = Client(serve(OK).url, requests_per_minute=600)
    started = time.monotonic()
    for _ in range(4):
        asking.ask()
    assert 0.29 < time.monotonic() - started < 1


def test_a_stream_that_failed_asks_no_more(serve: Serve) -> None:
    peer = serve(http(503))
    asking = Client(peer.url, max_retries=5)
    with pytest.raises(DriftError, match="the stream has failed already"):
        asking.ask(stop=lambda: len(peer.requests) == 2)
    assert len(peer.requests) == 2


# Connections


def test_a_connection_is_kept(serve: Serve) -> None:
    peer = serve(OK)
    asking = Client(peer.url)
    for _ in range(5):
        asking.ask()
    assert peer.connections == 1


@pytest.mark.parametrize("farewell", [hang_up, reset])
def test_a_kept_connection_that_is_closed_costs_nothing(serve: Serve, farewell: Say) -> None:
    # The server takes each second request of a connection, and hangs up: nobody can know before.
    peer = serve(*[OK, farewell] * 5)
    asking = Client(peer.url, max_retries=0)
    seen: list[int | None] = []
    for _ in range(5):
        assert asking.ask(observe=lambda status, _: seen.append(status)).content == GOOD
    assert asking.warnings == []
    assert seen == [200] * 5


def test_kept_connections_that_are_all_closed_cost_nothing(serve: Serve) -> None:
    at_once = threading.Barrier(3)

    def together(connection: socket.socket) -> None:
        at_once.wait(5)
        connection.sendall(OK)
        connection.recv(2**16)

    peer = serve(together, together, together, OK)
    asking = Client(peer.url, connections=3)
    threads = [threading.Thread(target=asking.ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert peer.connections == 3
    assert asking.ask().content == GOOD


@pytest.mark.parametrize(
    "begin", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["a letter", "100 Continue"]
)
def test_an_answer_that_began_on_a_kept_connection_did_not_cost_nothing(
    serve: Serve, begin: bytes
) -> None:
    peer = serve(OK, then_hang_up(begin), OK)
    asking = Client(peer.url, max_retries=1)
    asking.ask()
    asking.ask()
    assert len(asking.warnings) == 1


def test_a_new_connection_that_is_closed_counts(serve: Serve) -> None:
    peer = serve(OK, hang_up)
    asking = Client(peer.url)
    asking.ask()
    assert BROKE_OFF in str(asking.fail())
    assert len(peer.requests) == 3


def test_what_announces_an_answer_is_not_mixed_up_with_the_next(serve: Serve) -> None:
    def late(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        time.sleep(0.1)
        connection.sendall(as_json(200, "of the first"))
        connection.recv(2**16)

    peer = serve(late, as_json(200, "of the second"))
    asking = Client(peer.url)
    asking.fail()
    time.sleep(0.05)
    assert asking.ask().body == "of the second"


def test_a_port_where_nobody_listens_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = Client(f"http://127.0.0.1:{port}").fail()
    assert f"127.0.0.1:{port} refused the connection. Is api_url right?" in str(error)
    assert (error.help, error.status) == (Help.AGAIN, None)


def test_a_host_that_takes_no_connection_is_named() -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # nobody accepts them, so there is no room for another
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003
            waiting.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        error = Client(url, request_timeout=0.3).fail()
    assert "no connection to 127.0.0.1 within 0.3 s." in str(error)
    assert error.help is Help.AGAIN


def test_a_host_that_is_not_found_is_named() -> None:
    error = Client("https://no-such-host.invalid").fail()
    assert "the host name no-such-host.invalid can't be resolved" in str(error)
    assert error.help is Help.AGAIN


def test_an_address_without_a_way_is_named() -> None:
    error = Client("http://255.255.255.255:9").fail()
    assert "there is no way from this machine to 255.255.255.255 (" in str(error)


# Certificates


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def no_authorities(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_certificate_that_is_not_trusted_is_named(
    serve: Serve, tls: ssl.SSLContext, no_authorities: pytest.MonkeyPatch
) -> None:
    peer = serve(OK, tls=tls)
    error = Client(peer.url, max_retries=5).fail()
    assert "the connection to 127.0.0.1 is not safe (" in str(error)
    assert "local issuer certificate), so the token was not sent. " in str(error)
    assert "REQUESTS_CA_BUNDLE, SSL_CERT_FILE or SSL_CERT_DIR" in str(error)
    assert error.help is Help.NOTHING
    assert peer.requests == []


def test_certificates_that_the_environment_names_are_trusted(
    serve: Serve,
    authority: trustme.CA,
    tls: ssl.SSLContext,
    no_authorities: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    peer, file, folder = serve(OK, tls=tls), tmp_path / "ca.pem", tmp_path / "hashed"
    authority.cert_pem.write_to_path(file)
    folder.mkdir()
    hashed = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", file],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    authority.cert_pem.write_to_path(folder / f"{hashed.stdout.strip()}.0")
    for name, place in {
        "REQUESTS_CA_BUNDLE": file,
        "CURL_CA_BUNDLE": file,
        "SSL_CERT_FILE": file,
        "SSL_CERT_DIR": f"{tmp_path}/none:{folder}",
    }.items():
        no_authorities.setenv(name, str(place))
        assert Client(peer.url).ask().content == GOOD
        no_authorities.setenv(name, str(tmp_path / "elsewhere"))
        error = Client(peer.url).fail()
        assert "this machine's settings name certificates that do not exist. " in str(error)
        no_authorities.delenv(name)


def test_certificates_that_are_none_are_named(
    serve: Serve, tls: ssl.SSLContext, no_authorities: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    no_authorities.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    error = Client(serve(OK, tls=tls).url).fail()
    assert "no safe connection to 127.0.0.1 comes about (" in str(error)
    assert "SSL_CERT_FILE" in str(error)
    assert error.help is Help.NOTHING


def test_an_encrypted_answer_keeps_to_its_limits_too(
    serve: Serve,
    authority: trustme.CA,
    tls: ssl.SSLContext,
    no_authorities: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    no_authorities.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    for name in ("silence", "dripping headers", "hung up in the body", "a body without end"):
        case = ON_THE_WAY[name]
        asking = Client(serve(case.say, tls=tls).url, request_timeout=patience(case))
        error = asking.fail(largest=100_000)
        assert case.told in str(error)
    peer = serve(OK, hang_up, OK, tls=tls)
    asking = Client(peer.url)
    assert [asking.ask().content, asking.ask().content] == [GOOD, GOOD]


def test_a_server_that_speaks_no_tls_is_named(serve: Serve) -> None:
    peer = serve(OK)
    error = Client(peer.url.replace("http:", "https:")).fail()
    assert "no safe connection to 127.0.0.1 comes about (" in str(error)
    assert error.help is Help.NOTHING


# Proxies

PASSWORD = "pass-word-of-proxy"  # noqa: S105


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1.2.3"])
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_this_machine_is_never_reached_through_a_proxy(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, host: str, variable: str
) -> None:
    peer, proxy = serve(OK), serve(OK)
    monkeypatch.setenv(variable, proxy.url)
    if host == "127.1.2.3" and sys.platform != "linux":
        pytest.skip("only Linux answers to all of 127/8")
    with contextlib.suppress(DriftError):
        Client(peer.url.replace("127.0.0.1", host)).ask()
    assert proxy.connections == 0


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    "proxy",
    [
        f"http://user:{PASSWORD}@host:port",
        f"http://user:{PASSWORD}@[::1",
        f"http://user:{PASSWORD}@",
        f"http://user:{PASSWORD}@host:99999999",
        f"gopher://user:{PASSWORD}@host:1",
        f"socks9://user:{PASSWORD}@host:1",
        f"http://user:{PASSWORD}@ho st:1",
        f"http://user:{PASSWORD}€@host:1",
        f"user:{PASSWORD}@:1",
    ],
)
def test_a_proxy_that_can_not_be_used_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str, proxy: str
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(variable, proxy)
    error = Client("https://driftapi.invalid", max_retries=5).fail()
    assert str(error).startswith(f"the proxy in the environment variable {variable} can't be used.")
    assert error.help is Help.NOTHING
    assert PASSWORD not in str(error) + caplog.text


PROXIES = {
    "refused": (None, "the proxy that this machine's settings name takes no connection."),
    "wants a password": (
        http(407),
        "settings name lets nothing through: it answers 407.",
    ),
    "hangs up": (hang_up, "the connection to driftapi.invalid (through a proxy) broke off"),
    "drips": (dripping(http(200)), "no whole answer within 0.3 s (request_timeout)."),
}


@pytest.mark.parametrize(("say", "told"), PROXIES.values(), ids=PROXIES.keys())
def test_a_proxy_that_does_not_work_is_named(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, say: Say | None, told: str
) -> None:
    peer = serve(say or OK)
    if say is None:
        peer.close()
    monkeypatch.setenv("HTTPS_PROXY", peer.url.replace("//", f"//user:{PASSWORD}@"))
    patience = 0.3 if "0.3 s" in told else 10
    asking = Client("https://driftapi.invalid", request_timeout=patience, max_retries=1)
    error = asking.fail()
    assert told in str(error)
    assert error.help in {Help.AGAIN, Help.LESS}
    assert PASSWORD not in str(error) + str(asking.warnings)
    assert all(b"CONNECT driftapi.invalid:443" in head for head in peer.requests)
    assert all(TOKEN.encode() not in head for head in peer.requests)


def test_what_no_proxy_names_is_reached_without_one(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve(OK)
    monkeypatch.setenv("ALL_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "driftapi.invalid")
    assert "can't be resolved" in str(Client("https://driftapi.invalid").fail())
    assert proxy.connections == 0


# Secrets


ECHO = f"Bearer {TOKEN.upper()} \x1b[31mis not\nwelcome \ud83d"


@pytest.mark.parametrize(
    "say",
    [
        error(401, "authentication_error", ECHO),
        error(500, TOKEN, ECHO),
        as_json(400, {"errors": [{"type": {"a": TOKEN}, "message": [ECHO], "param": TOKEN}]}),
        *(error(401, "t", ("words " * 60)[:length] + TOKEN) for length in (250, 254, 270, 288)),
        http(302, b"", {"Location": f"https://{TOKEN}.example.com/"}),
        http(400, b"", kind=TOKEN),
        http(400, b"", kind="\x1b[31m" + "a" * 5000),
        http(302, b"", {"Location": f"https://{'a' * 5000}.example.com/"}),
        http(400, b"", kind="a" * 95 + TOKEN),
        then_hang_up(f"HTTP/1.1 {TOKEN}\r\n\r\n".encode()),
        http(200, b"", {"Content-length": TOKEN, "Content-Encoding": "gzip"}),
    ],
)
def test_no_line_holds_the_token_or_what_can_not_be_printed(
    serve: Serve, caplog: pytest.LogCaptureFixture, say: Say
) -> None:
    asking = Client(serve(say).url, max_retries=1)
    said = str(asking.fail())
    assert len(said) < 600
    assert TOKEN.lower()[:12] not in said.lower()
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    "headers", [b"no colon at all\r\n", b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"]
)
def test_urllib3_says_nothing_of_its_own(
    serve: Serve, caplog: pytest.LogCaptureFixture, headers: bytes
) -> None:
    peer = serve(then_hang_up(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n2\r\n{}\r\n0\r\n\r\n"))
    with contextlib.suppress(DriftError):
        Client(peer.url).ask()
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


def test_a_cookie_is_not_sent_back(serve: Serve) -> None:
    peer = serve(http(200, GOOD, {"Set-Cookie": "a=b; Path=/"}))
    for _ in range(2):
        asking = Client(peer.url)
        asking.ask()
        again = requests.Request("GET", peer.url)
        asking.drift.ask(asking.drift.session.prepare_request(again), scope="", warn=print)
    assert all(b"ookie" not in head for head in peer.requests)


def test_netrc_does_not_replace_the_token(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("default login me password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    peer = serve(OK)
    Client(peer.url).ask()
    assert f"Bearer {TOKEN}".encode() in peer.requests[0]


def test_no_singer_and_no_limiter_is_imported_for_it() -> None:
    code = (
        "import sys, tap_drift.drift as d;"
        "d.Drift(token='t', request_timeout=1, max_retries=0, connections=1,"
        " requests_per_minute=None);"
        "print({'singer_sdk', 'pyrate_limiter', 'backoff'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
