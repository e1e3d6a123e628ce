"""The commands and the code that the documents show, for tests to run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[1]
CHANGELOG = PROJECT / ".github" / "CHANGELOG.md"
DOCUMENTS = sorted(
    {PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md"), *(PROJECT / ".github").glob("*.md")}
    - {CHANGELOG}  # what was right at its time stays there
)

BLOCK = re.compile(
    r"^(?:<!-- (?P<name>[^/\n][^\n]*) -->\n\s*)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUNNABLE = re.compile(
    r"`((?:\.ci/run|(?:uv|uvx|pip|pipx|meltano|tap-drift|tap-drift-archive|docker|dagster|airflow"
    r"|crontab|git|python|sqlite3|duckdb|sha256sum) [^`…]*))`"
)
"""A command within a sentence; one with an ellipsis is none."""

TO_BE_REPLACED = re.compile(r"YOUR_|PATH_OR_|USER:|/path/to/|my-bucket")
"""What is the reader's to fill in."""


class Block(NamedTuple):
    document: str
    name: str
    language: str
    text: str


def blocks() -> list[Block]:
    """All blocks of code, by the name in the comment above each; without one, by no name."""
    return [
        Block(path.relative_to(PROJECT).as_posix(), found["name"] or "", found["language"], text)
        for path in DOCUMENTS
        for found in BLOCK.finditer(path.read_text(encoding="utf-8"))
        if (text := found["text"])
    ]


def commands() -> set[str]:
    """All commands that stand within a sentence."""
    prose = (BLOCK.sub("", path.read_text(encoding="utf-8")) for path in DOCUMENTS)
    return {command for text in prose for command in RUNNABLE.findall(text)}


def shown(name: str, replaced: dict[str, str] | None = None) -> str:
    """The block of that name, with what is the reader's to fill in."""
    (text,) = (block.text for block in blocks() if block.name == name)
    return filled_in(text, replaced or {})


def shown_command(text: str) -> str:
    """A command that has to stand within a sentence."""
    assert text in commands(), f"no document shows {text}"
    return text


def filled_in(text: str, replaced: dict[str, str]) -> str:
    for before, after in replaced.items():
        assert before in text, f"{before} is not there to be replaced"
        text = text.replace(before, after)
    assert not TO_BE_REPLACED.search(text), text
    return text


def run(text: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Type commands into a shell in a folder, where uv finds what is installed here."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["/usr/bin/env", "bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"PATH": path, "UV_NO_SYNC": "1"} | environment,
    )
