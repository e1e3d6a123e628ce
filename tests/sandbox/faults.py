"""What may go wrong: given to a sandbox, instead of an answer or before it."""

from __future__ import annotations

import collections
import json
import re
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from werkzeug.wrappers import Request, Response

from tests.sandbox.answer import as_json, error, errors
from tests.sandbox.listing import Token, asked, cursor_below, ways
from tests.sandbox.organisation import PERSONAL

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from tests.sandbox.account import Account
    from tests.sandbox.server import Sandbox

Fault = Callable[["Sandbox", Request], Response | None]
"""What gives no answer lets the request through."""

LIST = "/conversations/list"

# Answers


def answers(response: Response) -> Callable[[Sandbox, Request], Response]:
    """Give this answer instead."""
    return lambda sandbox, request: response


def html(status: int = 503) -> Callable[[Sandbox, Request], Response]:
    """A page for people, from a gateway in between."""
    page = f"<html><body>Service unavailable. {PERSONAL}</body></html>"
    return answers(Response(page, status, mimetype="text/html"))


def edited(edit: Callable[[Any], object]) -> Fault:
    """Change the document that would be the answer."""

    def fault(sandbox: Sandbox, request: Request) -> Response:
        body = json.loads(sandbox.answer(request).get_data())
        edit(body)
        return as_json(body)

    return fault


def changing(change: Callable[[Account], object]) -> Callable[[Sandbox, Request], None]:
    """Let something happen in the account, then answer."""

    def fault(sandbox: Sandbox, request: Request) -> None:
        with sandbox.lock:
            change(sandbox.account)

    return fault


# When


def since(number: int, fault: Fault) -> Fault:
    """From this request on, and until the fault is lifted."""
    return lambda drift, request: fault(drift, request) if len(drift.requests) >= number else None


def first_of(*faults: Fault) -> Fault:
    """Whichever of these gives an answer first."""

    def fault(sandbox: Sandbox, request: Request) -> Response | None:
        return next((got for one in faults if (got := one(sandbox, request))), None)

    return fault


def items_never_load(ids: Collection[int], instead: Response | Fault) -> Fault:
    """Answer like this whatever is asked of these conversations, contacts or attachments."""
    instead_ = answers(instead) if isinstance(instead, Response) else instead

    def fault(sandbox: Sandbox, request: Request) -> Response | None:
        item = re.match(r"/(?:conversations|contacts|attachments)/(\d+)(?:/|$)", request.path)
        return instead_(sandbox, request) if item and int(item[1]) in ids else None

    return fault


# The list


def counts_time_out(below: int, *, hang: bool = False) -> Fault:
    """What Drift calls a known limitation: pages by `next` with so many rows above, or more.

    Args:
        below: From how many rows on.
        hang: Give no answer at all instead of a gateway's 504.
    """

    def fault(sandbox: Sandbox, request: Request) -> Response | None:
        counted = request.path == LIST and request.args.get("next")
        if not counted or request.args.get("page_token"):
            return None
        try:
            deep = asked(sandbox, request.args).start >= below
        except ValueError:
            return None
        if deep and hang:
            slow(sandbox, request)
        return html(504)(sandbox, request) if deep else None

    return fault


def tokens_refused(status: int = 400) -> Fault:
    """No page by token; an empty one is none."""

    def fault(sandbox: Sandbox, request: Request) -> Response | None:
        if request.path != LIST or not request.args.get("page_token"):
            return None
        if status == 400:
            return errors("validation_error", "unknown cursor", "page_token")
        return error(status, "not_found", "No such page")

    return fault


def tokens_ignored(sandbox: Sandbox, request: Request) -> Response | None:
    """Whatever the token, the head."""
    if request.path != LIST or not request.args.get("page_token"):
        return None
    args = request.args.copy()
    args.pop("next", None)
    args["page_token"] = ""
    environ = request.environ | {"QUERY_STRING": urlencode(list(args.items(multi=True)))}
    return sandbox.answer(Request(environ))


def without_pagination(sandbox: Sandbox, request: Request) -> Response:
    """Not a word of the page below, by mistake."""

    def forget(body: Any) -> None:
        body.pop("pagination", None)
        body.pop("links", None)

    answer = edited(forget)(sandbox, request)
    assert answer
    return answer


def dated(times: Mapping[int, Any]) -> Fault:
    """Show rows of the list with an `updatedAt` that is not theirs, where they stand."""

    def date(body: Any) -> None:
        for row in body.get("data", []):
            row["updatedAt"] = times.get(row["id"], row["updatedAt"])

    edit = edited(date)
    return lambda sandbox, request: edit(sandbox, request) if request.path == LIST else None


def never_ending(pages: int) -> Fault:
    """A new cursor with every page of the list, of messages, of accounts, but nothing new.

    Args:
        pages: How many pages come round again and again; 0 for empty pages.
    """
    asked_for: collections.Counter[str] = collections.Counter()

    def fault(sandbox: Sandbox, request: Request) -> Response | None:
        if not re.fullmatch(r"/accounts|/conversations/(list|\d+/messages)", request.path):
            return None
        with sandbox.lock:
            number = asked_for[request.path]
            asked_for[request.path] += 1
            # All pages of a circle have something on them, if they are to differ.
            turn = number % pages if pages else None
            return _round(sandbox, request, number, turn)

    return fault


def _round(sandbox: Sandbox, request: Request, number: int, turn: int | None) -> Response:
    def page(rows: list[Any], size: int) -> list[Any]:
        return [] if turn is None else rows[turn * size : (turn + 1) * size]

    account = sandbox.account
    if request.path == "/accounts":
        size = int(request.args.get("size", 10))
        rows = page(account.accounts(), size)
        next_ = f"/accounts?index={(number + 1) * size}&size={size}"
        return as_json({"data": {"accounts": rows, "total": 150, "next": next_}})
    if request.path == LIST:
        args = request.args.copy()
        args.pop("next", None)
        try:
            wanted = asked(sandbox, args)
        except ValueError:
            return sandbox.answer(request)
        rows = page(account.listing(wanted.statuses), wanted.limit)
        made_up = {"id": number + 1, "updatedAt": account.now - number}
        next_ = cursor_below(sandbox, made_up, (number + 1) * wanted.limit)
        token = Token(wanted.statuses, made_up["updatedAt"], made_up["id"], wanted.limit)
        return as_json({"data": rows} | ways(sandbox, request, wanted, rows, (next_, str(token))))
    rows = page(account.messages(int(request.path.split("/")[2])), 50)
    pagination = {"more": True, "next": str((number + 1) * 50)}
    return as_json({"data": {"messages": rows}, "pagination": pagination})


# The wire


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


def drip(seconds: float, size: int = 1, *, headers: bool = False) -> Fault:
    """The right answer, at one byte in so many seconds.

    Args:
        seconds: How long a byte takes.
        size: How many bytes come at once.
        headers: Let the headers drip too, not only the body.
    """

    def fault(sandbox: Sandbox, request: Request) -> Response:
        right = sandbox.answer(request)
        whole = right.get_data()
        if headers:
            right.date = sandbox.date()
            lines = [f"HTTP/1.1 {right.status}", *(f"{k}: {v}" for k, v in right.headers), "", ""]
            head = "\r\n".join(lines).encode()
            return _by_hand(sandbox, request, _pieces(head + whole, size), seconds)
        slowly = Response(
            _timed(sandbox, _pieces(whole, size), seconds), right.status, right.headers
        )
        slowly.headers["Content-Length"] = str(len(whole))
        return slowly

    return fault


def continues(seconds: float) -> Fault:
    """`100 Continue`, again and again."""

    def forever() -> Iterator[bytes]:
        while True:
            yield b"HTTP/1.1 100 Continue\r\n\r\n"

    return lambda sandbox, request: _by_hand(sandbox, request, forever(), seconds)


def endless(seconds: float = 0.0, piece: bytes = b" " * 65_536) -> Fault:
    """A body without end: this piece, again and again."""

    def forever() -> Iterator[bytes]:
        while True:
            yield piece

    def fault(sandbox: Sandbox, request: Request) -> Response:
        return Response(_timed(sandbox, forever(), seconds), mimetype="application/json")

    return fault


def encrypt(sandbox: Sandbox, certificate: Path, key: Path) -> str:
    """Speak TLS from now on; gives the URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = sandbox._server  # noqa: SLF001
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return sandbox.url.replace("http:", "https:")


def _pieces(whole: bytes, size: int) -> Iterator[bytes]:
    return (whole[place : place + size] for place in range(0, len(whole), size))


def _timed(sandbox: Sandbox, pieces: Iterable[bytes], seconds: float) -> Iterator[bytes]:
    for piece in pieces:
        if sandbox.closed.wait(seconds):
            return
        yield piece


def _by_hand(
    sandbox: Sandbox, request: Request, pieces: Iterable[bytes], seconds: float
) -> Response:
    """Past the HTTP server, which would not say this; then hang up."""
    connection: socket.socket = request.environ["werkzeug.socket"]
    try:
        for piece in _timed(sandbox, pieces, seconds):
            connection.sendall(piece)
    except OSError:  # whom it was for has left
        return Response()
    return dropped(sandbox, request)
