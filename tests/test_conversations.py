"""What people come for: the conversations of an account, all of them, as Drift documents them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sandbox.expected import expected
from tests.sandbox.server import as_json
from tests.tap import EVERYTHING, NO_WALK, run_here, settings, upserted

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Request, Response

    from tests.sandbox import Sandbox
    from tests.sandbox.server import Way

    Serve = Callable[..., Sandbox]

DOCUMENTED_ROWS = [
    {
        "status": "closed",
        "contactId": 1238157803,
        "createdAt": 1237922759384,
        "id": 1230200520,
        "inboxId": 123064,
        "updatedAt": 1237922783451,
    },
    {
        "status": "closed",
        "contactId": 1238007734,
        "createdAt": 1237921765994,
        "id": 1230183727,
        "inboxId": 123064,
        "updatedAt": 1237921843271,
    },
    {
        "status": "closed",
        "contactId": 1231375574,
        "createdAt": 1237887731334,
        "id": 1239406310,
        "inboxId": 123064,
        "updatedAt": 1237887796881,
    },
]
"""The rows of both example responses in Drift's document on listing conversations."""


@pytest.mark.parametrize("conversations", [0, 1, 50, 51, 1000])
def test_every_conversation_arrives_once(sandbox: Serve, cursor: Way, conversations: int) -> None:
    drift = sandbox(conversations, cursor)
    output = run_here(settings(drift))
    assert upserted({}, output.records()) == expected(drift.account)
    assert len(output.records()) == conversations
    # A page costs one request; where cursors count rows, pages overlap: 50 + 19 * 49 < 1000. The
    # end has to show twice, and a full head that is the end once more.
    overlaps = cursor in {"offset", "both"} and conversations == 1000
    more = 1 + overlaps + (conversations == 50)
    assert len(drift.requests) == max(1, -(-conversations // 50)) + more
    newest = max((row["updatedAt"] for row in expected(drift.account).values()), default=None)
    assert output.bookmark() == {
        "replication_key": "updatedAt",
        "replication_key_value": newest,
        "covers": EVERYTHING,
        "walk": NO_WALK,
        "owed": [],
    }


def test_the_documented_responses_are_read_as_they_stand(sandbox: Serve) -> None:
    drift = sandbox()
    first = {"data": DOCUMENTED_ROWS, "pagination": {"more": True, "next": "123494893"}}
    second = {"data": DOCUMENTED_ROWS, "pagination": {"more": True, "next": "7"}}
    last = {"data": DOCUMENTED_ROWS}
    answers = {None: first, "123494893": second, "7": last}

    def documented(_: Sandbox, request: Request) -> Response:
        return as_json(answers[request.args.get("next")])

    drift.fault = documented
    output = run_here(settings(drift))
    assert output.records() == [
        {
            "status": "closed",
            "contactId": 1238157803,
            "createdAt": "2009-03-24T19:25:59.384Z",
            "id": 1230200520,
            "inboxId": 123064,
            "updatedAt": "2009-03-24T19:26:23.451Z",
        },
        {
            "status": "closed",
            "contactId": 1238007734,
            "createdAt": "2009-03-24T19:09:25.994Z",
            "id": 1230183727,
            "inboxId": 123064,
            "updatedAt": "2009-03-24T19:10:43.271Z",
        },
        {
            "status": "closed",
            "contactId": 1231375574,
            "createdAt": "2009-03-24T09:42:11.334Z",
            "id": 1239406310,
            "inboxId": 123064,
            "updatedAt": "2009-03-24T09:43:16.881Z",
        },
    ]
    assert [request.partition("?")[2] for request in drift.requests] == [
        "limit=50",
        "limit=50&next=123494893",
        "limit=50&next=7",
        "limit=50&next=7",  # the end has to show twice
    ]


def test_the_documented_requests_are_asked_as_they_stand(sandbox: Serve) -> None:
    drift = sandbox()
    run_here(settings(drift, statuses=["open"]))
    assert drift.requests[0] == "/conversations/list?limit=50&statusId=1"  # "open, up to 50"
    drift = sandbox(60)
    run_here(settings(drift, statuses=["open", "closed"], page_size=2))
    # "open and closed, after the cursor": statusId repeated, next and limit sent again.
    assert drift.requests[1].startswith("/conversations/list?limit=2&next=")
    assert drift.requests[1].endswith("&statusId=1&statusId=2")
    drift = sandbox()
    run_here(settings(drift))
    assert drift.requests[0] == "/conversations/list?limit=50"  # "first page (all types)"


@pytest.mark.parametrize(
    "statuses", [["open"], ["closed"], ["pending"], ["closed", "open"], ["open", "open"]]
)
def test_only_the_statuses_that_are_asked_for(
    sandbox: Serve, cursor: Way, statuses: list[str]
) -> None:
    drift = sandbox(300, cursor)
    output = run_here(settings(drift, statuses=statuses))
    assert upserted({}, output.records()) == {
        id_: record
        for id_, record in expected(drift.account).items()
        if record["status"] in statuses
    }


@pytest.mark.parametrize("api_url", ["{}", "{}/"])
def test_settings_are_used(sandbox: Serve, api_url: str) -> None:
    drift = sandbox(10)
    seen = []

    def look(_: Sandbox, request: Request) -> None:
        seen.append(request.headers["User-Agent"])

    drift.fault = look
    run_here(settings(drift, user_agent="acme/1.0", api_url=api_url.format(drift.url), page_size=5))
    assert set(seen) == {"acme/1.0"}
    assert drift.requests[0] == "/conversations/list?limit=5"
