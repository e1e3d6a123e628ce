"""An account behind real HTTP, which can be made to misbehave request by request."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import re
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from werkzeug.http import http_date
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from tests.sandbox.answer import as_json, error, errors
from tests.sandbox.faults import (
    Fault,
    answers,
    changing,
    continues,
    counts_time_out,
    cut_off,
    dated,
    drip,
    dropped,
    edited,
    encrypt,
    endless,
    first_of,
    html,
    items_never_load,
    never_ending,
    since,
    slow,
    tokens_ignored,
    tokens_refused,
    without_pagination,
)
from tests.sandbox.listing import (
    LAST_PAGES,
    Cursor,
    Form,
    Token,
    Way,
    cursor_below,
    settings_of,
)
from tests.sandbox.reports import Reports
from tests.sandbox.routes import ROUTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.sandbox.account import Account
    from tests.sandbox.organisation import Row

__all__ = [
    "LAST_PAGES",
    "TOKEN",
    "Cursor",
    "Fault",
    "Form",
    "Request",
    "Response",
    "Sandbox",
    "Token",
    "Way",
    "answers",
    "as_json",
    "changing",
    "continues",
    "counts_time_out",
    "cut_off",
    "dated",
    "drip",
    "dropped",
    "edited",
    "encrypt",
    "endless",
    "error",
    "errors",
    "first_of",
    "html",
    "items_never_load",
    "never_ending",
    "settings_of",
    "since",
    "slow",
    "tokens_ignored",
    "tokens_refused",
    "without_pagination",
]

TOKEN = "sandbox-token-0123456789"  # noqa: S105


@dataclasses.dataclass(eq=False)
class Sandbox:
    """Drift's API on a loopback port; a context manager.

    Attributes:
        account: What the API shows.
        form: How the list says where it goes on: `next` by `pagination.next`, `links` by
            `links.next`, `both` by both; `blank` by `links.next`, but only for those who ask
            with a `page_token`, be it empty.
        cursor: What `pagination.next` is: how many rows stand above, the last row's id, or the
            last row's place in the order.
        last_page: What `pagination` and `links` are on the last page, one of `LAST_PAGES`.
        token_keeps_limit: Whether a `limit` beside a `page_token` is ignored.
        largest_page: The highest `limit` of the list.
        links_to: The host that `links` name.
        latency: Seconds that every answer takes.
        port: Where to listen; 0 for any port.
        clock: What the answers' `Date` is; by default the present, or the account's if later.
        tokens: The access tokens that are valid.
        transcripts_as_json: Whether a transcript is text in JSON.
        reports: How reports are answered.
        token_infos: How often `/app/token_info` was asked, which is none of `requests`.
        token_info_status: What `/app/token_info` answers.
        faults: What to do instead of answering, by the number of the request, counted from 1. A
            fault that gives no answer lets the request through.
        fault: What to do instead of answering, whatever the number.
        requests: The path and query of every request, refused ones included.
    """

    account: Account
    _: dataclasses.KW_ONLY
    cursor: Cursor = "offset"
    form: Form = "both"
    last_page: tuple[str, str] = ("absent", "self")
    token_keeps_limit: bool = False
    largest_page: int = 50
    links_to: str = "https://api.drift.com"
    latency: float = 0.0
    port: int = 0
    clock: Callable[[], dt.datetime] | None = None
    tokens: set[str] = dataclasses.field(default_factory=lambda: {TOKEN})
    token_info_status: int = 200
    transcripts_as_json: bool = False
    reports: Reports = dataclasses.field(default_factory=Reports)
    faults: dict[int, Fault] = dataclasses.field(default_factory=dict)
    fault: Fault | None = None
    requests: list[str] = dataclasses.field(default_factory=list)
    token_infos: int = 0
    under_way: int = 0
    most_under_way: int = 0
    closed: threading.Event = dataclasses.field(default_factory=threading.Event)
    lock: threading.RLock = dataclasses.field(default_factory=threading.RLock)
    _server: BaseWSGIServer = dataclasses.field(init=False)
    _thread: threading.Thread = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self._server = make_server(
            "127.0.0.1", self.port, self._answer_wsgi, threaded=True, request_handler=_QuietHandler
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer_wsgi(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        request.get_data()  # what is left unread would reset the connection when it is closed
        if request.path == "/app/token_info":  # apart, so that the nth request is the nth page
            self.token_infos += 1
            return self.answer(request)(environ, start_response)
        with self.lock:
            self.requests.append(request.full_path.rstrip("?"))
            number = len(self.requests)
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.latency:
                self.closed.wait(self.latency)
            fault = self.faults.get(number) or self.fault
            response = (fault and fault(self, request)) or self.answer(request)
        finally:
            with self.lock:
                self.under_way -= 1

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            # Not set on the response: a fault may give the same one again, at another time.
            if not any(name.lower() == "date" for name, _ in headers):
                headers = [*headers, ("Date", http_date(self.date()))]
            return start_response(status, headers, *more)

        return response(environ, start)

    def date(self) -> dt.datetime:
        """What time it is for the one who answers."""
        if self.clock:
            return self.clock()
        now = max(time.time(), math.ceil(self.account.now / 1000))
        return dt.datetime.fromtimestamp(now, dt.UTC)

    def answer(self, request: Request) -> Response:
        """Answer as Drift documents it."""
        if request.headers.get("Authorization") not in {f"Bearer {one}" for one in self.tokens}:
            message = "The access token is invalid or has expired"
            return error(401, "authentication_error", message)
        for method, pattern, resource in ROUTES:
            match = re.fullmatch(pattern, request.path)
            if match and method == request.method:
                with self.lock:
                    return resource(self, request, *map(int, match.groups()))
        return error(404, "not_found", "No such resource")

    def cursor_below(self, row: Row, offset: int) -> str:
        """The `next` of the page below a row, with so many rows above that page."""
        return cursor_below(self, row, offset)


class _QuietHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: the tests look at `requests`."""

    def send_response(self, code: int, message: str | None = None) -> None:
        """Begin an answer; unlike Python's own, without a `Date`, which the sandbox gives."""
        self.send_response_only(code, message)
        self.send_header("Server", self.version_string())
