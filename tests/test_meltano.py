"""Meltano runs the tap into real targets. (The main job itself: `test_sandbox.py`.)"""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from tests.meltano import meltano
from tests.sandbox.expected import expected
from tests.sandbox.postgres import records
from tests.tap import upserted, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox import Sandbox

    Serve = Callable[..., Sandbox]


def in_postgres(url: str) -> dict[int | str, dict[str, Any]]:
    _, found = records(url, "conversations")
    arrived = upserted({}, found)
    assert len(arrived) == len(found)
    # Nothing came that Drift does not document.
    assert {row.pop("otherFields") for row in arrived.values()} == {None}
    return arrived


def test_meltano_run_into_jsonl(sandbox: Serve, tmp_path: Path) -> None:
    drift = sandbox(60)
    done = meltano("run", "tap-drift", "target-jsonl", drift=drift, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "conversations.jsonl").read_text().splitlines()
    assert upserted({}, list(map(json.loads, written))) == expected(drift.account)
    assert len(written) == 60


def test_meltano_run_with_a_killed_tap_and_again(
    sandbox: Serve, postgres_url: str, tmp_path: Path
) -> None:
    drift = sandbox(2000, latency=0.1)
    killed = []

    def kill() -> None:
        wait_until(lambda: len(drift.requests) > 10)
        for process in taps_running():
            killed.append(process.pid)
            process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    run = ("run", "tap-drift", "target-postgres")
    first = meltano(*run, drift=drift, folder=tmp_path, postgres_url=postgres_url)
    killer.join()
    assert killed
    assert first.returncode != 0
    assert len(drift.requests) < 40

    drift.latency = 0.0
    drift.account.move_on()
    second = meltano(*run, drift=drift, folder=tmp_path, postgres_url=postgres_url)
    assert second.returncode == 0, second.stderr
    assert in_postgres(postgres_url) == expected(drift.account)


def taps_running() -> list[psutil.Process]:
    """The taps that Meltano started for this process."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            names = [Path(word).name for word in process.cmdline() if "/" in word]
            if "tap-drift" in names:
                found.append(process)
    return found
