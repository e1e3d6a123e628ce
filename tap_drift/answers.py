"""What stands in an answer: rows, and where it goes on.

Forms of pagination are values that a stream declares. A cursor is a query string, such as
`next=150`, `page_token=abc` or `index=65&size=65`.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from singer_sdk.helpers.jsonpath import extract_jsonpath

from tap_drift.bookmark import NEXT
from tap_drift.drift import DriftError
from tap_drift.walk import Circle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

LONGEST_CURSOR = 1000
"""Characters that a cursor has at the most; those that were seen have less than two hundred."""


STARTS_TOLERATED = 4
"""How often the pages of one thing are begun, if rows leave them while they are read."""

Rows: TypeAlias = list[dict[str, Any]]


class Form(Protocol):
    """One form of pagination."""

    @property
    def counter(self) -> str:
        """The parameter of a cursor that may count the rows above the page."""

    @property
    def full(self) -> int:
        """How many rows a page has at the most."""

    def offered(self, body: Any) -> str | None:
        """Find out where the page below is.

        Args:
            body: The JSON document that Drift answered with.

        Returns:
            Its cursor; `None` where this form says of none, in whichever way.

        Raises:
            DriftError: There is more, but the answer does not say where, or in no usable way.
        """


class ByNext(NamedTuple):
    """A value for the parameter `next`, beside `more` (Drift's page on the list)."""

    jsonpath: str
    counter: str = "next"
    full: int = 50

    def offered(self, body: Any) -> str | None:
        """See `Form`."""
        place, _, name = self.jsonpath.rpartition(".")
        pagination = next(extract_jsonpath(place, body), None) or {}
        if not isinstance(pagination, dict):
            raise _not_where(self.jsonpath)
        more, value = pagination.get("more"), pagination.get(name)
        if more is False or (not more and value in (None, "")):
            return None
        if not value or not isinstance(value, (str, int)) or len(str(value)) > LONGEST_CURSOR:
            raise _not_where(self.jsonpath)
        return NEXT + quote(str(value), safe="")


class ByLink(NamedTuple):
    """A URL, of which nothing but the query counts: requests go to `api_url`, whatever its host."""

    jsonpath: str
    counter: str = ""
    full: int = 50
    parameters: tuple[str, ...] = ()
    """The parameters that lead on, if others are there too; the first that the URL has is taken."""

    def offered(self, body: Any) -> str | None:
        """See `Form`."""
        url = next(extract_jsonpath(self.jsonpath, body), None)
        if url in (None, ""):
            return None
        try:
            query = dict(parse_qsl(urlsplit(url).query)) if isinstance(url, str) else {}
        except ValueError:
            query = {}
        if self.parameters:
            query = dict([(name, query[name]) for name in self.parameters if name in query][:1])
        if not query or len(cursor := urlencode(query)) > LONGEST_CURSOR:
            raise _not_where(self.jsonpath)
        return cursor


def offers(body: Any, forms: Iterable[Form], token: str) -> list[str | None]:
    """Say what each form offers; what is wrong with one does not matter if another leads on.

    Args:
        body: The JSON document that Drift answered with.
        forms: Where it may say that it goes on.
        token: The access token, which no cursor may hold: they are kept in STATE.

    Raises:
        DriftError: There is more, but no form says where.
    """
    found: list[str | None] = []
    error = None
    for form in forms:
        try:
            found.append(form.offered(body))
        except DriftError as unusable:
            found.append(None)
            error = unusable
    if error and not any(found):
        raise error
    if any(token in (cursor or "") for cursor in found):
        msg = "Drift says that there is more, but its cursor holds the token."
        raise DriftError(msg, status=HTTPStatus.OK)
    return found


def rows_at(jsonpath: str, body: Any) -> Rows:
    """Find the rows in an answer.

    Args:
        jsonpath: Where the list of rows (ending in `[*]`), or the only row, stands in it.
        body: The JSON document that Drift answered with.

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
        raise DriftError(msg, status=HTTPStatus.OK)
    return rows


def read_pages(
    get: Callable[[str | None], tuple[Rows, str | None]], form: Form | None
) -> Iterator[Rows | None]:
    """Read one page after the other; one without any row is believed when it comes twice.

    Args:
        get: Gives the rows of the page at a cursor (`None`: the first), and the cursor below.
        form: What the cursors are; `None` if there is one page.

    Yields:
        The rows of a page that the page above did not have; `None` where it begins again,
        because rows have left.

    Raises:
        DriftError: Cursors go in circles, or what they lead to changes too fast.
    """
    for _ in range(STARTS_TOLERATED):
        try:
            yield from _pages(get, form)
        except _MovedError:
            yield None
        else:
            return
    msg = "the pages change faster than they can be read."
    raise DriftError(msg, status=HTTPStatus.OK)


def _pages(
    get: Callable[[str | None], tuple[Rows, str | None]], form: Form | None
) -> Iterator[Rows]:
    """Read from the first page to an end that shows twice, if its page is full or has no row.

    Where cursors count rows, a page is asked for so much higher that it begins with the last row
    of the page above; if it does not, rows have left, and others have moved up.
    """
    cursor: str | None = None
    overlap: Rows = []
    above, circle, end = 0, Circle(), None
    while True:
        rows, below = get(cursor)
        circle = circle.after(rows)
        if circle.is_closed:
            msg = "Drift's pages go in circles."
            raise DriftError(msg, status=HTTPStatus.OK)
        if rows[: len(overlap)] != overlap:
            raise _MovedError
        is_odd = below is None and (not rows or (form is not None and len(rows) >= form.full))
        if is_odd and rows != end:
            end = rows
            continue
        yield rows[len(overlap) :]
        if not form or below is None:
            return
        above += len(rows) - len(overlap)
        cursor, overlap = below, []
        if len(rows) > 1 and (higher := counted(below, form.counter, above)):
            cursor, overlap = higher, rows[-1:]


class _MovedError(Exception):
    """A page does not begin with the last row of the page above."""


def counted(cursor: str, counter: str, above: int) -> str | None:
    """Ask for one row more at the beginning of a page.

    Args:
        cursor: Where Drift says that the page is.
        counter: The parameter that may count rows.
        above: How many rows stand above the page.

    Returns:
        The cursor of a page that begins a row higher; `None` if this one does not count rows.
    """
    query = dict(parse_qsl(cursor))
    if query.get(counter) != str(above):
        return None
    return urlencode(query | {counter: above - 1})


def _not_where(jsonpath: str) -> DriftError:
    msg = f"Drift says that there is more, but not where ({jsonpath})."
    return DriftError(msg, status=HTTPStatus.OK)
