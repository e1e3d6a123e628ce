"""Targets that nobody here wrote, each in its own environment: what arrives is the account."""

from __future__ import annotations

import ast
import csv
import datetime as dt
import decimal
import functools
import gzip
import json
import math
import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from tap_drift.tap import TapDrift
from tests.meltano import PROJECT
from tests.sandbox.expected import expected
from tests.sandbox.postgres import as_text
from tests.tap import KEYS, selecting, settings, tap_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.sandbox import Sandbox

    Json = dict[str, Any]

README = (PROJECT / "README.md").read_text(encoding="utf-8")

PYTHON = "3.11"
"""The newest that pipelinewise-target-postgres installs on."""


@dataclass(frozen=True)
class Target:
    package: str
    executable: str
    config: Callable[[Path, str], Json]
    rows: Callable[[Path, str, str], Iterator[Json]]


def rows_in_postgres(schema: str) -> Callable[[Path, str, str], Iterator[Json]]:
    def read(folder: Path, url: str, stream: str) -> Iterator[Json]:
        query = sql.SQL("select * from {}").format(sql.Identifier(schema, stream))
        with psycopg.connect(url, row_factory=dict_row) as connection:
            yield from connection.execute(query)

    return read


def rows_in_jsonl(folder: Path, url: str, stream: str) -> Iterator[Json]:
    yield from map(json.loads, (folder / f"{stream}.jsonl").read_text().splitlines())


def rows_in_csv(folder: Path, url: str, stream: str) -> Iterator[Json]:
    for path in sorted(folder.glob(f"{stream}-*.csv")):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                yield {name: from_csv(value) for name, value in row.items()}


def rows_in_singer_jsonl(folder: Path, url: str, stream: str) -> Iterator[Json]:
    """Every load leaves a file, whose name begins with the time."""
    for path in sorted((folder / stream).iterdir()):
        messages = map(json.loads, gzip.decompress(path.read_bytes()).splitlines())
        yield from (message["record"] for message in messages if message["type"] == "RECORD")


TARGETS = {
    "meltanolabs-target-postgres": Target(
        "meltanolabs-target-postgres==0.8.1",
        "target-postgres",
        lambda folder, url: {
            "sqlalchemy_url": url.replace("postgresql://", "postgresql+psycopg://"),
            "default_target_schema": "by_meltanolabs",
            "load_method": "upsert",
        },
        rows_in_postgres("by_meltanolabs"),
    ),
    "pipelinewise-target-postgres": Target(
        "pipelinewise-target-postgres==2.1.2",
        "target-postgres",
        lambda folder, url: {
            "host": url.partition("host=")[2],
            "port": 5432,
            "user": "postgres",
            "password": "none needed, but asked for",
            "dbname": url.partition("?")[0].rpartition("/")[2],
            "default_target_schema": "by_pipelinewise",
        },
        rows_in_postgres("by_pipelinewise"),
    ),
    "target-jsonl": Target(
        "target-jsonl==0.1.4",
        "target-jsonl",
        lambda folder, url: {"destination_path": str(folder), "do_timestamp_file": False},
        rows_in_jsonl,
    ),
    "meltanolabs-target-csv": Target(
        "meltanolabs-target-csv==0.5.0",
        "target-csv",
        # Every load writes its file anew, whatever overwrite_behavior says: a file for each, then.
        lambda folder, url: {
            "destination_path": str(folder),
            "file_naming_scheme": "{stream_name}-{datestamp}-{timestamp}.csv",
        },
        rows_in_csv,
    ),
    "target-singer-jsonl": Target(
        "target-singer-jsonl==0.1.0",
        "target-singer-jsonl",
        lambda folder, url: {"destination": "local", "local": {"folder": str(folder)}},
        rows_in_singer_jsonl,
    ),
}


@functools.cache
def installed(target: Target) -> Path:
    """Where a target is, in an environment that uv makes for it and keeps in its cache."""
    uv = os.environ.get("UV") or shutil.which("uv") or "uv"
    tool = [uv, "tool", "run", "--quiet", "--python", PYTHON, "--from", target.package]
    where = [*tool, "python", "-c", "import sys; print(sys.prefix)"]
    done = subprocess.run(where, stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip(), "bin", target.executable)


@pytest.mark.parametrize("name", TARGETS)
def test_what_arrives_is_the_account(
    name: str, sandbox: Callable[..., Sandbox], postgres_url: str, tmp_path: Path
) -> None:
    drift, target = sandbox(60), TARGETS[name]
    # Reports go by Drift's clock, so it has to be the account's.
    drift.clock = lambda: dt.datetime.fromtimestamp(math.ceil(drift.account.now / 1000), dt.UTC)
    (folder := tmp_path / "target").mkdir()
    config = settings(drift, page_size=20)
    streams = list(TapDrift(config=config).streams)

    def load(state: Json | None, stop_at: int | None = None) -> tuple[int, Json]:
        tap = tap_command(tmp_path, config, state, selecting(*streams))
        (path := tmp_path / "target.json").write_text(
            json.dumps(target.config(folder, postgres_url))
        )
        return pipe(drift, tap, [str(installed(target)), "--config", str(path)], stop_at)

    def arrived(stream: str) -> dict[Any, Json]:
        rows = list(map(comparable, target.rows(folder, postgres_url, stream)))
        names = [key.lower() for key in KEYS[stream]]
        by_key = {tuple(row[key] for key in names): row for row in rows}
        assert len(by_key) == len(rows) or "postgres" not in name  # others append
        if stream == "conversation_stats":
            return latest_counts(by_key.values())
        return {key if len(key) > 1 else key[0]: row for key, row in by_key.items()}

    def account(stream: str) -> dict[Any, Json]:
        return {key: comparable(row) for key, row in expected(drift.account, stream).items()}

    code, state = load(None, stop_at=len(drift.requests) + 50)
    assert code == 128 + signal.SIGTERM
    code, state = load(state)
    assert code == 0
    for stream in streams:
        assert arrived(stream) == account(stream)

    drift.account.move_on()
    requests = len(drift.requests)
    code, state = load(state)
    assert code == 0
    assert len(drift.requests) - requests < requests / 3
    for stream in streams:
        assert arrived(stream) == account(stream)


def test_times_in_a_database_of_another_zone(
    sandbox: Callable[..., Sandbox], postgres_url: str, tmp_path: Path
) -> None:
    """By the URL that the README has; without its option they would be hours off."""
    shown = re.search(r"postgresql\+psycopg://USER:PASSWORD@HOST/DATABASE\?([^'\s]+)", README)
    assert shown
    drift, target = sandbox(20), TARGETS["meltanolabs-target-postgres"]
    name = postgres_url.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        alter = sql.SQL("alter database {} set timezone to 'America/New_York'")
        connection.execute(alter.format(sql.Identifier(name)))
    given = target.config(tmp_path, f"{postgres_url}&{shown[1]}")
    (path := tmp_path / "target.json").write_text(json.dumps(given))
    tap = tap_command(tmp_path, settings(drift), None, selecting("conversations"))
    pipe(drift, tap, [str(installed(target)), "--config", str(path)], None)
    with psycopg.connect(postgres_url) as connection:
        zone = connection.execute("show timezone").fetchone()
    assert zone == ("America/New_York",)
    rows = map(comparable, target.rows(tmp_path, postgres_url, "conversations"))
    arrived = {row["id"]: row["updatedat"] for row in rows}
    due = expected(drift.account).items()
    assert arrived == {id_: row["updatedAt"] for id_, row in due}


def pipe(
    drift: Sandbox, tap: list[str], target: list[str], stop_at: int | None
) -> tuple[int, Json]:
    """Pipe a tap into a target: the tap's exit code, and the state that the target vouches for.

    The tap is told to end when it makes the request of the number `stop_at`.
    """
    with (
        subprocess.Popen(
            target, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as taking,
        subprocess.Popen(tap, stdout=taking.stdin, stderr=subprocess.DEVNULL) as giving,
    ):
        if stop_at is not None:
            drift.faults[stop_at] = lambda drift, request: giving.terminate()
        output, errors = taking.communicate()
        assert taking.returncode == 0, errors
        return giving.wait(), json.loads(output.splitlines()[-1])


def latest_counts(rows: Iterable[Json]) -> dict[str, Json]:
    """Of the counts of all runs, those of the last one, without their time."""
    last = max(row["countedat"] for row in rows)
    return {
        row["status"]: {name: value for name, value in row.items() if name != "countedat"}
        for row in rows
        if row["countedat"] == last
    }


def comparable(row: Json) -> Json:
    """Bring a row into a shape that all targets can give.

    Names are of any case, there is nothing for null and for empty text, and line ends may be
    written with a backslash.
    """
    return {
        name.lower(): as_text(value)
        if isinstance(value, dt.datetime)
        else int(value)
        if isinstance(value, decimal.Decimal)
        else value.replace("\\n", "\n")
        if isinstance(value, str)
        else value
        for name, value in row.items()
        if value not in (None, "") and not name.startswith("_sdc_")
    }


def from_csv(text: str) -> Any:
    """Read a cell as the target wrote it: what Python's `str` makes of a value."""
    if not text:
        return None
    for read in (ast.literal_eval, dt.datetime.fromisoformat):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return text
