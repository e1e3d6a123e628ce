"""However a run ends, what it wrote is whole, and the next run goes on from there."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import termios
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest

from tap_drift.tap import SECONDS_TO_END
from tests.sandbox import Account, Sandbox
from tests.sandbox.expected import as_record
from tests.sandbox.server import answers, dropped, error, html, slow
from tests.tap import Output, lines, run_here, run_tap, settings, tap_command, upserted
from tests.test_meltano import in_account, in_postgres, meltano

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sandbox.server import Fault

    Serve = Callable[..., Sandbox]
    Json = dict[str, Any]

EXIT_CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
BROKEN_PIPE = 141
NOISE = ("Traceback", "Exception ignored", "An unhandled error")


@dataclass
class Tap:
    """A tap at work; what it wrote stays in the pipe until somebody reads it."""

    process: subprocess.Popen[str]
    errors: Path

    def end(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def rest(self) -> Output:
        """Read all that is still to come."""
        stdout, _ = self.process.communicate(timeout=60)
        return Output(list(lines(stdout)), self.errors.read_text(), self.process.returncode)

    @property
    def bytes_in_pipe(self) -> int:
        assert self.process.stdout is not None
        answer = fcntl.ioctl(self.process.stdout, termios.FIONREAD, struct.pack("i", 0))
        waiting: int = struct.unpack("i", answer)[0]
        return waiting

    def wait_for_full_pipe(self) -> None:
        waiting, since = 0, time.monotonic()
        while not waiting or time.monotonic() - since < 0.3:
            if (now_waiting := self.bytes_in_pipe) != waiting:
                waiting, since = now_waiting, time.monotonic()
            time.sleep(0.02)
        assert self.process.poll() is None


@contextlib.contextmanager
def running(command: list[str], folder: Path, **environment: str) -> Iterator[Tap]:
    errors = folder / "stderr"
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=os.environ | environment,
        ) as process,
    ):
        try:
            yield Tap(process, errors)
        finally:
            process.kill()


def wait_until(happened: Callable[[], object]) -> None:
    for _ in range(1500):
        if happened():
            return
        time.sleep(0.02)
    pytest.fail("it did not happen within 30 seconds")


def with_long_rows(conversations: int, length: int) -> Account:
    """Records that no pipe takes in one piece."""
    account = Account(conversations)
    for number, row in enumerate(account.conversations.values()):
        row["status"] = f"{number}-" * (length // 4)
    return account


def expected(drift: Sandbox) -> dict[int, Json]:
    return {row["id"]: as_record(row) for row in drift.account.conversations.values()}


def assert_quiet(output: Output) -> None:
    assert [noise for noise in NOISE if noise in output.stderr] == []


def assert_ended(drift: Sandbox, output: Output, exit_code: int) -> None:
    """The run ended early and in order, and an undisturbed one completes it."""
    assert output.exit_code == exit_code, output.stderr
    assert_quiet(output)
    assert output.messages[-1]["type"] == "STATE"
    assert len(output.records()) < len(drift.account.conversations)
    assert_completed(drift, output.records(), output.state)


def assert_completed(drift: Sandbox, records: list[Json], state: Json | None) -> None:
    drift.faults.clear()
    drift.latency = 0.0
    again = run_here(settings(drift), state)
    assert again.exit_code == 0
    assert upserted(upserted({}, records), again.records()) == expected(drift)


ended_by = pytest.mark.parametrize("number", EXIT_CODES, ids=lambda number: number.name)


@ended_by
def test_a_signal_in_the_middle_of_a_run(
    sandbox: Serve, tmp_path: Path, number: signal.Signals
) -> None:
    drift = sandbox(1000, latency=0.03)
    with running(tap_command(tmp_path, settings(drift)), tmp_path) as tap:
        wait_until(lambda: len(drift.requests) > 5)
        tap.end(number)
        output = tap.rest()
    assert_ended(drift, output, EXIT_CODES[number])
    assert output.bookmark()["walk"]["cursor"]


@ended_by
def test_a_signal_while_the_tap_waits_for_drift(
    sandbox: Serve, tmp_path: Path, number: signal.Signals
) -> None:
    drift = sandbox(200)
    drift.faults[3] = slow
    with running(tap_command(tmp_path, settings(drift)), tmp_path) as tap:
        wait_until(lambda: len(drift.requests) == 3)
        time.sleep(0.1)
        told = time.monotonic()
        tap.end(number)
        output = tap.rest()
    assert time.monotonic() - told < 3
    assert_ended(drift, output, EXIT_CODES[number])


def test_a_signal_while_the_tap_waits_to_try_again(sandbox: Serve, tmp_path: Path) -> None:
    drift = sandbox(200)
    drift.faults[3] = answers(error(429, "rate_limit", "slow down", {"Retry-After": "60"}))
    with running(tap_command(tmp_path, settings(drift, max_retries=1)), tmp_path) as tap:
        wait_until(lambda: "Trying again" in tap.errors.read_text())
        told = time.monotonic()
        tap.end(signal.SIGTERM)
        output = tap.rest()
    assert time.monotonic() - told < 3
    assert_ended(drift, output, EXIT_CODES[signal.SIGTERM])


@pytest.mark.parametrize(
    ("number", "length", "unbuffered"),
    [
        (signal.SIGTERM, 8, ""),
        (signal.SIGTERM, 10_000, ""),
        (signal.SIGTERM, 200_000, ""),
        (signal.SIGTERM, 8, "1"),
        (signal.SIGTERM, 10_000, "1"),
        (signal.SIGTERM, 200_000, "1"),
        (signal.SIGINT, 10_000, ""),
        (signal.SIGINT, 200_000, "1"),
    ],
)
def test_a_signal_while_nobody_reads(
    sandbox: Serve, tmp_path: Path, number: signal.Signals, length: int, unbuffered: str
) -> None:
    drift = sandbox(with_long_rows(60 if length > 8 else 1000, length))
    command = tap_command(tmp_path, settings(drift, page_size=10))
    # Without a buffer (usual in containers), a write that a signal interrupts may be a partial one.
    with running(command, tmp_path, PYTHONUNBUFFERED=unbuffered) as tap:
        tap.wait_for_full_pipe()
        tap.end(number)
        time.sleep(0.2)
        assert tap.process.poll() is None  # it waits for somebody to take the rest of the line
        output = tap.rest()
    assert_ended(drift, output, EXIT_CODES[number])


def test_a_second_signal_changes_nothing(sandbox: Serve, tmp_path: Path) -> None:
    drift = sandbox(with_long_rows(60, 200_000))
    command = tap_command(tmp_path, settings(drift, page_size=10))
    with running(command, tmp_path, PYTHONUNBUFFERED="") as tap:
        tap.wait_for_full_pipe()
        for _ in range(2):
            tap.end(signal.SIGTERM)
            time.sleep(0.1)
        output = tap.rest()
    assert_ended(drift, output, EXIT_CODES[signal.SIGTERM])


@ended_by
def test_a_run_that_is_told_to_end_ends_even_if_nobody_ever_reads(
    sandbox: Serve, tmp_path: Path, number: signal.Signals
) -> None:
    drift = sandbox(with_long_rows(60, 10_000))
    command = tap_command(tmp_path, settings(drift))
    assert command[1:3] == ["-m", "tap_drift"]
    impatient = "from tap_drift import tap; tap.SECONDS_TO_END = 0.5; tap.TapDrift.cli()"
    with running([command[0], "-c", impatient, *command[3:]], tmp_path) as tap:
        tap.wait_for_full_pipe()
        told = time.monotonic()
        tap.end(number)
        assert tap.process.wait(timeout=10) == EXIT_CODES[number]
        assert 0.4 < time.monotonic() - told < 3


def test_a_run_that_is_told_to_end_gets_five_seconds() -> None:
    assert SECONDS_TO_END == 5


@pytest.mark.parametrize("taken", [5, 60, 130, 500])
def test_a_killed_run_leaves_enough_to_go_on_from(
    sandbox: Serve, tmp_path: Path, taken: int
) -> None:
    drift = sandbox(1000, latency=0.01)
    with running(tap_command(tmp_path, settings(drift)), tmp_path) as tap:
        assert tap.process.stdout is not None
        whole = [tap.process.stdout.readline() for _ in range(taken)]
        tap.process.kill()
        whole += [line for line in tap.process.stdout if line.endswith("\n")]
    output = Output([json.loads(line) for line in whole])
    # A target that loads what it got when a STATE comes knows no more than this.
    last_state = max(n for n, m in enumerate(output.messages) if m["type"] == "STATE")
    loaded = Output(output.messages[: last_state + 1])
    assert len(loaded.records()) < 1000
    before = len(drift.requests)
    assert_completed(drift, loaded.records(), loaded.state)
    if taken == 500:
        assert len(drift.requests) - before < 15  # it went on, it did not start over


@pytest.mark.parametrize("length", [8, 200_000])
@pytest.mark.parametrize("taken", [1, 30])
def test_a_target_that_dies_ends_the_run_quietly(
    sandbox: Serve, tmp_path: Path, taken: int, length: int
) -> None:
    drift = sandbox(with_long_rows(100 if length > 8 else 1000, length))
    with running(tap_command(tmp_path, settings(drift, page_size=10)), tmp_path) as tap:
        assert tap.process.stdout is not None
        whole = [tap.process.stdout.readline() for _ in range(taken)]
        tap.process.stdout.close()
        assert tap.process.wait(timeout=30) == BROKEN_PIPE
        output = Output([json.loads(line) for line in whole], tap.errors.read_text())
    assert_quiet(output)
    assert "ERROR" not in output.stderr
    state = output.state if output.states else None
    assert_completed(drift, output.records(), state)


def test_a_pipe_into_head_ends_quietly(sandbox: Serve, tmp_path: Path) -> None:
    drift = sandbox(1000)
    with running(tap_command(tmp_path, settings(drift)), tmp_path) as tap:
        head = subprocess.run(
            [shutil.which("head") or "head", "-1"],
            stdin=tap.process.stdout,
            capture_output=True,
            text=True,
            check=True,
        )
        assert tap.process.stdout is not None
        tap.process.stdout.close()
        assert tap.process.wait(timeout=30) == BROKEN_PIPE
        output = Output(list(lines(head.stdout)), tap.errors.read_text())
    assert len(output.messages) == 1
    assert_quiet(output)


FAILURES: dict[str, Fault] = {
    "token revoked": answers(error(401, "authentication_error", "The token was revoked")),
    "scope missing": answers(error(403, "authentication_error", "Not allowed")),
    "gateway": html(503),
    "connection": dropped,
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_in_the_middle_of_a_run(sandbox: Serve, tmp_path: Path, failure: str) -> None:
    drift = sandbox(1000)
    # Fewer rows are asked for when Drift can't answer: so that has to go on.
    drift.faults.update(dict.fromkeys(range(5, 20), FAILURES[failure]))
    output = run_tap(tmp_path, settings(drift))
    assert_ended(drift, output, 1)
    assert output.bookmark()["walk"]["cursor"]
    assert "Not read to the end: conversations" in output.stderr


def test_a_failure_of_the_first_request_keeps_the_bookmark(sandbox: Serve, tmp_path: Path) -> None:
    drift = sandbox(100)
    first = run_here(settings(drift))
    drift.account.move_on()
    drift.faults[len(drift.requests) + 1] = FAILURES["token revoked"]
    failed = run_tap(tmp_path, settings(drift), first.state)
    assert failed.exit_code == 1
    assert_quiet(failed)
    assert failed.messages[-1]["type"] == "STATE"
    assert failed.bookmark() == first.bookmark()
    assert_completed(drift, first.records(), failed.state)


def taps_running() -> list[psutil.Process]:
    """The taps that Meltano started for this process."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            names = [Path(word).name for word in process.cmdline() if "/" in word]
            if "tap-drift" in names:
                found.append(process)
    return found


def test_meltano_run_with_a_killed_tap_and_again(
    sandbox: Serve, postgres_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("drop schema if exists drift cascade")
    drift = sandbox(2000, latency=0.1)
    killed = []

    def kill() -> None:
        wait_until(lambda: len(drift.requests) > 10)
        for process in taps_running():
            killed.append(process.pid)
            process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    first = meltano(
        "run", "tap-drift", "target-postgres",
        drift=drift, folder=tmp_path, postgres_url=postgres_url,
    )  # fmt: skip
    killer.join()
    assert killed
    assert first.returncode != 0
    assert len(drift.requests) < 40

    drift.latency = 0.0
    drift.account.move_on()
    second = meltano(
        "run", "tap-drift", "target-postgres",
        drift=drift, folder=tmp_path, postgres_url=postgres_url,
    )  # fmt: skip
    assert second.returncode == 0, second.stderr
    assert in_postgres(postgres_url) == in_account(drift.account)
