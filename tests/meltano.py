"""Running Meltano, with plugins and a memory of its own, so that tests can run side by side."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.sandbox import TOKEN, Sandbox

PROJECT = Path(__file__).parents[1]

SESSION = """
import os, shlex, sys
from meltano.cli import main
for line in sys.argv[1].splitlines():
    words = shlex.split(line, comments=True)
    if words[:1] == ["export"]:
        os.environ.update(word.split("=", 1) for word in words[1:])
    elif words:
        assert words[0] == "meltano", words
        if not (child := os.fork()):
            sys.argv = words
            sys.exit(main())
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            sys.exit(code)
"""
"""Runs lines that a shell would run. Meltano takes seconds to start, so that is done once."""


def meltano(
    *arguments: str,
    drift: Sandbox,
    folder: Path,
    project: Path = PROJECT,
    postgres_url: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run Meltano on a project, with an account and a place for what arrives."""
    return subprocess.run(
        [shutil.which("meltano", path=Path(sys.executable).parent) or "meltano", *arguments],
        cwd=project,
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | environment(drift, folder, postgres_url),
    )


def session(
    typed: str, *, drift: Sandbox, folder: Path, project: Path
) -> subprocess.CompletedProcess[str]:
    """Run lines of `meltano` and `export`, one after the other, until one of them fails."""
    return subprocess.run(
        [sys.executable, "-c", SESSION, typed],
        cwd=project,
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | environment(drift, folder),
    )


def environment(drift: Sandbox, folder: Path, postgres_url: str = "") -> dict[str, str]:
    """What a run has to know, as variables."""
    return own(folder) | {
        "TAP_DRIFT_ACCESS_TOKEN": TOKEN,
        "TAP_DRIFT_API_URL": drift.url,
        "TARGET_JSONL_DESTINATION_PATH": str(folder),
        "TARGET_POSTGRES_SQLALCHEMY_URL": postgres_url.replace(
            "postgresql://", "postgresql+psycopg://"
        ),
    }


def own(folder: Path) -> dict[str, str]:
    """Where Meltano keeps plugins, the catalogs of runs, and states: else in the project."""
    return {
        "MELTANO_SYS_DIR_ROOT": f"{folder}/.meltano",
        "MELTANO_DATABASE_URI": f"sqlite:///{folder}/meltano.db",
    }
