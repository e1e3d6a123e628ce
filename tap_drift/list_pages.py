"""Pages of Drift's list of conversations: asked for one by one, in smaller pieces, or ahead."""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

from tap_drift.answers import ByLink, ByNext, rows_at
from tap_drift.bookmark import NEXT, Time
from tap_drift.drift import DriftError, Help
from tap_drift.progress import counted
from tap_drift.values import integer
from tap_drift.walk import Ask, No, Page, Place, Row, Way

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.pool import AsyncResult

    from tap_drift.stream import DriftStream
    from tap_drift.workers import Workers

STATUS_IDS = {"open": 1, "closed": 2, "pending": 3}
"""Drift's numbers for the statuses that its list can be filtered by (Drift's page on the list)."""

FORMS = (
    ByNext("$.pagination.next"),
    ByLink("$.links.next", parameters=("page_token", "next")),
)
"""Both forms of the list: that of the document which the project stands on, and today's."""

SCOPE = "conversation_read"
"""What a token needs for the list, whatever a stream needs for the rest."""

DEFAULT_LIMIT = 25
"""Rows of a page where Drift does not heed `limit` (Drift's page on the list)."""

_REFUSALS = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}
_REFUSALS_OF_DRIFT = _REFUSALS | {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
"""Without Drift's own words, these may as well mean that the API is gone."""


class PageSize:
    """How many rows are asked for: fewer while Drift can't answer in time.

    Drift says that its list may time out for large organisations. Where retries do not help, half
    as many rows may; after some good pages their number doubles again.
    """

    def __init__(self, most: int) -> None:
        self.rows = self._most = most
        self._good_pages_due = self._patience = 3

    def shrink(self) -> bool:
        """Ask for fewer rows from now on, if that is possible."""
        if self.rows == 1:
            return False
        self.rows //= 2
        self._patience *= 2
        self._good_pages_due = self._patience
        return True

    def was_good(self) -> None:
        """Take note of a page that came, and ask for more rows after some of them."""
        self._good_pages_due -= 1
        if self._good_pages_due <= 0:
            self.rows = min(self.rows * 2, self._most)
            self._good_pages_due = self._patience


class _Early(NamedTuple):
    """A page that is asked for ahead."""

    ask: Ask
    answer: AsyncResult[Page]
    is_worthless: list[bool]

    @property
    def has_failed(self) -> bool:
        return self.answer.ready() and not self.answer.successful()


class ListPages:
    """Asks for pages of the list, in the name of a stream.

    Args:
        stream: Whose requests they are.
        pool: Asks for pages ahead; `None` if none is to be.
    """

    def __init__(self, stream: DriftStream, pool: Workers | None) -> None:
        self._stream = stream
        self._pool = pool
        self._size = PageSize(int(stream.config["page_size"]))
        self._early: deque[_Early] = deque()

    def get(self, ask: Ask) -> Page | No:
        """Give a page.

        Args:
            ask: Which.

        Returns:
            It, or why there is none, where the walk knows another way.

        Raises:
            DriftError: Drift does not answer, not even for a single row; or it refuses for another
                reason than the cursor.
        """
        is_strained = False
        if self._early and self._early[0].ask == ask:
            early = self._early.popleft()
            try:
                page = early.answer.get()
                self._size.was_good()
                return page  # noqa: TRY300  (only `get` may fail)
            except DriftError:
                is_strained = True  # it came ahead, so it does not count: ask again
        self._drop()
        while True:
            try:
                page = self._page(ask, self._size.rows)
            except DriftError as error:
                is_strained = True
                if (no := self._no(ask, error)) is not None:
                    return no
            else:
                self._size.was_good()
                return page._replace(is_strained=True) if is_strained else page

    def _no(self, ask: Ask, error: DriftError) -> No | None:
        """Say what an error means for the walk; `None`: it may be asked for less.

        Raises:
            DriftError: There is no way on.
        """
        refusals = _REFUSALS_OF_DRIFT if error.in_drifts_words else _REFUSALS
        if ask.cursor is not None and error.status in refusals:
            self._stream.logger.info("%s: %s is refused: %s", self._stream.name, ask.cursor, error)
            return No.REFUSED
        if error.help is Help.LESS and ask.otherwise is not Way.TOKEN and self._size.shrink():
            rows = counted(self._size.rows, "rows")
            self._stream.warn(f"{error} Asking for {rows} at a time.")
            return None
        is_odd = error.help is Help.NOTHING and error.status == HTTPStatus.OK
        is_of_this_page = error.help is Help.LESS or is_odd
        if ask.otherwise is Way.NONE or not is_of_this_page:
            raise error
        self._stream.warn(f"{error} Going on another way.")
        return No.UNANSWERED

    def foresee(self, asks: Sequence[Ask]) -> None:
        """Ask for pages ahead: as many as are foreseen, but none past one that failed."""
        if self._pool is None or len(asks) < 2:  # noqa: PLR2004  (the first is asked for at once)
            return
        known = [early.ask for early in self._early]
        if known != list(asks[: len(known)]):
            self._drop()
        for ask in asks[len(self._early) :]:
            if any(early.has_failed for early in self._early):
                return
            is_worthless = [False]
            page = partial(self._page, ask, self._size.rows, 0, is_worthless)
            self._early.append(_Early(ask, self._pool.start(page), is_worthless))

    def _drop(self) -> None:
        """Throw away what was asked ahead: an older version may not follow a newer one."""
        for early in self._early:
            early.is_worthless[0] = True
        self._early.clear()

    def _page(
        self,
        ask: Ask,
        limit: int,
        retries: int | None = None,
        is_worthless: Sequence[bool] = (False,),
    ) -> Page:
        limit = max(limit, ask.overlap + 1)
        strained: list[str] = []

        def warn(text: str) -> None:
            strained.append(text)
            self._stream.warn(text)

        answer = self._stream.ask(
            self._stream.path,
            self._params(ask.cursor, limit),
            scope=SCOPE,
            warn=warn,
            retries=retries,
            stop=lambda: self._stream.failed or is_worthless[0],
        )
        rows = self._rows(answer.body)
        below, token = self._stream.cursors(answer.body, *FORMS)
        if token and token.startswith(NEXT):  # a link in the other form
            below, token = below or token, None
        now = Time(int(answer.now or time.time() * 1000))
        is_full = len(rows) >= limit or len(rows) == DEFAULT_LIMIT
        return Page(rows, below, token, now, is_full, bool(strained))

    def _params(self, cursor: str | None, limit: int) -> dict[str, Any]:
        """Use every parameter that Drift documents for the list: one `statusId` per status."""
        statuses = self._stream.config.get("statuses") or []
        return {
            "limit": limit,
            **dict(parse_qsl(cursor or "", keep_blank_values=True)),
            "statusId": sorted({STATUS_IDS[status] for status in statuses}),
        }

    def _rows(self, body: Any) -> list[Row]:
        """Find the place of every row; one without an id has none, but it is counted."""
        rows: list[Row] = []
        place: Place | None = None
        for fields in rows_at(self._stream.records_jsonpath, body):
            try:
                id_, has_id = integer(fields.get("id")), True
            except ValueError:
                id_, has_id = 0, False
            try:
                place, timed = Place(id_, Time(fields["updatedAt"])), has_id
            except (KeyError, TypeError, ValueError):
                place, timed = place and Place(id_, place.updatedAt), False
                self._stream.warn_of_field("updatedAt", "of a conversation is missing or no time")
            rows.append(Row(place, timed, fields))
        return rows
