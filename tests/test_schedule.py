"""The shell loop that `docs/running.md` shows, as it stands there, and what may happen to it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.documents import PROJECT, shown
from tests.sandbox.expected import expected
from tests.sandbox.server import answers, error
from tests.tap import lines, run_here, settings, upserted
from tests.test_targets import TARGETS, installed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox import Sandbox


class Loop:
    """A folder with all that the loop needs; where it would sleep, it ends."""

    def __init__(self, folder: Path, drift: Sandbox) -> None:
        self.folder = folder
        self.state = folder / "state.json"
        self.written = folder / "conversations.jsonl"
        (folder / "bin").mkdir()
        (folder / "config.json").write_text(json.dumps(settings(drift)))
        (folder / "target.json").write_text('{"do_timestamp_file": false}')
        self.command("tap-drift", shlex.join([sys.executable, "-m", "tap_drift"]) + ' "$@"')
        self.command("sleep", "kill -TERM $PPID")
        self.with_target()

    def command(self, name: str, does: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)

    def with_target(self, does: str | None = None) -> None:
        real = shlex.join([str(installed(TARGETS["target-jsonl"]))])
        self.command("target-jsonl", does or real + ' "$@"')

    def begin(self) -> subprocess.Popen[str]:
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return subprocess.Popen(
            [shutil.which("bash") or "bash", "-c", shown("shell loop")],
            cwd=self.folder,
            env=os.environ | {"PATH": path, "PYTHONPATH": str(PROJECT)},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def round(self) -> str:
        """Run the loop until it sleeps, and give what it wrote to the terminal."""
        with self.begin() as loop:
            said = loop.communicate(timeout=120)[1]
        assert loop.returncode == -signal.SIGTERM, said  # it went on to its sleep
        return said


def test_the_loop_goes_on_where_it_was(sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    drift = sandbox(200)
    loop = Loop(tmp_path, drift)
    drift.faults[3] = answers(error(403, "authentication_error", "Not now"))
    assert "broke off" in loop.round()
    assert json.loads(loop.state.read_text())["bookmarks"]["conversations"]["walk"]["cursor"]
    assert len(loop.written.read_text().splitlines()) == 99  # pages of 50 overlap by one row

    assert "broke off" not in loop.round()
    arrived = list(lines(loop.written.read_text()))
    assert upserted({}, arrived) == expected(drift.account)
    assert len(arrived) < 200 + 2 * 50

    drift.account.move_on()
    requests = len(drift.requests)
    loop.round()
    assert len(drift.requests) == requests + 1
    assert upserted({}, list(lines(loop.written.read_text()))) == expected(drift.account)


def test_ctrl_c_keeps_what_was_read(sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    drift = sandbox(200, latency=0.05)
    loop = Loop(tmp_path, drift)
    with loop.begin() as running:
        # As a terminal does it: to all that run in it.
        drift.faults[3] = lambda drift, request: os.killpg(running.pid, signal.SIGINT)
        said = running.communicate(timeout=60)[1]
    assert running.returncode == 130
    assert "Traceback" not in said
    assert json.loads(loop.state.read_text())["bookmarks"]["conversations"]["walk"]["cursor"]
    arrived = len(loop.written.read_text().splitlines())
    assert 50 <= arrived < 200
    loop.round()
    assert upserted({}, list(lines(loop.written.read_text()))) == expected(drift.account)


@pytest.mark.parametrize(
    "target",
    [
        "exit 1",
        "cat > /dev/null; exit 1",
        "cat > /dev/null",
        """cat > /dev/null; printf '{"bookmarks": {"conversations": {'; exit 1""",
    ],
)
def test_a_target_that_fails_does_not_cost_the_state(
    sandbox: Callable[..., Sandbox], tmp_path: Path, target: str
) -> None:
    drift = sandbox(60)
    loop = Loop(tmp_path, drift)
    state = json.dumps(run_here(settings(drift)).state)
    loop.state.write_text(state)
    drift.account.move_on()
    loop.with_target(target)
    assert ("broke off" in loop.round()) == ("exit 1" in target)
    assert loop.state.read_text() == state
