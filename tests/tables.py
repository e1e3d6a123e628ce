"""The tables of the documentation, made from what the tap says of itself."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from tap_drift.newest_first import NewestFirstStream
from tap_drift.reports import ReportStream
from tap_drift.tap import STREAMS, TapDrift

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tap_drift.stream import DriftStream

    Json = dict[str, Any]

CATALOG: dict[str, Json] = {
    entry["tap_stream_id"]: entry
    for entry in TapDrift(validate_config=False).catalog_dict["streams"]
}

STREAM_BY_NAME: dict[str, type[DriftStream]] = {
    str(stream.name): stream  # type: ignore[misc]
    for stream in sorted(
        STREAMS,
        key=lambda one: (not one.selected_by_default, not issubclass(one, NewestFirstStream)),
    )
}
"""What people look for first comes first: conversations, and what belongs to them."""


def streams_in_short() -> Iterator[str]:
    """What each stream is, and the scope that it needs: the README's table."""
    yield from table(
        ["stream", "scope", "what it is"],
        ([code(name), scope(one), purpose(one)] for name, one in STREAM_BY_NAME.items()),
    )


def streams_in_full() -> Iterator[str]:
    """How each stream is read, and then its fields."""
    yield from table(
        ["stream", "key", "replication", "requests, for all of it"],
        (
            [
                f"[{code(name)}](#{name})",
                ", ".join(map(code, CATALOG[name]["key_properties"])),
                replication(stream),
                stream.costs,
            ]
            for name, stream in STREAM_BY_NAME.items()
        ),
    )
    for name, stream in STREAM_BY_NAME.items():
        yield from ["", f"## {name}", "", f"{purpose(stream)}. Scope: {scope(stream)}.", ""]
        yield from fields(CATALOG[name]["schema"])


def fields(schema: Json) -> Iterator[str]:
    """The fields of a stream, with those of objects below them."""
    yield from table(["field", "type", ""], rows_of_fields(schema))


def rows_of_fields(schema: Json, above: str = "") -> Iterator[list[str]]:
    for name, field in schema.get("properties", {}).items():
        yield [code(above + name), type_of(field), told(field["description"])]
        yield from rows_of_fields(field, f"{above}{name}.")
        yield from rows_of_fields(field.get("items", {}), f"{above}{name}[].")


def type_of(field: Json) -> str:
    types = field.get("type", [])
    types = [types] if isinstance(types, str) else types
    return str(field.get("format") or " or ".join(one for one in types if one != "null") or "any")


def settings(own: Json, required: list[str]) -> Iterator[str]:
    """The tap's own settings."""
    yield from table(
        ["setting", "default", ""],
        (
            [
                code(name),
                "required"
                if name in required
                else code(schema["default"])
                if "default" in schema
                else "",
                told(schema["description"]),
            ]
            for name, schema in own.items()
        ),
    )


def purpose(stream: type[DriftStream]) -> str:
    """The first line of what the source says of a stream."""
    return (inspect.getdoc(stream) or "").partition("\n")[0].rstrip(".")


def scope(stream: type[DriftStream]) -> str:
    """The scopes that a stream needs: those of the list too, if it walks it."""
    of_list = [NewestFirstStream.scope] if issubclass(stream, NewestFirstStream) else []
    scopes = dict.fromkeys(of_list + re.findall(r"\w+_read\b", stream.scope))
    _, bracket, note = stream.scope.partition(" (")
    return ", ".join(map(code, scopes)) + bracket + note


def replication(stream: type[DriftStream]) -> str:
    if issubclass(stream, ReportStream):
        return "incremental, by windows of `updatedAt`"
    key = CATALOG[str(stream.name)].get("replication_key")  # type: ignore[misc]
    return f"incremental, {code(key)}" if key else "full table"


def table(head: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    for row in [head, ["---"] * len(head), *rows]:
        yield f"| {' | '.join(row)} |"


def code(value: object) -> str:
    return f"`{value}`"


def told(description: str) -> str:
    """A description that stays within its cell."""
    return description.replace("|", r"\|").replace("\n", " ")
