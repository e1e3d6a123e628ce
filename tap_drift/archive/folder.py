"""The folder: its files of rows, and `state.json`, which says how much of them is vouched for."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING, Any, Self

import filelock
import msgspec

from tap_drift.archive.endings import DAMAGED, FAILED, IN_USE, NO_ARCHIVE, ArchiveEnd
from tap_drift.archive.files import FileError, Length, RowsFile, digest, rows_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STATE, REPORT, SUMS, LOCK = "state.json", "report.json", "SHA256SUMS", ".lock"

WAY_OUT = "Put back a copy, or begin in a new folder."
"""What may be done about an archive that is damaged."""

FORMAT = 1

ASKED = "asked"
"""The rows that say what was asked of each conversation or contact, and how much there was."""


class About(msgspec.Struct):
    """What is known of a stream, besides its STATE."""

    key: list[str]
    each: str | None = None
    """Which field of a conversation its items are asked with; `None`: it has none to do with it."""
    read_to_end_at: str | None = None
    """When it was read to its end last, whatever became of later tries."""
    as_of: str | None = None
    """When that run began to read it: what Drift had then is there."""
    broke_off: str | None = None
    """Why the last try did not come to its end; `None` if it did."""
    left_out: int = 0
    """Rows without a usable key, which no archive can hold apart."""
    asked: int = 0


class Complete(msgspec.Struct, frozen=True):
    """That an archive was complete: nothing that happens later makes it untrue."""

    as_of: str
    limits: str
    """What was asked for, in words; empty if that was everything."""


class Contents(msgspec.Struct):
    """What `state.json` says."""

    state: dict[str, Any] = {}
    files: dict[str, Length] = {}
    streams: dict[str, About] = {}
    account: str | None = None
    """Whose it is, as `covers.account` in STATE has it."""
    warnings: list[str] = []
    ended_at: str | None = None
    """When the last run came to its end; `None` if it did not, or is under way."""
    complete: Complete | None = None
    """The last time that it was."""
    format: int = FORMAT


class Folder:
    """An archive.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.contents = Contents()
        self._lock = filelock.FileLock(path / LOCK, timeout=0)
        self._digests: dict[str, Any] = {}
        self._open: dict[str, RowsFile] = {}

    # Reading

    @property
    def exists(self) -> bool:
        """Whether there is an archive."""
        return (self.path / STATE).exists()

    def _look_for_state(self) -> None:
        """Tell an archive whose `state.json` was lost from a folder with other things.

        Raises:
            ArchiveEnd: It was lost.
        """
        if not self.exists and any((self.path / "data").glob("*.jsonl.gz")):
            raise ArchiveEnd(DAMAGED, f"damaged: {STATE} is missing. {WAY_OUT}")

    def load(self) -> Self:
        """Read what `state.json` says.

        Raises:
            ArchiveEnd: There is no archive, or `state.json` is damaged.
        """
        try:
            content = (self.path / STATE).read_bytes()
            self.contents = msgspec.json.decode(content, type=Contents)
        except (FileNotFoundError, NotADirectoryError):
            self._look_for_state()
            raise ArchiveEnd(NO_ARCHIVE, f"{self.path} holds no archive.") from None
        except OSError as error:
            raise ArchiveEnd(FAILED, f"{self.path} can't be read: {error}") from None
        except ValueError as error:
            raise ArchiveEnd(
                DAMAGED, f"damaged: {STATE} can't be read: {error}. {WAY_OUT}"
            ) from None
        if self.contents.format != FORMAT:
            text = f"{self.path} was made by a newer tap-drift, which it takes to go on."
            raise ArchiveEnd(FAILED, text)
        return self

    def rows(self, name: str) -> Iterator[dict[str, Any]]:
        """Read rows of a stream, in the order in which they were written."""
        return rows_in(self.file(name), self.contents.files.get(name, Length()))

    def report(self) -> Any:
        """Read the report of the last run that came to its end."""
        return msgspec.json.decode((self.path / REPORT).read_bytes())

    def file(self, name: str) -> Path:
        """Say where the rows of a stream are."""
        return self.path / "data" / f"{name}.jsonl.gz"

    def sums(self) -> dict[str, str]:
        """Say which checksums the files of rows have, by their paths in the folder."""
        return {f"data/{name}.jsonl.gz": of.sha256 for name, of in self.contents.files.items()}

    # Writing

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the folder to oneself.

        Raises:
            ArchiveEnd: Somebody else has it, other things are in it, or it can't be written.
        """
        is_new = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            others = {path.name for path in self.path.iterdir()} - {LOCK, aside(STATE)}
            self._look_for_state()
            if others and not self.exists:
                text = f"{self.path} is not empty, and holds no archive. Name another folder."
                raise ArchiveEnd(FAILED, text)
            self._lock.acquire()
        except filelock.Timeout:
            text = f"{self.path} is in use by another tap-drift-archive."
            raise ArchiveEnd(IN_USE, text) from None
        except (OSError, NotImplementedError) as error:
            raise cant_write(self.path, error) from None
        try:
            yield
        finally:
            self.close()
            self._lock.release()
            if is_new and not self.exists:
                self._leave()

    def take_up(self) -> None:
        """Read what is there, and change nothing.

        Raises:
            ArchiveEnd: There is no archive, or it is damaged.
        """
        self.load()
        damages = []
        for name, known in self.contents.files.items():
            try:
                self._digests[name] = digest(self.file(name), known)
            except FileError as error:
                damages.append(f"data/{name}.jsonl.gz {error}")
        if damages:
            text = f"damaged: {'; '.join(damages)}. {WAY_OUT}"
            raise ArchiveEnd(DAMAGED, text)

    def begin(self) -> None:
        """Open the files, cut to what is vouched for; from here on things change.

        Raises:
            OSError: It can't be written.
        """
        self.contents.ended_at = None
        self._replace(STATE, self._as_json())
        (self.path / "data").mkdir(exist_ok=True)
        (self.path / SUMS).unlink(missing_ok=True)
        for name, known in self.contents.files.items():
            self._open[name] = RowsFile(self.file(name), known, self._digests[name])

    def add(self, name: str, row: Any) -> None:
        """Take a row, which `commit` makes part of the archive.

        Raises:
            ArchiveEnd: It can't be written.
        """
        try:
            if name not in self._open:
                self._open[name] = RowsFile(self.file(name), Length(), hashlib.sha256())
            self._open[name].add(_encoder.encode(row))
        except OSError as error:
            raise cant_write(self.path, error) from None

    def commit(self) -> None:
        """Put all rows that were taken on the disk, and then say so in `state.json`.

        Raises:
            ArchiveEnd: It can't be written.
        """
        try:
            files = {name: file.seal() for name, file in self._open.items()}
            if files.keys() != self.contents.files.keys():
                _sync(self.path / "data")
            self.contents.files = files
            self._replace(STATE, self._as_json())
        except OSError as error:
            raise cant_write(self.path, error) from None

    def end(self, report: Any, now: str) -> None:
        """Write the report and the checksums; the archive is at rest then.

        Raises:
            OSError: It can't be written.
        """
        content = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
        self._replace(REPORT, content)
        self.contents.ended_at = now
        if report["complete"]:
            self.contents.complete = Complete(report["complete_as_of"], report["limits"])
        sums = self.sums()
        sums[REPORT] = hashlib.sha256(content).hexdigest()
        sums[STATE] = hashlib.sha256(self._as_json()).hexdigest()
        self._replace(SUMS, as_sums(sums).encode())
        self._replace(STATE, self._as_json())

    def close(self) -> None:
        """Close the files."""
        for file in self._open.values():
            file.close()

    def _leave(self) -> None:
        """Leave no folder behind that was made only to be locked."""
        with contextlib.suppress(OSError):
            (self.path / LOCK).unlink(missing_ok=True)
            self.path.rmdir()

    def _as_json(self) -> bytes:
        return _encoder.encode(self.contents) + b"\n"

    def _replace(self, name: str, content: bytes) -> None:
        new = self.path / aside(name)
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path / name)
        _sync(self.path)


def _sync(folder: Path) -> None:
    """Put the names in a folder on the disk."""
    if os.name == "posix":  # elsewhere a folder can't be opened
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def aside(name: str) -> str:
    """Name the file that is written before it takes the place of another."""
    return f"{name}.new"


def as_sums(sums: dict[str, str]) -> str:
    """Write checksums in the form that `sha256sum -c` reads."""
    return "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(sums.items()))


def cant_write(path: Path, error: Exception) -> ArchiveEnd:
    """Say that the folder can't be written, and why."""
    why = getattr(error, "strerror", None) or error
    return ArchiveEnd(FAILED, f"{path} can't be written: {why}. What was written before is safe.")


_encoder = msgspec.json.Encoder(enc_hook=str, decimal_format="number")
