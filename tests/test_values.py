"""Whatever Drift sends leaves in the shape that the schemas promise, and nothing of it is lost."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, FormatChecker

from tap_drift.tap import TapDrift
from tap_drift.values import DEEPEST, OTHER_FIELDS, integer, read_json, rfc3339, shaper

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMAS: dict[str, dict[str, Any]] = {
    entry["tap_stream_id"]: entry["schema"]
    for entry in TapDrift(validate_config=False).catalog_dict["streams"]
}
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
FIRST = (dt.datetime.min.replace(tzinfo=dt.UTC) - EPOCH) // dt.timedelta(milliseconds=1)
LAST = (dt.datetime.max.replace(tzinfo=dt.UTC) - EPOCH) // dt.timedelta(milliseconds=1)

TEXT = st.one_of(
    st.sampled_from(["", "5", "-7", "1.5", "2024-01-01T00:00:00+02:00", "NaN"]),
    st.text(st.characters(exclude_characters="\0"), max_size=5),
)
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.integers(FIRST, LAST),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXT,
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def rows(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values as a schema has them, any of which may be any other JSON instead."""
    types = schema.get("type", [])
    own: list[st.SearchStrategy[Any]] = [JSON]
    if "object" in types:
        fields = {name: rows(field) for name, field in schema.get("properties", {}).items()}
        named = st.fixed_dictionaries({}, optional=fields)
        own.append(st.builds(lambda a, b: a | b, st.dictionaries(TEXT, JSON, max_size=1), named))
    if "array" in types:
        own.append(st.lists(rows(schema.get("items", {})), max_size=3))
    if "integer" in types or schema.get("format") == "date-time":
        own.append(st.integers(0, LAST))
    return own[-1] if types == "object" else st.one_of(own)


SENT = st.sampled_from(sorted(SCHEMAS)).flatmap(
    lambda stream: st.tuples(st.just(stream), rows(SCHEMAS[stream] | {"type": "object"}))
)


def ignored(path: str, trouble: str) -> None:
    """Take a warning."""


def warnings(schema: dict[str, Any], row: dict[str, Any], *guarded: str) -> list[tuple[str, str]]:
    said: list[tuple[str, str]] = []
    shaper(schema, lambda *warning: said.append(warning), guarded=guarded)(row)
    return said


# Rows


@given(SENT)
def test_every_record_fits_its_schema(sent: tuple[str, dict[str, Any]]) -> None:
    stream, row = sent
    record = shaper(SCHEMAS[stream], ignored)(row)
    Draft7Validator(SCHEMAS[stream], format_checker=FormatChecker()).validate(record)
    json.dumps(record, allow_nan=False)


@given(SENT)
def test_every_field_that_is_sent_is_in_the_record(sent: tuple[str, dict[str, Any]]) -> None:
    stream, row = sent
    as_sent = json.dumps(row)
    record = shaper(SCHEMAS[stream], ignored)(row)
    other = record.get(OTHER_FIELDS, {})
    for name, value in row.items():
        assert other.get(name, value) == value
        assert name in other or (name in record and name != OTHER_FIELDS)
    assert set(record) <= {*row, OTHER_FIELDS}
    assert set(other) <= set(row)
    assert other or OTHER_FIELDS not in record
    assert json.dumps(row) == as_sent, "the row itself is left alone"


@given(SENT)
def test_a_record_is_shaped_already(sent: tuple[str, dict[str, Any]]) -> None:
    stream, row = sent
    shape = shaper(SCHEMAS[stream], ignored)
    record = shape(row)
    record.pop(OTHER_FIELDS, None)
    assert shape(record) == record


@given(SENT, st.data())
def test_what_is_guarded_does_not_escape(
    sent: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    stream, row = sent
    names = sorted(SCHEMAS[stream]["properties"].keys() - {OTHER_FIELDS})
    guarded = data.draw(st.sets(st.sampled_from(names)))
    open_record = shaper(SCHEMAS[stream], ignored)(row)
    record = shaper(SCHEMAS[stream], ignored, guarded={f"{name}.id" for name in guarded})(row)
    other = open_record.pop(OTHER_FIELDS, {})
    assert record.pop(OTHER_FIELDS, {}) == {k: v for k, v in other.items() if k not in guarded}
    assert record == open_record


@given(SENT)
def test_whatever_does_not_fit_is_warned_of(sent: tuple[str, dict[str, Any]]) -> None:
    stream, row = sent
    other = shaper(SCHEMAS[stream], ignored)(row).get(OTHER_FIELDS, {})
    said = warnings(SCHEMAS[stream], row)
    assert bool(said) == bool(other)
    assert all(any(path.startswith(name) for path, _ in said) for name in other)


MESSAGE = {
    "id": 14500000001,
    "createdAt": 1700000001000,
    "body": "<p>Hello</p>",
    "author": {"id": "501", "type": "user", "bot": None, "team": {"name": "x"}},
    "attachments": [{"id": 1, "size": 10}],
    "context": {"ip": "192.0.2.7", "location": {"latitude": "52.52", "longitude": 13, "zone": 1}},
}
SHAPED_MESSAGE = {
    "id": 14500000001,
    "createdAt": "2023-11-14T22:13:21.000Z",
    "body": "<p>Hello</p>",
    "author": {"id": 501, "type": "user", "bot": None, "team": {"name": "x"}},
    "attachments": [{"id": 1, "size": 10}],
    "context": {"ip": "192.0.2.7", "location": {"latitude": 52.52, "longitude": 13, "zone": 1}},
}


@pytest.mark.parametrize(
    ("sent", "shaped", "other"),
    [
        ({}, {}, None),
        ({"mood": {"a": [1]}}, {}, {"mood": {"a": [1]}}),
        ({"body": ["a"]}, {"body": ...}, {"body": ["a"]}),
        ({"body": 12}, {"body": "12"}, None),
        ({"id": None}, {"id": ...}, {"id": None}),
        ({"orgId": 2**63}, {"orgId": ...}, {"orgId": 2**63}),
        ({"createdAt": "x"}, {"createdAt": ...}, {"createdAt": "x"}),
        ({OTHER_FIELDS: 1}, {}, {OTHER_FIELDS: 1}),
        (
            {"author": {"id": [5], "type": "user", "team": 1}},
            {"author": {"type": "user", "team": 1}},
            {"author": {"id": [5], "type": "user", "team": 1}},
        ),
        (
            {"context": {"ip": "192.0.2.7", "location": {"latitude": "north", "zone": 1}}},
            {"context": {"ip": "192.0.2.7", "location": {"zone": 1}}},
            {"context": {"ip": "192.0.2.7", "location": {"latitude": "north", "zone": 1}}},
        ),
        (
            {"attachments": [{"id": "a", "url": "u"}, None, 5, {"id": 2}]},
            {"attachments": [{"url": "u"}, {"id": 2}]},
            {"attachments": [{"id": "a", "url": "u"}, None, 5, {"id": 2}]},
        ),
        (
            {"attributes": {"a": [None, {"b": 1e300}]}},
            {"attributes": {"a": [None, {"b": 1e300}]}},
            None,
        ),
    ],
)
def test_what_does_not_fit_stands_in_other_fields(
    sent: dict[str, Any], shaped: dict[str, Any], other: dict[str, Any] | None
) -> None:
    record = shaper(SCHEMAS["messages"], ignored)(MESSAGE | sent)
    assert record.pop(OTHER_FIELDS, None) == other
    expected = SHAPED_MESSAGE | shaped
    assert record == {name: value for name, value in expected.items() if value is not ...}


def test_elements_that_do_not_fit_are_left_out_one_by_one() -> None:
    row = {"id": 1, "participants": [501, None, "502", {}, 503.0]}
    assert shaper(SCHEMAS["conversation_details"], ignored)(row) == {
        "id": 1,
        "participants": [501, 502, 503],
        OTHER_FIELDS: {"participants": row["participants"]},
    }


def test_warnings_name_the_field_and_what_became_of_it() -> None:
    row = {"mood": 1, "author": {"id": "x"}, "attachments": [5], "body": {}}
    assert warnings(SCHEMAS["messages"], row, "body", "author.id") == [
        ("mood", "is not in the schema and stands in otherFields"),
        ("author.id", "is not of the documented type and is left out"),
        ("attachments[]", "is not of the documented type and stands in otherFields"),
        ("body", "is not of the documented type and is left out"),
    ]


def test_a_catalog_that_knows_no_other_fields_gets_none() -> None:
    schema = {"properties": {"id": {"type": "integer"}}}
    assert shaper(schema, ignored)({"id": 1, "mood": 1}) == {"id": 1}
    assert warnings(schema, {"mood": 1}) == [("mood", "is not in the schema and is left out")]


@pytest.mark.parametrize(
    ("value", "shaped"),
    [(5, 5), ("7", "7"), (True, "not"), (None, "not"), ([5, "6"], [5, 6]), (2.5, "2.5")],
)
def test_a_catalog_may_allow_several_types(value: Any, shaped: Any) -> None:
    field = {"type": ["integer", "string", "array"], "items": {"type": "integer"}}
    record = shaper({"properties": {"a": field}}, ignored)({"a": value})
    assert record.get("a", "not") == shaped


def test_null_inside_an_object_fits_only_where_it_is_allowed() -> None:
    inside = {"a": {"type": "integer"}, "b": {"type": ["integer", "null"]}}
    fields = {"o": {"type": "object", "properties": inside}, OTHER_FIELDS: {"type": "object"}}
    row = {"o": {"a": None, "b": None, "c": None}}
    record = shaper({"properties": fields}, ignored)(row)
    assert record == {"o": {"b": None, "c": None}, OTHER_FIELDS: row}


# Contacts


def test_ids_of_your_own_are_text() -> None:
    row = {"id": 1, "attributes": {"externalId": 77, "email": None, "plan": 3}}
    record = shaper(SCHEMAS["contacts"], ignored)(row)
    assert record["attributes"] == {"externalId": "77", "email": None, "plan": 3}


def test_no_two_names_of_a_schema_are_the_same_column_of_a_target() -> None:
    def check(schema: dict[str, Any]) -> None:
        fields = schema.get("properties", {})
        columns = {name.replace("_", "").lower() for name in fields}
        assert len(columns) == len(fields)
        assert schema.get("additionalProperties") is not False
        for field in [*fields.values(), schema.get("items", {})]:
            if field:
                check(field)

    for schema in SCHEMAS.values():
        check(schema)


# Times


@given(st.integers(FIRST, LAST))
@example(FIRST)
@example(LAST)
@example(-1)
@example(951782400000)
def test_times_are_those_of_the_calendar(milliseconds: int) -> None:
    time = EPOCH + dt.timedelta(milliseconds=milliseconds)
    text = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert rfc3339(milliseconds) == text
    assert rfc3339(text) == text
    if milliseconds >= 0:
        assert rfc3339(str(milliseconds)) == text
    if abs(milliseconds) < 2**53:
        assert rfc3339(float(milliseconds)) == text


@pytest.mark.parametrize(
    "value",
    [
        *(FIRST - 1, LAST + 1, 2**63, -(2**63), 10**400, 1.5, float("nan"), float("inf"), True),
        *("", "x", "2024-13-01", "9" * 5000, "²", "0001-01-01T00:00:00+23:00"),
    ],
)
def test_what_no_calendar_has_is_no_time(value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (the value itself is its message)
        rfc3339(value)


def test_times_without_a_zone_are_utc() -> None:
    assert rfc3339("2024-01-01") == "2024-01-01T00:00:00.000Z"
    assert rfc3339("2024-01-01T01:30:00.1239+01:00") == "2024-01-01T00:30:00.123Z"


@given(st.integers(-(2**65), 2**65))
@example(2**63)
@example(2**63 - 1)
@example(-(2**63))
@example(-(2**63) - 1)
def test_integers_have_64_bits(value: int) -> None:
    if -(2**63) <= value < 2**63:
        assert integer(value) == integer(str(value)) == value
    else:
        for sent in (value, str(value)):
            with pytest.raises(ValueError, match=str(value)[:5]):
                integer(sent)


@pytest.mark.parametrize("value", [True, 1.5, "1.0", "--1", "", " 1", "1_0", "9" * 5000, None, []])
def test_what_is_no_whole_number_is_no_integer(value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (the value itself is its message)
        integer(value)


# JSON


@given(JSON, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-32-le"]))
def test_json_is_read_in_any_unicode_encoding(value: Any, encoding: str) -> None:
    for escaped in (False, True):
        text = json.dumps(value, ensure_ascii=escaped)
        assert read_json(text.encode(encoding)) == (value, False)
    assert read_json(f"[NaN, {text}]".encode(encoding)) == ([None, value], True)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (rb'{"a\u0000b": ["\u0000"]}', {"a\ufffdb": ["\ufffd"]}),
        (rb'["half \ud83d", "\uDE00", "\ud83d\ude00"]', ["half \ufffd", "\ufffd", "😀"]),
        (rb'["\\u0000", "\\ud83d"]', ["\\u0000", "\\ud83d"]),
        (rb'[NaN, "\u0000", "\ud83d"]', [None, "\ufffd", "\ufffd"]),
        (b'{"Gr\xfc\xdfe": "\xc3\xa9\xff"}', {"Gr\ufffd\ufffde": "é\ufffd"}),
        (b'["\xed\xa0\xbd"]', ["\ufffd\ufffd\ufffd"]),
        (b'["a\nb\0"]', ["a\nb\ufffd"]),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'{"a": 1, "a": NaN}', {"a": None}),
        (b"[18446744073709551616, -9223372036854775809]", [2**64, -(2**63) - 1]),
        (b"[18446744073709551616, NaN]", [2**64, None]),
        (b"[1e999, 1.5]", ["1e999", 1.5]),
        (b"[-Infinity, Infinity]", [None, None]),
    ],
)
def test_json_is_read_the_way_it_was_meant(content: bytes, value: Any) -> None:
    assert read_json(content)[0] == value


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b"<html>NaN</html>",
        b'{"a": 1',
        b"[NaN",
        b"[1] [2]",
        b"[1,]",
        b"\xff",
        b"\x1f\x8b\x08",
        b"1" * 5000,
        b"[NaN, " + b"1" * 5000 + b"]",
        b"\0" * 9,
        "[1".encode("utf-16"),
    ],
)
def test_what_is_no_json_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (readers have many words for it)
        read_json(content)


@pytest.mark.parametrize("levels", [DEEPEST + 1, 1000, 100_000])
@pytest.mark.parametrize(("start", "end"), [("[", "]"), ('{"a":[],"b":', "}"), ("[NaN,", "]")])
def test_what_is_nested_too_deeply_is_a_value_error(levels: int, start: str, end: str) -> None:
    with pytest.raises(ValueError, match="nested"):
        read_json((start * levels + "1" + end * levels).encode())


def test_what_is_nested_as_deeply_as_allowed_is_shaped() -> None:
    text = "[" * (DEEPEST - 2) + "1" + "]" * (DEEPEST - 2)
    row = read_json(f'{{"id": 1, "attributes": {{"a": {text}}}, "mood": [{text}]}}'.encode())[0]
    record = shaper(SCHEMAS["messages"], ignored)(row)
    assert json.loads(json.dumps(record[OTHER_FIELDS])) == {"mood": row["mood"]}
    assert record["attributes"] == row["attributes"]
