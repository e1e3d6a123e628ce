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

from tests.documents import run, shown, shown_command
from tests.meltano import PROJECT, environment, meltano, session
from tests.sandbox.expected import expected
from tests.sandbox.postgres import records
from tests.sandbox.server import answers, error, since
from tests.tap import upserted, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.sandbox import Sandbox

    Serve = Callable[..., Sandbox]

pytestmark = pytest.mark.meltano


def in_postgres(url: str) -> dict[int | str, dict[str, Any]]:
    _, found = records(url, "conversations")
    arrived = upserted({}, found)
    assert len(arrived) == len(found)
    # Nothing came that Drift does not document.
    assert {row.pop("otherFields") for row in arrived.values()} == {None}
    return arrived


def rows(path: Path) -> list[dict[str, Any]]:
    return list(map(json.loads, path.read_text().splitlines()))


def test_a_project_of_ones_own_as_the_documents_have_it(sandbox: Serve, tmp_path: Path) -> None:
    """With target-jsonl, which needs no server; what `meltano add` has from its Hub is there."""
    drift = sandbox(20)
    loaders = YAML().load(PROJECT / "meltano.yml")["plugins"]["loaders"]
    project = {
        "default_environment": "dev",
        "environments": [{"name": "dev"}],
        "send_anonymous_usage_stats": False,
        "plugins": {"loaders": loaders},
    }
    YAML().dump(project, tmp_path / "meltano.yml")
    to_jsonl = {"target-postgres": "target-jsonl"}
    replaced = {
        "PATH_OR_URL_OF": str(PROJECT),
        "PATH_OR_GIT_URL_OF_THIS_REPOSITORY": str(PROJECT),
        "meltano add target-postgres\n": "",
    }
    typed = [
        shown("own project", replaced | to_jsonl),
        shown("select"),
        shown("leaving fields out"),
        shown("a stream in a task of its own", to_jsonl),
        "meltano state get dev:tap-drift-to-target-jsonl:messages",
    ]
    done = session("\n".join(typed), drift=drift, folder=tmp_path, project=tmp_path)
    assert done.returncode == 0, done.stderr
    assert upserted({}, rows(tmp_path / "conversations.jsonl")) == expected(drift.account)
    messages = expected(drift.account, "messages")
    assert upserted({}, rows(tmp_path / "messages.jsonl"), "messages") == messages
    assert sorted(path.stem for path in tmp_path.glob("*.jsonl")) == ["conversations", "messages"]
    (tap,) = YAML().load(tmp_path / "meltano.yml")["plugins"]["extractors"]
    excluded = ["!messages.body", "!contacts.attributes.email"]
    assert tap["select"] == ["conversations.*", "messages.*", *excluded]
    state = json.loads(done.stdout.splitlines()[-1])
    assert state["singer_state"]["bookmarks"].keys() == {"conversations", "messages"}


def test_a_run_whose_tap_is_killed_and_then_cron(
    sandbox: Serve, postgres_url: str, tmp_path: Path
) -> None:
    """Both as the README has them."""
    drift = sandbox(2000, latency=0.1)
    killed = []

    def kill() -> None:
        wait_until(lambda: len(drift.requests) > 10)
        for process in taps_running():
            killed.append(process.pid)
            process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    variables = environment(drift, tmp_path, postgres_url)
    url = "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE?"
    real = variables.pop("TARGET_POSTGRES_SQLALCHEMY_URL")
    replaced = {"YOUR_TOKEN": variables.pop("TAP_DRIFT_ACCESS_TOKEN"), url: f"{real}&"}
    first = run(shown("your account", replaced), PROJECT, **variables)
    killer.join()
    assert killed
    assert first.returncode != 0
    assert len(drift.requests) < 40

    drift.latency = 0.0
    drift.account.move_on()
    replaced = {
        "/path/to/this/folder": str(PROJECT),
        "/path/to/uv": "uv",
        "drift.log": str(log := tmp_path / "drift.log"),
    }
    line = shown("cron", replaced).split(maxsplit=5)[-1]
    second = run(line, tmp_path, **environment(drift, tmp_path, postgres_url))
    assert second.returncode == 0, log.read_text()
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

    def run_again(*arguments: str) -> list[dict[str, Any]]:
        done = meltano_here("run", *arguments, "tap-drift", "target")
        assert done.returncode == 0, done.stderr
        return rows(arrived)

    arrived = tmp_path / "arrived.jsonl"
    run_again()
    arrived.unlink()

    refused = answers(error(401, "authentication_error", "The access token is invalid"))
    drift.fault = since(len(drift.requests) + 4, refused)
    refresh = shown_command("meltano run --full-refresh tap-drift target-postgres").split()[1:-1]
    broken_off = meltano_here(*refresh, "target")
    assert broken_off.returncode != 0
    drift.fault = None
    assert (tmp_path / "states").exists() == (backend == "file")
    if backend == "file":
        state = json.loads(meltano_here("state", "get", "dev:tap-drift-to-target").stdout)
        assert state["singer_state"]["bookmarks"]["conversations"]["walk"]["cursor"]

    found = run_again()
    assert upserted({}, found) == expected(drift.account)
    assert len(found) == 230 + 1  # nothing twice, but for the row at the bookmark
    if backend == "database":
        return
    for id_ in list(drift.account.conversations)[:120]:
        drift.account.change(id_)
    assert upserted({}, run_again("--state-strategy=merge")) == expected(drift.account)
