"""The tap in processes of its own, without the second that its imports take each time.

A server that has imported the tap is forked for every run, and all else is as with a process that
begins from nothing: arguments, variables, signals, exit code, and whatever is at the other end of
stdout. Tests of how the tap starts begin from nothing.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

COMMAND = (sys.executable, "-m", "tap_drift")


def command(*arguments: str) -> list[str]:
    """Say how the tap is called."""
    return [*COMMAND, *arguments]


class TapProcess:
    """A tap at work, as `subprocess.Popen` would give it.

    Args:
        command: What `command()` gives.
        stdout: A file or pipe to be opened by the process.
        stderr: A file.
        environment: Its variables, and no others.

    Attributes:
        stdout: The end of a pipe to read from.
    """

    def __init__(
        self, command: list[str], stdout: Path, stderr: Path, environment: Mapping[str, str]
    ) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, "tap_drift.tap"])
        self._process = context.Process(
            target=_run, args=(command[3:], str(stdout), str(stderr), dict(environment))
        )
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid
        self.stdout: TextIO | None = None
        if stdout.is_fifo():
            self.stdout = stdout.open(encoding="utf-8")

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            msg = f"The tap has not ended after {timeout} seconds."
            raise TimeoutError(msg)
        return self._process.exitcode

    def communicate(self, timeout: float) -> tuple[str, str]:
        text = self.stdout.read() if self.stdout and not self.stdout.closed else ""
        self.wait(timeout)
        return text, ""

    def send_signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.stdout:
            self.stdout.close()
        self._process.join()
        self._process.close()


def run_command(
    command: list[str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the tap to its end, with these variables beside the present ones."""
    if not hasattr(os, "fork"):
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=os.environ | (environment or {}),
        )
    with tempfile.TemporaryDirectory() as name:
        stdout, stderr = Path(name, "stdout"), Path(name, "stderr")
        with TapProcess(command, stdout, stderr, os.environ | (environment or {})) as process:
            code = process.wait(120)
        return subprocess.CompletedProcess(command, code, stdout.read_text(), stderr.read_text())


def _run(arguments: list[str], stdout: str, stderr: str, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    for number, path in ((1, stdout), (2, stderr)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["tap-drift", *arguments]
    from tap_drift.__main__ import main  # noqa: PLC0415

    main()
