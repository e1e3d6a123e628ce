"""The shape of values: times, numbers and text as they leave the tap."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


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
        else:
            time_ = _EPOCH + dt.timedelta(milliseconds=integer(value))
    except OverflowError as error:
        raise ValueError(value) from error
    return time_.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def whole_text(value: Any) -> Any:
    """Put a replacement character where half of a UTF-16 pair stands alone.

    Args:
        value: A JSON value.

    Returns:
        The same with text that can be written as UTF-8.
    """
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [whole_text(item) for item in value]
    if isinstance(value, dict):
        return {whole_text(name): whole_text(item) for name, item in value.items()}
    return value


def integer(value: Any) -> int:
    """Read a whole number.

    Args:
        value: A whole number of 64 bits, or its digits.

    Returns:
        The number.

    Raises:
        ValueError: It is none.
    """
    if isinstance(value, str):
        whole = value.removeprefix("-").isdecimal()
    else:
        whole = not isinstance(value, bool) and isinstance(value, (int, float)) and value % 1 == 0
    if not whole or not -(2**63) <= (number := int(value)) < 2**63:
        raise ValueError(value)
    return number


def conformed(value: Any, schema: Mapping[str, Any], warn: Any, path: str = "") -> Any:
    """Shape a JSON value as a schema says, where that loses nothing.

    Args:
        value: The value.
        schema: A JSON schema: `type`, `format`, `properties`, `items`.
        warn: Called with the path of a field that is left out, and why.
        path: The path of the value, dotted; empty for a whole row.

    Returns:
        The value, shaped: times as text, digits as numbers where numbers are due, numbers as text
        where text is due.

    Raises:
        ValueError: The value is nothing that the schema allows.
    """
    types = schema.get("type")
    if value is None or types is None:
        return value
    if isinstance(value, dict) and "object" in types:
        properties = schema.get("properties")
        if properties is None:
            return value
        shaped = {}
        for name, field in value.items():
            field_path = f"{path}.{name}" if path else name
            if name not in properties:
                warn(field_path, "is not in the schema")
                continue
            try:
                shaped[name] = conformed(field, properties[name], warn, field_path)
            except ValueError:
                warn(field_path, "is not of the documented type")
        return shaped
    if isinstance(value, list) and "array" in types:
        return [conformed(item, schema.get("items", {}), warn, f"{path}[]") for item in value]
    return _scalar(value, schema, types)


def _scalar(value: Any, schema: Mapping[str, Any], types: list[str]) -> Any:
    if isinstance(value, (dict, list)):
        raise ValueError(value)  # noqa: TRY004  (one error for all that does not fit)
    if "boolean" in types and isinstance(value, bool):
        return value
    if "number" in types and isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if "integer" in types:
        return integer(value)
    if "string" in types and not isinstance(value, bool):
        return rfc3339(value) if schema.get("format") == "date-time" else str(value)
    raise ValueError(value)
