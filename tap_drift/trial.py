"""Trying what a token may read, before hours are spent on it: `--test`."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from tap_drift.drift import DriftError, Help
from tap_drift.progress import table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tap_drift.stream import DriftStream

COLUMNS = ("stream", "scope", "may be read")


def try_out(streams: Iterable[DriftStream]) -> tuple[list[str], dict[str, str]]:
    """Ask once for what each stream reads.

    Args:
        streams: Which.

    Returns:
        A table in lines; and by stream, why it may not be read.
    """
    rows: list[tuple[str, str, str]] = []
    causes: dict[str, str] = {}
    is_hopeless = False
    for stream in streams:
        said = "not tried"
        if not is_hopeless:
            try:
                said = stream.try_out()
            except DriftError as error:
                said = _said_of(error)
                causes[stream.name] = str(error)
                is_hopeless = _holds_for_all(error)
        rows.append((stream.name, stream.scope, said))
    return table(COLUMNS, rows), causes


def _said_of(error: DriftError) -> str:
    if error.status == HTTPStatus.UNAUTHORIZED:
        return "no: the token is refused"
    return "no" if error.status == HTTPStatus.FORBIDDEN else "not known: see below"


def _holds_for_all(error: DriftError) -> bool:
    no_way = error.status is None and error.help is not Help.LESS
    return no_way or error.status == HTTPStatus.UNAUTHORIZED
