"""What the tap says that it has: a change of a schema has to show in review."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from singer_sdk.testing import SuiteConfig, get_tap_test_class
from syrupy.extensions.json import JSONSnapshotExtension

from tap_drift.tap import TapDrift
from tests.sandbox import TOKEN, Account, Sandbox
from tests.sandbox.server import as_json
from tests.tap import selecting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from syrupy.assertion import SnapshotAssertion
    from werkzeug.wrappers import Request, Response

CATALOG: dict[str, Any] = TapDrift(validate_config=False).catalog_dict
DRIFT = Sandbox(Account(60), transcripts_as_json=True)
KEYS = {"id", "accountId", "slug", "metrics", "landingPageUrl", "displayName"}
"""What the rows of every resource have at least one of."""


def with_more_than_documented(drift: Sandbox, request: Request) -> Response:
    """The suite wants every field in some record, `otherFields` too."""
    rows: list[dict[str, Any]] = []

    def note(row: dict[str, Any]) -> dict[str, Any]:
        rows.append(row)
        return row

    answer = drift.answer(request)
    if answer.mimetype != "application/json":
        return answer
    body = json.loads(answer.get_data(), object_hook=note)
    for row in rows:
        if row.keys() & KEYS or isinstance(row.get("data"), str):
            row["mood"] = "good"
        if "conversationCount" in row:
            row["conversationCount"]["SNOOZED"] = "some"
    return as_json(body)


@pytest.fixture(scope="module", autouse=True)
def drift() -> Iterator[None]:
    DRIFT.fault = with_more_than_documented
    with DRIFT:
        yield


@pytest.mark.parametrize("stream", [entry["tap_stream_id"] for entry in CATALOG["streams"]])
def test_the_catalog_is_as_it_was(stream: str, snapshot: SnapshotAssertion) -> None:
    entry = next(entry for entry in CATALOG["streams"] if entry["tap_stream_id"] == stream)
    snapshot = snapshot.use_extension(JSONSnapshotExtension)(name=stream)
    assert json.loads(json.dumps(entry)) == snapshot


@pytest.mark.parametrize("entry", CATALOG["streams"], ids=lambda entry: entry["tap_stream_id"])
def test_every_field_is_described(entry: dict[str, Any]) -> None:
    for name, field in entry["schema"]["properties"].items():
        assert field.get("description"), name


class TestWithTheSuiteOfTheSDK(
    get_tap_test_class(  # type: ignore[misc]
        TapDrift,
        # Some files are larger, so that there is a reason why they have no content.
        config={"access_token": TOKEN, "api_url": DRIFT.url, "max_attachment_bytes": 2000},
        catalog=selecting(*(entry["tap_stream_id"] for entry in CATALOG["streams"])),
        suite_config=SuiteConfig(ignore_no_records=False),
    )
):
    """The tests that every tap on the SDK passes."""
