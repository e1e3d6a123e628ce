"""The shape of values: JSON as it is read, and times, numbers and text as they leave the tap."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    Reader = Callable[[Any], Any]
    """Shapes a value that is not null, or raises `ValueError` if it does not fit."""

OTHER_FIELDS = "otherFields"
"""The field of every stream that holds what the others can't."""

_CONTAINERS = frozenset({dict, list})

DEEPEST = 200
"""Levels that an answer may be nested: whoever handles records recurses."""

_MISFIT = "is not of the documented type"

_EPOCH = dt.date(1970, 1, 1).toordinal()
_MINUTES = tuple(f"T{minute // 60:02}:{minute % 60:02}" for minute in range(24 * 60))
_SECONDS = tuple(f":{second:02}" for second in range(60))
_MILLISECONDS = tuple(f".{millisecond:03}Z" for millisecond in range(1000))
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_DECIMAL = re.compile(r"-?\d{1,300}\.\d+", re.ASCII)


# Times and numbers


def rfc3339(value: float | str) -> str:
    """Write a time the way it leaves the tap, so that times compare as strings do.

    Args:
        value: Milliseconds since 1970 (a number, or its digits), or an ISO 8601 text, which is
            taken as UTC if it names no zone.

    Returns:
        RFC 3339 in UTC with three decimals and a `Z`, such as `2009-03-24T19:26:23.451Z`.

    Raises:
        ValueError: The value is no time, or one that no calendar has.
    """
    try:
        if isinstance(value, str) and not value.isdigit():
            time_ = dt.datetime.fromisoformat(value)
            time_ = time_.astimezone(dt.UTC) if time_.tzinfo else time_.replace(tzinfo=dt.UTC)
            return time_.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
        minutes, rest = divmod(integer(value), 60_000)
        days, minute = divmod(minutes, 24 * 60)
        second, millisecond = divmod(rest, 1000)
        return _day(days) + _MINUTES[minute] + _SECONDS[second] + _MILLISECONDS[millisecond]
    except OverflowError as error:
        raise ValueError(value) from error


@lru_cache(1024)
def _day(days: int) -> str:
    return dt.date.fromordinal(_EPOCH + days).isoformat()


def integer(value: Any) -> int:
    """Read a whole number.

    Args:
        value: A whole number of 64 bits, or its digits.

    Returns:
        The number.

    Raises:
        ValueError: It is none.
    """
    if type(value) is int:
        number = value
    elif (
        value.removeprefix("-").isdecimal()
        if isinstance(value, str)
        else isinstance(value, float) and value.is_integer()
    ):
        number = int(value)
    else:
        raise ValueError(value)
    if not -(2**63) <= number < 2**63:
        raise ValueError(value)
    return number


# JSON


def read_json(content: bytes) -> tuple[Any, bool]:
    """Read a JSON document the way it was meant.

    Text that targets can't store (U+0000, half of a UTF-16 pair) leaves it as U+FFFD, in values and
    in names; so do bytes that are not UTF-8.

    Args:
        content: JSON as UTF-8, whatever the header said; or as UTF-16 or UTF-32.

    Returns:
        The JSON value, nested `DEEPEST` levels at the most, and whether a bare `NaN` or `Infinity`
        in it became null.

    Raises:
        ValueError: It is no JSON, or nested too deeply, or a number in it has thousands of digits.
    """
    lossy = False
    try:
        try:
            value = _decode(content)
            if b"\\u0000" in content:
                value = _storable(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            lenient = _Lenient()
            text = content.decode(json.detect_encoding(content), "replace")
            value, lossy = _storable(lenient.decode(text)), lenient.saw_no_number
    except RecursionError:
        too_deep = True
    else:
        too_deep = content.count(b"[") + content.count(b"{") > DEEPEST and _is_too_deep(value)
    if too_deep:
        msg = f"nested more than {DEEPEST} levels deep"
        raise ValueError(msg)
    return value, lossy


def one_line(text: str) -> str:
    """Make one line of what others wrote, without what can't be printed: no log line forges one."""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(text.split())


def read_text(content: bytes) -> str:
    """Read text as UTF-8; what is none, or what targets can't store, becomes U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", content.decode("utf-8", "replace"))


_decode = msgspec.json.Decoder().decode


class _Lenient(json.JSONDecoder):
    """Reads what msgspec is too strict for: bare NaN, halves of pairs, line ends inside of text."""

    def __init__(self) -> None:
        super().__init__(parse_constant=self._null, parse_float=_float, strict=False)
        self.saw_no_number = False

    def _null(self, _: str) -> None:
        self.saw_no_number = True


def _float(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else digits  # 1e999, say: as text it is not lost


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    return value


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            item
            for container in level
            for item in (container.values() if type(container) is dict else container)
            if type(item) in _CONTAINERS
        ]
        if not level:
            return False
    return True


# Rows


class _Field(NamedTuple):
    """What a schema says of a field: how to read a value, and whether it may be null."""

    read: Reader
    nullable: bool


class _PartlyError(ValueError):
    """Something in a value does not fit.

    Attributes:
        fits: The value without it.
    """

    def __init__(self, fits: Any) -> None:
        super().__init__(fits)
        self.fits = fits


def shaper(
    schema: Mapping[str, Any], warn: Callable[[str, str], object], *, guarded: Collection[str] = ()
) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Make the function that shapes the rows of a stream, so that nothing in them is lost.

    Args:
        schema: The stream's JSON schema: `type`, `format`, `properties`, `items`.
        warn: Called with the path of a field and what is the matter with it, for every row anew.
        guarded: Fields that are not selected or that a stream map touches, as `attributes.email`
            or whole. What does not fit in them is left out, or masking would be undone.

    Returns:
        A function from a row as Drift sent it to a record that fits the schema: times as text,
        digits as numbers where numbers are due, numbers as text where text is due. Objects inside
        keep what the schema does not name. What else does not fit stands in `otherFields`, by
        top-level field, whole and as it was sent.
    """
    properties = schema.get("properties", {})
    hidden = {part for name in guarded for part in (name, name.partition(".")[0])} - {OTHER_FIELDS}

    def stands(name: str) -> bool:
        return name not in hidden and OTHER_FIELDS in properties

    def complain(name: str, trouble: str, path: str) -> None:
        fate = f"stands in {OTHER_FIELDS}" if stands(name) else "is left out"
        warn(path, f"{trouble} and {fate}")

    fields = {
        name: _field(field, name, partial(complain, name, _MISFIT))
        for name, field in properties.items()
        if name != OTHER_FIELDS
    }
    return partial(_shape, fields, stands, complain)


def _shape(
    fields: Mapping[str, _Field],
    stands: Callable[[str], bool],
    complain: Callable[[str, str, str], None],
    row: dict[str, Any],
) -> dict[str, Any]:
    record: dict[str, Any] = {}
    other: dict[str, Any] = {}
    for name, value in row.items():
        field = fields.get(name)
        if field is None:
            complain(name, "is not in the schema", name)
        elif value is None and field.nullable:
            record[name] = None
            continue
        else:
            try:
                record[name] = field.read(value)
                continue
            except _PartlyError as error:
                record[name] = error.fits
            except ValueError:
                complain(name, _MISFIT, name)
        if stands(name):
            other[name] = value
    if other:
        record[OTHER_FIELDS] = other
    return record


def _field(schema: Mapping[str, Any], path: str, misfit: Callable[[str], object]) -> _Field:
    types = schema.get("type")
    if types is None:
        return _Field(lambda value: value, nullable=True)
    if isinstance(types, str):
        types = [types]
    readers: dict[type, Reader] = {}
    if "boolean" in types:
        readers[bool] = _boolean
    if "number" in types:
        readers[int] = readers[float] = _number
    if "integer" in types:
        readers[int] = integer
    if "object" in types:
        readers[dict] = _object(schema.get("properties", {}), path, misfit)
    if "array" in types:
        readers[list] = _array(schema.get("items", {}), f"{path}[]", misfit)
    if "string" in types:
        readers[str] = rfc3339 if schema.get("format") == "date-time" else _text
    return _Field(_any_of(readers), nullable="null" in types)


def _any_of(readers: dict[type, Reader]) -> Reader:
    """Make a reader of several, of which the one for a value's own type is asked alone."""
    if len(readers) == 1:
        return next(iter(readers.values()))

    def read(value: Any) -> Any:
        if own := readers.get(type(value)):
            return own(value)
        for reader in readers.values():
            try:
                return reader(value)
            except ValueError:
                continue
        raise ValueError(value)

    return read


def _object(properties: Mapping[str, Any], path: str, misfit: Callable[[str], object]) -> Reader:
    fields = {name: _field(field, f"{path}.{name}", misfit) for name, field in properties.items()}

    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise ValueError(value)
        shaped = {}
        fits = True
        for name, element in value.items():
            field = fields.get(name)
            if field is None or (element is None and field.nullable):
                shaped[name] = element
                continue
            try:
                shaped[name] = field.read(element)
            except _PartlyError as error:
                shaped[name] = error.fits
                fits = False
            except ValueError:
                misfit(f"{path}.{name}")
                fits = False
        if not fits:
            raise _PartlyError(shaped)
        return shaped

    return read


def _array(items: Mapping[str, Any], path: str, misfit: Callable[[str], object]) -> Reader:
    item = _field(items, path, misfit)

    def read(value: Any) -> list[Any]:
        if type(value) is not list:
            raise ValueError(value)
        shaped: list[Any] = []
        fits = True
        for element in value:
            if element is None and item.nullable:
                shaped.append(None)
                continue
            try:
                shaped.append(item.read(element))
            except _PartlyError as error:
                shaped.append(error.fits)
                fits = False
            except ValueError:
                misfit(path)
                fits = False
        if not fits:
            raise _PartlyError(shaped)
        return shaped

    return read


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(value)
    return value


def _number(value: Any) -> float:
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return float(value)
    return integer(value)


def _text(value: Any) -> str:
    if type(value) is str:
        return value
    if type(value) is int or type(value) is float:
        return str(value)
    raise ValueError(value)
