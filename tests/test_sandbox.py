"""The command that everybody tries first."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Path(__file__).parents[1]
LOAD = """
import os, psycopg, urllib.request, json
request = urllib.request.Request(
    os.environ["TAP_DRIFT_API_URL"] + "/conversations/list?limit=50",
    headers={"Authorization": "Bearer " + os.environ["TAP_DRIFT_ACCESS_TOKEN"]},
)
data = json.load(urllib.request.urlopen(request))["data"]
url = os.environ["TARGET_POSTGRES_SQLALCHEMY_URL"].replace("+psycopg", "")
with psycopg.connect(url) as connection:
    connection.execute("create table if not exists conversations (id bigint primary key, "
        "status text, contactid bigint, inboxid bigint, createdat timestamp, updatedat timestamp)")
    connection.execute("truncate conversations")
    for row in data[%s:]:
        connection.execute("insert into conversations values (%%s, %%s, %%s, %%s, "
            "to_timestamp(%%s / 1000.0) at time zone 'utc', "
            "to_timestamp(%%s / 1000.0) at time zone 'utc')",
            [row[key] for key in
             ("id", "status", "contactId", "inboxId", "createdAt", "updatedAt")])
"""

ASK = LOAD.partition("data =")[0] + "urllib.request.urlopen(request);"


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tests.sandbox", "--folder", str(tmp_path / "s"), *arguments],
            cwd=PROJECT,
            check=False,
            capture_output=True,
            text=True,
        )

    return run


def test_it_says_whether_target_and_account_agree(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run("--conversations", "40", sys.executable, "-c", LOAD % 0)
    assert "the Drift account holds 40 conversations" in done.stdout
    assert "answered 1 requests" in done.stdout
    assert "holds 40 rows in public.conversations: the same as the account" in done.stdout
    done = run(sys.executable, "-c", LOAD % 1)  # the account has moved on, and one is left out
    assert "the Drift account holds 41 conversations" in done.stdout
    assert "NOT the same as the account (1 missing, 0 too many, 0 different" in done.stdout
    done = run("--fresh", "--conversations", "3", sys.executable, "-c", ASK + "raise SystemExit(7)")
    assert "the Drift account holds 3 conversations" in done.stdout
    assert "PostgreSQL holds no table of conversations" in done.stdout
    assert done.returncode == 7


def test_it_names_a_command_that_is_not_there(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run("no-such-command")
    assert done.returncode == 127
    assert "no-such-command can't be run" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", [[], ["sleep", "100"]])
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
    if not command:
        assert process.stdout.readline().startswith("# A Drift account")
    while command and not runs("sleep", psutil.Process(process.pid)):
        time.sleep(0.05)
    assert postgres_runs_in(tmp_path)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert not postgres_runs_in(tmp_path)
    assert not runs("sleep", psutil.Process())


def runs(name: str, parent: psutil.Process) -> bool:
    for process in parent.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if name in process.name():
                return True
    return False


def postgres_runs_in(folder: Path) -> bool:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "postgres" in process.name() and str(folder) in " ".join(process.cmdline()):
                return True
    return False
