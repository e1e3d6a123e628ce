"""When Drift or the network misbehaves: go on, or say clearly what happened, and lose nothing."""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import itertools
import json
import logging
import re
import socket
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import trustme
from werkzeug.wrappers import Response

from tap_drift.tap import TapDrift
from tests.processes import run_command
from tests.sandbox import TOKEN
from tests.sandbox.account import PERSONAL
from tests.sandbox.expected import as_time, expected
from tests.sandbox.server import (
    Token,
    answers,
    as_json,
    cut_off,
    dropped,
    edited,
    encrypt,
    error,
    errors,
    html,
    since,
    slow,
)
from tests.tap import (
    NO_WALK,
    Output,
    lines,
    run_here,
    run_tap,
    selecting,
    settings,
    tap_command,
    try_out,
    upserted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from werkzeug.wrappers import Request

    from tests.sandbox import Sandbox
    from tests.sandbox.server import Fault, Way
    from tests.tap import Json

    Log = Callable[[], list[str]]
    Serve = Callable[..., Sandbox]

CONVERSATIONS = 20
PAGE_SIZE = 3
CONFIG = {"page_size": PAGE_SIZE}
AT_ONCE = {"Retry-After": "0"}


def patience(fault: Fault) -> Json:
    """Let no answer be too late on a busy machine but those that are meant to be."""
    return {"request_timeout": 1} if fault is slow else {}


class Case(NamedTuple):
    """A fault, and what a run makes of it."""

    fault: Fault
    said: str
    """What the line in the log has."""

    retried: bool = False
    shrinks: bool = False
    """Whether fewer rows are asked for when retries do not help."""

    refuses_cursor: bool = False
    """Whether a cursor may be what Drift does not like, so that the walk finds another way."""


CASES = {
    "429 that says how long": Case(
        answers(error(429, "rate_limit", "Too many requests", AT_ONCE)),
        "Drift answered 429 (rate_limit: Too many requests)",
        retried=True,
    ),
    "429 that says until when": Case(
        answers(error(429, "rate_limit", "No", {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})),
        "Drift answered 429 (rate_limit: No)",
        retried=True,
    ),
    "429 that says nothing": Case(
        answers(Response(status=429)), "Drift answered 429 with text/plain", retried=True
    ),
    "500": Case(
        answers(error(500, "internal_error", "It broke", AT_ONCE)),
        "Drift answered 500 (internal_error: It broke)",
        retried=True,
        shrinks=True,
    ),
    "503 as a page for people": Case(
        html(503),
        "Drift answered 503 with text/html instead of JSON",
        retried=True,
        shrinks=True,
    ),
    "408": Case(
        answers(Response(status=408, headers=AT_ONCE)),
        "Drift answered 408 with text/plain",
        retried=True,
        shrinks=True,
    ),
    "time-out": Case(slow, "no answer within 1 s (request_timeout)", retried=True, shrinks=True),
    "dropped": Case(dropped, "the connection to 127.0.0.1 broke off", retried=True, shrinks=True),
    "cut off": Case(cut_off, "the connection to 127.0.0.1 broke off", retried=True, shrinks=True),
    "200 as a page for people": Case(
        html(200),
        "Drift answered 200 with text/html instead of JSON. Does a proxy or a login page stand",
        retried=True,
    ),
    "200 with an error that is over soon": Case(
        answers(error(200, "internal_error", "It broke", AT_ONCE)),
        "Drift answered 500 (internal_error: It broke)",
        retried=True,
        shrinks=True,
    ),
    "200 with an error": Case(
        answers(error(200, "authentication_error", "Not you")),
        "Drift answered 403 (authentication_error: Not you)",
    ),
    "200 with errors": Case(
        answers(errors("validation_error", "unknown status", "statusId", 200)),
        "Drift answered 400 (validation_error: unknown status: parameter statusId)",
        refuses_cursor=True,
    ),
    "200 with an error of no known shape": Case(
        answers(as_json({"error": PERSONAL})),
        "Drift answered 400 (an error in no documented shape)",
        refuses_cursor=True,
    ),
    "400": Case(
        answers(errors("validation_error", "must be between 1 and 50", "limit")),
        "Drift answered 400 (validation_error: must be between 1 and 50: parameter limit)",
        refuses_cursor=True,
    ),
    "401": Case(
        answers(error(401, "authentication_error", "The access token has expired")),
        "Drift answered 401 (authentication_error: The access token has expired). "
        "The access token is wrong, has expired or was revoked",
    ),
    "403": Case(
        answers(error(403, "authentication_error", "Not in scope")),
        "Drift answered 403 (authentication_error: Not in scope). The token may lack the scope "
        "conversation_read. Scopes are fixed when a token is granted: add the scope to the app on "
        "dev.drift.com, then create a new token.",
    ),
    "404": Case(
        answers(error(404, "not_found", "No such resource")),
        "Drift answered 404 (not_found: No such resource). Is api_url right, and is this API still",
        refuses_cursor=True,
    ),
    "redirect": Case(
        answers(Response(status=302, headers={"Location": "https://www.example.com/gone?a=b"})),
        "Drift answered 302 with text/plain instead of JSON. That redirects to www.example.com, "
        "and redirects are not followed",
    ),
}


def circles(drift: Sandbox, request: Request) -> Response | None:
    """Point from every page but the first to that page itself."""
    if "next" not in request.args:
        return None
    body = json.loads(drift.answer(request).get_data())
    return as_json(body | {"pagination": {"more": True, "next": request.args["next"]}})


# Answers that break Drift's document in a way that leaves no way on.
BROKEN_ANSWERS = {
    "more, but not where": Case(
        edited(lambda body: "pagination" in body and body["pagination"].pop("next")),
        "Drift says that there is more, but not where",
    ),
    "pagination is no object": Case(edited(lambda body: body.update(pagination=[1])), "pagination"),
    "no data": Case(edited(lambda body: body.pop("data")), "at $.data"),
    "data is no list": Case(
        edited(lambda body: body.update(data={"rows": body["data"]})),
        "at $.data",
    ),
    "data is null": Case(edited(lambda body: body.update(data=None)), "at $.data"),
    "a row is no object": Case(edited(lambda body: body["data"].append(PERSONAL)), "at $.data"),
    "the answer is a list": Case(answers(as_json([])), "at $.data"),
    "a link without a query": Case(
        edited(lambda body: body.pop("pagination", 0) and body.update(links={"next": "/x?a=b"})),
        "Drift says that there is more, but not where ($.links.next)",
    ),
    "a list that goes in circles": Case(circles, "the list goes in circles"),
}

PLACES = {"at the first request": 1, "in the middle": 4, "in a resumed walk": 1}

OF_ITEMS = ["time-out", "500", "200 as a page for people", "401", "403"]
"""One of each kind, since streams of items ask the same way; a 404 says there that one is gone."""

cases = pytest.mark.parametrize(
    ("stream", "case"),
    [
        pytest.param(stream, case, id=f"{stream}: {name}")
        for stream in ("conversations", "messages")
        for name, case in CASES.items()
        if stream == "conversations" or name in OF_ITEMS
    ],
)
places = pytest.mark.parametrize("place", PLACES)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    """What a run says that is more than information."""

    def lines() -> list[str]:
        assert all(record.exc_info is None for record in caplog.records)
        return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]

    yield lines
    assert all(word not in caplog.text for word in (TOKEN, PERSONAL, "Traceback"))


class Run:
    """An account, and a target that gets what one run after another writes."""

    def __init__(self, drift: Sandbox, stream: str = "conversations") -> None:
        self.drift = drift
        self.stream = stream
        self.catalog = selecting(stream)
        self.state: Json | None = None
        self.target: dict[Any, Json] = {}

    @property
    def account(self) -> dict[Any, Json]:
        return expected(self.drift.account, self.stream)

    def here(self, **config: Any) -> Output:
        return self.load(
            run_here(settings(self.drift, **CONFIG | config), self.state, self.catalog)
        )

    def load(self, output: Output) -> Output:
        self.target = upserted(self.target, output.records(self.stream))
        self.state = output.state
        return output

    def up_to(self, place: str) -> int:
        """Get to where the fault is due: the number of its request."""
        if place == "in a resumed walk":
            # After the first page: for messages, that takes a request per conversation too.
            self.drift.faults[4 if self.stream == "conversations" else 12] = CASES["401"].fault
            assert self.here().exit_code == 1
            self.drift.faults.clear()
            time.sleep(0.1)  # what other threads had asked for arrives
            assert self.state
            assert self.state["bookmarks"][self.stream]["walk"]["id"]
        return len(self.drift.requests) + PLACES[place]

    def undisturbed(self) -> None:
        """Run once more, and have all of the account."""
        self.drift.fault = None
        self.drift.faults.clear()
        output = self.here()
        assert output.exit_code == 0
        assert output.bookmark(self.stream)["walk"] == NO_WALK
        assert self.target == self.account


# Faults


@cases
@places
def test_a_fault_that_lasts_ends_in_one_clear_line(
    sandbox: Serve, log: Log, stream: str, case: Case, place: str
) -> None:
    run = Run(sandbox(CONVERSATIONS), stream)
    first = run.up_to(place)
    said_before = len(log())
    run.drift.fault = since(first, case.fault)
    output = run.here(**patience(case.fault))
    assert output.exit_code == 1
    *warnings, line = log()[said_before:]
    assert line.startswith(f"{stream}: GET /conversations/")
    assert case.said in line
    if stream == "messages":  # the list and the items are asked for at the same time
        over = "Starting over from the head"
        assert all(case.said in line or over in line or case.refuses_cursor for line in warnings)
    elif case.shrinks:
        assert case.said in warnings[0]
        assert warnings[0].endswith(" Asking for 1 row at a time.")
        # The row below may be had; and new rows must not wait for old ones, which the head has.
        assert len(warnings) == 1 + list(PLACES).index(place)
    elif place == "at the first request" or not case.refuses_cursor:
        assert warnings == []
    run.undisturbed()


@cases
@places
def test_a_fault_that_passes_is_survived_if_another_try_can_help(
    sandbox: Serve, log: Log, stream: str, case: Case, place: str
) -> None:
    run = Run(sandbox(CONVERSATIONS), stream)
    number = run.up_to(place)
    said_before = len(log())
    run.drift.faults[number] = case.fault
    output = run.here(max_retries=1, **patience(case.fault))
    said = log()[said_before:]
    again = [line for line in said if "Trying again in" in line]
    if case.retried:
        assert output.exit_code == 0
        (line,) = said
        assert case.said in line
        assert re.search(r" Trying again in \d\.\d s \(1 of 1\)\.$", line)
        assert run.target == run.account
        records = output.records(stream)
        assert len(records) == len({record["id"] for record in records})
    elif stream == "conversations":
        assert again == []
        on_another_way = case.refuses_cursor and place != "at the first request"
        assert output.exit_code == (0 if on_another_way else 1)
    run.undisturbed()


@pytest.mark.parametrize(
    ("place", "case"),
    list(zip(itertools.cycle(PLACES), CASES.values(), strict=False)),
    ids=CASES.keys(),
)
def test_a_process_that_fails_says_why_and_ends_in_state(
    sandbox: Serve, tmp_path: Path, place: str, case: Case
) -> None:
    run = Run(sandbox(CONVERSATIONS))
    run.drift.fault = since(run.up_to(place), case.fault)
    output = run.load(
        run_tap(tmp_path, settings(run.drift, **CONFIG, **patience(case.fault)), run.state)
    )
    assert output.messages[-1]["type"] == "STATE"
    assert output.exit_code == 1
    why, outcome = [line for line in output.stderr.splitlines() if "| ERROR" in line]
    assert case.said in why
    assert "Not read to the end: conversations." in outcome
    assert case.said in outcome
    assert "Traceback" not in output.stderr
    run.undisturbed()


def test_every_retry_is_one_line_and_waits_longer(sandbox: Serve, log: Log) -> None:
    run = Run(sandbox(CONVERSATIONS))
    run.drift.faults = dict.fromkeys((2, 3), html(503))
    assert run.here(max_retries=2).exit_code == 0
    waits = [float(wait) for line in log() for wait in re.findall(r"again in ([\d.]+) s", line)]
    assert len(log()) == len(waits) == 2
    assert 0.3 <= waits[0] <= 0.7 <= waits[1] <= 1.3
    assert ["(1 of 2)." in log()[0], "(2 of 2)." in log()[1]] == [True, True]
    assert run.target == run.account


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        (lambda: "1", 1.0, 1.0),
        (
            lambda: email.utils.format_datetime(
                dt.datetime.now(dt.UTC) + dt.timedelta(seconds=3), usegmt=True
            ),
            1.0,
            3.0,
        ),
        (lambda: "-5", 0.3, 0.7),
        (lambda: "soon", 0.3, 0.7),
        (lambda: "inf", 0.3, 0.7),
        (lambda: "", 0.3, 0.7),
    ],
    ids=["seconds", "date", "negative", "no number", "not finite", "empty"],
)
def test_retry_after_is_waited_for(
    sandbox: Serve,
    log: Log,
    asked: Callable[[], str],
    least: float,
    most: float,
) -> None:
    run = Run(sandbox(CONVERSATIONS))
    run.drift.faults[2] = lambda drift, request: error(
        429, "rate_limit", "Too many requests", {"Retry-After": asked()}
    )
    started = time.monotonic()
    assert run.here(max_retries=1).exit_code == 0
    (line,) = log()
    (wait,) = re.findall(r"again in ([\d.]+) s", line)
    assert least <= float(wait) <= most
    assert time.monotonic() - started >= least
    assert run.target == run.account


@pytest.mark.parametrize("asked", ["86400", "Fri, 31 Dec 2100 23:59:59 GMT"])
def test_a_wait_that_is_too_long_ends_the_stream_at_once(
    sandbox: Serve, log: Log, asked: str
) -> None:
    run = Run(sandbox(CONVERSATIONS))
    later = error(503, "internal_error", "Later", {"Retry-After": asked})
    run.drift.fault = since(4, answers(later))
    started = time.monotonic()
    assert run.here(max_retries=5).exit_code == 1
    assert time.monotonic() - started < 3
    (line,) = log()
    assert re.search(r"It asks to wait [\d,]+ s, which is too long", line)
    run.undisturbed()


# The network


@places
def test_a_refused_connection_is_named(sandbox: Serve, log: Log, place: str) -> None:
    run = Run(sandbox(CONVERSATIONS))
    number = run.up_to(place)
    said_before = len(log())
    if place == "in the middle":

        def goes_away(drift: Sandbox, request: Request) -> None:
            drift.__exit__()

        run.drift.faults[number - 1] = goes_away
    else:
        run.drift.__exit__()
    assert run.here().exit_code == 1
    # One request may still be taken in while the server goes away, and broken off.
    line = log()[said_before:][-1]
    port = run.drift.url.rpartition(":")[2]
    assert f"GET /conversations/list: 127.0.0.1:{port} refused the connection." in line
    run.drift = sandbox(run.drift.account)
    run.undisturbed()


def test_a_host_that_takes_no_connection_is_named(log: Log) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # nobody accepts them, so there is no room for another
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003
            waiting.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = {"access_token": TOKEN, "api_url": url, "request_timeout": 1, "max_retries": 0}
        assert run_here(config).exit_code == 1
    (line,) = log()
    assert "no connection to 127.0.0.1 within 1 s" in line


@pytest.mark.parametrize("place", ["at the first request", "in a resumed walk"])
def test_a_host_that_is_not_found_is_named(sandbox: Serve, log: Log, place: str) -> None:
    run = Run(sandbox(CONVERSATIONS))
    run.up_to(place)
    said_before = len(log())
    assert run.here(api_url="https://no-such-host.invalid").exit_code == 1
    (line,) = log()[said_before:]
    assert "the host name no-such-host.invalid can't be resolved" in line
    run.undisturbed()


def test_a_host_that_is_not_found_is_tried_again(sandbox: Serve, log: Log) -> None:
    Run(sandbox()).here(api_url="https://no-such-host.invalid", max_retries=1)
    first, second = log()
    assert "can't be resolved" in first
    assert "Trying again in" in first
    assert "can't be resolved" in second


def signed(folder: Path, last_year: int) -> tuple[Path, Path, Path]:
    """The certificate of an authority of our own, one that it signed, and that one's key."""
    authority = trustme.CA()
    years = (dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in (2020, last_year))
    server = authority.issue_cert("127.0.0.1", not_before=next(years), not_after=next(years))
    paths = folder / "authority.pem", folder / "certificate.pem", folder / "key.pem"
    authority.cert_pem.write_to_path(paths[0])
    server.cert_chain_pems[0].write_to_path(paths[1])
    server.private_key_pem.write_to_path(paths[2])
    return paths


@pytest.mark.parametrize("reason", ["local issuer certificate", "certificate has expired"])
@pytest.mark.parametrize("place", ["at the first request", "in a resumed walk"])
def test_a_bad_certificate_is_named_and_gets_no_request(
    sandbox: Serve, log: Log, tmp_path: Path, place: str, reason: str
) -> None:
    run = Run(sandbox(CONVERSATIONS))
    run.up_to(place)
    said_before = len(log())
    other = sandbox(run.drift.account)
    expired = "expired" in reason
    authority, certificate, key = signed(tmp_path, 2021 if expired else 2049)
    config = {"api_url": encrypt(other, certificate, key), "max_retries": 1}
    with pytest.MonkeyPatch.context() as patch:
        if expired:
            patch.setenv("REQUESTS_CA_BUNDLE", str(authority))
        assert run.here(**config).exit_code == 1
    (line,) = log()[said_before:]
    assert "the connection to 127.0.0.1 is not safe" in line
    assert f"{reason}), so the token was not sent" in line
    assert other.requests == []
    run.undisturbed()


def test_a_certificate_that_this_machine_trusts_is_good(
    sandbox: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(sandbox(CONVERSATIONS))
    authority, certificate, key = signed(tmp_path, 2049)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    assert run.here(api_url=encrypt(run.drift, certificate, key)).exit_code == 0
    assert run.target == run.account


OF_THIS_MACHINE = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)


def processed(folder: Path, config: Json, **environment: str) -> tuple[Output, list[str]]:
    """A process with such an environment, and its warnings and errors but for the last."""
    with pytest.MonkeyPatch.context() as patch:
        for name in OF_THIS_MACHINE:
            patch.delenv(name, raising=False)
            patch.delenv(name.lower(), raising=False)
        output = run_tap(folder, config, environment=environment)
    assert "Traceback" not in output.stderr
    said = [line for line in output.stderr.splitlines() if " INFO " not in line]
    return output, [line for line in said if "Not read to the end" not in line]


def test_a_process_names_a_proxy_that_can_not_be_used(sandbox: Serve, tmp_path: Path) -> None:
    proxy = "http://somebody:pass-word@proxy.invalid:port"
    config = settings(sandbox(3), api_url="https://driftapi.invalid")
    output, (line,) = processed(tmp_path, config, HTTPS_PROXY=proxy)
    assert output.exit_code == 1
    assert "the environment variable HTTPS_PROXY" in line
    assert "pass-word" not in output.stderr


def test_a_process_reaches_this_machine_without_a_proxy(sandbox: Serve, tmp_path: Path) -> None:
    drift, proxy = sandbox(3), sandbox(0)
    output, said = processed(tmp_path, settings(drift), HTTP_PROXY=proxy.url, ALL_PROXY=proxy.url)
    assert (output.exit_code, len(output.records()), said) == (0, 3, [])
    assert not proxy.requests


@pytest.mark.parametrize("variable", ["", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_a_process_trusts_the_certificates_that_a_variable_names(
    sandbox: Serve, tmp_path: Path, variable: str
) -> None:
    drift = sandbox(3)
    authority, certificate, key = signed(tmp_path, 2049)
    config = settings(drift, api_url=encrypt(drift, certificate, key))
    output, said = processed(tmp_path, config, **({variable: str(authority)} if variable else {}))
    assert output.exit_code == (0 if variable else 1)
    assert len(output.records()) == (3 if variable else 0)
    assert ["REQUESTS_CA_BUNDLE" in line for line in said] == ([] if variable else [True])


def test_a_process_says_in_a_line_that_json_is_nested_too_deep(
    sandbox: Serve, tmp_path: Path
) -> None:
    drift = sandbox(3)
    # Within a row, where what reads it recurses, and a little deeper than Python lets it.
    deep = '{"data": [{"id": 1, "x": ' + "[" * 1_000 + "]" * 1_000 + "}]}"
    drift.fault = answers(Response(deep, mimetype="application/json"))
    output, (line,) = processed(tmp_path, settings(drift))
    assert output.exit_code == 1
    assert "a bug of the tap" not in line


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_token_follows_no_redirect(sandbox: Serve, log: Log, status: int) -> None:
    run, other = Run(sandbox(CONVERSATIONS)), sandbox(CONVERSATIONS)
    target = other.url.replace("127.0.0.1", "localhost") + "/conversations/list"
    run.drift.fault = answers(Response(status=status, headers={"Location": target}))
    assert run.here(max_retries=2).exit_code == 1
    (line,) = log()
    assert "That redirects to localhost" in line
    assert len(run.drift.requests) == 1
    assert other.requests == []


# Pages that shrink


def limits(drift: Sandbox) -> list[int]:
    return [int(re.findall(r"limit=(\d+)", request)[0]) for request in drift.requests]


def too_much(fault: Fault) -> Fault:
    """Misbehave for pages of more than ten rows."""
    return lambda drift, request: fault(drift, request) if int(request.args["limit"]) > 10 else None


@pytest.mark.parametrize(
    ("fault", "cursor"),
    [(slow, "keyset"), (html(503), "offset"), (html(503), "id"), (html(503), "keyset")],
    ids=["time-out, keyset", "503, offset", "503, id", "503, keyset"],
)
def test_an_account_whose_list_times_out_is_read_to_its_end(
    sandbox: Serve, log: Log, cursor: Way, fault: Fault
) -> None:
    run = Run(sandbox(120, cursor))
    run.drift.fault = too_much(fault)
    assert run.here(page_size=50, **patience(fault)).exit_code == 0
    assert run.target == run.account
    assert limits(run.drift)[:4] == [50, 25, 12, 6]
    assert [re.findall(r"Asking for (\d+) rows", line) for line in log()][:3] == [
        ["25"],
        ["12"],
        ["6"],
    ]


def test_pages_shrink_when_retries_are_used_up(sandbox: Serve) -> None:
    run = Run(sandbox(60))
    run.drift.fault = too_much(answers(error(500, "internal_error", "It broke", AT_ONCE)))
    assert run.here(page_size=40, max_retries=1).exit_code == 0
    assert run.target == run.account
    assert limits(run.drift)[:6] == [40, 40, 20, 20, 10, 10]


def test_pages_grow_back_when_drift_recovers(sandbox: Serve) -> None:
    run = Run(sandbox(1500))
    run.drift.fault = too_much(html(503))
    run.drift.faults[8] = lambda drift, request: setattr(drift, "fault", None)
    assert run.here(page_size=48).exit_code == 0
    assert run.target == run.account
    assert [size for size, _ in itertools.groupby(limits(run.drift))] == [48, 24, 12, 6, 12, 24, 48]


def test_pages_shrink_to_a_single_row_before_a_run_gives_up(sandbox: Serve) -> None:
    run = Run(sandbox(120))
    run.drift.fault = since(2, html(503))
    assert run.here(page_size=50).exit_code == 1
    # Pages overlap by one row; last, the row below the one that perhaps can't be had is asked for.
    assert limits(run.drift) == [50, 50, 25, 12, 6, 3, 2, 1]
    run.undisturbed()


# Answers that break the document


@pytest.mark.parametrize("case", BROKEN_ANSWERS.values(), ids=BROKEN_ANSWERS.keys())
@places
def test_an_answer_that_leaves_no_way_on_is_an_error(
    sandbox: Serve, log: Log, case: Case, place: str
) -> None:
    run = Run(sandbox(CONVERSATIONS))
    first = run.up_to(place)
    said_before = len(log())
    run.drift.fault = since(first, case.fault)
    assert run.here().exit_code == 1
    assert len(run.drift.requests) < 120
    line = log()[said_before:][-1]
    assert line.startswith("conversations: ")
    assert case.said in line
    run.undisturbed()


@places
def test_an_empty_page_is_not_the_end(sandbox: Serve, cursor: Way, place: str) -> None:
    run = Run(sandbox(CONVERSATIONS, cursor))
    number = run.up_to(place)
    hidden: set[int] = set()

    def hide(body: Json) -> None:
        assert body.get("pagination") or body.get("links")
        hidden.update(row["id"] for row in body["data"])
        body["data"] = []

    run.drift.faults[number] = edited(hide)
    assert run.here().exit_code == 0
    assert len(hidden) == PAGE_SIZE
    assert run.account.keys() - run.target.keys() <= hidden


@pytest.mark.parametrize("place", ["in the middle", "in a resumed walk"])
def test_an_empty_end_is_believed_only_when_it_shows_again(
    sandbox: Serve, cursor: Way, place: str
) -> None:
    run = Run(sandbox(CONVERSATIONS, cursor))
    run.drift.faults[run.up_to(place)] = answers(as_json({"data": []}))
    assert run.here().exit_code == 0
    assert run.target == run.account


def test_an_empty_page_may_be_the_last(sandbox: Serve, cursor: Way) -> None:
    run = Run(sandbox(PAGE_SIZE * 4, cursor))

    def promise_more(sandbox: Sandbox, request: Request) -> Response:
        answer: Json = sandbox.answer(request).get_json()
        if "pagination" in answer or not answer["data"]:
            return as_json(answer)
        last = answer["data"][-1]
        if sandbox.form == "links":
            token = Token(frozenset(), last["updatedAt"], last["id"], PAGE_SIZE)
            return as_json(answer | {"links": {"next": f"https://x/?page_token={token}"}})
        below = sandbox.cursor_below(last, CONVERSATIONS)
        return as_json(answer | {"pagination": {"more": True, "next": below}})

    run.drift.fault = promise_more
    assert run.here().exit_code == 0
    assert run.target == run.account


def in_every_row(**changes: Any) -> Fault:
    """Add or replace fields; a function is given what the field held."""

    def edit(body: Json) -> None:
        for row in body["data"]:
            for name, value in changes.items():
                row[name] = value(row.get(name)) if callable(value) else value

    return edited(edit)


class Oddity(NamedTuple):
    """Rows that are not what Drift documents, and what becomes of them."""

    fault: Fault
    changes: Json
    """What becomes of the fields; a field that is gone is `None` here."""

    warning: str | None = None


ODDITIES = {
    "ids as text": Oddity(in_every_row(id=str, contactId=str, inboxId=str), {}),
    "times as text": Oddity(in_every_row(createdAt=str, updatedAt=as_time), {}),
    "a number where text is due": Oddity(in_every_row(status=7), {"status": "7"}),
    "unknown fields": Oddity(
        in_every_row(mood=PERSONAL),
        {"otherFields": {"mood": PERSONAL}},
        "the field mood is not in the schema",
    ),
    "a time that is none": Oddity(
        in_every_row(createdAt=PERSONAL),
        {"createdAt": None, "otherFields": {"createdAt": PERSONAL}},
        "the field createdAt is not of the documented type",
    ),
    "text where a number is due": Oddity(
        in_every_row(inboxId=PERSONAL),
        {"inboxId": None, "otherFields": {"inboxId": PERSONAL}},
        "the field inboxId is not of the documented type",
    ),
    "an object where text is due": Oddity(
        in_every_row(status={"text": PERSONAL}),
        {"status": None, "otherFields": {"status": {"text": PERSONAL}}},
        "the field status is not of the documented type",
    ),
}


@pytest.mark.parametrize("oddity", ODDITIES.values(), ids=ODDITIES.keys())
@places
def test_odd_rows_arrive_as_well_as_can_be(
    sandbox: Serve, log: Log, oddity: Oddity, place: str
) -> None:
    run = Run(sandbox(CONVERSATIONS))
    first = run.up_to(place)
    said_before = len(log())
    run.drift.fault = since(first, oddity.fault)
    output = run.here()
    assert output.exit_code == 0
    # In the middle, three pages were read before, and pages overlap by one row.
    for record in output.records()[7 if place == "in the middle" else 0 :]:
        changed = run.account[record["id"]] | oddity.changes
        assert record == {name: value for name, value in changed.items() if value is not None}
    assert run.target.keys() == run.account.keys()
    warning = f"conversations: {oddity.warning} and stands in otherFields."
    expected = [warning] if oddity.warning else []
    assert log()[said_before:] == expected


def test_names_forge_no_lines_and_are_named_some_dozens_of_times(sandbox: Serve, log: Log) -> None:
    run = Run(sandbox(CONVERSATIONS))
    names = ["a\nERROR  all is lost\x1b[31m\u202e", "b" * 5000, *(f"field{n}" for n in range(100))]
    run.drift.fault = in_every_row(**dict.fromkeys(names, 1))
    output = run.here()
    assert output.exit_code == 0
    assert output.records()[0]["otherFields"].keys() == set(names)
    lines = log()
    assert all(line.isprintable() for line in lines)
    assert "the field a ERROR all is lost [31m is not in the schema" in lines[0]
    assert f"the field {'b' * 100} is not in the schema" in lines[1]
    assert len(lines) == 51
    assert lines[-1] == "conversations: more than 50 fields are odd, and no more are named."


def test_null_stays_null_and_what_is_missing_stays_missing(sandbox: Serve) -> None:
    run = Run(sandbox(CONVERSATIONS))

    def edit(body: Json) -> None:
        for row in body["data"]:
            row["status"] = None
            del row["inboxId"]

    run.drift.fault = edited(edit)
    output = run.here()
    assert len(output.records()) == CONVERSATIONS
    assert all(record["status"] is None for record in output.records())
    assert all("inboxId" not in record for record in output.records())


@pytest.mark.parametrize(
    "timeless",
    [{0}, {8}, {9}, {8, 9, 10, 11, 12, 13}],
    ids=lambda rows: f"rows {sorted(rows)}",
)
@pytest.mark.parametrize("place", ["in the middle", "in a resumed walk"])
def test_a_row_without_a_time_arrives_with_one_warning(
    sandbox: Serve, log: Log, cursor: Way, place: str, timeless: set[int]
) -> None:
    run = Run(sandbox(CONVERSATIONS, cursor))
    run.up_to(place)
    ids = {row["id"] for n, row in enumerate(run.drift.account.listing()) if n in timeless}
    said_before = len(log())
    run.drift.fault = edited(
        lambda body: [row.pop("updatedAt") for row in body["data"] if row["id"] in ids]
    )
    assert run.here().exit_code == 0
    said = log()[said_before:]
    # By token, a resumed walk does not see again what it has written.
    is_seen = not (cursor == "links" and place == "in a resumed walk" and timeless == {8})
    assert len(said) == is_seen
    assert all("the field updatedAt of a conversation is missing or no time" in x for x in said)
    for id_, record in run.account.items():
        arrived = run.target[id_]
        assert arrived | {"updatedAt": record["updatedAt"]} == record
        assert id_ in ids or "updatedAt" in arrived


def test_a_row_without_a_time_takes_the_place_of_the_row_before_it(sandbox: Serve) -> None:
    run = Run(sandbox(CONVERSATIONS))
    rows = [dict(row) for row in run.drift.account.listing()]
    timeless = {rows[3]["id"], rows[12]["id"]}
    run.drift.fault = edited(
        lambda body: [row.pop("updatedAt") for row in body["data"] if row["id"] in timeless]
    )
    output = run.here(start_date=as_time(rows[8]["updatedAt"]), page_size=50)
    assert [row["id"] for row in output.records()] == [row["id"] for row in rows[:9]]


@places
def test_rows_out_of_order_are_all_read_with_one_warning(
    sandbox: Serve, log: Log, cursor: Way, place: str
) -> None:
    run = Run(sandbox(CONVERSATIONS, cursor))
    first = run.up_to(place)
    said_before = len(log())
    run.drift.fault = since(first, edited(lambda body: body["data"].reverse()))
    assert run.here().exit_code == 0
    assert run.target == run.account
    (line,) = [line for line in log()[said_before:] if "rows do not come newest first" in line]
    assert "so the list is read to its end" in line
    run.undisturbed()


def test_an_unordered_list_is_read_past_the_floor(sandbox: Serve) -> None:
    run = Run(sandbox(CONVERSATIONS))
    run.undisturbed()
    id_ = next(iter(run.account))
    run.drift.account.change(id_)

    def newest_last(drift: Sandbox, request: Request) -> Response:
        rows = drift.account.listing()[::-1]
        start = int(request.args.get("next", 0))
        body: Json = {"data": rows[start : start + PAGE_SIZE]}
        if start + PAGE_SIZE < len(rows):
            body["pagination"] = {"more": True, "next": start + PAGE_SIZE}
        return as_json(body)

    run.drift.fault = newest_last
    assert run.here().exit_code == 0
    assert run.target == run.account


# Secrets


def all_that_is_printed(run: Run, folder: Path, **config: Any) -> str:
    """Run at DEBUG; all that was printed but for the records."""
    config = {"page_size": 2, "max_retries": 1} | config
    command = tap_command(folder, settings(run.drift, **config), None, run.catalog)
    done = run_command(command, {"TAP_DRIFT_LOGLEVEL": "DEBUG"})
    run.load(Output(list(lines(done.stdout)), done.stderr, done.returncode))
    assert PERSONAL in done.stdout
    assert "| DEBUG" in done.stderr
    assert "Bearer *** is not welcome" in done.stderr
    assert TOKEN not in done.stdout
    assert TOKEN not in done.stderr
    assert PERSONAL not in done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


ECHO = f"Bearer {TOKEN} is not\nwelcome"
PASSING: list[Fault] = [
    answers(error(500, "internal_error", ECHO, AT_ONCE)),
    answers(error(429, TOKEN, ECHO, AT_ONCE)),
    html(503),
    answers(Response(f"{{{PERSONAL} {TOKEN}", mimetype="application/json")),
    cut_off,
    dropped,
]


def test_no_log_holds_the_token_or_what_people_wrote(sandbox: Serve, tmp_path: Path) -> None:
    run = Run(sandbox(60))
    faults: list[Fault] = [
        *PASSING,
        answers(as_json({"error": f"{PERSONAL} {TOKEN}"}, headers=AT_ONCE)),
        answers(as_json({"errors": [{"message": ECHO, "param": TOKEN}], "data": [PERSONAL]})),
        edited(lambda body: body["data"].reverse()),
        answers(error(401, "authentication_error", ECHO)),
    ]
    run.drift.faults = {2 + 3 * number: fault for number, fault in enumerate(faults)}
    run.drift.fault = in_every_row(status=PERSONAL, mood={"text": PERSONAL}, createdAt=PERSONAL)
    assert "Not read to the end: conversations" in all_that_is_printed(run, tmp_path)
    assert len(run.drift.requests) == max(run.drift.faults)


def test_no_log_of_any_stream_holds_them_either(sandbox: Serve, tmp_path: Path) -> None:
    run = Run(sandbox(6), "messages")
    run.catalog = selecting(*TapDrift(validate_config=False).streams)
    turns = itertools.cycle(PASSING)

    def every_third_time(drift: Sandbox, request: Request) -> Response | None:
        return next(turns)(drift, request) if len(drift.requests) % 3 == 0 else None

    run.drift.fault = every_third_time
    assert "Not read to the end" not in all_that_is_printed(run, tmp_path, max_retries=20)
    assert run.target == run.account


def test_a_long_message_that_ends_in_the_token_is_masked_too(sandbox: Serve, log: Log) -> None:
    for length in (250, 254, 270):
        drift = sandbox(3)
        message = ("words " * 60)[:length] + TOKEN
        drift.fault = answers(error(401, "authentication_error", message))
        run_here(settings(drift))
    assert len(log()) == 3
    assert TOKEN[:8] not in " ".join(log())


def test_no_word_of_the_connection_test_holds_the_token(sandbox: Serve, tmp_path: Path) -> None:
    drift = sandbox(3)
    drift.fault = answers(error(401, "authentication_error", ECHO))
    done = try_out(tmp_path, settings(drift))
    assert done.returncode == 1
    assert "Bearer *** is not welcome" in done.stderr
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "arrives"),
    [
        (r"cut \ud83d", "cut \ufffd"),
        (r"cut \uD83D", "cut \ufffd"),
        (r"whole \uD83D\uDE00", "whole \U0001f600"),
    ],
)
def test_half_an_emoji_does_not_stop_the_export(sandbox: Serve, text: str, arrives: str) -> None:
    drift = sandbox(3)

    def emoji(drift: Sandbox, request: Request) -> Response:
        body = re.sub('"status": "[^"]*"', "STATUS", drift.answer(request).get_data(as_text=True))
        return Response(body.replace("STATUS", f'"status": "{text}"'), mimetype="application/json")

    drift.fault = emoji
    assert {record["status"] for record in run_here(settings(drift)).records()} == {arrives}


@pytest.mark.parametrize(
    "answer",
    [
        Response("[" * 100_000, mimetype="application/json"),
        Response("1" * 5_000, mimetype="application/json"),
        Response(status=302, headers={"Location": b"\xff\xfe".decode("latin1")}),
        as_json({"data": [], "pagination": {"more": True, "next": {"a": 1}}}),
        as_json({"data": [], "pagination": {"more": True, "next": "1" * 5_000}}),
        as_json({"data": [], "pagination": {"more": True, "next": f"a{TOKEN}"}}),
        as_json({"data": [], "pagination": [1]}),
        as_json(None),
    ],
)
def test_odd_answers_end_in_one_line(sandbox: Serve, log: Log, answer: Response) -> None:
    drift = sandbox(3)
    drift.faults[1] = answers(answer)
    output = run_here(settings(drift))
    (line,) = log()
    assert output.exit_code == 1
    assert "a bug of the tap" not in line
    assert TOKEN not in json.dumps(output.states)


@pytest.mark.parametrize(
    ("field", "formula", "why"),
    [
        ("mapped", "int(status)", "ValueError"),
        ("mapped", "nosuch + 1", "record.get('nosuch')"),
        ("mapped", "record['nosuch']", "record.get('nosuch')"),
        ("__filter__", "nosuch == 1", "record.get('nosuch')"),
        ("mapped", "{'a': 1}[status]", "KeyError"),
    ],
)
def test_a_stream_map_that_fails_is_named_and_does_not_stop_the_other_streams(
    sandbox: Serve, log: Log, field: str, formula: str, why: str
) -> None:
    drift = sandbox(3)
    for row in drift.account.conversations.values():
        row["status"] = PERSONAL
    config = settings(drift, stream_maps={"conversations": {field: formula}})
    output = run_here(config, None, selecting("conversations", "users"))
    (line,) = log()
    assert line.startswith(f"conversations: stream_maps can't make {field} by {formula!r}: ")
    assert why in line
    assert PERSONAL not in line
    assert output.exit_code == 1
    assert output.records("users")


def test_a_bug_of_the_tap_does_not_stop_the_other_streams(sandbox: Serve, log: Log) -> None:
    drift = sandbox(3)
    drift.account.users = lambda: [{"id": 1, "bot": True}]  # type: ignore[method-assign]
    catalog = selecting("conversations", "users")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tap_drift.bookmark.rfc3339", lambda _: 1 / 0)
        output = run_here(settings(drift), None, catalog)
    (line,) = log()
    assert line.startswith("conversations: ZeroDivisionError. ")
    assert "it is a bug of the tap; please report it" in line
    assert output.exit_code == 1
    assert output.records("users") == [{"id": 1, "bot": True}]
