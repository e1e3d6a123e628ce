"""`tap-drift-archive`."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tap_drift.archive import checking, copying, report
from tap_drift.archive.endings import COMPLETE, DAMAGED, FAILED, NOT_COMPLETE, ArchiveEnd
from tap_drift.archive.folder import Folder, cant_write
from tap_drift.archive.progress import Progress
from tap_drift.archive.writer import now
from tap_drift.signals import SIGNALLED

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command(
    epilog="Exit codes: 0 complete (--check: also as of an earlier time), 1 failed, 2 wrong usage, "
    "3 not complete, 4 damaged, 5 no archive, 6 in use, 7 of another account."
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--config",
    multiple=True,
    metavar="FILE",
    help="A file of JSON settings, as for the tap. TAP_DRIFT_ variables count too.",
)
@click.option("--streams", metavar="NAMES", help="Only these streams, separated by commas.")
@click.option("--check", is_flag=True, help="Only report again, from the files alone.")
@click.option("--read", "read_only", is_flag=True, help="Only make the copy to read again.")
@click.option("--no-read", is_flag=True, help="Make no copy to read.")
@click.version_option(package_name="tap-drift", message="tap-drift-archive v%(version)s")
def command(  # noqa: PLR0913  (one for each option)
    folder: Path,
    config: tuple[str, ...],
    streams: str | None,
    *,
    check: bool,
    read_only: bool,
    no_read: bool,
) -> None:
    """Make a complete copy of a Drift account in FOLDER, or go on with one.

    Type it again after any interruption, and any time later: it adds what changed. It ends with a
    report, whose last line says whether the copy is complete.
    """
    if check and read_only:
        msg = "--check and --read are two things to do."
        raise click.UsageError(msg)
    archive = Folder(folder)
    progress = Progress(archive)
    names = (streams or "").replace(",", " ").split()
    try:
        if check:
            sys.exit(_check(archive))
        if read_only:
            archive.load()  # so that no folder is made where there is none
            with archive.locked():
                archive.take_up()
                _read(archive, progress)
        else:
            with archive.locked():
                made = _copy(archive, progress, config, names)
                try:
                    # A wrong token in a new folder leaves nothing to be read.
                    if not no_read and (made["complete"] or archive.contents.files):
                        _read(archive, progress)
                finally:
                    click.echo(report.as_text(made))
            sys.exit(COMPLETE if made["complete"] else NOT_COMPLETE)
    except ArchiveEnd as end:
        click.echo(end.text, err=not check)
        sys.exit(end.code)
    except SystemExit as end:
        if isinstance(end.code, int) and end.code > SIGNALLED:
            click.echo("Stopped. What was read is safe; the same command goes on.", err=True)
        raise
    except (OSError, sqlite3.Error) as error:
        click.echo(cant_write(folder, error).text, err=True)
        sys.exit(FAILED)


def _check(archive: Folder) -> int:
    archive.load()
    if damages := list(checking.damages(archive)):
        click.echo(f"damaged: {'; '.join(damages)}")
        return DAMAGED
    made = report.make(archive, now())
    click.echo(report.as_text(made))
    # Of the copy, not of a try to add to it: what was complete once stays so.
    return COMPLETE if made["complete"] or made["complete_as_of"] else NOT_COMPLETE


def _copy(
    archive: Folder, progress: Progress, config: Sequence[str], names: Sequence[str]
) -> dict[str, Any]:
    copying.make(archive, progress, config, names)
    made = report.make(archive, now())
    if again := copying.owe_what_no_list_showed(archive, made, names):
        said = archive.contents.warnings
        copying.make(archive, progress, config, again)
        archive.contents.warnings = said + archive.contents.warnings
        made = report.make(archive, now())
    archive.end(made, now())
    return made


def _read(archive: Folder, progress: Progress) -> None:
    try:
        from tap_drift.archive import reading  # noqa: PLC0415  (an extra, and slow to import)
    except ModuleNotFoundError:
        text = "No copy to read was made: that takes pip install 'tap-drift[archive]', then --read."
        progress.say(text)
        return
    reading.make(archive, progress)
