"""Whether what arrived is what the account holds, stream by stream."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.sandbox.expected import KEYS, expected
from tests.sandbox.postgres import records

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.sandbox.account import Account

    Row = dict[str, Any]
    Rows = list[Row]


def in_postgres(url: str, stream: str) -> Rows | None:
    """What a target wrote into PostgreSQL; nothing if there is no such table."""
    table, rows = records(url, stream)
    return rows if table else None


def in_files(folder: Path, stream: str) -> Rows | None:
    """What target-jsonl wrote, which appends: of rows with the same key, the last one counts."""
    path = folder / f"{stream}.jsonl"
    if not path.exists():
        return None
    rows = list(map(json.loads, path.read_text(encoding="utf-8").splitlines()))
    return list({_key(stream, _comparable(row)): row for row in rows}.values())


def difference(account: Account, stream: str, rows: Rows) -> str:
    """How rows differ from the account; empty if they are the same."""
    due = {_key(stream, row): row for row in map(_comparable, expected(account, stream).values())}
    found = list(map(_comparable, rows))
    if stream == "conversation_stats":  # every run adds its counts
        last = max((row["countedat"] for row in found), default="")
        found = [row for row in found if row.pop("countedat") == last]
    if stream == "booked_meetings":  # those that Drift has forgotten stay
        found = [row for row in found if _key(stream, row) in due]
    target = {_key(stream, row): row for row in found}
    counts = {
        "missing": len(due.keys() - target.keys()),
        "too many": len(target.keys() - due.keys()),
        "different": sum(due[key] != target[key] for key in due.keys() & target.keys()),
        "more than once": len(found) - len(target),
    }
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def _key(stream: str, row: Row) -> tuple[Any, ...]:
    key = KEYS.get(stream, "id")
    names: Iterable[str] = [key] if isinstance(key, str) else key
    return tuple(row[name.lower()] for name in names)


def _comparable(row: Row) -> Row:
    """A row in a shape that targets can give: they change the case of names, and keep nulls."""
    return {
        name.lower().replace("_", ""): value for name, value in row.items() if value is not None
    }
