"""Whether an archive is still what it was when it was vouched for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from tap_drift.archive.files import FileError, digest
from tap_drift.archive.folder import REPORT, STATE, SUMS, as_sums

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tap_drift.archive.folder import Folder


def damages(folder: Folder) -> Iterator[str]:
    """Find what is not as it was when it was vouched for.

    Yields:
        A line for each file.
    """
    for name, known in folder.contents.files.items():
        shown = f"data/{folder.file(name).name}"
        try:
            digest(folder.file(name), known)
        except FileError as error:
            yield f"{shown} {error}"
            continue
        # What a run that did not end left behind its last STATE is cut off by the next.
        longer = folder.file(name).stat().st_size - known.bytes
        if folder.contents.ended_at and longer:
            yield f"{shown} has {longer:,} bytes too many"
    if folder.contents.ended_at:
        yield from _damages_besides(folder)


def _damages_besides(folder: Folder) -> Iterator[str]:
    found = folder.sums() | {name: _sha256(folder.path / name) for name in (REPORT, STATE)}
    try:
        text = (folder.path / SUMS).read_text()
    except (OSError, ValueError):
        yield f"{SUMS} is missing or can't be read"
        return
    said = {line[66:]: line[:64] for line in text.splitlines()}
    if as_sums(said) != text or said.keys() != found.keys():
        yield f"{SUMS} was changed"
    for name, sha256 in found.items():
        if sha256 is None:
            yield f"{name} is missing or can't be read"
        elif said.get(name) != sha256:
            yield f"{name} is not what {SUMS} says"


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
