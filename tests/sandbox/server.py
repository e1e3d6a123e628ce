"""An account behind real HTTP, which can be made to misbehave request by request."""

from __future__ import annotations

import base64
import bisect
import json
import re
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any, Literal, Self

from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from tests.sandbox.account import PERSONAL, STATUSES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.sandbox.account import Account, Row

    Fault = Callable[["Sandbox", Request], Response | None]

Cursor = Literal["offset", "id", "keyset"]

TOKEN = "sandbox-token-0123456789"  # noqa: S105


class Sandbox:
    """Drift's API on a loopback port; a context manager.

    Attributes:
        account: What the API shows.
        cursor: What `pagination.next` is: how many rows stand above, the last row's id, or the
            last row's place in the order.
        faults: What to do instead of answering, by the number of the request, counted from 1. A
            fault that gives no answer lets the request through.
        fault: What to do instead of answering, whatever the number.
        latency: Seconds that every answer takes.
        requests: The path and query of every request, refused ones included.
    """

    def __init__(
        self,
        account: Account,
        *,
        cursor: Cursor = "offset",
        latency: float = 0.0,
        port: int = 0,
    ) -> None:
        self.account = account
        self.cursor = cursor
        self.latency = latency
        self.faults: dict[int, Fault] = {}
        self.fault: Fault | None = None
        self.requests: list[str] = []
        self.under_way = 0
        self.most_under_way = 0
        self.closed = threading.Event()
        self.lock = threading.RLock()
        self._server = make_server(
            "127.0.0.1", port, self._answer_wsgi, threaded=True, request_handler=_QuietHandler
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

    # Answers

    def _answer_wsgi(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
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
        return response(environ, start_response)

    def answer(self, request: Request) -> Response:
        """Answer as Drift documents it."""
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            message = "The access token is invalid or has expired"
            return error(401, "authentication_error", message)
        for pattern, resource in _ROUTES:
            if match := re.fullmatch(pattern, request.path):
                with self.lock:
                    return resource(self, request, *map(int, match.groups()))
        return error(404, "not_found", "No such resource")

    def conversation_list(self, request: Request) -> Response:
        try:
            limit = int(request.args.get("limit", 25))
            statuses = frozenset(map(int, request.args.getlist("statusId")))
        except ValueError:
            return errors("validation_error", "not a number", "limit")
        if not 1 <= limit <= 50:
            return errors("validation_error", "must be between 1 and 50", "limit")
        if not statuses <= set(STATUSES.values()):
            return errors("validation_error", "unknown status", "statusId")
        listing = self.account.listing(statuses)
        start = self._position(listing, request.args.get("next"))
        if start is None:
            return errors("validation_error", "unknown cursor", "next")
        rows = listing[start : start + limit]
        body: dict[str, Any] = {"data": rows}
        if start + limit < len(listing):
            body["pagination"] = {"more": True, "next": self.cursor_below(rows[-1], start + limit)}
        return as_json(body)

    def cursor_below(self, row: Row, offset: int) -> str:
        """The cursor of the page below a row, with so many rows above that page."""
        if self.cursor == "offset":
            return str(offset)
        if self.cursor == "id":
            return str(row["id"])
        place = f"highestUpdatedAt={row['updatedAt']}&highestId={row['id']}"
        return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")

    def _position(self, listing: list[Row], cursor: str | None) -> int | None:
        """Where the page begins that a cursor asks for; `None` if there is no such cursor."""
        if not cursor:
            return 0
        if self.cursor == "keyset":
            try:
                place = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
                updated_at, id_ = (int(part.partition("=")[2]) for part in place.split("&"))
            except ValueError:
                return None
            return bisect.bisect_right(
                listing, (-updated_at, id_), key=lambda row: (-row["updatedAt"], row["id"])
            )
        if not cursor.isdecimal():
            return None
        if self.cursor == "offset":
            return int(cursor)
        ids = [row["id"] for row in listing]
        return ids.index(int(cursor)) + 1 if int(cursor) in ids else None

    def conversation(self, request: Request, id_: int) -> Response:
        if id_ not in self.account.conversations:
            return error(404, "not_found", "No conversation with that id")
        return as_json({"data": self.account.detail(id_)})

    def messages(self, request: Request, id_: int) -> Response:
        if id_ not in self.account.conversations:
            return error(404, "not_found", "No conversation with that id")
        messages = self.account.messages(id_)
        start = int(request.args.get("next") or 0)
        page, below = messages[start : start + 50], start + 50
        more = below < len(messages)
        pagination = {"more": more, "next": str(below)} if more else {"more": False}
        return as_json({"data": {"messages": page}, "pagination": pagination})

    def contact(self, request: Request, id_: int) -> Response:
        contact = self.account.contact(id_)
        if contact is None:
            return error(404, "not_found", "No contact with that id")
        return as_json({"data": contact})

    def users(self, request: Request) -> Response:
        return as_json({"data": self.account.users()})

    def teams(self, request: Request) -> Response:
        return as_json({"data": self.account.teams()})

    def accounts(self, request: Request) -> Response:
        accounts = self.account.accounts()
        start, size = int(request.args.get("index", 0)), int(request.args.get("size", 10))
        if not 1 <= size <= 65:
            return error(400, "validation_error", "size must be between 1 and 65")
        data: dict[str, Any] = {"accounts": accounts[start : start + size], "total": len(accounts)}
        if start + size < len(accounts):
            data["next"] = f"/accounts?index={start + size}&size={size}"
        return as_json({"data": data})

    def playbooks(self, request: Request) -> Response:
        return as_json(self.account.playbooks())


_ROUTES: list[tuple[str, Callable[..., Response]]] = [
    (r"/conversations/list", Sandbox.conversation_list),
    (r"/conversations/(\d+)", Sandbox.conversation),
    (r"/conversations/(\d+)/messages", Sandbox.messages),
    (r"/contacts/(\d+)", Sandbox.contact),
    (r"/users/list", Sandbox.users),
    (r"/teams/org", Sandbox.teams),
    (r"/accounts", Sandbox.accounts),
    (r"/playbooks/list", Sandbox.playbooks),
]


class _QuietHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: the tests look at `requests`."""


# What an answer looks like


def as_json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(body), status, headers, mimetype="application/json")


def error(status: int, type_: str, message: str, headers: dict[str, str] | None = None) -> Response:
    """The shape of Drift's page on errors."""
    return as_json({"error": {"type": type_, "message": message}}, status, headers)


def errors(type_: str, message: str, param: str, status: int = 400) -> Response:
    """The shape of Drift's page on the list."""
    return as_json({"errors": [{"type": type_, "message": message, "param": param}]}, status)


# Faults


def answers(response: Response) -> Callable[[Sandbox, Request], Response]:
    """Give this answer instead."""
    return lambda sandbox, request: response


def html(status: int = 503) -> Callable[[Sandbox, Request], Response]:
    """A page for people, from a gateway in between."""
    page = f"<html><body>Service unavailable. {PERSONAL}</body></html>"
    return answers(Response(page, status, mimetype="text/html"))


def slow(sandbox: Sandbox, request: Request) -> None:
    """Answer so late that nobody waits."""
    sandbox.closed.wait(30)


def dropped(sandbox: Sandbox, request: Request) -> Response:
    """Hang up without an answer."""
    connection: socket.socket = request.environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)
    return Response()


def cut_off(sandbox: Sandbox, request: Request) -> Response:
    """Hang up in the middle of the answer."""
    whole = sandbox.answer(request).get_data()
    half = Response(whole[: len(whole) // 2], mimetype="application/json")
    half.automatically_set_content_length = False
    half.headers["Content-Length"] = str(len(whole))
    return half


def changing(change: Callable[[Account], object]) -> Callable[[Sandbox, Request], None]:
    """Let something happen in the account, then answer."""

    def fault(sandbox: Sandbox, request: Request) -> None:
        with sandbox.lock:
            change(sandbox.account)

    return fault


def since(number: int, fault: Fault) -> Fault:
    """From this request on, and until the fault is lifted."""
    return lambda drift, request: fault(drift, request) if len(drift.requests) >= number else None


def edited(edit: Callable[[Any], object]) -> Fault:
    """Change the document that would be the answer."""

    def fault(sandbox: Sandbox, request: Request) -> Response:
        body = json.loads(sandbox.answer(request).get_data())
        edit(body)
        return as_json(body)

    return fault


def encrypt(sandbox: Sandbox, certificate: Path, key: Path) -> str:
    """Speak TLS from now on; gives the URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = sandbox._server  # noqa: SLF001
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return sandbox.url.replace("http:", "https:")
