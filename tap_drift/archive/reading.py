"""A copy to read and to query, made from the files alone and any time again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tap_drift.archive import pages, report, sqlite
from tap_drift.archive.writer import now

if TYPE_CHECKING:
    from tap_drift.archive.folder import Folder
    from tap_drift.archive.progress import Progress


def make(folder: Folder, progress: Progress) -> None:
    """Make `archive.sqlite`, `files/` and `pages/`.

    Args:
        folder: The archive; it is locked.
        progress: Who tells the user.
    """
    progress.say(f"Making {sqlite.NAME} and pages/ ...")
    database = sqlite.make(folder)
    index = pages.make(database, folder.path / "pages", _verdict(folder))
    progress.say(f"To read: {index}. To query: {database}.")


def _verdict(folder: Folder) -> str:
    made = folder.report() if folder.contents.ended_at else report.make(folder, now())
    at = made["made_at"]
    said = report.verdict(made, f" on {at[:10]} at {at[11:16]}")
    return f"{said[0].upper()}{said[1:]}."
