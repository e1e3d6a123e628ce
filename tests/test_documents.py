"""What the README and `docs/` show is run, by this test or by another one, as it stands there."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from tests.documents import DOCUMENTS, PROJECT, Block, blocks, commands, run, shown, shown_command
from tests.sandbox import TOKEN
from tests.sandbox.expected import expected
from tests.tables import CATALOG, streams_in_short
from tests.tap import run_here, selecting, settings, upserted
from tests.test_sdk_features import in_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.sandbox import Sandbox

NOT_RUN = {
    "test": "is what runs this",
    "contributing": "its first command is that of `try it`, its second one runs this",
    "on the way": "runs the tests once more, or takes minutes",
    "github actions": "needs GitHub, and a bucket",
    "container": "needs an engine for containers, and an image from the net",
    ".ci/run": "runs this",
    "dagster instance concurrency set drift 1": "writes into a database that Dagster keeps",
    "meltano init my-project": "is Meltano's own",
    "pipx install uv": "is for machines where `pip install uv` is refused",
    "archive in DuckDB": "needs DuckDB",
    "sqlite3 my-drift/archive.sqlite < FILE": "needs SQLite's own shell; the files are run",
    "uvx datasette my-drift/archive.sqlite": "runs until it is stopped, in a browser",
    "uv tool install -p 3.11 meltano": "is uv's own",
    "uv tool update-shell": "changes the shell of whoever runs the tests",
    "uv run pytest tests/test_catalog.py --snapshot-update": "rewrites what is tested",
    "uv run python -m tests.benchmark": "takes minutes",
    "uv run python -m tests.plugin_definition": "rewrites what is tested",
}
"""Why no test types it."""

OUTPUT = {"json", "mermaid", "text"}
"""What is looked at, not typed."""

LONGEST_README = 10_000


def claims(sources: dict[str, str]) -> dict[str, str]:
    """What tests take from the documents, and which test takes it."""
    found = {}
    for name, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in {"shown", "shown_command", "prepared"}
                and isinstance(node.args[0], ast.Constant)
            ):
                found[str(node.args[0].value)] = name
    return found


def complaints(there: list[Block], said: set[str], run: set[str]) -> Iterator[str]:
    """What is shown and not run, and what is named and not shown."""
    names = [block.name for block in there if block.name]
    for block in there:
        if not block.name and block.language not in OUTPUT:
            yield f"{block.document}: a block without a name: {block.text.splitlines()[0]}"
    for name in sorted(({*names} | said) - run - NOT_RUN.keys()):
        yield f"no test runs it, and NOT_RUN does not say why: {name}"
    for name in sorted(name for name in names if names.count(name) > 1):
        yield f"the name of two blocks: {name}"
    for name in sorted(run & NOT_RUN.keys()):
        yield f"in NOT_RUN, and run all the same: {name}"
    for name in sorted((run | NOT_RUN.keys()) - {*names} - said):
        yield f"shown nowhere: {name}"


def test_everything_that_is_shown_is_run() -> None:
    tests = {path.name: path.read_text("utf-8") for path in PROJECT.joinpath("tests").glob("*.py")}
    assert list(complaints(blocks(), commands(), set(claims(tests)))) == []


def test_what_nobody_runs_is_found() -> None:
    block = Block("README.md", "", "sh", "rm -rf /\n")
    there = [block, block._replace(name="new"), block._replace(name="old", language="json")]
    run = {*claims({"test_x.py": 'shown("old")\nshown_command("gone")'}), "test"}
    assert set(complaints(there, {"uv new"}, run)) == {
        "README.md: a block without a name: rm -rf /",
        "no test runs it, and NOT_RUN does not say why: new",
        "no test runs it, and NOT_RUN does not say why: uv new",
        "in NOT_RUN, and run all the same: test",
        "shown nowhere: gone",
        *(f"shown nowhere: {name}" for name in NOT_RUN),
    }


def test_the_readme_is_short_and_its_streams_are_all() -> None:
    readme = (PROJECT / "README.md").read_text("utf-8")
    assert len(readme.encode()) <= LONGEST_README
    assert len(list(streams_in_short())) == 2 + len(CATALOG)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.name))
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
        where, _, heading = link.partition("#")
        if "://" in where:
            continue
        path = (document.parent / where).resolve() if where else document
        assert path.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
            assert heading in slugs, link


def test_the_row_is_one_of_conversations() -> None:
    row = json.loads(shown("row"))
    fields = CATALOG["conversations"]["schema"]["properties"]
    assert [*row, "otherFields"] == list(fields)


def test_streams_that_are_shown_as_selected_exist() -> None:
    patterns = YAML().load(shown("selection in meltano.yml"))["select"]
    assert {pattern.partition(".")[0] for pattern in patterns} <= CATALOG.keys()


def test_pipes(sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    drift = sandbox(60)
    replaced = {
        "PATH_OR_GIT_URL_OF_THIS_REPOSITORY": str(PROJECT),
        '"YOUR_TOKEN"': f'"{TOKEN}", "api_url": "{drift.url}"',
    }
    done = run(
        shown("pipes", replaced) + shown("discover") + shown_command("tap-drift --about"),
        tmp_path,
        PATH=os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]]),
        UV_TOOL_DIR=str(tmp_path / "tools"),
        UV_TOOL_BIN_DIR=str(tmp_path / "bin"),
    )
    assert done.returncode == 0, done.stderr
    (written,) = tmp_path.glob("conversations*.jsonl")
    arrived: list[dict[str, Any]] = list(map(json.loads, written.read_text().splitlines()))
    assert upserted({}, arrived) == expected(drift.account)
    catalog = json.loads((tmp_path / "catalog.json").read_text())
    assert {entry["tap_stream_id"] for entry in catalog["streams"]} == CATALOG.keys()


def test_an_archive(sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    drift = sandbox(12)
    replaced = {
        "uv tool install 'PATH_OR_GIT_URL_OF_THIS_REPOSITORY[archive]'": ":",
        "YOUR_TOKEN": TOKEN,
    }
    done = run(
        "".join(
            [
                *(shown("archive", replaced), shown("archive again")),
                *(shown_command("tap-drift-archive --read my-drift"), "\n", shown("archive check")),
            ]
        ),
        tmp_path,
        TAP_DRIFT_API_URL=drift.url,
    )
    assert done.returncode == 0, done.stderr
    verdicts = [line for line in done.stdout.splitlines() if line.startswith("complete as of ")]
    assert len(verdicts) == 3
    assert "SHA256SUMS" not in done.stdout.splitlines()[-1]
    with contextlib.closing(sqlite3.connect(tmp_path / "my-drift/archive.sqlite")) as database:
        database.execute("update messages_fts set bodyText = 'an export'")
        assert database.execute(shown("archive search")).fetchall()


def test_batch_files(sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    drift = sandbox(60)
    shown_config = YAML().load(shown("batch", {"s3://my-bucket/drift": tmp_path.as_uri()}))
    output = run_here(settings(drift, **shown_config["config"]), catalog=selecting("users"))
    assert output.records("users") == []
    assert upserted({}, in_batches(output.messages), "users") == expected(drift.account, "users")
