"""`python -m tests.benchmark`: what reading costs, beside readers that are simpler."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.sandbox import TOKEN, Account, Sandbox
from tests.sandbox.server import error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.sandbox.server import Form

PAGE = 50

# Programs of their own, so that each imports only what it needs.

BARE = r"""
import json, sys
from urllib.parse import parse_qsl, urlsplit
import requests

settings = json.load(open(sys.argv[2]))
session = requests.Session()
session.headers["Authorization"] = f"Bearer {settings['access_token']}"
params = {"limit": 50}
while True:
    body = session.get(f"{settings['api_url']}/conversations/list", params=params).json()
    for row in body["data"]:
        sys.stdout.write(json.dumps(row) + "\n")
    if "pagination" in body:
        params["next"] = body["pagination"]["next"]
    elif body.get("links", {}).get("next"):
        params = dict(parse_qsl(urlsplit(body["links"]["next"]).query))
    else:
        break
"""

PLAIN = """
from singer_sdk import RESTStream, Tap
from singer_sdk import typing as th
from singer_sdk.authenticators import BearerTokenAuthenticator


class Conversations(RESTStream):
    name = "conversations"
    path = "/conversations/list"
    records_jsonpath = "$.data[*]"
    next_page_token_jsonpath = "$.pagination.next"  # so it reads no list of links
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

    def __init__(self, conversations: int, form: Form, latency: float) -> None:
        self._sandbox = Sandbox(Account(conversations), form=form, latency=latency).__enter__()

    def url(self) -> str:
        return self._sandbox.url

    def requests(self) -> int:
        return len(self._sandbox.requests)

    def refuse(self, request: int) -> None:
        """Refuse everything from a request to come; the next is 1. With 0, nothing."""
        first = self.requests() + request
        self._sandbox.fault = (
            (
                lambda sandbox, _: (
                    error(401, "authentication_error", "Refused by the benchmark")
                    if len(sandbox.requests) >= first
                    else None
                )
            )
            if request
            else None
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
    conversations: int, form: Form = "both", latency: float = 0.0
) -> Iterator[tuple[Drift, Path]]:
    """Serve a sandbox, and give a folder for the files of its readers."""
    with Server(ctx=get_context("spawn")) as server, tempfile.TemporaryDirectory() as folder:
        yield server.drift(conversations, form, latency), Path(folder)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Run:
    """What a run of a reader took, and what came out."""

    requests: int
    records: int
    seconds: float
    cpu: float
    """Seconds of both cores."""

    megabytes: float
    """The most memory that it held."""

    state: Any
    """The last STATE; without any, the one that it began with."""

    fingerprint: str
    """Tells whether another run wrote the same lines, apart from when it read them."""


def warm_up() -> None:
    """Let every reader run once, so that its modules are compiled, as they are with users."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with serving(0) as (drift, folder):
        for reader in READERS:
            run(reader, drift, folder)


def run(  # noqa: PLR0913  (as many as a run has)
    reader: str,
    drift: Drift,
    folder: Path,
    *,
    state: Any = None,
    catalog: Any = None,
    exit_code: int = 0,
    lines_per_second: int | None = None,
    **settings: Any,
) -> Run:
    """Run a reader as a process whose output goes into a file, perhaps at a slow pace."""
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
        slow = subprocess.PIPE if lines_per_second else stdout
        process = subprocess.Popen(command, stdout=slow, stderr=stderr)
        if lines_per_second and process.stdout:
            for line in process.stdout:
                stdout.write(line)
                time.sleep(1 / lines_per_second)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != exit_code:
        sys.exit(f"{reader} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
    records, fingerprint = 0, hashlib.sha256()
    with output.open() as lines:
        for line_ in lines:
            match = re.match(r'{"type": ?"(\w+)"', line_)
            records += not match or match[1] == "RECORD"
            fingerprint.update(re.sub('"time_extracted": ?"[^"]*"', "", line_).encode())
            if match and match[1] == "STATE":
                state = json.loads(line_)["value"]
    unit = 2**20 if sys.platform == "darwin" else 2**10
    cpu = usage.ru_utime + usage.ru_stime
    requests, memory = drift.requests() - before, usage.ru_maxrss / unit
    return Run(requests, records, seconds, cpu, memory, state, fingerprint.hexdigest())


def in_turns(times: int, **readers: Callable[[], Run]) -> dict[str, list[Run]]:
    """Run readers in turns, so that whatever else the machine does hits them alike."""
    runs: dict[str, list[Run]] = {name: [] for name in readers}
    for _, (name, read) in itertools.product(range(times), readers.items()):
        runs[name].append(read())
    return runs


def median(runs: list[Run], value: Callable[[Run], float]) -> float:
    return statistics.median(map(value, runs))


def start_up() -> dict[str, tuple[float, float]]:
    """Seconds and CPU seconds that each reader takes for an account without conversations."""
    with serving(0) as (drift, folder):
        runs = in_turns(5, **{reader: partial(run, reader, drift, folder) for reader in READERS})
    return {
        reader: (median(of, lambda one: one.seconds), median(of, lambda one: one.cpu))
        for reader, of in runs.items()
    }


def conversations(size: int, latency: float, times: int) -> None:
    """A first run of every reader over every form of the list; then the runs that follow it."""
    start = start_up()
    rows: list[list[str]] = []
    for form in ("next", "both", "links"):
        progress(f"{size:,} conversations, {form}")
        with serving(size, form, latency) as (drift, folder):
            readers = {
                f"{BARE_LOOP}": partial(run, BARE_LOOP, drift, folder),
                f"{TAP_DRIFT}, `concurrency` 1": partial(
                    run, TAP_DRIFT, drift, folder, concurrency=1
                ),
                f"{TAP_DRIFT}, `concurrency` 8": partial(run, TAP_DRIFT, drift, folder),
            }
            if form != "links":
                readers |= {PLAIN_STREAM: partial(run, PLAIN_STREAM, drift, folder)}
            runs = in_turns(times, **readers)
            bare = median(runs[BARE_LOOP], lambda one: one.seconds) - start[BARE_LOOP][0]
            prints = {
                one.fingerprint for name in readers if TAP_DRIFT in name for one in runs[name]
            }
            same = "the same lines" if len(prints) == 1 else "DIFFERENT LINES"
            for name, of in runs.items():
                reader = name.partition(",")[0]
                seconds = median(of, lambda one: one.seconds) - start[reader][0]
                rows.append(
                    [
                        form,
                        name,
                        f"{median(of, lambda one: one.requests):,.0f}",
                        f"{seconds:,.2f}",
                        f"{seconds / bare:.2f}",
                        same if reader == TAP_DRIFT else "",
                    ]
                )
            if form == "both":
                following = after_a_first_run(drift, folder, size, start[TAP_DRIFT][0])
    print(f"\n{machine()}; {size:,} conversations; {latency * 1000:.0f} ms per answer.")
    print("Seconds are without start-up, which takes", end=" ")
    print(", ".join(f"{seconds:.2f} ({reader})" for reader, (seconds, _) in start.items()) + ".")
    table(["list", "reader", "requests", "seconds", "of the bare loop", "output"], rows)
    table(["run", "requests", "records", "seconds"], following)


def after_a_first_run(drift: Drift, folder: Path, size: int, start: float) -> list[list[str]]:
    """Nothing new, an interruption, some news, a slow reader."""
    first = run(TAP_DRIFT, drift, folder)
    unchanged = run(TAP_DRIFT, drift, folder, state=first.state)
    slow = run(TAP_DRIFT, drift, folder, lines_per_second=2000)
    drift.refuse(1 + size // PAGE // 2)
    half = run(TAP_DRIFT, drift, folder, exit_code=1)
    drift.refuse(0)
    resumed = run(TAP_DRIFT, drift, folder, state=half.state)
    drift.change(size // 100)
    changed = run(TAP_DRIFT, drift, folder, state=first.state)
    runs = {
        "nothing new": unchanged,
        "1 % changed": changed,
        "resumed at half-way": resumed,
        "first, 2,000 lines a second are read": slow,
    }
    return [
        [name, f"{one.requests:,}", f"{one.records:,}", f"{one.seconds - start:,.2f}"]
        for name, one in runs.items()
    ]


def cpu(size: int, times: int) -> None:
    """What a record costs, where nothing has to be waited for.

    All processes take turns on one core. Else the sandbox works beside a reader that asks ahead,
    and slows it down where two cores are halves of one; beside the others it rests.
    """
    if sys.platform == "linux":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    start = start_up()
    with serving(size, "next") as (drift, folder):
        readers = {
            BARE_LOOP: partial(run, BARE_LOOP, drift, folder),
            PLAIN_STREAM: partial(run, PLAIN_STREAM, drift, folder),
            f"{TAP_DRIFT}, `concurrency` 1": partial(run, TAP_DRIFT, drift, folder, concurrency=1),
            f"{TAP_DRIFT}, `concurrency` 8": partial(run, TAP_DRIFT, drift, folder),
        }
        runs = in_turns(times, **readers)
    each = {
        name: (median(of, lambda one: one.cpu) - start[name.partition(",")[0]][1]) / size * 1e6
        for name, of in runs.items()
    }
    print(f"\n{machine()}; {size:,} conversations; no latency; start-up left out.")
    table(
        ["reader", "µs of CPU a record", "of the bare loop"],
        [[name, f"{us:.0f}", f"{us / each[BARE_LOOP]:.2f}"] for name, us in each.items()],
    )


def memory(sizes: list[int]) -> None:
    """The most memory that a first run holds."""
    rows = []
    for size in sizes:
        progress(f"memory, {size:,} conversations")
        with serving(size, "both") as (drift, folder):
            one = run(TAP_DRIFT, drift, folder)
            rows.append([f"{size:,}", f"{one.megabytes:,.0f}", f"{one.requests:,}"])
    print(f"\n{machine()}.")
    table(["conversations", "peak memory, MB", "requests"], rows)


def messages(size: int, latency: float) -> None:
    """The messages of conversations, one request at a time and several."""
    start = start_up()[TAP_DRIFT][0]
    rows, prints = [], set()
    with serving(size, "both", latency) as (drift, folder):
        for concurrency in (1, 8, 32):
            progress(f"messages of {size:,} conversations, concurrency {concurrency}")
            catalog = catalog_of("messages")
            one = run(TAP_DRIFT, drift, folder, catalog=catalog, concurrency=concurrency)
            seconds, limit = one.seconds - start, one.requests * latency / concurrency
            prints.add(one.fingerprint)
            rows.append(
                [
                    str(concurrency),
                    f"{one.requests:,}",
                    f"{one.records:,}",
                    f"{seconds:,.1f}",
                    f"{seconds / limit:.2f}",
                    f"{one.megabytes:,.0f}",
                ]
            )
    print(f"\n{machine()}; {size:,} conversations; {latency * 1000:.0f} ms per answer.")
    print("The output is " + ("the same." if len(prints) == 1 else "DIFFERENT."))
    head = ["`concurrency`", "requests", "messages", "seconds", "of the limit", "peak memory, MB"]
    table(head, rows)


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
    parser.add_argument("--only", choices=["conversations", "cpu", "memory", "messages"])
    parser.add_argument("--size", type=int, metavar="N", help="conversations (default: 4000)")
    parser.add_argument("--times", type=int, default=3, metavar="N", help="runs of each")
    parser.add_argument(
        "--latency", type=float, default=50.0, metavar="MS", help="milliseconds of each answer"
    )
    chosen = parser.parse_args()
    latency = chosen.latency / 1000
    measures: dict[str, Callable[[], None]] = {
        "conversations": lambda: conversations(chosen.size or 4000, latency, chosen.times),
        "cpu": lambda: cpu(chosen.size or 50_000, chosen.times),
        "messages": lambda: messages(chosen.size or 2000, latency),
        "memory": lambda: memory([1000, chosen.size or 1_000_000]),
    }
    warm_up()
    for name, measure in measures.items():
        if chosen.only in (None, name):
            measure()


if __name__ == "__main__":
    main()
