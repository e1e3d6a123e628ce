"""What people hand over: files, a state in its wrapper, catalogs, and variables, as they come."""

from __future__ import annotations

import difflib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from singer_sdk.configuration._dict_config import parse_environment_config
from singer_sdk.exceptions import ConfigValidationError
from singer_sdk.singerlib.catalog import REPLICATION_FULL_TABLE, REPLICATION_INCREMENTAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import IO

    Json = dict[str, Any]

METHODS = (REPLICATION_INCREMENTAL, REPLICATION_FULL_TABLE)
"""The replication methods that the tap has."""


# Files


class _Schema(msgspec.Struct, frozen=True):
    properties: dict[str, dict[str, Any]] | None = None


class _Metadata(msgspec.Struct):
    breadcrumb: list[str]
    metadata: dict[str, Any]


class _CatalogEntry(msgspec.Struct):
    tap_stream_id: str
    stream: str | None = None
    key_properties: list[str] | None = None
    replication_key: str | None = None
    replication_method: str | None = None
    schema: _Schema = _Schema()
    metadata: list[_Metadata] = []


class Catalog(msgspec.Struct):
    """The shape of a catalog."""

    streams: list[_CatalogEntry]


def document(content: bytes, shape: Any) -> Json:
    """Read a file as JSON of a shape.

    Args:
        content: JSON in UTF-8, UTF-16 or UTF-32, with a byte order mark or without.
        shape: What msgspec can convert it to.

    Returns:
        The JSON as it is.

    Raises:
        ValueError: It is something else.
    """
    found: Json = json.loads(content)
    msgspec.convert(found, shape)
    return found


def settings(paths: Iterable[str]) -> Json:
    """Read files of settings; later ones win.

    Raises:
        ValueError: One is no JSON object.
        OSError: One can't be read.
    """
    found: Json = {}
    for path in paths:
        try:
            found |= document(Path(path).read_bytes(), dict)
        except ValueError as error:
            msg = f"{path}: {error}"
            raise ValueError(msg) from None
    return found


# State


class _State(msgspec.Struct):
    bookmarks: dict[str, dict[str, Any]] | None = None


def bookmarks(state: Json) -> dict[str, Json]:
    """Find the bookmarks in a state, which may be in a wrapper.

    Args:
        state: A state; a whole STATE message; or what `meltano state get` or a state backend of
            Meltano's has.

    Returns:
        The bookmarks, by stream.

    Raises:
        ValueError: It is no state: to take it for an empty one would be to read everything again.
    """
    if state.get("partial"):
        msg = "it is one of Meltano's that is not merged yet: use what `meltano state get` prints"
        raise ValueError(msg)
    for wrapper in ("completed", "singer_state", "value" if state.get("type") == "STATE" else ""):
        if isinstance(wrapped := state.get(wrapper), dict):
            state = wrapped
    if state and "bookmarks" not in state:
        msg = f"it has {', '.join(map(repr, state))}, and no 'bookmarks'"
        raise ValueError(msg)
    return msgspec.convert(state, _State).bookmarks or {}


# Catalogs


def catalog(given: Json) -> Json:
    """Let the replication method that a stream's metadata ask for count.

    Singer's `replication-method` is what a user writes there; the SDK knows the one on top alone,
    which discovery writes.

    Args:
        given: A catalog.

    Returns:
        A catalog in which the method is on top.

    Raises:
        ValueError: There is no such method, or a stream has another name. Its arguments are a line
            for each.
    """
    entries, mistakes = [], []
    for entry in given.get("streams") or ():
        id_, name = entry["tap_stream_id"], entry.get("stream")
        if name not in (None, id_):
            mistakes.append(
                f"The catalog calls {id_} {name!r}, which a stream map can do (__alias__), and a "
                "catalog can't."
            )
        of_stream = [one["metadata"] for one in entry.get("metadata", ()) if not one["breadcrumb"]]
        asked = [one.get("replication-method") for one in of_stream]
        method = next(filter(None, [*asked, entry.get("replication_method")]), None)
        if method not in (None, *METHODS):
            mistakes.append(
                f"The catalog asks for the replication method {method!r} for "
                f"{id_}. It is {' or '.join(METHODS)}."
            )
        entries.append(entry | {"replication_method": method} if method else entry)
    if mistakes:
        raise ValueError(*mistakes)
    return given | {"streams": entries}


def unknown(what: str, names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Say which names there are not, and which may have been meant.

    Args:
        what: Of what kind they are.
        names: What was handed over.
        known: What there is.

    Returns:
        A line for each.
    """
    there = list(known)
    lines = []
    for name in names:
        if name in there:
            continue
        near = nearest(name, there)
        meant = f" Did you mean {near!r}?" if near else ""
        lines.append(f"There is no {what} {name!r}: it does nothing.{meant}")
    return lines


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Give the known name that is most like this one, if any is."""
    found = difflib.get_close_matches(name.lower().replace("-", "_"), list(known), n=1)
    return found[0] if found else None


# Variables


def variables(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Find the environment's variables that say something; an empty one is not set.

    Args:
        names: Those of all settings.
        prefix: How the names of variables begin.

    Returns:
        The variable of each setting that has one.
    """
    parse_environment_config({}, prefix)  # puts what a file `.env` says into the environment
    by_setting = {name: prefix + name.upper() for name in names}
    return {name: v for name, v in by_setting.items() if os.environ.get(v, "").strip()}


def value(variable: str, name: str, declared: Mapping[str, Any], prefix: str) -> Any:
    """Read the variable of a setting.

    Args:
        variable: Its name.
        name: The setting.
        declared: The setting's JSON Schema.
        prefix: How the names of variables begin.

    Returns:
        What it says.

    Raises:
        ValueError: It is not of the setting's type. The message does not hold what it says, which
            may be a secret in the wrong place.
    """
    types = declared.get("type", ())
    types = [types] if isinstance(types, str) else types
    try:
        if "integer" in types:
            number = float(os.environ[variable])
            return int(number) if number.is_integer() else number
        return parse_environment_config({"properties": {name: dict(declared)}}, prefix)[name]
    except (ValueError, OverflowError):
        kind = " or ".join(type_ for type_ in types if type_ != "null")
        msg = f"The variable {variable} is no {kind}, which the setting {name} asks for."
        raise ValueError(msg) from None


def likely_mistyped(names: Iterable[str], prefix: str) -> list[str]:
    """Say which variables look like a setting's and are none's; others are somebody else's."""
    known = [prefix + name.upper() for name in names]
    here = (v for v in os.environ if v.startswith(prefix) and not v.startswith(f"{prefix}_"))
    by_name = {v: difflib.get_close_matches(v, known, n=1, cutoff=0.85) for v in here}
    return [
        f"There is no variable {v!r}: it does nothing. Did you mean {near[0]!r}?"
        for v, near in by_name.items()
        if near and v not in known
    ]


def mend_log_level(prefix: str) -> list[str]:
    """Put a level in place of what other tools take for one, on which the SDK would stumble.

    Args:
        prefix: How the names of the tap's own variables begin.

    Returns:
        A line for each that was wrong.
    """
    wrong = []
    for variable in (f"{prefix}LOGLEVEL", "LOGLEVEL"):
        level = os.environ.get(variable)
        if level is None or level.upper() in logging.getLevelNamesMapping():
            continue
        if level.strip():
            wrong.append(f"{variable} is {level!r}, which is no level: INFO is taken.")
            os.environ[variable] = "INFO"
        else:
            del os.environ[variable]
    return wrong


def mistake(line: str) -> ConfigValidationError:
    """Make an error of a line that tells a user what is wrong with what they handed over."""
    return ConfigValidationError(line, errors=[line])


WAYS_OUT = {
    "--state": "Take an older one, or none: then everything is read again.",
    "--catalog": "Write it anew with --discover.",
}
"""What to do instead of handing over a file that can't be read."""


def file(opened: IO[bytes] | None, option: str, shape: Any) -> dict[str, Any] | None:
    """Read a file that an option names.

    Args:
        opened: The file; `None` if none was named.
        option: Which option.
        shape: What the document has to be like.

    Returns:
        The document; an empty one for a state that nothing was written to.

    Raises:
        ConfigValidationError: It is none.
    """
    if opened is None:
        return None
    try:
        content = opened.read()
        if shape is dict and not content.strip():
            return {}
        return document(content, shape)
    except (ValueError, OSError) as error:
        line = f"{option} {opened.name} is no JSON of the shape that it has to have: {error}. "
        line += WAYS_OUT[option]
        raise mistake(line) from None
