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

ASKED = "asked"
"""The rows that say what was asked of each conversation or contact, and how much there was."""


class About(msgspec.Struct):
    """What is known of a stream, besides its STATE."""

    key: list[str]
    each: str | None = None
    """Which field of a conversation its items are asked with; `None`: it has none to do with it."""
    read_to_end_at: str | None = None
    left_out: int = 0
    """Rows without a usable key, which no archive can hold apart."""
    asked: int = 0


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
    format: int = 1


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

    def load(self) -> Self:
        """Read what `state.json` says.

        Raises:
            ArchiveEnd: There is no archive, or `state.json` is damaged.
        """
        try:
            content = (self.path / STATE).read_bytes()
            self.contents = msgspec.json.decode(content, type=Contents)
        except (FileNotFoundError, NotADirectoryError):
            raise ArchiveEnd(NO_ARCHIVE, f"{self.path} holds no archive.") from None
        except OSError as error:
            raise ArchiveEnd(FAILED, f"{self.path} can't be read: {error}") from None
        except ValueError as error:
            raise ArchiveEnd(DAMAGED, f"damaged: {STATE} can't be read: {error}") from None
        return self

    def rows(self, name: str) -> Iterator[dict[str, Any]]:
        """Read rows of a stream, in the order in which they were written."""
        return rows_in(self.file(name), self.contents.files.get(name, Length()))

    def file(self, name: str) -> Path:
        """Say where the rows of a stream are."""
        return self.path / "data" / f"{name}.jsonl.gz"

    def damages(self) -> Iterator[str]:
        """Find what is not as it was when it was vouched for.

        Yields:
            A line for each file.
        """
        for name, known in self.contents.files.items():
            path = self.file(name)
            shown = path.relative_to(self.path).as_posix()
            try:
                digest(path, known)
            except FileError as error:
                yield f"{shown} {error}"
                continue
            # What a run that did not end left behind its last STATE is cut off by the next.
            longer = path.stat().st_size - known.bytes
            if self.contents.ended_at and longer:
                yield f"{shown} has {longer:,} bytes too many"
        if self.contents.ended_at:
            yield from self._damages_besides()

    def _damages_besides(self) -> Iterator[str]:
        try:
            text = (self.path / SUMS).read_text()
        except (OSError, ValueError):
            yield f"{SUMS} is missing or can't be read"
            return
        known = {line[66:]: line[:64] for line in text.splitlines()}
        if _as_sums(known) != text:
            yield f"{SUMS} was changed"
            return
        for name, sha256 in known.items():
            if name.startswith("data/"):
                expected = self.contents.files.get(name[5:].removesuffix(".jsonl.gz"), Length())
                if sha256 != expected.sha256:
                    yield f"{SUMS} says something else of {name} than {STATE}"
                continue
            try:
                content = (self.path / name).read_bytes()
            except OSError:
                yield f"{name} is missing"
                continue
            if hashlib.sha256(content).hexdigest() != sha256:
                yield f"{name} was changed"
        for name in {STATE, REPORT} - known.keys():
            yield f"{SUMS} does not name {name}"

    # Writing

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the folder to oneself.

        Raises:
            ArchiveEnd: Somebody else has it, or it can't be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with self._lock:
                yield
        except filelock.Timeout:
            text = f"{self.path} is in use by another tap-drift-archive."
            raise ArchiveEnd(IN_USE, text) from None
        except (OSError, NotImplementedError) as error:
            raise cant_write(self.path, error) from None

    def examine(self) -> None:
        """Take a look at what is there, and change nothing.

        Raises:
            ArchiveEnd: Other things are there, or the archive is damaged.
        """
        try:
            self.load()
        except ArchiveEnd as end:
            if end.code != NO_ARCHIVE:
                raise
            if any(path.name != LOCK for path in self.path.iterdir()):
                text = f"{self.path} is not empty, and holds no archive. Name another folder."
                raise ArchiveEnd(FAILED, text) from None
        damages = []
        for name, known in self.contents.files.items():
            try:
                self._digests[name] = digest(self.file(name), known)
            except FileError as error:
                damages.append(f"data/{name}.jsonl.gz {error}")
        if damages:
            text = (
                f"damaged: {'; '.join(damages)}. Put a copy of it back, or begin in a new folder."
            )
            raise ArchiveEnd(DAMAGED, text)

    def begin(self) -> None:
        """Take up what `examine` found, or begin.

        Raises:
            OSError: It can't be written.
        """
        self.contents.ended_at = None
        (self.path / "data").mkdir(exist_ok=True)
        self._replace(STATE, self._as_json())
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
            self.contents.files = {name: file.seal() for name, file in self._open.items()}
            self._replace(STATE, self._as_json())
        except OSError as error:
            raise cant_write(self.path, error) from None

    def end(self, report: Any, now: str) -> None:
        """Write the report and the checksums; the archive is at rest then."""
        content = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
        self._replace(REPORT, content)
        self.contents.ended_at = now
        sums = {f"data/{name}.jsonl.gz": of.sha256 for name, of in self.contents.files.items()}
        sums[REPORT] = hashlib.sha256(content).hexdigest()
        sums[STATE] = hashlib.sha256(self._as_json()).hexdigest()
        self._replace(SUMS, _as_sums(sums).encode())
        self._replace(STATE, self._as_json())

    def close(self) -> None:
        """Close the files."""
        for file in self._open.values():
            file.close()

    def _as_json(self) -> bytes:
        return _encoder.encode(self.contents) + b"\n"

    def _replace(self, name: str, content: bytes) -> None:
        aside = self.path / f"{name}.new"
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.path / name)
        if os.name == "posix":  # elsewhere a folder can't be opened
            folder = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _as_sums(sums: dict[str, str]) -> str:
    return "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(sums.items()))


def cant_write(path: Path, error: Exception) -> ArchiveEnd:
    """Say that the folder can't be written, and why."""
    why = getattr(error, "strerror", None) or error
    return ArchiveEnd(FAILED, f"{path} can't be written: {why}. What was written before is safe.")


_encoder = msgspec.json.Encoder(enc_hook=str, decimal_format="number")
