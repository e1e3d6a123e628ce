"""What `python -m tests.sandbox` says when its command has ended."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg.errors import UndefinedColumn, UndefinedTable
from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML

from tests.sandbox.comparison import difference, in_files, in_postgres
from tests.sandbox.expected import expected
from tests.sandbox.picture import draw

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sandbox.comparison import Rows
    from tests.sandbox.server import Sandbox

PROJECT = Path(__file__).parents[2]
WIDEST = 80
HOW_TO_LOOK = """
Look at the rows yourself (psql without -c opens a session):
  uv run python -m tests.sandbox psql -c 'select "createdAt", body from drift.messages limit 5'
The SQL of this picture is in tests/sandbox/picture.py."""


def report(drift: Sandbox, url: str, files: Path, command: list[str]) -> None:
    """Say what the account holds, what arrived, whether they agree, and what is to be seen in it.

    Args:
        drift: What was asked.
        url: The PostgreSQL that a target may have written into.
        files: The folder that target-jsonl may have written into.
        command: What was run.
    """
    answered = len(drift.requests) + drift.token_infos
    if not drift.requests:
        return
    console = _console()
    say = functools.partial(console.print, highlight=False, soft_wrap=True)
    say(f"sandbox: Drift answered {answered:,} request{'s' * (answered != 1)}.")
    into_files = any("target-jsonl" in part for part in command)
    where = str(files) if into_files else "PostgreSQL"
    read = functools.partial(in_files, files) if into_files else functools.partial(in_postgres, url)
    streams = _streams(read, must=_selected() if command[:2] == ["meltano", "run"] else set())
    if not streams:
        say(f"sandbox: {where} holds nothing of it.")
        return
    say(f"sandbox: what the account holds, and what arrived in {where}:")
    console.print(_compared(drift, streams))
    if not into_files:
        console.print()
        try:
            draw(console, url, "drift")
        except (UndefinedColumn, UndefinedTable):
            say("sandbox: for the picture, let Meltano load conversations, messages and users.")
        say(HOW_TO_LOOK)


def _console() -> Console:
    """Plain text where stdout is no terminal; names in ASCII as well as may be."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    console = Console()
    console.width = min(console.width, WIDEST)
    return console


def _selected() -> set[str]:
    """What `meltano.yml` selects in the sandbox's environment."""
    content = YAML(typ="safe").load((PROJECT / "meltano.yml").read_text(encoding="utf-8"))
    (sandbox,) = (one for one in content["environments"] if one["name"] == "sandbox")
    (tap,) = sandbox["config"]["plugins"]["extractors"]
    return {pattern.partition(".")[0] for pattern in tap["select"]}


def _streams(read: Callable[[str], Rows | None], must: set[str]) -> dict[str, Rows | None]:
    """What arrived, by stream; nothing for those that had to, and did not."""
    names = sorted(path.stem for path in (PROJECT / "tap_drift" / "schemas").glob("*.json"))
    found = {name: read(name) for name in names}
    return {name: rows for name, rows in found.items() if rows is not None or name in must}


def _compared(drift: Sandbox, streams: dict[str, Rows | None]) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("stream", style="cyan", no_wrap=True)
    table.add_column("account", justify="right")
    table.add_column("arrived", justify="right")
    table.add_column("")
    for stream, rows in streams.items():
        unlike = "nothing" if rows is None else difference(drift.account, stream, rows)
        verdict = f"[red]NOT the same: {unlike}" if unlike else "[green]the same"
        holds, arrived = len(expected(drift.account, stream)), len(rows or [])
        table.add_row(stream, f"{holds:,}", f"{arrived:,}", verdict)
    return table
