"""Running the tap: as a process of its own, or in this one where thousands of runs are due."""

from __future__ import annotations

import copy
import hashlib
import json
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tap_drift import signals
from tap_drift.output import Writer
from tap_drift.tap import TapDrift
from tests.processes import command, run_command
from tests.sandbox import TOKEN, Sandbox
from tests.sandbox.organisation import ORG

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from singer_sdk.singerlib import Message

Json = dict[str, Any]

ACCOUNT = f"{ORG}:{hashlib.sha256(TOKEN.encode()).hexdigest()[:12]}"
"""Whose bookmarks they are."""

NO_WALK: Json = {"cursor": None, "top": None, "id": None, "updatedAt": None}
"""What STATE says of a walk where none is under way."""

EVERYTHING: Json = {"statuses": None, "start_date": None, "account": ACCOUNT}
"""What a bookmark without limits covers."""


def settings(drift: Sandbox, **changed: Any) -> Json:
    """Settings that lead to the sandbox, with no patience for what fails on purpose.

    One request after the other, so that the nth is known; and no lookback, so that what is read
    again can be counted.
    """
    return {
        "api_url": drift.url,
        "access_token": TOKEN,
        "concurrency": 1,
        "lookback_seconds": 0,
        "max_retries": 0,
        "request_timeout": 10,
        **changed,
    }


@dataclass
class Output:
    """What a run wrote."""

    messages: list[Json]
    stderr: str = ""
    exit_code: int | None = None

    def records(self, stream: str = "conversations") -> list[Json]:
        return [
            m["record"] for m in self.messages if m["type"] == "RECORD" and m["stream"] == stream
        ]

    @property
    def states(self) -> list[Json]:
        return [m["value"] for m in self.messages if m["type"] == "STATE"]

    @property
    def state(self) -> Json:
        """The last STATE, which is what the next run gets."""
        return self.states[-1]

    def bookmark(self, stream: str = "conversations") -> Json:
        bookmark: Json = self.state["bookmarks"][stream]
        return bookmark


def run_tap(
    folder: Path,
    config: Json,
    state: Json | None = None,
    catalog: Json | None = None,
    *arguments: str,
    environment: dict[str, str] | None = None,
) -> Output:
    """Run the tap as its users do: a process with files for settings, state and catalog."""
    done = run_command([*tap_command(folder, config, state, catalog), *arguments], environment)
    return Output(list(lines(done.stdout)), done.stderr, done.returncode)


def try_out(
    folder: Path, config: Json, catalog: Json | None = None
) -> subprocess.CompletedProcess[str]:
    """Ask the tap what may be read."""
    return run_command([*tap_command(folder, config, None, catalog), "--test"])


def tap_command(
    folder: Path, config: Json, state: Json | None = None, catalog: Json | None = None
) -> list[str]:
    """Write the files, and say how the tap is called with them."""
    arguments = []
    for name, content in {"config": config, "state": state, "catalog": catalog}.items():
        if content is not None:
            path = folder / f"{name}.json"
            path.write_text(json.dumps(content))
            arguments += [f"--{name}", str(path)]
    return command(*arguments)


def lines(stdout: str) -> Iterator[Json]:
    """Every line has to be a whole message."""
    for line in stdout.splitlines():
        yield json.loads(line)


class TargetDiedError(Exception):
    """Nobody takes the next message."""


@dataclass
class Target:
    """Takes what the tap writes, in this process; it may die after some messages."""

    messages: list[Json] = field(default_factory=list)
    dies_after: int | None = None

    def take(self, message: Json) -> None:
        if self.dies_after is not None and len(self.messages) >= self.dies_after:
            raise TargetDiedError
        self.messages.append(message)


class WriterToTarget(Writer):
    """The tap's own writer, with a list at the other end of the pipe."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target

    def write_message(self, message: Message) -> None:
        self.target.take(json.loads(self.format_message(message)))


def run_here(
    config: Json,
    state: Json | None = None,
    catalog: Json | None = None,
    target: Target | None = None,
) -> Output:
    """Run the tap in this process; the output holds what came out before any error."""
    target = target or Target()
    handlers = {number: signal.getsignal(number) for number in signals.TO_END}
    try:
        tap = TapDrift(
            config=copy.deepcopy(config),
            state=copy.deepcopy(state),
            catalog=copy.deepcopy(catalog),
            message_writer=WriterToTarget(target),
        )
        tap.sync_all()
    except TargetDiedError:
        return Output(target.messages, exit_code=1)
    finally:  # the tests' own signal handlers are not the tap's to keep
        for number, handler in handlers.items():
            signal.signal(number, handler)
    failed = any(stream.failed or stream.is_incomplete for stream in tap.streams.values())  # type: ignore[attr-defined]
    return Output(target.messages, exit_code=int(failed))


CATALOG = json.dumps(TapDrift(validate_config=False).catalog_dict)

KEYS = {
    entry["tap_stream_id"]: tuple(entry["key_properties"])
    for entry in json.loads(CATALOG)["streams"]
}
"""The fields of every stream's key, as the catalog says."""


def upserted(
    target: Mapping[Any, Json], records: list[Json], stream: str = "conversations"
) -> dict[Any, Json]:
    """Load records as a target does: by key, the last one wins.

    Where a key has several fields, it is a tuple of them.
    """
    names = KEYS[stream]
    by_key = {tuple(record[name] for name in names): record for record in records}
    return {**target, **{key if len(names) > 1 else key[0]: row for key, row in by_key.items()}}


def selecting(*streams: str, without: tuple[str, ...] = (), method: str | None = None) -> Json:
    """A catalog that selects these streams, but for some fields, and no others."""
    catalog: Json = json.loads(CATALOG)
    for entry in catalog["streams"]:
        entry["replication_method"] = method or entry.get("replication_method")
        for field_ in entry["metadata"]:
            if not field_["breadcrumb"]:
                field_["metadata"]["selected"] = entry["tap_stream_id"] in streams
            elif field_["breadcrumb"][-1] in without:
                field_["metadata"]["selected"] = False
    return catalog


def wait_until(happened: Callable[[], object]) -> None:
    for _ in range(1500):
        if happened():
            return
        time.sleep(0.02)
    pytest.fail("it did not happen within 30 seconds")
