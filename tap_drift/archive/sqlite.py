"""`archive.sqlite` and `files/`: the newest row of each key, and attachments as bytes."""

from __future__ import annotations

import base64
import contextlib
import html
import re
from typing import TYPE_CHECKING, Any

import nh3
import sqlite_utils

from tap_drift.archive.copying import all_streams
from tap_drift.archive.folder import ASKED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tap_drift.archive.folder import Folder

    Row = dict[str, Any]

NAME = "archive.sqlite"

TYPES: dict[str, type] = {"integer": int, "number": float, "boolean": int}
"""What columns are, by JSON Schema's types; objects and arrays are JSON."""

SEARCHABLE = {"messages": "bodyText", "transcripts": "transcript"}

LONGEST_BODY = 200_000
"""How much of a message is made readable: a hostile one could take hours."""

SHOWN_AS_THEY_ARE = re.compile(
    "bmp|csv|docx?|gif|gz|heic|jpe?g|json|m4a|mov|mp[34]|od[pst]|pdf|png|pptx?|rtf|tiff?|txt|wav|"
    "web[mp]|xlsx?|zip"
)
"""Ends of names that a browser runs no script for; others get `.bin`, so that it does not guess."""


def make(folder: Folder) -> Path:
    """Make the database, beside the old one, which it then replaces.

    Args:
        folder: The archive.

    Returns:
        Where it is.
    """
    path = folder.path / NAME
    aside = path.with_suffix(".sqlite.new")
    aside.unlink(missing_ok=True)
    with contextlib.closing(sqlite_utils.Database(aside)) as database:
        # Nothing is lost if it breaks off: it is made anew. So nothing waits for the disk.
        database.execute("pragma synchronous = off")
        database.execute("pragma journal_mode = off")
        for name, entry in all_streams().items():
            columns = _columns(name, entry["schema"])
            table = database.table(name)
            table.create(columns, pk=entry["key_properties"])
            rows = _rows(folder, name)
            table.insert_all(rows, replace=True, pk=tuple(entry["key_properties"]))
            if name in SEARCHABLE:
                table.enable_fts([SEARCHABLE[name]])
            if "conversationId" in columns:
                table.create_index(["conversationId"])
        database.table("conversations").create_index(["contactId"])
        asked = {"stream": str, "id": int, "conversationUpdatedAt": str, "rows": int}
        table = database.table(ASKED).create(asked, pk=("stream", "id"))
        table.insert_all(folder.rows(ASKED), replace=True, pk=("stream", "id"))
        table = database.table("owed").create({"stream": str, "id": int}, pk=("stream", "id"))
        table.insert_all(_owed(folder))
    aside.replace(path)
    return path


def as_text(body: str | None) -> str:
    """Say what an HTML body says, without its tags."""
    begin = (body or "")[:LONGEST_BODY].replace("<", " <")
    return html.unescape(nh3.clean(begin, tags=set())).strip()


def safe_name(row: Row) -> str:
    """Name a file so that it can stand on every system, and no browser runs what is in it.

    Args:
        row: A record of the stream `attachments`.

    Returns:
        A name that no other attachment has.
    """
    name = re.sub(r"[^\w.-]+", "_", str(row.get("fileName") or "file"))[-50:].strip("._")
    end = name.rpartition(".")[2].lower()
    name = name if SHOWN_AS_THEY_ARE.fullmatch(end) else f"{name}.bin"
    return f"{int(row['messageId'])}-{int(row['position'])}-{name}"


def _columns(name: str, schema: Row) -> dict[str, type]:
    columns = {}
    for field, of in schema["properties"].items():
        types = of.get("type") or "string"
        (first, *_) = [
            one for one in ([types] if isinstance(types, str) else types) if one != "null"
        ]
        columns[field] = TYPES.get(first, str)
    if name == "messages":
        columns["bodyText"] = str
    if name == "attachments":
        columns.pop("content", None)
        columns["file"] = str
    return columns


def _owed(folder: Folder) -> Iterator[Row]:
    for name, bookmark in (folder.contents.state.get("bookmarks") or {}).items():
        for owed in bookmark.get("owed") or ():
            yield {"stream": name, "id": owed["id"]}


def _rows(folder: Folder, name: str) -> Iterator[Row]:
    for row in folder.rows(name):
        if name == "messages":
            row["bodyText"] = as_text(row.get("body"))
        elif name == "attachments":
            content = row.pop("content", None)
            file = folder.path / "files" / str(int(row["conversationId"] or 0)) / safe_name(row)
            if content is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(base64.b64decode(content))
            # A file that is gone by now may have been there when it was read before.
            row["file"] = file.relative_to(folder.path).as_posix() if file.exists() else None
        yield row
