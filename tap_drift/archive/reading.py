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
    index = pages.make(database, folder.path / "pages")
    progress.say(f"To read: {index}. To query: {database}.")
