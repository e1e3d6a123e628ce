"""Talking to Drift, without Singer: asking, waiting, and what a good answer is."""

from __future__ import annotations

import contextlib
import http.client
import math
import random
import re
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import urllib3.exceptions

from tap_drift.connections import (
    Adapter,
    Limits,
    Session,
    environment_for,
    limits_now,
    read_within,
)
from tap_drift.errors import (
    CAME_BACK,
    SLOW_DOWN,
    ClosedMeanwhileError,
    DriftError,
    Help,
    TooLargeError,
    causes_of,
    complaint_in,
    elsewhere,
    explained,
    milliseconds,
    retry_after,
    what,
)
from tap_drift.values import one_line, read_json

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

__all__ = ["LONGEST_WAIT", "Answer", "Drift", "DriftError", "Help"]

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


Kind: TypeAlias = Literal["json", "text", "file"]
"""What a good answer is: JSON; text, or JSON that holds it; or a file, whatever it says."""


class Answer(NamedTuple):
    """A good answer."""

    body: Any
    """The JSON document; `None` if it is none, and that of a file, which nobody looks into."""

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
    kind: Kind
    largest: int
    whole: bool
    seconds: float


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
        self.session = Session()
        adapter = Adapter(pool_maxsize=connections)
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
        kind: Kind = "json",
        largest: int = LARGEST,
        whole: bool = True,
        seconds: float = math.inf,
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
            kind: What a good answer is.
            largest: Bytes that the answer has at the most, unpacked.
            whole: Whether `request_timeout` bounds all of it, not only the time without a byte.
            seconds: How long it may take, if that is less than `request_timeout`.
            limiter: What bounds such requests besides `requests_per_minute`; see `limiter`.
            observe: Given the status (`None` if there was no answer) and the seconds of each try.

        Raises:
            DriftError: There was no good answer, and the retries are used up.
        """
        asked = _Asked(scope, kind, largest, whole, min(seconds, self._seconds))
        patience = _Patience(self._max_retries if retries is None else retries)
        while True:
            self._turns.take(stop, limiter)
            started = time.monotonic()
            status: int | None = None
            try:
                answer, status = self._try(request, asked), http.HTTPStatus.OK
                return answer  # noqa: TRY300  (after it was observed)
            except DriftError as error:
                status = error.status
                wait, count = patience.after(error)
                if pauses and (error.status == SLOW_DOWN or error.wait is not None):
                    self._turns.pause(wait)
                warn(f"{error} Trying again in {wait:.1f} s ({count}).")
            finally:
                observe(status, time.monotonic() - started)
            time.sleep(wait)

    def _try(self, request: requests.PreparedRequest, asked: _Asked) -> Answer:
        origin = "://".join(urlsplit(str(request.url))[:2])
        if origin not in self._environments:  # once per host, since it takes long
            self._environments[origin] = environment_for(origin, self._adapter)
        environment = self._environments[origin]
        # Every connection that was kept may turn out to be closed; a new one can't.
        for _ in range(self._connections + 1):
            limits = Limits(asked.seconds, asked.largest, whole=asked.whole)
            limits_now.set(limits)
            try:
                response = self.session.send(
                    request, stream=True, timeout=asked.seconds, **environment
                )
                with contextlib.closing(response):
                    content = read_within(response, limits)
            except (
                OSError,
                ValueError,
                http.client.HTTPException,
                urllib3.exceptions.HTTPError,
            ) as error:
                causes = list(causes_of(error))
                if not any(isinstance(cause, ClosedMeanwhileError) for cause in causes):
                    break
            else:
                return self._answer(response, content, asked)
        way = " (through a proxy)" if environment["proxies"] else ""
        url = urlsplit(str(request.url))
        told, help_ = explained(
            causes,
            f"{url.hostname}{way}",
            port=url.port,
            seconds=limits.seconds,
            largest=limits.largest,
            received=limits.received,
        )
        is_too_large = any(isinstance(cause, TooLargeError) for cause in causes)
        if is_too_large and asked.kind != "json":  # it is as large whenever it is asked for
            help_ = Help.NOTHING
        raise DriftError(
            self._line(f"{what(request)}: {told}"), help=help_, is_too_large=is_too_large
        )

    def _answer(self, response: requests.Response, content: bytes, asked: _Asked) -> Answer:
        """Tell a good answer from an error.

        Drift documents two shapes of error, `{"error": {...}}` and `{"errors": [{...}]}`; either
        is an error on any status, unless it is what people put into a file.

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
        if _is_to_be_read(asked.kind, media_type, response.status_code):
            with contextlib.suppress(ValueError):
                body, bare_nan = read_json(content)
                is_json = True
        status, complaint, in_drifts_words = complaint_in(body, response.status_code)
        if asked.kind == "text" and not in_drifts_words:  # whatever `error` is, text is beside it
            status = response.status_code
        now = milliseconds(response.headers.get("Date"))
        if status == http.HTTPStatus.OK and (is_json or asked.kind != "json"):
            return Answer(body, content, media_type, now, bare_nan)

        said = f"Drift answered {status}"
        if complaint:
            said += f" ({self._line(complaint)[:300]})"
        elif not is_json:
            kind = self._line(media_type)[:100] or "nothing"
            odd = "that can't be read" if "json" in kind else "instead of JSON"
            said += f" with {kind} {odd}"
        row = next(
            row
            for row in CAME_BACK
            if status in row.statuses and row.in_drifts_words in {None, in_drifts_words}
        )
        told = row.told.format(scope=asked.scope, elsewhere=self._line(elsewhere(response))[:100])
        wait = retry_after(response.headers.get("Retry-After", ""), now)
        help_ = row.help
        if wait is not None and wait > LONGEST_WAIT and help_ is not Help.NOTHING:
            help_ = Help.NOTHING
            told = f"It asks to wait {wait:,.0f} s, which is too long: run the tap again later."
        raise DriftError(
            self._line(f"{what(response.request)}: {said}. {told}"),
            help=help_,
            status=status,
            in_drifts_words=in_drifts_words,
            wait=wait,
        )

    def _line(self, text: str) -> str:
        """One line for the user, without the token and without what can't be printed."""
        return self._token.sub("***", one_line(text))


def _is_to_be_read(kind: Kind, media_type: str, status: int) -> bool:
    """Tell whether JSON in an answer is Drift's, and no file's."""
    may_be = kind == "json" or (kind == "text" and "json" in media_type)
    return may_be or status >= http.HTTPStatus.BAD_REQUEST


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
        if error.status == SLOW_DOWN:
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
