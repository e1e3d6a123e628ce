"""`python -m tests.benchmark`: what reading costs, beside readers that are simpler."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.sandbox import TOKEN, Account, Sandbox
from tests.sandbox.server import error

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.sandbox.server import Cursor

PAGE = 50

# Programs of their own, so that each imports only what it needs.

BARE = r"""
import json, sys
import requests

settings = json.load(open(sys.argv[2]))
session = requests.Session()
session.headers["Authorization"] = f"Bearer {settings['access_token']}"
params = {"limit": 50}
while True:
    body = session.get(f"{settings['api_url']}/conversations/list", params=params).json()
    for row in body["data"]:
        sys.stdout.write(json.dumps(row) + "\n")
    if "pagination" not in body:
        break
    params["next"] = body["pagination"]["next"]
"""

PLAIN = """
from singer_sdk import RESTStream, Tap
from singer_sdk import typing as th
from singer_sdk.authenticators import BearerTokenAuthenticator


class Conversations(RESTStream):
    name = "conversations"
    path = "/conversations/list"
    records_jsonpath = "$.data[*]"
    next_page_token_jsonpath = "$.pagination.next"
    primary_keys = ("id",)
    replication_key = "updatedAt"
    schema = th.PropertiesList(
        th.Property("id", th.IntegerType),
        th.Property("contactId", th.IntegerType),
        th.Property("inboxId", th.IntegerType),
        th.Property("status", th.StringType),
        th.Property("createdAt", th.IntegerType),
        th.Property("updatedAt", th.IntegerType),
    ).to_dict()

    @property
    def url_base(self):
        return self.config["api_url"]

    @property
    def authenticator(self):
        return BearerTokenAuthenticator(token=self.config["access_token"])

    def get_url_params(self, context, next_page_token):
        return {"limit": 50, "next": next_page_token}


class Plain(Tap):
    name = "tap-plain"
    config_jsonschema = th.PropertiesList(
        th.Property("api_url", th.StringType),
        th.Property("access_token", th.StringType, secret=True),
    ).to_dict()

    def discover_streams(self):
        return [Conversations(self)]


Plain.cli()
"""

BARE_LOOP, PLAIN_STREAM, TAP_DRIFT = "bare `requests` loop", "plain SDK stream", "tap-drift"
READERS = {
    BARE_LOOP: [sys.executable, "-c", BARE],
    PLAIN_STREAM: [sys.executable, "-c", PLAIN],
    TAP_DRIFT: [sys.executable, "-m", "tap_drift"],
}


class Drift:
    """A sandbox; in a process of its own, its work does not count as that of those who ask."""

    def __init__(self, conversations: int, cursor: Cursor, latency: float) -> None:
        self._sandbox = Sandbox(Account(conversations), cursor=cursor, latency=latency).__enter__()

    def url(self) -> str:
        return self._sandbox.url

    def requests(self) -> int:
        return len(self._sandbox.requests)

    def refuse(self, request: int) -> None:
        """Refuse a request to come; the next is 1."""
        self._sandbox.faults[self.requests() + request] = lambda sandbox, _: error(
            403, "authentication_error", "Refused by the benchmark"
        )

    def change(self, conversations: int) -> None:
        account = self._sandbox.account
        for id_ in random.Random(1).sample(sorted(account.conversations), conversations):
            account.change(id_)


class Server(BaseManager):
    """Runs `Drift` in another process."""


Server.register("drift", Drift)


@contextlib.contextmanager
def serving(
    conversations: int, cursor: Cursor = "keyset", latency: float = 0.0
) -> Iterator[tuple[Drift, Path]]:
    """Serve a sandbox, and give a folder for the files of its readers."""
    with Server(ctx=get_context("spawn")) as server, tempfile.TemporaryDirectory() as folder:
        yield server.drift(conversations, cursor, latency), Path(folder)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Run:
    """What a run of a reader took, and what came out."""

    requests: int
    records: int
    seconds: float
    megabytes: float
    """The most memory that it held."""

    state: Any
    """The last STATE; without any, the one that it began with."""

    fingerprint: str
    """Tells whether another run wrote the same lines, apart from when it read them."""


def run(  # noqa: PLR0913  (as many as a run has)
    reader: str,
    drift: Drift,
    folder: Path,
    *,
    state: Any = None,
    catalog: Any = None,
    exit_code: int = 0,
    **settings: Any,
) -> Run:
    """Run a reader as a process whose output goes into a file."""
    command = list(READERS[reader])
    config = {"api_url": drift.url(), "access_token": TOKEN, **settings}
    for name, content in {"config": config, "state": state, "catalog": catalog}.items():
        if content is not None:
            path = folder / f"{name}.json"
            path.write_text(json.dumps(content))
            command += [f"--{name}", str(path)]
    output, log = folder / "output.jsonl", folder / "log.txt"
    before = drift.requests()
    with output.open("wb") as stdout, log.open("wb") as stderr:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != exit_code:
        sys.exit(f"{reader} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
    records, fingerprint = 0, hashlib.sha256()
    with output.open() as lines:
        for line in lines:
            match = re.match(r'{"type": ?"(\w+)"', line)
            records += not match or match[1] == "RECORD"
            fingerprint.update(re.sub('"time_extracted": ?"[^"]*"', "", line).encode())
            if match and match[1] == "STATE":
                state = json.loads(line)["value"]
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Run(
        drift.requests() - before,
        records,
        seconds,
        usage.ru_maxrss / unit,
        state,
        fingerprint.hexdigest(),
    )


def fastest(reader: str, drift: Drift, folder: Path, times: int) -> Run:
    """Run several times: whatever else the machine does can only make a run slower."""
    return min((run(reader, drift, folder) for _ in range(times)), key=lambda one: one.seconds)


def conversations(sizes: list[int], cursor: Cursor, latency: float) -> None:
    """Every reader at every size: a first run, nothing new, an interruption, some news."""
    start_up = dict.fromkeys(READERS, float("inf"))
    runs: dict[tuple[int, str, str], Run] = {}
    for size in sizes:
        with serving(0) as (drift, folder):
            for reader in READERS:
                start = fastest(reader, drift, folder, times=5)
                start_up[reader] = min(start_up[reader], start.seconds)
        with serving(size, cursor, latency) as (drift, folder):
            for reader in READERS:
                progress(f"{size:,} conversations, {reader}")
                first = fastest(reader, drift, folder, times=max(1, min(5, 20_000 // size)))
                runs[size, reader, "first"] = first
                if reader == BARE_LOOP:
                    continue  # which has no other
                runs[size, reader, "unchanged"] = run(reader, drift, folder, state=first.state)
                drift.refuse(1 + size // PAGE // 2)
                half = run(reader, drift, folder, exit_code=1)
                resumed = run(reader, drift, folder, state=half.state)
                runs[size, reader, "resumed at half-way"] = resumed
            drift.change(size // 100)
            for reader in (PLAIN_STREAM, TAP_DRIFT):
                progress(f"{size:,} conversations, {reader}, 1 % changed")
                state = runs[size, reader, "first"].state
                runs[size, reader, "1 % changed"] = run(reader, drift, folder, state=state)

    print(f"\n{machine()}; {cursor} cursors; {latency * 1000:.0f} ms per answer.")
    print("Seconds are without start-up, which takes", end=" ")
    print(", ".join(f"{seconds:.2f} ({reader})" for reader, seconds in start_up.items()) + ".")
    table(
        ["conversations", "reader", "run", "requests", "records", "seconds", "peak memory, MB"],
        [
            [
                f"{size:,}",
                reader,
                kind,
                f"{one.requests:,}",
                f"{one.records:,}",
                f"{one.seconds - start_up[reader]:,.2f}",
                f"{one.megabytes:,.0f}",
            ]
            for (size, reader, kind), one in sorted(runs.items(), key=lambda item: item[0][:2])
        ],
    )
    unchanged = [runs[size, TAP_DRIFT, "unchanged"].requests for size in sizes]
    seconds = {
        (size, reader): runs[size, reader, "first"].seconds - start_up[reader]
        for size in sizes
        for reader in READERS
    }
    ratios = [seconds[size, TAP_DRIFT] / seconds[size, BARE_LOOP] for size in sizes]
    peaks = {
        size: max(one.megabytes for key, one in runs.items() if key[:2] == (size, TAP_DRIFT))
        for size in sizes
    }
    growth = peaks[max(sizes)] - peaks[min(sizes)]
    table(
        ["target", "measured", "verdict"],
        [
            [
                "unchanged run: 1 request at any size",
                ", ".join(map(str, unchanged)),
                verdict(met=set(unchanged) == {1}),
            ],
            [
                "first run: at most 1.15 times the seconds of the bare loop",
                ", ".join(f"{ratio:.2f}" for ratio in ratios),
                # It asks as often as the loop: if it looks much quicker, the machine was busy.
                verdict(met=max(ratios) <= 1.15) if min(ratios) > 0.9 else "too noisy to tell",
            ],
            [
                f"peak memory at {max(sizes):,}: within 10 MB of that at {min(sizes):,}",
                f"{growth:+.1f} MB",
                verdict(met=growth <= 10),
            ],
        ],
    )


def messages(sizes: list[int], cursor: Cursor, latency: float) -> None:
    """One request at a time beside several; then more conversations, for the memory."""
    small, large = min(sizes), max(sizes)
    runs: dict[tuple[int, float, int], Run] = {}
    for size, delay, concurrency in [
        (small, latency, 1),
        (small, latency, 8),
        (large, latency / 10, 8),
    ]:
        progress(f"messages of {size:,} conversations, concurrency {concurrency}")
        with serving(size, cursor, delay) as (drift, folder):
            runs[size, delay, concurrency] = run(
                TAP_DRIFT, drift, folder, catalog=catalog_of("messages"), concurrency=concurrency
            )
    print(f"\n{machine()}; {cursor} cursors.")
    table(
        [
            "conversations",
            "ms per answer",
            "`concurrency`",
            "requests",
            "messages",
            "seconds",
            "peak memory, MB",
        ],
        [
            [
                f"{size:,}",
                f"{delay * 1000:g}",
                str(concurrency),
                f"{one.requests:,}",
                f"{one.records:,}",
                f"{one.seconds:,.1f}",
                f"{one.megabytes:,.0f}",
            ]
            for (size, delay, concurrency), one in runs.items()
        ],
    )
    alone, together, many = runs.values()
    ratio = alone.seconds / together.seconds
    same = alone.fingerprint == together.fingerprint
    growth = many.megabytes - together.megabytes
    table(
        ["target", "measured", "verdict"],
        [
            [
                "concurrency 8: at least 6 times as fast as 1, start-up included",
                f"{ratio:.1f} times",
                verdict(met=ratio >= 6),
            ],
            [
                "the same output, line for line, apart from `time_extracted`",
                "the same" if same else "different",
                verdict(met=same),
            ],
            [
                f"peak memory at {large:,}: within 15 MB of that at {small:,}",
                f"{growth:+.1f} MB",
                verdict(met=growth <= 15),
            ],
        ],
    )


def catalog_of(stream: str) -> Any:
    """Give the tap's own catalog, with one stream selected."""
    with serving(0) as (drift, folder):
        config = folder / "config.json"
        config.write_text(json.dumps({"api_url": drift.url(), "access_token": TOKEN}))
        command = [*READERS[TAP_DRIFT], "--config", str(config), "--discover"]
        catalog = json.loads(subprocess.check_output(command, stderr=subprocess.DEVNULL))
    for entry in catalog["streams"]:
        for one in entry["metadata"]:
            if not one["breadcrumb"]:
                one["metadata"]["selected"] = entry["tap_stream_id"] == stream
    return catalog


def verdict(*, met: bool) -> str:
    return "met" if met else "missed"


def table(head: list[str], rows: Iterable[list[str]]) -> None:
    """Print a table in Markdown."""
    print()
    for row in [head, ["---"] * len(head), *rows]:
        print(f"| {' | '.join(row)} |")


def progress(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def machine() -> str:
    return (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, "
        f"singer-sdk {version('singer-sdk')}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmark",
        description="Measure the tap as a process of its own, against a sandbox in another.",
    )
    parser.add_argument(
        "--messages", action="store_true", help="measure messages instead of conversations"
    )
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        metavar="N",
        help="numbers of conversations (default: 1000 10000 100000; for messages 2000 20000)",
    )
    parser.add_argument(
        "--latency",
        type=float,
        metavar="MS",
        help="milliseconds that each answer takes (default: 20; for messages 50, and a tenth of "
        "it where only memory counts)",
    )
    parser.add_argument(
        "--cursor",
        choices=["offset", "id", "keyset"],
        default="keyset",
        help="what Drift's cursors are (default: keyset)",
    )
    arguments = parser.parse_args()
    measure, sizes, latency = conversations, [1_000, 10_000, 100_000], 20.0
    if arguments.messages:
        measure, sizes, latency = messages, [2_000, 20_000], 50.0
    if arguments.latency is not None:
        latency = arguments.latency
    measure(arguments.sizes or sizes, arguments.cursor, latency / 1000)


if __name__ == "__main__":
    main()
