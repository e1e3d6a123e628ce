"""The command that everybody tries first."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.documents import shown
from tests.meltano import PROJECT, own

SLEEP = "import os, time; print(os.getpid(), flush=True); time.sleep(100)"
MAIN_JOB = ("meltano", "run", "tap-drift", "target-postgres")
TAMPER = """
import os, psycopg, urllib.request
request = urllib.request.Request(
    os.environ["TAP_DRIFT_API_URL"] + "/conversations/list",
    headers={"Authorization": "Bearer " + os.environ["TAP_DRIFT_ACCESS_TOKEN"]},
)
urllib.request.urlopen(request)
with psycopg.connect(os.environ["TARGET_POSTGRES_SQLALCHEMY_URL"].replace("+psycopg", "")) as db:
    db.execute("set search_path to drift")
    db.execute("delete from conversations where id = (select min(id) from conversations)")
raise SystemExit(7)
"""
SHOW = """
import os, urllib.request
request = urllib.request.Request(
    os.environ["TAP_DRIFT_API_URL"] + "/conversations/list?limit=10",
    headers={"Authorization": "Bearer " + os.environ["TAP_DRIFT_ACCESS_TOKEN"]},
)
print(urllib.request.urlopen(request).read().decode())
"""

pytestmark = [pytest.mark.meltano, pytest.mark.postgres]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            [sys.executable, "-m", "tests.sandbox", "--folder", str(tmp_path / "s"), *arguments],
            cwd=PROJECT,
            check=False,
            capture_output=True,
            text=True,
            timeout=200,
            env=os.environ | own(tmp_path) | {"PATH": path},
        )

    return run


def test_the_main_job_as_the_readme_has_it(run: Run) -> None:
    assert shown("try it").endswith(f" uv run python -m tests.sandbox {' '.join(MAIN_JOB)}\n")
    done = run(*MAIN_JOB)
    assert done.returncode == 0, done.stderr
    assert "the Drift account holds 1,000 conversations" in done.stdout
    assert "answered 30 requests" in done.stdout
    assert "holds 1,000 rows in drift.conversations: the same as the account" in done.stdout

    done = run(*MAIN_JOB)  # the account has moved on
    assert done.returncode == 0, done.stderr
    assert "the Drift account holds 1,011 conversations" in done.stdout
    assert "answered 1 request." in done.stdout
    assert "holds 1,011 rows in drift.conversations: the same as the account" in done.stdout

    done = run(sys.executable, "-c", TAMPER)
    assert done.returncode == 7
    assert "the Drift account holds 1,022 conversations" in done.stdout
    assert "1,010 rows in drift.conversations: NOT the same as the account (12 mi" in done.stdout

    done = run("--fresh", "--conversations", "3", "true")
    assert done.returncode == 0
    assert "the Drift account holds 3 conversations" in done.stdout


@pytest.mark.parametrize(
    ("form", "keys"),
    [
        ([], {"pagination", "links"}),
        (["--list", "next"], {"pagination"}),
        (["--list", "links"], {"links"}),
        (["--list", "blank"], set()),
    ],
)
def test_it_speaks_the_form_of_the_list_that_is_asked_for(
    run: Run, form: list[str], keys: set[str]
) -> None:
    done = run(*form, "--conversations", "11", sys.executable, "-c", SHOW)
    assert json.loads(done.stdout.splitlines()[0]).keys() == {"data"} | keys


def test_it_names_a_command_that_is_not_there(run: Run) -> None:
    done = run("no-such-command")
    assert done.returncode == 127
    assert "no-such-command can't be run" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", [[], [sys.executable, "-c", SLEEP]])
def test_it_leaves_no_process_behind(
    tmp_path: Path, number: signal.Signals, command: list[str]
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "tests.sandbox", "--folder", str(tmp_path / "s"), *command],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert process.stdout
    said = process.stdout.readline()
    if not command:
        assert said.startswith("# A Drift account")
        shown = [process.stdout.readline() for _ in range(4)]
        assert [line.partition("=")[0] for line in shown] == [
            "export TAP_DRIFT_API_URL",
            "export TAP_DRIFT_ACCESS_TOKEN",
            "export TARGET_POSTGRES_SQLALCHEMY_URL",
            "export MELTANO_DATABASE_URI",
        ]
    assert postgres_runs_in(tmp_path)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert not postgres_runs_in(tmp_path)
    assert not command or not psutil.pid_exists(int(said))


def postgres_runs_in(folder: Path) -> bool:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "postgres" in process.name() and str(folder) in " ".join(process.cmdline()):
                return True
    return False
