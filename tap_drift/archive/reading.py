"""A copy to read and to query, made from the files alone and any time again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tap_drift.archive import pages, sqlite

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
    at = folder.contents.ended_at
    if not at:
        return "Not complete: the last run was stopped."
    report = folder.report()
    time = f"{at[:10]} at {at[11:16]}"
    if report["complete"]:
        limits = f", as far as was asked for ({report['limits']})" if report["limits"] else ""
        return f"Complete on {time}{limits}."
    return f"Not complete on {time}: {'; '.join(report['why_not'])}."
