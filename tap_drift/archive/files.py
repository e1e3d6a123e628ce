"""A file of rows: gzip members that follow one another, of which so many bytes are vouched for."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from typing import TYPE_CHECKING, Any

import msgspec

from tap_drift.compat import override

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

MOST_BYTES_WAITING = 1_000_000
"""Compressed bytes that wait for a STATE in memory; more of them wait in the file."""

GZIP = 16 + zlib.MAX_WBITS


class Length(msgspec.Struct, frozen=True):
    """How much of a file is vouched for."""

    bytes: int = 0
    rows: int = 0
    sha256: str = hashlib.sha256().hexdigest()


def sized(number: int) -> str:
    """Say how many bytes that are, rounded up so that only nothing is 0 kB."""
    return f"{number / 1e6:,.1f} MB" if number >= 1e6 else f"{-(-number // 1000)} kB"  # noqa: PLR2004


class FileError(Exception):
    """A file is not what it was when it was vouched for."""


class RowsFile:
    """A file of rows that is appended to.

    Args:
        path: Where it is; it is made if it is missing.
        known: How much of it is vouched for; the rest is cut off.
        sha256: The hash of that, to go on with.

    Raises:
        OSError: It can't be written.
    """

    def __init__(self, path: Path, known: Length, sha256: Any) -> None:
        self._sha256 = sha256
        self._file = path.open("ab", buffering=0)
        self._file.truncate(known.bytes)
        self._bytes = known.bytes
        self._rows = known.rows
        self._waiting = bytearray()
        self._member: Any = None

    def add(self, row: bytes) -> None:
        """Take a row, which `seal` makes part of the file."""
        if self._member is None:
            self._member = zlib.compressobj(wbits=GZIP)
        self._waiting += self._member.compress(row + b"\n")
        self._rows += 1
        if len(self._waiting) > MOST_BYTES_WAITING:
            self._append()

    def seal(self) -> Length:
        """Put all rows that were taken on the disk, as a gzip member.

        Returns:
            How long the file is then.
        """
        if self._member is not None:
            self._waiting += self._member.flush()
            self._member = None
            self._append()
            os.fsync(self._file.fileno())
        return Length(self._bytes, self._rows, self._sha256.hexdigest())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self) -> None:
        left = memoryview(bytes(self._waiting))
        self._sha256.update(left)
        self._bytes += len(left)
        self._waiting.clear()
        while left:
            left = left[self._file.write(left) :]


def digest(path: Path, known: Length) -> Any:
    """Read what is vouched for, and hold it against its checksum.

    Args:
        path: The file.
        known: How much of it is vouched for.

    Returns:
        The hash, to go on with.

    Raises:
        FileError: It is not what it was; says in what.
    """
    sha256, left = hashlib.sha256(), known.bytes
    try:
        with path.open("rb") as file:
            while left and (chunk := file.read(min(left, MOST_BYTES_WAITING))):
                sha256.update(chunk)
                left -= len(chunk)
    except FileNotFoundError:
        msg = "is missing"
        raise FileError(msg) from None
    except OSError as error:
        msg = f"can't be read: {error.strerror}"
        raise FileError(msg) from None
    if left:
        msg = f"is cut: {left:,} bytes of {known.bytes:,} are missing"
        raise FileError(msg)
    if sha256.hexdigest() != known.sha256:
        msg = "was changed"
        raise FileError(msg)
    return sha256


def rows_in(path: Path, known: Length) -> Iterator[dict[str, Any]]:
    """Read the rows that are vouched for.

    Args:
        path: The file.
        known: How much of it to read.

    Yields:
        Rows, as they were written.
    """
    if not known.bytes:
        return
    with path.open("rb") as file, gzip.GzipFile(fileobj=_FirstBytes(file, known.bytes)) as lines:
        yield from map(msgspec.json.decode, lines)


class _FirstBytes(io.RawIOBase):
    def __init__(self, file: BinaryIO, left: int) -> None:
        super().__init__()
        self._file = file
        self._left = left

    @override
    def read(self, size: int = -1, /) -> bytes:
        got = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(got)
        return got
