"""The forms of Drift's list, each alone and in any mixture: nothing is lost whichever it speaks."""

from __future__ import annotations

import collections
import itertools
import json
import logging
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.runs import REFUSED, Run, newest_first_times, said, warnings
from tests.sandbox import Account
from tests.sandbox.expected import expected
from tests.sandbox.listing import FORMS
from tests.sandbox.server import (
    LAST_PAGES,
    answers,
    changing,
    counts_time_out,
    edited,
    errors,
    first_of,
    html,
    since,
    tokens_ignored,
    tokens_refused,
)
from tests.tap import NO_WALK, Output, lines, run_here, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Request, Response

    from tests.sandbox import Sandbox
    from tests.sandbox.server import Fault, Form, Way
    from tests.tap import Json

    Serve = Callable[..., Sandbox]
    Log = pytest.LogCaptureFixture

OVER = "Starting over from the head of the list, so that nothing is lost."
SIZES = (0, 1, 50, 51, 230, 1000)
BY_LINKS: tuple[Form, ...] = ("links", "blank")

forms = pytest.mark.parametrize("form", FORMS)
by_links = pytest.mark.parametrize("form", BY_LINKS)


@pytest.fixture(autouse=True)
def log(caplog: Log) -> Log:
    caplog.set_level(logging.INFO)
    return caplog


def delete_above(account: Account, rows: int) -> None:
    for row in account.listing()[:rows]:
        account.delete(row["id"])


def change(account: Account, rows: int) -> None:
    for row in account.listing()[-rows:]:
        account.change(row["id"])


def is_list(request: Request) -> bool:
    return request.path == "/conversations/list"


# Every row, whatever the form


@pytest.mark.parametrize(
    ("form", "conversations", "last_page"),
    [
        (form, size, last)
        for (form, size), last in zip(
            itertools.product(FORMS, SIZES), itertools.cycle(LAST_PAGES), strict=False
        )
    ],
)
def test_the_target_equals_the_account(
    sandbox: Serve, log: Log, form: Form, conversations: int, last_page: tuple[str, str]
) -> None:
    run = Run(sandbox(conversations, form, last_page=last_page))
    first = run.here()
    assert run.target == expected(run.drift.account)
    assert len(first.records()) == conversations
    assert first.bookmark()["walk"] == NO_WALK
    second = run.here()
    # Without two times below the floor only an end will do, and ends have to show twice.
    assert len(run.requests) == (1 if conversations > 1 else 2)
    assert len(second.records()) == min(conversations, 1)
    assert second.state == first.state
    assert warnings(log) == []


@forms
def test_every_last_page_is_one(sandbox: Serve, log: Log, form: Form) -> None:
    account = Account(9)
    for last_page, size in zip(LAST_PAGES, itertools.cycle((4, 50)), strict=False):
        drift = sandbox(account, form, last_page=last_page)
        run = Run(drift)
        run.here(page_size=size)
        assert run.target == expected(account)
        assert len(run.requests) <= 5
    assert warnings(log) == []


@pytest.mark.parametrize("form", ["links", "blank"])
def test_the_main_command_speaks_every_form(tmp_path: Path, form: Form) -> None:
    written = tmp_path / "written.jsonl"
    script = f"{sys.executable} -m tap_drift --config=ENV > {written}"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.sandbox", "--folder", str(tmp_path / "s")),
            *("--list", form, "--conversations", "120", "sh", "-c", script),
        ],
        cwd=Path(__file__).parents[1],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    assert len(Output(list(lines(written.read_text()))).records()) == 120


# Where requests go


@pytest.mark.parametrize(
    "host",
    [
        "{url}",
        "//{host}",
        "http://{host}:80@{host}",
        "",
        "?page_token=decoy#",
        "https://api.drift.com",
    ],
)
@pytest.mark.parametrize("form", ["links", "both", "blank"])
def test_no_other_host_is_ever_contacted(sandbox: Serve, form: Form, host: str) -> None:
    other = sandbox(300)
    host = host.format(url=other.url, host=urlsplit(other.url).netloc)
    run = Run(sandbox(300, form, links_to=host.partition("?")[0]))
    run.drift.fault = counts_time_out(100)  # so that tokens are followed in either form
    run.interrupted(5)
    run.here()
    assert run.is_complete
    assert any(run.asked("page_token"))
    assert other.requests == []


@pytest.mark.parametrize(
    "link",
    [
        "https://api.drift.com/conversations/list",
        "https://api.drift.com/conversations/list?page_token=",
        "https://api.drift.com/conversations/list?limit=50",
        "/conversations/list?",
        "http://[::1?page_token=abc",
        "no link at all",
        "x?page_token=" + "a" * 2000,
        5,
        True,
        ["?page_token=abc"],
        {"href": "?page_token=abc"},
    ],
    ids=lambda link: str(link)[:50],
)
def test_a_link_without_a_usable_query_is_a_clear_error(
    sandbox: Serve, log: Log, link: Any
) -> None:
    run = Run(sandbox(120, "links"))

    def spoil(body: Json) -> None:
        body["links"]["next"] = link

    run.drift.fault = since(2, edited(spoil))
    run.here(1)
    assert len(run.requests) <= 6
    assert "Drift says that there is more, but not where ($.links.next)." in warnings(log)[-1]
    run.drift.fault = None
    run.here()
    assert run.is_complete


@pytest.mark.parametrize("spoilt", ["pagination", "links"])
def test_what_is_wrong_with_one_form_does_not_matter_where_another_leads_on(
    sandbox: Serve, log: Log, spoilt: str
) -> None:
    def spoil(body: Json) -> None:
        body.get("pagination", {}).pop("next", None)

    def spoil_links(body: Json) -> None:
        body.get("links", {}).update(next="nowhere")

    run = Run(sandbox(230, "both", last_page=("more", "absent")))
    run.drift.fault = edited(spoil if spoilt == "pagination" else spoil_links)
    run.here()
    assert run.target == expected(run.drift.account)
    assert any(run.asked("page_token")) == (spoilt == "pagination")
    assert warnings(log) == []


@pytest.mark.parametrize("form", ["next", "both"])
def test_more_without_a_place_is_a_clear_error(sandbox: Serve, log: Log, form: Form) -> None:
    run = Run(sandbox(120, form))

    def spoil(body: Json) -> None:
        body["pagination"] = {"more": True}
        body.pop("links", None)

    run.drift.fault = since(2, edited(spoil))
    run.here(1)
    assert "Drift says that there is more, but not where ($.pagination.next)." in warnings(log)[-1]
    run.drift.fault = None
    run.here()
    assert run.is_complete


# A first page that is full and says nothing

SAYS_OF_NONE = "the first page has 50 rows and says of none below, with a page_token as without"


@forms
@pytest.mark.parametrize("refused", [False, True], ids=["", "an empty token is refused"])
def test_an_account_may_have_exactly_a_page(
    sandbox: Serve, log: Log, form: Form, *, refused: bool
) -> None:
    run = Run(sandbox(50, form))
    if refused:
        run.drift.fault = lambda _, request: (
            errors("validation_error", "unknown cursor", "page_token")
            if "page_token" in request.args
            else None
        )
    run.here()
    assert run.target == expected(run.drift.account)
    assert len([line for line in said(log) if SAYS_OF_NONE in line]) == 1
    assert warnings(log) == []
    assert run.asked("page_token")[:2] == [None, ""]
    assert len(run.requests) <= 4
    log.clear()
    run.here()
    assert len(run.requests) == 1
    assert said(log) == []


def test_a_blank_token_is_asked_for_with_a_start_date_too(sandbox: Serve, log: Log) -> None:
    run = Run(sandbox(230, "blank"))
    times = newest_first_times(run.drift)
    output = run.here(start_date=times[120])
    assert [record["updatedAt"] for record in output.records()] == times[:121]
    assert run.asked("page_token")[:2] == [None, ""]
    assert said(log) == []


@pytest.mark.parametrize("changes", [49, 50, 51, 120])
def test_a_blank_token_is_asked_for_where_changes_fill_the_page(
    sandbox: Serve, log: Log, changes: int
) -> None:
    run = Run(sandbox(230, "blank"))
    run.here()
    change(run.drift.account, changes)
    output = run.here()
    assert run.target == expected(run.drift.account)
    assert len(output.records()) == changes + 1
    assert run.bookmark_is_newest
    assert said(log) == []


@pytest.mark.parametrize("page_size", [25, 50])
def test_a_server_that_gives_fewer_rows_than_asked_for(
    sandbox: Serve, log: Log, page_size: int
) -> None:
    run = Run(sandbox(230, "blank"))

    def at_most_25(drift: Sandbox, request: Request) -> Response | None:
        if not is_list(request) or request.args.get("limit") == "25":
            return None
        smaller = request.environ["QUERY_STRING"].replace("limit=50", "limit=25")
        return drift.answer(type(request)(request.environ | {"QUERY_STRING": smaller}))

    run.drift.fault = at_most_25
    run.here(page_size=page_size)
    assert run.target == expected(run.drift.account)


# Counts that time out, as Drift says that they do


@pytest.mark.parametrize("concurrency", [1, 8])
def test_where_counts_time_out_the_token_takes_over_at_once(
    sandbox: Serve, log: Log, concurrency: int
) -> None:
    run = Run(sandbox(2000, "both"))
    run.drift.fault = counts_time_out(400)
    run.here(concurrency=concurrency, max_retries=1)
    assert run.target == expected(run.drift.account)
    again, another = [line for line in warnings(log) if "504" in line]
    assert again.endswith("(1 of 1).")
    assert another.endswith("Going on another way.")
    assert len(warnings(log)) == 2
    assert set(run.asked("limit")) == {"50"}
    # Of 442 rows that came by count, the last nine pages overlapped by a row; the end shows twice.
    tokens = [token for token in run.asked("page_token") if token]
    assert len(tokens) == 32 + 1
    deep = [next_ for next_ in run.asked("next") if next_ and int(next_) >= 400]
    assert deep.count("441") == (2 if concurrency == 1 else 3)
    assert len(deep) <= 2 + concurrency


@pytest.mark.parametrize("concurrency", [1, 8])
def test_one_page_is_waited_for_and_not_each(sandbox: Serve, concurrency: int) -> None:
    run = Run(sandbox(2000, "both"))
    run.drift.fault = counts_time_out(400, hang=True)
    run.here(concurrency=concurrency, request_timeout=1)
    assert run.target == expected(run.drift.account)
    deep = collections.Counter(n for n in run.asked("next") if n and int(n) >= 400)
    # Of those that were asked for ahead, all at once, the first is asked for again.
    assert deep.pop("441") == (1 if concurrency == 1 else 2)
    assert set(deep.values()) <= {1}
    assert deep.total() < concurrency


@pytest.mark.parametrize("deleted", [0, 1, 60, 1030])
def test_a_run_by_count_resumes_by_token_whatever_was_deleted_above(
    sandbox: Serve, log: Log, deleted: int
) -> None:
    run = Run(sandbox(2000, "both"))
    run.interrupted(22)
    assert len(run.target) == 1030  # by count, pages overlap by a row
    assert not any(run.asked("page_token"))
    delete_above(run.drift.account, deleted)
    log.clear()
    second = run.here()
    assert run.is_complete
    assert len(second.records()) == 970 + (1030 - deleted > 0 and deleted == 0)
    assert len(run.requests) == 22  # 20 pages, the end once more, the head
    assert warnings(log) == []


# Tokens that do not work

TOKENS: dict[str, Fault] = {
    "refused with 400": tokens_refused(400),
    "refused with 404": tokens_refused(404),
    "refused with 410": tokens_refused(410),
    "refused with 422": tokens_refused(422),
    "ignored": tokens_ignored,
}
tokens = pytest.mark.parametrize("fault", TOKENS.values(), ids=TOKENS.keys())
WHY = {
    "refused": "the list can't be gone on with where it was: its cursor is refused.",
    "ignored": "the list goes in circles: the same rows come back, whatever its cursors.",
}


def why_of(fault: Fault) -> str:
    return WHY["ignored" if fault is tokens_ignored else "refused"]


@tokens
@by_links
def test_where_nothing_leads_on_the_run_fails_and_the_next_resumes(
    sandbox: Serve, log: Log, form: Form, fault: Fault
) -> None:
    run = Run(sandbox(230, form))
    run.drift.fault = since(4, fault)
    output = run.here(1, page_size=20)
    *starts, line = warnings(log)
    assert f"conversations: {why_of(fault)} {OVER}" in starts
    assert line.startswith(f"conversations: {why_of(fault)} It was begun 4 times.")
    assert len(run.requests) < 50
    assert output.bookmark()["replication_key_value"] is None
    assert output.bookmark()["walk"]["cursor"].startswith("page_token=")
    run.drift.fault = None
    rest = run.here(page_size=20)
    assert run.is_complete
    assert len(rest.records()) <= 230 - 20 + 1  # what was written once is not written again


@tokens
@pytest.mark.parametrize("form", ["next", "both"])
def test_where_counts_lead_on_tokens_are_not_missed(
    sandbox: Serve, log: Log, form: Form, fault: Fault
) -> None:
    run = Run(sandbox(230, form))
    run.drift.fault = fault
    run.here()
    assert run.target == expected(run.drift.account)
    assert warnings(log) == []


@tokens
@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_token_in_state_that_does_not_work_any_more(
    sandbox: Serve, log: Log, fault: Fault, concurrency: int
) -> None:
    run = Run(sandbox(400, "both"))
    run.interrupted(5)
    run.drift.fault = fault
    log.clear()
    run.here(concurrency=concurrency)
    assert run.is_complete
    assert run.state is not None
    assert warnings(log)[-1] == f"conversations: {why_of(fault)} {OVER}"
    assert len([line for line in warnings(log) if OVER in line]) == 1
    assert run.bookmark_is_newest


@tokens
def test_a_token_that_does_not_work_where_counts_time_out(
    sandbox: Serve, log: Log, fault: Fault
) -> None:
    run = Run(sandbox(400, "both"))
    run.drift.fault = first_of(counts_time_out(150), fault)
    output = run.here(1)
    assert any(f"{why_of(fault)} {OVER}" in line for line in warnings(log))
    assert "504" in warnings(log)[-1]
    assert len(run.requests) < 50
    assert output.bookmark()["walk"]["cursor"]
    run.drift.fault = None
    run.here()
    assert run.is_complete


@by_links
def test_where_only_tokens_are_offered_and_one_times_out_less_is_asked_for(
    sandbox: Serve, log: Log, form: Form
) -> None:
    run = Run(sandbox(400, form))

    def too_much(drift: Sandbox, request: Request) -> Response | None:
        is_much = int(request.args.get("limit", 50)) > 12
        return html(504)(drift, request) if is_much and request.args.get("page_token") else None

    run.drift.fault = too_much
    run.here()
    assert run.target == expected(run.drift.account)
    asked = list(zip(run.asked("limit"), map(bool, run.asked("page_token")), strict=True))
    asked = [(limit, is_token) for limit, is_token in asked if is_token]
    assert asked[:4] == [("50", True), ("25", True), ("12", True), ("12", True)]
    assert all("504" in line and " rows at a time." in line for line in warnings(log))

    run = Run(sandbox(400, form, token_keeps_limit=True))
    run.drift.fault = lambda drift, request: (
        html(504)(drift, request) if request.args.get("page_token") else None
    )
    log.clear()
    output = run.here(1)
    assert [limit for limit in run.asked("limit") if limit][-1] == "1"
    assert "504" in warnings(log)[-1]
    assert output.bookmark()["walk"]["cursor"].startswith("page_token=")


@by_links
def test_a_smaller_limit_may_be_ignored_beside_a_token(sandbox: Serve, form: Form) -> None:
    run = Run(sandbox(400, form, token_keeps_limit=True))
    for number in (3, 4, 7):
        run.drift.faults[number] = html(504)
    output = run.here()
    assert run.target == expected(run.drift.account)
    assert len(output.records()) == 400


# From one form to another


def speaks(form: Form) -> Callable[[Sandbox, Request], None]:
    """From now on."""

    def fault(drift: Sandbox, request: Request) -> None:
        drift.form = form

    return fault


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(FORMS, 2)))
@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_form_may_change_in_the_middle_of_a_run(
    sandbox: Serve, log: Log, before: Form, after: Form, concurrency: int
) -> None:
    for number in (2, 3, 5, 6) if concurrency == 1 else (2, 4):
        run = Run(sandbox(230, before))
        run.drift.faults[number] = speaks(after)
        run.here(concurrency=concurrency)
        assert run.is_complete
        assert run.bookmark_is_newest
        assert len(run.requests) <= 25
    # A host that does not know tokens gives the head instead.
    assert all(OVER in line or "do not come newest first" in line for line in warnings(log))


@pytest.mark.parametrize(("before", "after"), list(itertools.product(FORMS, FORMS)))
def test_the_next_run_may_resume_in_another_form(sandbox: Serve, before: Form, after: Form) -> None:
    for at, moves in ((3, ""), (4, "deletions"), (5, "changes")):
        run = Run(sandbox(230, before))
        run.interrupted(at)
        run.drift.form = after
        if moves == "deletions":
            delete_above(run.drift.account, 40)
        elif moves:
            change(run.drift.account, 40)
        run.here()
        assert run.is_complete
        assert run.bookmark_is_newest


@forms
def test_rows_that_a_start_date_left_out_are_read_by_a_run_without_one(
    sandbox: Serve, form: Form
) -> None:
    run = Run(sandbox(12, form))
    # The second page ends in a single row below it, which ends nothing; by count, pages overlap.
    start = newest_first_times(run.drift)[6 if form in BY_LINKS else 5]
    run.drift.faults[4 if form == "blank" else 3] = REFUSED
    run.here(1, page_size=4, start_date=start)
    run.here(page_size=4)
    assert run.is_complete


@pytest.mark.parametrize("form", ["offset", "id", "keyset", "both"])
def test_state_of_the_first_edition_is_taken_over(sandbox: Serve, log: Log, form: Way) -> None:
    drift = sandbox(400, form)
    drift.fault = edited(lambda body: body.pop("links", None))  # its cursors were counts
    run = Run(drift)
    first = run.interrupted(6).bookmark()
    drift.fault = None
    assert run.state is not None
    walk = first["walk"]
    last = {"id": walk["id"], "updatedAt": walk["updatedAt"]}
    cursor = walk["cursor"].removeprefix("next=")
    assert cursor != walk["cursor"]
    run.state["bookmarks"]["conversations"] = {
        "replication_key": "updatedAt",
        "covers": {"statuses": None, "start_date": None},
        "walk": {"cursor": cursor, "top": walk["top"], "last": last},
    }
    log.clear()
    second = run.here()
    assert run.is_complete
    assert len(second.records()) == 400 - len({*run.target} - {*_ids(second)}) <= 400 - 246 + 1
    assert warnings(log) == []
    assert second.bookmark()["walk"] == NO_WALK


def _ids(output: Output) -> list[int]:
    return [record["id"] for record in output.records()]


# Reading ahead


def lines_of(output: Output) -> list[str]:
    """All that was written, but for the moment of it."""
    written = [{**message, "time_extracted": None} for message in output.messages]
    return [json.dumps(message, sort_keys=True) for message in written]


@pytest.mark.parametrize("form", ["offset", "id", "keyset", "links", "blank", "both"])
@pytest.mark.parametrize("page_size", [7, 50])
def test_reading_ahead_changes_no_line(sandbox: Serve, form: Way, page_size: int) -> None:
    drift = sandbox(400, form)
    serial = run_here(settings(drift, page_size=page_size))
    before = len(drift.requests)
    ahead = run_here(settings(drift, page_size=page_size, concurrency=8))
    assert lines_of(ahead) == lines_of(serial)
    assert len(drift.requests) - before <= before + 8
    change(drift.account, 130)
    again = [
        run_here(settings(drift, page_size=page_size, concurrency=number), serial.state)
        for number in (1, 8)
    ]
    assert lines_of(again[0]) == lines_of(again[1])
    assert len(again[0].records()) == 131


@pytest.mark.parametrize("form", ["offset", "both"])
def test_pages_are_in_flight_together(sandbox: Serve, form: Way) -> None:
    drift = sandbox(1000, form, latency=0.02)
    run_here(settings(drift, concurrency=8))
    assert 4 <= drift.most_under_way <= 8


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("form", ["offset", "both"])
def test_what_moves_between_pages_in_flight_is_neither_lost_nor_older(
    sandbox: Serve, form: Way, seed: int
) -> None:
    chance = random.Random(seed)
    drift = sandbox(300, form, latency=0.002)
    run = Run(drift)

    def move(account: Account) -> None:
        listing = account.listing()
        happens = chance.random()
        if happens < 0.15:
            account.change(chance.choice(listing)["id"])
        elif happens < 0.17:
            delete_above(account, chance.choice((1, 3, 7)))
        elif happens < 0.25:
            account.begin()
        elif happens < 0.27:
            account.delete(chance.choice(listing)["id"])

    drift.fault = changing(move)
    outputs = [run.here(concurrency=8, page_size=10)]
    drift.fault = None
    outputs.append(run.here(concurrency=8, page_size=10))
    assert run.is_complete
    versions: dict[int, str] = {}
    for output in outputs:
        for record in output.records():
            assert record["updatedAt"] >= versions.get(record["id"], "")
            versions[record["id"]] = record["updatedAt"]


@pytest.mark.parametrize(
    "fault",
    [html(503), answers(errors("validation_error", "no", "next"))],
    ids=["no answer", "refused"],
)
def test_a_refusal_that_came_ahead_is_asked_again(sandbox: Serve, log: Log, fault: Fault) -> None:
    drift = sandbox(400, "both", latency=0.01)
    run = Run(drift)
    for number in (8, 9, 10):
        drift.faults[number] = fault
    run.here(concurrency=8, page_size=10)
    assert run.target == expected(drift.account)
    assert not [line for line in warnings(log) if OVER in line]
