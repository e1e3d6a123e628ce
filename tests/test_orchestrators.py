"""Airflow and Dagster run what `docs/running.md` shows, by what each has for a try.

Both are large, so this is done only when it is asked for: `uv run pytest -m orchestrators`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ruamel.yaml import YAML

from tests.documents import PROJECT, shown
from tests.meltano import environment
from tests.sandbox.expected import expected
from tests.tap import upserted
from tests.test_meltano import rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox import Sandbox

pytestmark = [pytest.mark.orchestrators, pytest.mark.meltano]

EACH = "import subprocess, sys\nfor one in sys.argv[1:]: subprocess.run(one.split(), check=True)"


def prepared(name: str, folder: Path) -> str:
    """What the document shows, for a project in a folder, and with a target without a server."""
    project = YAML().load(PROJECT / "meltano.yml")
    project["plugins"]["extractors"][0]["pip_url"] = str(PROJECT)
    YAML().dump(project, folder / "meltano.yml")
    text = shown(name, {"/path/to/this/folder": str(folder)})
    return text.replace("target-postgres", "target-jsonl")


def run(packages: str, *commands: str, drift: Sandbox, folder: Path) -> None:
    """Run commands with packages that uv installs for them."""
    uv = os.environ.get("UV") or shutil.which("uv") or "uv"
    first, *others = packages.split()
    with_others = [word for other in others for word in ("--with", other)]
    tool = [uv, "tool", "run", "--quiet", "--from", first, *with_others]
    done = subprocess.run(
        [*tool, "python", "-c", EACH, *commands],
        cwd=folder,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=540,
        env=os.environ
        | environment(drift, folder)
        | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
            "DAGSTER_HOME": str(folder),
        },
    )
    assert done.returncode == 0, done.stdout


def assert_arrived(drift: Sandbox, folder: Path, *streams: str) -> None:
    for stream in streams:
        arrived = upserted({}, rows(folder / f"{stream}.jsonl"), stream)
        assert arrived == expected(drift.account, stream)


def test_dagster(sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    drift = sandbox(20)
    (tmp_path / "definitions.py").write_text(prepared("dagster", tmp_path))
    execute = "dagster job execute -f definitions.py -j drift"
    run("dagster", execute, drift=drift, folder=tmp_path)
    assert_arrived(drift, tmp_path, "conversations")


def test_airflow(sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    drift = sandbox(20)
    (tmp_path / "dags").mkdir()
    tasks = [
        prepared("airflow", tmp_path),
        shown("airflow, a task per stream", {"/path/to/this/folder": str(tmp_path)}),
    ]
    text = "".join(tasks).replace("target-postgres", "target-jsonl")
    (tmp_path / "dags" / "drift.py").write_text(text)
    run(
        "apache-airflow apache-airflow-providers-standard",
        "airflow db migrate",
        "airflow dags reserialize",
        "airflow dags test drift",
        drift=drift,
        folder=tmp_path,
    )
    assert_arrived(drift, tmp_path, "conversations", "messages", "contacts")
