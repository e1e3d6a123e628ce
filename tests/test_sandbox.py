"""The command that everybody tries first."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.documents import shown
from tests.meltano import PROJECT, own
from tests.tap import KEYS, selecting

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
    db.execute("delete from users where id = 501")
    db.execute("update users set name = 'x' where id in (502, 503)")
raise SystemExit(7)
"""
MELTANO = """#!/bin/sh
echo logged >&2
exit $TEST_CODE
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
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            [sys.executable, "-m", "tests.sandbox", "--folder", str(tmp_path / "s"), *arguments],
            cwd=PROJECT,
            check=False,
            capture_output=True,
            encoding="utf-8",
            timeout=200,
            env=os.environ | own(tmp_path) | {"PATH": path} | environment,
        )

    return run


def compared(said: str) -> dict[str, tuple[int, int, str]]:
    """By stream, how many rows the account holds, how many arrived, and the verdict."""
    rows = re.findall(r"^(\w+) +([\d,]+) +([\d,]+)  (.+?) *$", said, re.MULTILINE)
    number = {name: (int(a.replace(",", "")), int(b.replace(",", ""))) for name, a, b, _ in rows}
    return {name: (*number[name], verdict) for name, *_, verdict in rows}


def test_the_main_job_as_the_readme_has_it(run: Run) -> None:
    assert shown("try it").endswith(f" uv run python -m tests.sandbox {' '.join(MAIN_JOB)}\n")
    done = run(*MAIN_JOB)
    assert done.returncode == 0, done.stderr
    streams = compared(done.stdout)
    assert streams.keys() == {"conversations", "messages", "users"}
    assert {verdict for *_, verdict in streams.values()} == {"the same"}
    assert all(holds == arrived for holds, arrived, _ in streams.values())
    assert streams["conversations"][0] == 1000

    # What is to be seen: two years, who answered, in a terminal's width, and nothing of the log.
    lines = done.stdout.splitlines()
    table = lines.index(next(line for line in lines if line.startswith("Conversations by month")))
    assert table + sum(line.startswith(("Look", "  uv", "The SQL")) for line in lines) < 25
    assert len(lines) < 45
    assert max(len(line) for line in lines[table:] if not line.startswith("  uv")) <= 80
    months = re.findall(r"(20\d\d-\d\d) +\S+ +([\d,]+) +\d+ (?:min|h)", done.stdout)
    assert sorted(month for month, _ in months)[::23] == ["2024-10", "2026-09"]
    assert sum(int(number) for _, number in months) == 1000
    for who in ("Zoë Byrne", "Acme Bot", "(nobody yet)"):
        assert re.search(rf"^{re.escape(who)} +━\S* +\d+", done.stdout, re.MULTILINE)
    assert "METRIC" not in done.stdout + done.stderr
    (look,) = re.findall(r"^  uv run python -m tests.sandbox (psql .+)$", done.stdout, re.MULTILINE)

    done = run(*shlex.split(look))
    assert "(5 rows)" in done.stdout
    assert "sandbox" not in done.stdout + done.stderr

    done = run(*MAIN_JOB)  # the account has moved on
    assert done.returncode == 0, done.stderr
    again = compared(done.stdout)
    assert again["conversations"] == (1011, 1011, "the same")
    assert again["messages"] == (*2 * (again["messages"][0],), "the same")
    assert again["messages"] > streams["messages"]
    asked = re.search(r"Drift answered (\d+) requests", done.stdout)
    assert asked
    assert int(asked[1]) < 200

    done = run(sys.executable, "-c", TAMPER, PYTHONIOENCODING="ascii")
    assert done.returncode == 7
    streams = compared(done.stdout)
    assert streams["users"] == (10, 9, "NOT the same: 1 missing, 2 different")
    assert streams["conversations"][:2] == (1022, 1011)
    assert streams["conversations"][2].startswith("NOT the same: 11 missing, ")
    assert re.search(r"^Acme Bot +-+ +\d+", done.stdout, re.MULTILINE)


def test_every_stream_is_compared_with_the_files_of_target_jsonl(run: Run, tmp_path: Path) -> None:
    (catalog := tmp_path / "catalog.json").write_text(json.dumps(selecting(*KEYS)))
    (target := tmp_path / "target.json").write_text(
        json.dumps({"destination_path": str(tmp_path / "s/output"), "do_timestamp_file": False})
    )
    pipe = (
        f"tap-drift --config=ENV --catalog {catalog} | "
        f"uv tool run --quiet --from target-jsonl==0.1.4 target-jsonl --config {target}"
    )
    for options in (["--conversations", "60"], []):  # the second time, the files have both
        done = run(*options, "sh", "-c", pipe)
        streams = compared(done.stdout)
        assert streams.keys() == KEYS.keys(), done.stderr
        assert {said for *_, said in streams.values()} == {"the same"}
        assert streams["attachments"][0]


def test_the_log_is_shown_where_it_is_wanted(run: Run, tmp_path: Path) -> None:
    (meltano := tmp_path / "meltano").write_text(MELTANO)
    meltano.chmod(0o700)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    for options, code, logs in (("", 0, False), ("", 5, True), ("--verbose", 0, True)):
        done = run(*options.split(), "meltano", "run", PATH=path, TEST_CODE=str(code))
        assert done.returncode == code
        assert ("logged" in done.stderr.splitlines()) == logs


def test_it_speaks_the_form_of_the_list_that_is_asked_for(run: Run) -> None:
    for options, keys in (
        ("--conversations 11", {"pagination", "links"}),
        ("--list next", {"pagination"}),
        ("--list links", {"links"}),
        ("--list blank", set[str]()),
    ):
        done = run(*options.split(), sys.executable, "-c", SHOW)
        assert json.loads(done.stdout.splitlines()[0]).keys() == {"data"} | keys

    done = run("--fresh", "--conversations", "3", sys.executable, "-c", SHOW)
    assert len(json.loads(done.stdout.splitlines()[0])["data"]) == 3


def test_what_broke_off_before_anything_was_asked_is_begun_anew(run: Run, tmp_path: Path) -> None:
    half_made = tmp_path / "s/meltano.db"
    run("no-such-command")
    for is_kept in (False, True):
        half_made.write_text("half of it")
        run(sys.executable, "-c", SHOW)
        assert half_made.exists() == is_kept


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
        shown = [process.stdout.readline() for _ in range(6)]
        assert [line.partition("=")[0] for line in shown] == [
            "export TAP_DRIFT_API_URL",
            "export TAP_DRIFT_ACCESS_TOKEN",
            "export TARGET_POSTGRES_SQLALCHEMY_URL",
            "export TARGET_JSONL_DESTINATION_PATH",
            "export MELTANO_DATABASE_URI",
            "export MELTANO_ENVIRONMENT",
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
