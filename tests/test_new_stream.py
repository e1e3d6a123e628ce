"""A stream stands in several places: what is missing of one is named, by file and field."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from tap_drift import streams
from tap_drift.stream import DriftStream
from tests.documents import CHANGELOG, PROJECT
from tests.plugin_definition import DEFINITION, MELTANO, README, STREAM_TABLES
from tests.sandbox import Account
from tests.sandbox.expected import expected
from tests.tables import STREAM_BY_NAME, code

if TYPE_CHECKING:
    from collections.abc import Iterator

    Json = dict[str, Any]

SCHEMAS = PROJECT / "tap_drift" / "schemas"
SNAPSHOTS = PROJECT / "tests" / "__snapshots__" / "test_catalog"
DECLARED = [
    one
    for _, one in inspect.getmembers(streams, inspect.isclass)
    if issubclass(one, DriftStream) and one.__module__ == streams.__name__
]
RARE = {"otherFields", "whyNoContent", "countedAt"}
"""Fields that the account does not have by itself; `test_catalog.py` sees that they come."""

WRITE = "uv run python -m tests.plugin_definition"
SNAPSHOT = "uv run pytest tests/test_catalog.py --snapshot-update"

ACCOUNT = Account(60)


def missing(stream: type[DriftStream]) -> Iterator[str]:
    """What is not said of a stream where it should be."""
    name = str(stream.name)  # type: ignore[misc]
    if STREAM_BY_NAME.get(name) is not stream:
        yield f"tap_drift/tap.py: {stream.__name__} is not in STREAMS"
    if not stream.__doc__:
        yield f"tap_drift/streams.py: {stream.__name__} does not say what it is"
    if not getattr(stream, "scope", ""):
        yield f"tap_drift/streams.py: {stream.__name__} has no scope"
    path = SCHEMAS / f"{name}.json"
    schema: Json = json.loads(path.read_text("utf-8")) if path.exists() else {}
    yield from (f"tap_drift/schemas/{name}.json: {line}" for line in of_schema(schema, stream))
    yield from (f"tests/sandbox: {line}" for line in of_sandbox(schema, name))
    if not (SNAPSHOTS / f"test_the_catalog_is_as_it_was[{name}][{name}].json").exists():
        yield f"tests/__snapshots__: none of {name}: {SNAPSHOT}"
    yield from of_documents(stream, name)


def of_schema(schema: Json, stream: type[DriftStream]) -> Iterator[str]:
    fields = schema.get("properties", {})
    # Where a stream declares none, it is a property of the SDK's.
    for name in (*stream.primary_keys, stream.replication_key, "otherFields"):
        if isinstance(name, str) and name not in fields:
            yield f"no field {name}"
    yield from without_description(schema)


def without_description(schema: Json, above: str = "") -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        if not field.get("description"):
            yield f"{above}{name} has no description"
        yield from without_description(field, f"{above}{name}.")
        yield from without_description(field.get("items", {}), f"{above}{name}[].")


def of_sandbox(schema: Json, name: str) -> Iterator[str]:
    try:
        rows = list(expected(ACCOUNT, name).values())
    except (AttributeError, KeyError):
        rows = []
    if not rows:
        yield f"expected.py knows no records of {name}"
    brought = set[str]().union(*rows)
    for field in schema.get("properties", {}):
        if rows and field not in brought | RARE:
            yield f"no record of {name} has {field}"


def of_documents(stream: type[DriftStream], name: str) -> Iterator[str]:
    for path in (README, STREAM_TABLES):
        if f"{code(name)}" not in path.read_text("utf-8"):
            yield f"{path.relative_to(PROJECT)}: no row of {name}: {WRITE}"
    (tap,) = YAML().load(MELTANO)["plugins"]["extractors"]
    for path, plugin in ((DEFINITION, YAML().load(DEFINITION)), (MELTANO, tap)):
        if (f"{name}.*" in plugin["select"]) != stream.selected_by_default:
            yield f"{path.relative_to(PROJECT)}: `select` is not what is selected: {WRITE}"
    if name not in CHANGELOG.read_text("utf-8"):
        yield f"{CHANGELOG.relative_to(PROJECT)}: does not name {name}"


@pytest.mark.parametrize("stream", DECLARED, ids=lambda stream: str(stream.name))
def test_a_stream_is_in_all_its_places(stream: type[DriftStream]) -> None:
    assert list(missing(stream)) == []


def test_no_snapshot_or_schema_is_left_over() -> None:
    assert {path.stem for path in SCHEMAS.glob("*.json")} == STREAM_BY_NAME.keys()
    assert len(list(SNAPSHOTS.iterdir())) == len(STREAM_BY_NAME)


def test_what_is_missing_is_named() -> None:
    class DealsStream(DriftStream):
        name = "deals"
        selected_by_default = True

    assert list(missing(DealsStream)) == [
        "tap_drift/tap.py: DealsStream is not in STREAMS",
        "tap_drift/streams.py: DealsStream does not say what it is",
        "tap_drift/streams.py: DealsStream has no scope",
        "tap_drift/schemas/deals.json: no field id",
        "tap_drift/schemas/deals.json: no field otherFields",
        "tests/sandbox: expected.py knows no records of deals",
        f"tests/__snapshots__: none of deals: {SNAPSHOT}",
        f"README.md: no row of deals: {WRITE}",
        f"docs/streams.md: no row of deals: {WRITE}",
        f"plugin.yml: `select` is not what is selected: {WRITE}",
        f"meltano.yml: `select` is not what is selected: {WRITE}",
        ".github/CHANGELOG.md: does not name deals",
    ]


def test_a_field_that_is_half_there_is_named() -> None:
    schema: Json = json.loads((SCHEMAS / "users.json").read_text("utf-8"))
    schema["properties"]["mood"] = {"type": "object", "properties": {"now": {"type": "string"}}}
    assert list(of_schema(schema, streams.UsersStream)) == [
        "mood has no description",
        "mood.now has no description",
    ]
    assert list(of_sandbox(schema, "users")) == ["no record of users has mood"]
