"""Making the copy: the tap, with a writer that writes files."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from singer_sdk.exceptions import ConfigValidationError, SingerSDKError

from tap_drift import given
from tap_drift.archive.endings import FAILED, OTHER_ACCOUNT, ArchiveEnd
from tap_drift.archive.folder import ASKED
from tap_drift.archive.writer import ArchiveWriter
from tap_drift.compat import override
from tap_drift.items import ItemsStream
from tap_drift.owed import MOST_OWED
from tap_drift.progress import counted
from tap_drift.streams import ContactsStream
from tap_drift.tap import TapDrift

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from singer_sdk import Stream

    from tap_drift.archive.folder import Folder
    from tap_drift.archive.progress import Progress

MOST_WARNINGS = 200

ADVICE = """\
This may take long: at least one request for each conversation and stream of its items.
It can be stopped at any time (Ctrl-C); the same command goes on where it stopped.
Start early, keep the folder, and run it again before the account ends: it adds what changed."""


class ArchivedTap(TapDrift):
    """The tap, with its streams in another order."""

    @property
    @override
    def streams(self) -> dict[str, Stream]:
        """The list of conversations first, so that each is proved to have its items; files last."""
        return dict(sorted(super().streams.items(), key=_turn))


def _turn(named: tuple[str, Stream]) -> tuple[bool, bool, bool]:
    name, stream = named
    return name != "conversations", isinstance(stream, ItemsStream), name == "attachments"


class Warnings(logging.Handler):
    """Shows the tap's warnings, and keeps them for the report."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.WARNING)
        self._progress = progress
        self.lines: list[str] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        self._progress.say(line)
        if len(self.lines) < MOST_WARNINGS:
            self.lines.append(line)


def make(folder: Folder, progress: Progress, config: Sequence[str], names: Collection[str]) -> None:
    """Read everything that is not there yet.

    Args:
        folder: The archive; it is locked.
        progress: Who tells the user.
        config: Files of settings; the environment counts too.
        names: The streams to read; all if there are none.

    Raises:
        ArchiveEnd: It can't be made.
    """
    warnings = Warnings(progress)
    logger = logging.getLogger(TapDrift.name)
    logger.addHandler(warnings)
    logger.propagate = False
    try:
        if folder.exists:
            folder.take_up()
        writer = ArchiveWriter(folder, progress)
        tap = _tap(folder, writer, config, names)
        selected = sum(stream.selected for stream in tap.streams.values())
        progress.say(f"Reading {counted(selected, 'streams')} into {folder.path} ...")
        _claim(folder, tap)
        writer.watch(tap.streams)  # type: ignore[arg-type]
        _remember_contacts(folder, tap)
        folder.begin()
        if not folder.contents.files:
            progress.say(ADVICE)
        tap.sync_all()
        writer.end_stream()
        progress.end()
        folder.contents.warnings = warnings.lines
        folder.commit()
    except SingerSDKError as error:
        lines = getattr(error, "errors", None) or [str(error)]
        raise ArchiveEnd(FAILED, "\n".join(map(str, lines))) from None
    finally:
        folder.close()
        logger.removeHandler(warnings)
        logger.propagate = True


def owe_what_no_list_showed(
    folder: Folder, report: Mapping[str, Any], names: Collection[str]
) -> list[str]:
    """Have what is missing asked for by its number, though every list was read to its end.

    It was deleted after `conversations` were read; asked for once more, that is known.

    Args:
        folder: The archive; it is locked.
        report: What it holds.
        names: The streams that were read; all if there are none.

    Returns:
        Those that are to be read again.

    Raises:
        ArchiveEnd: The folder can't be written.
    """
    bookmarks, streams = folder.contents.state.get("bookmarks") or {}, []
    for name, without in report["without"].items():
        owed = (bookmarks.get(name) or {}).get("owed") or []
        known = {one["id"] for one in owed}
        ids = [*without["not_read"], *without["changed_since"]]
        new = [{"id": id_, "updatedAt": None} for id_ in ids if id_ not in known]
        of = report["streams"][name]
        was_read = of["read_to_end_at"] and not of["broke_off"] and (not names or name in names)
        if new and was_read:
            bookmarks[name]["owed"] = [*owed, *new[: MOST_OWED - len(owed)]]
            streams.append(name)
    if streams:
        folder.commit()
    return streams


def _remember_contacts(folder: Folder, tap: ArchivedTap) -> None:
    """Let a walk that goes on know whom it has met: STATE is too small for that, the files not."""
    for stream in tap.streams.values():
        walk = (tap.state.get("bookmarks", {}).get(stream.name) or {}).get("walk") or {}
        if isinstance(stream, ContactsStream) and (place := walk.get("updatedAt")):
            stream.met_before(
                row["id"]
                for row in folder.rows(ASKED)
                if row["stream"] == stream.name and (row["conversationUpdatedAt"] or "") >= place
            )


def all_streams() -> dict[str, Any]:
    """Say what the tap can read.

    Returns:
        Entries of its catalog, by the stream's name.
    """
    catalog = TapDrift(validate_config=False, setup_mapper=False).catalog_dict
    return {entry["tap_stream_id"]: entry for entry in catalog["streams"]}


def _tap(
    folder: Folder, writer: ArchiveWriter, config: Sequence[str], names: Collection[str]
) -> ArchivedTap:
    entries = all_streams()
    if unknown := sorted(set(names) - entries.keys()):
        known = ", ".join(sorted(entries))
        text = f"There is no stream {' or '.join(unknown)}. There are {known}."
        raise ArchiveEnd(FAILED, text)
    for name, entry in entries.items():
        entry["metadata"] = [
            {"breadcrumb": [], "metadata": {"selected": not names or name in names}}
        ]
        entry["metadata"] += [
            {"breadcrumb": ["properties", field], "metadata": {"selected": True}}
            for field in entry["schema"]["properties"]
        ]
    tap = ArchivedTap(
        config=_settings(config),
        parse_env_config=True,
        catalog={"streams": list(entries.values())},
        state=folder.contents.state,
        message_writer=writer,
    )
    _refuse_what_changes_rows(tap.config)
    return tap


def _settings(files: Iterable[str]) -> dict[str, Any]:
    try:
        return given.settings(file for file in files if file != "ENV")
    except (OSError, ValueError) as error:
        text = f"--config can't be read as a file of JSON settings: {error}"
        raise ArchiveEnd(FAILED, text) from None


def _refuse_what_changes_rows(config: Mapping[str, Any]) -> None:
    for name in ("stream_maps", "batch_config", "flattening_enabled"):
        if config.get(name):
            msg = f"{name} is not for an archive, which holds what Drift sends."
            raise ConfigValidationError(msg, errors=[msg])


def _claim(folder: Folder, tap: ArchivedTap) -> None:
    """Make sure that the folder is of the account that the token belongs to."""
    known = folder.contents.account
    # One whose number could not be found out is asked for again.
    account = tap.owner.account(None if (known or "").startswith(":") else known)
    before, now = ((of or "").partition(":")[0] for of in (known, account))
    if before and now and before != now:
        text = f"{folder.path} is of account {before}, the token of {now}. Name another folder."
        raise ArchiveEnd(OTHER_ACCOUNT, text)
    if now or not before:
        folder.contents.account = account
