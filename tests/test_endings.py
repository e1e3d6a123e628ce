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
import sys
import termios
import time
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import COMMAND, TapProcess
from tests.sandbox import Account, Sandbox
from tests.sandbox.expected import expected
from tests.sandbox.server import answers, error, since, slow
from tests.tap import (
    Output,
    lines,
    run_here,
    run_tap,
    selecting,
    settings,
    tap_command,
    upserted,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Serve = Callable[..., Sandbox]
    Json = dict[str, Any]

EXIT_CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}
BROKEN_PIPE = 141
NOISE = ("Traceback", "Exception ignored", "An unhandled error")


@dataclass
class Tap:
    """A tap at work; what it wrote stays in the pipe until somebody reads it."""

    process: subprocess.Popen[str] | TapProcess
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
        assert self.process.stdout is not None
        # What is written at once has to fit into what is left, so that much of it may stay free.
        half = fcntl.fcntl(self.process.stdout, fcntl.F_GETPIPE_SZ) * 0.5
        wait_until(lambda: self.process.poll() is not None or self.bytes_in_pipe > half)
        time.sleep(0.3)
        assert self.process.poll() is None


@contextlib.contextmanager
def running(command: list[str], folder: Path, **environment: str) -> Iterator[Tap]:
    errors = folder / "stderr"
    with begin(command, errors, environment) as process:
        try:
            yield Tap(process, errors)
        finally:
            process.kill()


@contextlib.contextmanager
def begin(
    command: list[str], errors: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[str] | TapProcess]:
    """Begin from nothing what is no plain call of the tap, or has variables of its own."""
    if not environment and tuple(command[:3]) == COMMAND:
        pipe = errors.with_name("stdout")
        os.mkfifo(pipe)
        with TapProcess(command, pipe, errors, os.environ) as tap:
            yield tap
        pipe.unlink()
        return
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=os.environ | environment
        ) as process,
    ):
        yield process


def with_long_rows(conversations: int, length: int) -> Account:
    """Records that no pipe takes in one piece."""
    account = Account(conversations)
    for number, row in enumerate(account.conversations.values()):
        row["status"] = f"{number}-" * (length // 4)
    return account


def assert_quiet(output: Output) -> None:
    assert [noise for noise in NOISE if noise in output.stderr] == []


def assert_ended(
    drift: Sandbox, output: Output, exit_code: int, stream: str = "conversations"
) -> None:
    """The run ended early and in order, and an undisturbed one completes it."""
    assert output.exit_code == exit_code, output.stderr
    assert_quiet(output)
    assert output.messages[-1]["type"] == "STATE"
    assert len(output.records(stream)) < len(expected(drift.account, stream))
    assert_completed(drift, output.records(stream), output.state, stream)


def assert_completed(
    drift: Sandbox, records: list[Json], state: Json | None, stream: str = "conversations"
) -> None:
    drift.fault, drift.latency = None, 0.0
    drift.faults.clear()
    again = run_here(settings(drift), state, selecting(stream))
    assert again.exit_code == 0
    assert upserted(upserted({}, records), again.records(stream)) == expected(drift.account, stream)


ended_by = pytest.mark.parametrize("number", EXIT_CODES, ids=lambda number: number.name)


@ended_by
def test_a_signal_in_the_middle_of_a_run(
    sandbox: Serve, tmp_path: Path, number: signal.Signals
) -> None:
    drift = sandbox(1000, latency=0.03)
    with running(tap_command(tmp_path, settings(drift)), tmp_path) as tap:
        wait_until(lambda: len(drift.requests) > 4)
        tap.end(number)
        output = tap.rest()
    assert_ended(drift, output, EXIT_CODES[number])
    assert output.bookmark()["walk"]["cursor"]
    assert "goes on from the last STATE that the target confirmed." in output.stderr


@ended_by
@pytest.mark.parametrize("stream", ["conversations", "messages"])
def test_a_signal_while_the_tap_waits_for_drift(
    sandbox: Serve, tmp_path: Path, number: signal.Signals, stream: str
) -> None:
    drift = sandbox(200)
    drift.fault = since(3, slow)
    command = tap_command(tmp_path, settings(drift), None, selecting(stream))
    with running(command, tmp_path) as tap:
        wait_until(lambda: len(drift.requests) >= 3)
        time.sleep(0.1)
        told = time.monotonic()
        tap.end(number)
        output = tap.rest()
    assert time.monotonic() - told < 3
    assert_ended(drift, output, EXIT_CODES[number], stream)


@pytest.mark.parametrize(
    ("number", "length", "unbuffered"),
    [
        (signal.SIGTERM, 8, ""),
        (signal.SIGTERM, 200_000, ""),
        (signal.SIGTERM, 10_000, "1"),
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


def busy(drift: Sandbox) -> bool:
    return len(drift.requests) > 60


def test_two_signals_at_once_are_one(sandbox: Serve, tmp_path: Path) -> None:
    for waited in (0.0, 0.02, 0.05):  # what the threads do then differs
        drift = sandbox(200, latency=0.01)
        command = tap_command(tmp_path, settings(drift), None, selecting("contacts", "messages"))
        with running(command, tmp_path) as tap:
            wait_until(partial(busy, drift))
            time.sleep(waited)
            tap.end(signal.SIGINT)
            tap.end(signal.SIGTERM)
            output = tap.rest()
        assert output.exit_code in EXIT_CODES.values()
        assert_quiet(output)
        assert "ERROR" not in output.stderr
        assert output.messages[-1]["type"] == "STATE"
        assert not output.records("messages")  # contacts come first


@ended_by
def test_a_run_that_is_told_to_end_ends_even_if_nobody_ever_reads(
    sandbox: Serve, tmp_path: Path, number: signal.Signals
) -> None:
    drift = sandbox(with_long_rows(60, 10_000))
    command = tap_command(tmp_path, settings(drift))
    assert command[1:3] == ["-m", "tap_drift"]
    impatient = "from tap_drift import runs, tap; runs.SECONDS_TO_END = 0.5; tap.TapDrift.cli()"
    with running([command[0], "-c", impatient, *command[3:]], tmp_path) as tap:
        tap.wait_for_full_pipe()
        told = time.monotonic()
        tap.end(number)
        assert tap.process.wait(timeout=10) == EXIT_CODES[number]
        assert 0.4 < time.monotonic() - told < 3


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
        assert len(drift.requests) - before < 17  # it went on, it did not start over


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
    assert output.stderr.count("Nobody reads the output any more. The next run goes on") == 1
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


COMMANDS: dict[str, list[str]] = {
    "a run": [],
    "--discover": ["--discover"],
    "--test": ["--test"],
    "--about": ["--about"],
}

BEFORE_THE_REST_IS_IMPORTED = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            os.kill(os.getpid(), signal.{signal})
sys.meta_path.insert(0, Finder())
from tap_drift.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("number", "what", "module"),
    [
        (signal.SIGINT, "a run", "tap_drift.drift"),
        (signal.SIGTERM, "a run", "msgspec"),
        (signal.SIGHUP, "a run", "tap_drift.tap"),
        (signal.SIGINT, "--discover", "msgspec"),
        (signal.SIGTERM, "--test", "tap_drift.drift"),
        (signal.SIGINT, "--about", "tap_drift.drift"),
    ],
)
def test_a_signal_while_the_tap_starts(
    sandbox: Serve, tmp_path: Path, number: signal.Signals, what: str, module: str
) -> None:
    drift = sandbox(3)
    python, *_ = command = tap_command(tmp_path, settings(drift))
    script = BEFORE_THE_REST_IS_IMPORTED.format(module=module, signal=number.name)
    with running([python, "-c", script, *command[3:], *COMMANDS[what]], tmp_path) as tap:
        output = tap.rest()
    assert (output.exit_code, output.stderr, output.messages) == (EXIT_CODES[number], "", [])
    assert not drift.requests


def test_garbage_is_collected_once_the_tap_has_started() -> None:
    script = "from tap_drift.signals import importing; import gc\nwith importing(): pass\n"
    script += "print(gc.isenabled(), gc.get_freeze_count() > 0)"
    command = [sys.executable, "-c", script]
    assert subprocess.check_output(command, text=True) == "True True\n"


def test_a_signal_at_any_moment_leaves_no_traceback(sandbox: Serve, tmp_path: Path) -> None:
    drift = sandbox(3, latency=0.1)
    for seconds, what in zip((0.9, 0.6, 0.7, 0.5), COMMANDS.values(), strict=True):
        command = [*tap_command(tmp_path, settings(drift)), *what]
        with running(command, tmp_path, FROM="nothing") as tap:
            time.sleep(seconds)
            tap.end(signal.SIGINT)
            tap.process.communicate(timeout=30)
            assert tap.process.returncode in (EXIT_CODES[signal.SIGINT], 0)
            assert not [noise for noise in NOISE if noise in tap.errors.read_text()]


def test_what_nohup_ignores_stays_ignored(sandbox: Serve, tmp_path: Path) -> None:
    drift = sandbox(200, latency=0.03)
    command = tap_command(tmp_path, settings(drift))
    with running([shutil.which("nohup") or "nohup", *command], tmp_path) as tap:
        wait_until(lambda: len(drift.requests) > 1)
        tap.end(signal.SIGHUP)
        output = tap.rest()
    assert output.exit_code == 0
    assert len(output.records()) == 200


def shell(script: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [shutil.which("sh") or "sh", "-c", script, "tap", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
@pytest.mark.parametrize("what", ["a run", "--discover"])
def test_an_output_that_takes_nothing_ends_in_one_line(
    sandbox: Serve, tmp_path: Path, what: str, redirection: str
) -> None:
    command = [*tap_command(tmp_path, settings(sandbox(3))), *COMMANDS[what]]
    done = shell(f'"$@" {redirection}', command)
    assert done.returncode == 1
    assert done.stderr.count("The output can't be written: ") == 1
    assert_quiet(Output([], done.stderr))
    assert done.stderr.count("ERROR") <= 1


def test_an_output_that_does_not_wait_is_waited_for(sandbox: Serve, tmp_path: Path) -> None:
    drift = sandbox(with_long_rows(60, 10_000))
    end, start = os.pipe()
    os.set_blocking(start, False)  # which holds for all who share it
    with (
        os.fdopen(end) as stdout,
        (tmp_path / "stderr").open("w") as stderr,
        subprocess.Popen(
            tap_command(tmp_path, settings(drift)), stdout=start, stderr=stderr
        ) as process,
    ):
        os.close(start)
        wait_until(lambda: drift.requests)
        time.sleep(0.5)
        output = Output(list(lines(stdout.read())), "", process.wait(60))
    assert output.exit_code == 0
    assert len(output.records()) == 60


def test_a_catalog_that_nobody_reads_ends_quietly(tmp_path: Path) -> None:
    with running([*tap_command(tmp_path, {}), "--discover"], tmp_path) as tap:
        assert tap.process.stdout is not None
        tap.process.stdout.close()
        assert tap.process.wait(timeout=30) == BROKEN_PIPE
        errors = tap.errors.read_text()
    assert errors.count("Nobody reads the output any more.") == 1
    assert_quiet(Output([], errors))


def test_a_failure_of_the_first_request_keeps_the_bookmark(sandbox: Serve, tmp_path: Path) -> None:
    drift = sandbox(100)
    first = run_here(settings(drift))
    drift.account.move_on()
    refused = answers(error(401, "authentication_error", "The token was revoked"))
    drift.faults[len(drift.requests) + 1] = refused
    failed = run_tap(tmp_path, settings(drift), first.state)
    assert failed.exit_code == 1
    assert_quiet(failed)
    assert failed.messages[-1]["type"] == "STATE"
    assert failed.bookmark() == first.bookmark()
    assert_completed(drift, first.records(), failed.state)


# Setup faults: a line that names what is to be mended, whatever the machine lacks


def complaints(output: Output) -> list[str]:
    """The errors, without what only says that there were some."""
    lines = [line for line in output.stderr.splitlines() if " INFO " not in line]
    return [line.split(" | ")[-1] for line in lines if "Not read to the end" not in line]


GZIP = {"format": "jsonl", "compression": "gzip"}


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"batch_config": {"encoding": GZIP}}, ["storage.root"]),
        ({"batch_config": {"encoding": {}, "storage": {"root": "."}}}, ["encoding.format"]),
        pytest.param(
            {"batch_config": {"encoding": GZIP, "storage": {"root": "s3://a-bucket"}}},
            ["batch_config.storage.root", "singer-sdk[s3]"],
            marks=pytest.mark.skipif(bool(find_spec("s3fs")), reason="the extra is installed"),
        ),
        (
            {"batch_config": {"encoding": {"format": "parquet"}, "storage": {"root": "."}}},
            ["batch_config.encoding.format", "singer-sdk[parquet]"],
        ),
        (
            {"stream_maps": {"conversations": {"status": "fake.email()"}}},
            ["conversations", "status", "fake.email()", "singer-sdk[faker]"],
        ),
        ({"stream_maps": {"conversations": {"mapped": "1 +"}}}, ["stream_maps", "conversations"]),
    ],
)
def test_a_setup_fault_is_one_line_that_names_what_to_mend(
    sandbox: Serve, tmp_path: Path, changed: Json, named: list[str]
) -> None:
    output = run_tap(tmp_path, settings(sandbox(3), **changed))
    (line,) = complaints(output)
    assert output.exit_code == 1
    assert [name for name in named if name not in line] == []
    assert not output.records()


@pytest.mark.parametrize("setting", ["concurrency", "requests_per_minute"])
def test_a_machine_that_gives_no_threads_is_named(
    sandbox: Serve, tmp_path: Path, setting: str
) -> None:
    config = settings(sandbox(30), **{setting: 6})
    python, *_ = command = tap_command(tmp_path, config, None, selecting("messages", "users"))
    # No machine has as much memory as such a thread wants.
    script = "import threading; threading.stack_size(2**46)\n"
    script += "from tap_drift.__main__ import main; main()"
    with running([python, "-c", script, *command[3:]], tmp_path) as tap:
        output = tap.rest()
    (line,) = complaints(output)
    assert output.exit_code == 1
    assert setting in line
    assert output.messages[-1]["type"] == "STATE"
    assert bool(output.records("users")) is (setting == "concurrency")


def test_a_full_disk_under_batch_files_is_named(sandbox: Serve, tmp_path: Path) -> None:
    drift = sandbox(400)
    config = settings(
        drift, batch_config={"encoding": GZIP, "storage": {"root": (tmp_path / "files").as_uri()}}
    )
    command = tap_command(tmp_path, config, None, selecting("conversations", "users"))
    # Compiled modules would be cut too, and stay so.
    done = shell('export PYTHONDONTWRITEBYTECODE=1; ulimit -f 1; exec "$@"', command)
    output = Output(list(lines(done.stdout)), done.stderr, done.returncode)
    (line,) = complaints(output)
    assert output.exit_code == 1
    assert line.startswith("conversations: no file can be written where batch_config.storage is")
    assert [m["stream"] for m in output.messages if m["type"] == "BATCH"] == ["users"]
    assert_completed(drift, [], output.state)
