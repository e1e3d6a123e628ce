"""Meltano runs the tap into real targets. (The main job itself: `test_sandbox.py`.)"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from ruamel.yaml import YAML

from tests.meltano import PROJECT, meltano
from tests.sandbox.expected import expected
from tests.sandbox.postgres import records
from tests.sandbox.server import answers, error, since
from tests.tap import upserted, wait_until

if TYPE_CHECKING:
    import subprocess
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


CONFIRMING = """#!{python}
import json, sys
with open("arrived.jsonl", "a") as file:
    for line in sys.stdin:
        message = json.loads(line)
        if message["type"] == "RECORD":
            print(json.dumps(message["record"]), file=file, flush=True)
        elif message["type"] == "STATE":
            print(json.dumps(message["value"]), flush=True)
"""
"""A target that confirms every STATE at once: Meltano saves them one by one."""


def project_with_confirming_target(folder: Path) -> None:
    """The project's own definition of the tap, without installing it once more."""
    yaml = YAML()
    project = yaml.load(PROJECT / "meltano.yml")
    (tap,) = project["plugins"]["extractors"]
    del tap["pip_url"]
    tap["executable"] = str(Path(sys.executable).with_name("tap-drift"))
    target = folder / "target"
    target.write_text(CONFIRMING.format(python=sys.executable))
    target.chmod(0o755)
    plugin = {"name": "target", "namespace": "target", "executable": str(target)}
    project["plugins"]["loaders"] = [plugin]
    yaml.dump(project, folder / "meltano.yml")


@pytest.mark.parametrize("backend", ["database", "file"])
def test_a_full_refresh_that_breaks_off_is_resumed(
    sandbox: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    project_with_confirming_target(tmp_path)
    monkeypatch.setenv("TAP_DRIFT_CONCURRENCY", "1")  # so that the nth request is known
    monkeypatch.setenv("TAP_DRIFT_LOOKBACK_SECONDS", "0")
    if backend == "file":
        monkeypatch.setenv("MELTANO_STATE_BACKEND_URI", f"file://{tmp_path}/states")
    drift = sandbox(230, "both")

    def meltano_here(*arguments: str) -> subprocess.CompletedProcess[str]:
        return meltano(*arguments, drift=drift, folder=tmp_path, project=tmp_path)

    def run(*arguments: str) -> list[dict[str, Any]]:
        done = meltano_here("run", *arguments, "tap-drift", "target")
        assert done.returncode == 0, done.stderr
        return list(map(json.loads, arrived.read_text().splitlines()))

    arrived = tmp_path / "arrived.jsonl"
    run()
    arrived.unlink()

    refused = answers(error(401, "authentication_error", "The access token is invalid"))
    drift.fault = since(len(drift.requests) + 4, refused)
    broken_off = meltano_here("run", "--full-refresh", "tap-drift", "target")
    assert broken_off.returncode != 0
    drift.fault = None
    assert (tmp_path / "states").exists() == (backend == "file")
    if backend == "file":  # which takes long, and is the same
        state = json.loads(meltano_here("state", "get", "dev:tap-drift-to-target").stdout)
        assert state["singer_state"]["bookmarks"]["conversations"]["walk"]["cursor"]

    found = run()
    assert upserted({}, found) == expected(drift.account)
    assert len(found) == 230 + 1  # nothing twice, but for the row at the bookmark
    for id_ in list(drift.account.conversations)[:120]:
        drift.account.change(id_)
    assert upserted({}, run("--state-strategy=merge")) == expected(drift.account)
