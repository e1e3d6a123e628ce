"""The main job: Meltano runs the tap into real targets."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.sandbox import TOKEN, Account, Sandbox
from tests.sandbox.expected import as_record
from tests.sandbox.postgres import rows

if TYPE_CHECKING:
    from collections.abc import Callable

    Serve = Callable[..., Sandbox]

PROJECT = Path(__file__).parents[1]


def meltano(
    *arguments: str, drift: Sandbox, folder: Path, postgres_url: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Meltano on the project as it stands, with plugins and a memory of its own."""
    return subprocess.run(
        [shutil.which("meltano", path=Path(sys.executable).parent) or "meltano", *arguments],
        cwd=PROJECT,
        check=False,
        capture_output=True,
        text=True,
        env=os.environ
        | {
            # Else tests that run at the same time would write over each other's catalogs.
            "MELTANO_SYS_DIR_ROOT": f"{folder}/.meltano",
            "MELTANO_DATABASE_URI": f"sqlite:///{folder}/meltano.db",
            "TAP_DRIFT_ACCESS_TOKEN": TOKEN,
            "TAP_DRIFT_API_URL": drift.url,
            "TARGET_JSONL_DESTINATION_PATH": str(folder),
            "TARGET_POSTGRES_SQLALCHEMY_URL": postgres_url.replace(
                "postgresql://", "postgresql+psycopg://"
            ),
            **environment,
        },
    )


def in_postgres(postgres_url: str) -> list[dict[str, Any]]:
    _, found = rows(postgres_url, "conversations")
    return sorted(
        (
            {
                name: as_text(value) if isinstance(value, dt.datetime) else value
                for name, value in row.items()
                if not name.startswith("_sdc_")
            }
            for row in found
        ),
        key=lambda row: int(row["id"]),
    )


def as_text(time: dt.datetime) -> str:
    return time.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def in_account(account: Account) -> list[dict[str, Any]]:
    return sorted(map(as_record, account.conversations.values()), key=lambda row: int(row["id"]))


def test_meltano_run_into_postgres_and_again(
    sandbox: Serve, postgres_url: str, tmp_path: Path
) -> None:
    drift = sandbox(1000)
    first = meltano(
        "run", "tap-drift", "target-postgres",
        drift=drift, folder=tmp_path, postgres_url=postgres_url,
    )  # fmt: skip
    assert first.returncode == 0, first.stderr
    assert in_postgres(postgres_url) == in_account(drift.account)

    drift.account.move_on()
    before = len(drift.requests)
    second = meltano(
        "run", "tap-drift", "target-postgres",
        drift=drift, folder=tmp_path, postgres_url=postgres_url,
    )  # fmt: skip
    assert second.returncode == 0, second.stderr
    assert len(drift.requests) == before + 1
    assert in_postgres(postgres_url) == in_account(drift.account)


def test_meltano_run_into_jsonl(sandbox: Serve, tmp_path: Path) -> None:
    drift = sandbox(60)
    done = meltano("run", "tap-drift", "target-jsonl", drift=drift, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    written = map(json.loads, (tmp_path / "conversations.jsonl").read_text().splitlines())
    assert sorted(written, key=lambda row: int(row["id"])) == in_account(drift.account)
