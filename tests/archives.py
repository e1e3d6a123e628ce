"""Making an archive in this process, and reading its files as whoever has them does."""

from __future__ import annotations

import gzip
import json
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner, Result

from tap_drift import signals
from tap_drift.archive.cli import command
from tests.sandbox.expected import expected
from tests.tap import KEYS, settings, upserted

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox import Account, Sandbox

    Json = dict[str, Any]

COMPLETE, FAILED, NOT_COMPLETE, DAMAGED, NO_ARCHIVE, IN_USE, OTHER_ACCOUNT = 0, 1, 3, 4, 5, 6, 7
FORGOTTEN = {"booked_meetings", "conversation_stats"}
"""What Drift forgets or counts anew: not to be held against the account row by row."""


def arguments(drift: Sandbox, folder: Path, *more: str, **config: Any) -> list[str]:
    file = folder.parent / f"{folder.name}.config.json"
    config = {"concurrency": 4, "lookback_seconds": 300, **config}
    file.write_text(json.dumps(settings(drift, **config)))
    return [str(folder), "--config", str(file), *more]


def archive(drift: Sandbox, folder: Path, *more: str, **config: Any) -> Result:
    """Make an archive, without a copy to read."""
    return call(*arguments(drift, folder, "--no-read", *more, **config))


def call(*arguments: str) -> Result:
    handlers = {number: signal.getsignal(number) for number in signals.TO_END}
    try:
        result = CliRunner().invoke(command, arguments)
    finally:  # the tests' own signal handlers are not the tap's to keep
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def verdict(result: Result) -> str:
    """The last line, whatever time it names."""
    line = result.stdout.splitlines()[-1]
    return re.sub(r"as of \d{4}-\d\d-\d\d \d\d:\d\d UTC", "as of then", line)


def rows(folder: Path, stream: str) -> list[Json]:
    path = folder / "data" / f"{stream}.jsonl.gz"
    if not path.exists():
        return []
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def newest(folder: Path, stream: str) -> dict[Any, Json]:
    """The newest row of each key, as whoever reads the files finds it."""
    return upserted({}, rows(folder, stream), stream)


def holds(folder: Path, account: Account) -> None:
    for stream in KEYS.keys() - FORGOTTEN:
        held, all_ = newest(folder, stream), expected(account, stream)
        if stream == "contacts":  # a run that goes on meets them with an older conversation
            for contact in [*held.values(), *all_.values()]:
                contact.pop("conversationUpdatedAt")
        assert held == all_, stream


def sums_agree(folder: Path) -> bool:
    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    return subprocess.run(check, cwd=folder, check=False, capture_output=True).returncode == 0
