"""The list of conversations, in every form that it has been documented or seen in."""

from __future__ import annotations

import base64
import bisect
import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, Literal, Self, get_args
from urllib.parse import parse_qs, urlencode

from tests.sandbox.answer import as_json, errors
from tests.sandbox.items import STATUSES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkzeug.datastructures import MultiDict
    from werkzeug.wrappers import Request, Response

    from tests.sandbox.organisation import Row
    from tests.sandbox.server import Sandbox

Cursor = Literal["offset", "id", "keyset"]
Form = Literal["both", "next", "links", "blank"]
FORMS: tuple[Form, ...] = get_args(Form)
Way = Literal["offset", "id", "keyset", "both", "links", "blank"]
"""A form of the list; or the kind of `next` of a list that has nothing but that."""


def settings_of(way: Way) -> dict[str, Any]:
    """What a sandbox has to be told."""
    return {"form": way} if way in FORMS else {"form": "next", "cursor": way}


LAST_PAGINATION: Mapping[str, dict[str, Any]] = {
    "absent": {},
    "null": {"pagination": None},
    "more": {"pagination": {"more": False}},
    "next null": {"pagination": {"more": False, "next": None}},
    "next empty": {"pagination": {"more": False, "next": ""}},
}
LAST_LINKS: Mapping[str, dict[str, Any] | None] = {
    "absent": None,
    "null": None,
    "self": {},
    "next null": {"next": None},
    "next empty": {"next": ""},
}
LAST_PAGES: list[tuple[str, str]] = list(itertools.product(LAST_PAGINATION, LAST_LINKS))
"""Every form of a last page: of its `pagination` and of its `links`."""


class _RefusedError(ValueError):
    """What was asked for does not exist: the message, and the parameter."""


@dataclasses.dataclass(frozen=True)
class Token:
    """A `page_token`, as the only one that was ever seen live: a place in the order."""

    statuses: frozenset[int]
    updated_at: int
    id: int
    limit: int

    def __str__(self) -> str:
        ids = ",".join(map(str, sorted(self.statuses)))
        place = f"highestUpdatedAt={self.updated_at}&highestId={self.id}"
        return _pack(f"statusIds={ids}&{place}&limit={self.limit}")

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises `ValueError` if it is no token."""
        parts = parse_qs(_unpack(text), keep_blank_values=True, strict_parsing=True)
        try:
            ids = [int(id_) for id_ in parts["statusIds"][0].split(",") if id_]
            numbers = [int(parts[n][0]) for n in ("highestUpdatedAt", "highestId", "limit")]
        except KeyError:
            raise ValueError(text) from None
        return cls(frozenset(ids), *numbers)


@dataclasses.dataclass(frozen=True)
class Page:
    """What was asked for."""

    statuses: frozenset[int]
    limit: int
    start: int
    """How many rows stand above."""


def conversation_list(sandbox: Sandbox, request: Request) -> Response:
    """A page; what a host does not know, of `next` and `page_token`, it ignores."""
    try:
        page = asked(sandbox, request.args)
    except _RefusedError as refused:
        return errors("validation_error", *refused.args)
    listing = sandbox.account.listing(page.statuses)
    rows = listing[page.start : page.start + page.limit]
    if page.start + page.limit < len(listing):
        next_ = cursor_below(sandbox, rows[-1], page.start + page.limit)
        token = Token(page.statuses, rows[-1]["updatedAt"], rows[-1]["id"], page.limit)
        more = ways(sandbox, request, page, rows, (next_, str(token)))
    else:
        more = ways(sandbox, request, page, rows)
    return as_json({"data": rows} | more)


def asked(sandbox: Sandbox, args: MultiDict[str, str]) -> Page:
    """What a request asks for; where it has both a token and a `next`, the token counts."""
    try:
        limit = int(args.get("limit", 25))
        statuses = frozenset(map(int, args.getlist("statusId")))
    except ValueError:
        message = "not a number"
        raise _RefusedError(message, "limit") from None
    text = args.get("page_token", "") if sandbox.form != "next" else ""
    token = _token(text) if text else None
    if token:
        statuses = token.statuses
        limit = token.limit if sandbox.token_keeps_limit or "limit" not in args else limit
    if not 1 <= limit <= sandbox.largest_page:
        message = f"must be between 1 and {sandbox.largest_page}"
        raise _RefusedError(message, "limit")
    if not statuses <= set(STATUSES.values()):
        message = "unknown status"
        raise _RefusedError(message, "statusId")
    listing = sandbox.account.listing(statuses)
    if token:
        return Page(statuses, limit, _below(listing, token.updated_at, token.id))
    counts = sandbox.form in {"next", "both"} and "page_token" not in args
    start = _position(sandbox.cursor, listing, args.get("next")) if counts else 0
    if start is None:
        message = "unknown cursor"
        raise _RefusedError(message, "next")
    return Page(statuses, limit, start)


def ways(
    sandbox: Sandbox,
    request: Request,
    page: Page,
    rows: list[Row],
    below: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """What an answer says of the page below.

    Args:
        sandbox: Whose form of the list it is.
        request: What is answered.
        page: What it asks for.
        rows: What it is given.
        below: The `next` and the token of the page below; nothing if the page is the last one.
    """
    pagination, links = sandbox.last_page
    answer: dict[str, Any] = {}
    if sandbox.form in {"next", "both"}:
        answer = dict(LAST_PAGINATION[pagination])
        if below:
            answer = {"pagination": {"more": True, "next": below[0]}}
    if sandbox.form in {"links", "both"} or (
        sandbox.form == "blank" and "page_token" in request.args
    ):
        own = request.args.get("page_token", "")
        if rows:
            first = rows[0]["updatedAt"], rows[0]["id"] - 1
            own = str(Token(page.statuses, *first, page.limit))
        last = LAST_LINKS[links]
        if below:
            answer["links"] = {"self": _link(sandbox, own), "next": _link(sandbox, below[1])}
        elif last is not None:
            answer["links"] = {"self": _link(sandbox, own)} | last
        elif links == "null":
            answer["links"] = None
    return answer


def cursor_below(sandbox: Sandbox, row: Row, offset: int) -> str:
    """The `next` of the page below a row, with so many rows above that page."""
    if sandbox.cursor == "offset":
        return str(offset)
    if sandbox.cursor == "id":
        return str(row["id"])
    return _pack(f"highestUpdatedAt={row['updatedAt']}&highestId={row['id']}")


def _position(kind: Cursor, listing: list[Row], cursor: str | None) -> int | None:
    """Where the page begins that a `next` asks for; `None` if there is no such cursor."""
    if not cursor:
        return 0
    if kind == "keyset":
        try:
            updated_at, id_ = (int(part.partition("=")[2]) for part in _unpack(cursor).split("&"))
        except ValueError:
            return None
        return _below(listing, updated_at, id_)
    if not cursor.isdecimal():
        return None
    if kind == "offset":
        return int(cursor)
    ids = [row["id"] for row in listing]
    return ids.index(int(cursor)) + 1 if int(cursor) in ids else None


def _token(text: str) -> Token:
    try:
        return Token.read(text)
    except ValueError:
        message = "unknown cursor"
        raise _RefusedError(message, "page_token") from None


def _below(listing: list[Row], updated_at: int, id_: int) -> int:
    """How many rows stand at or above a place in the order."""
    place = (-updated_at, id_)
    return bisect.bisect_right(listing, place, key=lambda row: (-row["updatedAt"], row["id"]))


def _link(sandbox: Sandbox, token: str) -> str:
    return f"{sandbox.links_to}/conversations/list?{urlencode({'page_token': token})}"


def _pack(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _unpack(text: str) -> str:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
