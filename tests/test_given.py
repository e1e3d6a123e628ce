"""What people hand over is read as it comes: files of any encoding, states in their wrappers."""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import command, run_command
from tests.tap import run_tap, selecting, settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox import Sandbox

    Serve = Callable[..., Sandbox]
    Json = dict[str, Any]


def lines_with(word: str, stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if word in line]


# Encodings


@pytest.mark.parametrize(
    "encoded",
    [
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
        lambda text: text.encode("utf-16-le"),
        lambda text: text.replace("\n", "\r\n").encode(),
    ],
    ids=["BOM", "UTF-16", "UTF-16-BE", "UTF-16-LE", "CRLF"],
)
def test_files_in_the_encodings_of_windows(
    sandbox: Serve, tmp_path: Path, encoded: Callable[[str], bytes]
) -> None:
    drift = sandbox(60)
    config = settings(drift, user_agent="acme")
    first = run_tap(tmp_path, config, None, selecting("conversations", "users"))
    arguments = []
    files = {
        "config": config,
        "state": first.state,
        "catalog": selecting("conversations", without=("status",)),
    }
    for name, content in files.items():
        (path := tmp_path / f"windows-{name}").write_bytes(encoded(json.dumps(content, indent=1)))
        arguments += [f"--{name}", str(path)]
    requests = len(drift.requests)
    done = run_command(command(*arguments))
    assert done.returncode == 0, done.stderr
    assert len(drift.requests) == requests + 1  # from the bookmark
    assert '"RECORD"' in done.stdout
    assert '"status"' not in done.stdout.replace('"statuses"', "")


# States


WRAPPERS: dict[str, Callable[[Json], Json]] = {
    "none": lambda state: state,
    "a STATE message": lambda state: {"type": "STATE", "value": state},
    "meltano state get": lambda state: {"singer_state": state},
    "a state backend": lambda state: {"completed": {"singer_state": state}, "partial": {}},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_state_is_taken_out_of_its_wrapper(sandbox: Serve, tmp_path: Path, wrapper: str) -> None:
    drift = sandbox(120)
    first = run_tap(tmp_path, settings(drift))
    requests = len(drift.requests)
    second = run_tap(tmp_path, settings(drift), WRAPPERS[wrapper](first.state))
    assert second.exit_code == 0
    assert len(drift.requests) == requests + 1
    assert second.bookmark() == first.bookmark()


@pytest.mark.parametrize(
    "state",
    [
        {"conversations": {"replication_key_value": "2024-01-01T00:00:00.000Z"}},
        {"type": "RECORD", "value": {"bookmarks": {}}},
        {"type": "STATE", "value": {"conversations": {}}},
        {"type": "STATE"},
        {"singer_state": None},
        {"completed": {}, "partial": {"singer_state": {"bookmarks": {}}}},
    ],
    ids=str,
)
def test_what_is_no_state_is_refused(sandbox: Serve, tmp_path: Path, state: Json) -> None:
    drift = sandbox(1)
    output = run_tap(tmp_path, settings(drift), state)
    assert output.exit_code == 1
    assert len(lines_with("| ERROR", output.stderr)) == 1
    assert "The state is damaged" in output.stderr
    assert "Traceback" not in output.stderr
    assert drift.requests == []


@pytest.mark.parametrize("content", ["", "\n", "{}", '{"bookmarks": {}}', '{"singer_state": {}}'])
def test_an_empty_state_is_the_first_run_s(sandbox: Serve, tmp_path: Path, content: str) -> None:
    (path := tmp_path / "empty.json").write_text(content)
    output = run_tap(tmp_path, settings(sandbox(3)), None, None, "--state", str(path))
    assert output.exit_code == 0, output.stderr
    assert len(output.records()) == 3


# Catalogs


def with_method(top: str | None, metadata: str | None, *streams: str) -> Json:
    catalog = selecting(*streams)
    for entry in catalog["streams"]:
        if top:
            entry["replication_method"] = top
        for field in entry["metadata"]:
            if not field["breadcrumb"] and metadata:
                field["metadata"]["replication-method"] = metadata
    return catalog


@pytest.mark.parametrize(
    ("top", "metadata", "whole"),
    [
        (None, None, False),
        ("FULL_TABLE", None, True),
        (None, "FULL_TABLE", True),
        ("INCREMENTAL", "FULL_TABLE", True),
        ("FULL_TABLE", "INCREMENTAL", False),
    ],
)
def test_the_replication_method_in_the_metadata_counts(
    sandbox: Serve, tmp_path: Path, top: str | None, metadata: str | None, *, whole: bool
) -> None:
    drift = sandbox(60)
    first = run_tap(tmp_path, settings(drift))
    catalog = with_method(top, metadata, "conversations")
    second = run_tap(tmp_path, settings(drift), first.state, catalog)
    assert second.exit_code == 0
    assert (len(second.records()) == 60) == whole


@pytest.mark.parametrize(
    ("top", "metadata"), [("full", None), (None, "full_table"), (None, "LOG_BASED")]
)
def test_a_word_that_is_no_replication_method_is_refused(
    sandbox: Serve, tmp_path: Path, top: str | None, metadata: str | None
) -> None:
    catalog = with_method(top, metadata, "conversations")
    catalog["streams"] = [e for e in catalog["streams"] if e["tap_stream_id"] == "conversations"]
    output = run_tap(tmp_path, settings(sandbox(1)), None, catalog)
    (line,) = lines_with("| ERROR", output.stderr)
    assert f"replication method '{top or metadata}' for conversations" in line
    assert "INCREMENTAL or FULL_TABLE" in line
    assert output.exit_code == 1
    assert output.messages == []


def test_a_stream_that_does_not_exist_is_warned_of(sandbox: Serve, tmp_path: Path) -> None:
    catalog = selecting("conversations")
    catalog["streams"].append({"tap_stream_id": "mesages", "schema": {}, "metadata": []})
    output = run_tap(tmp_path, settings(sandbox(3)), None, catalog)
    (line,) = lines_with("There is no", output.stderr)
    assert "stream 'mesages': it does nothing. Did you mean 'messages'?" in line
    assert output.exit_code == 0
    assert len(output.records()) == 3


def test_a_catalog_that_is_older_than_the_tap(sandbox: Serve, tmp_path: Path) -> None:
    catalog = selecting("conversations")
    for entry in catalog["streams"]:
        for name in ("otherFields", "contactId"):
            entry["schema"]["properties"].pop(name, None)
        entry["metadata"] = [
            field
            for field in entry["metadata"]
            if not {"otherFields", "contactId"} & set(field["breadcrumb"])
        ]
    output = run_tap(tmp_path, settings(sandbox(60)), None, catalog)
    (line,) = lines_with("WARNING", output.stderr)
    assert "conversations: the catalog lacks contactId, otherFields" in line
    assert "Run discovery again" in line
    assert output.exit_code == 0
    assert len(output.records()) == 60
    assert all("contactId" not in row and "status" in row for row in output.records())


def test_a_catalog_without_a_key_moves_no_bookmark(sandbox: Serve, tmp_path: Path) -> None:
    drift, catalog = sandbox(3), selecting("conversations")
    for entry in catalog["streams"]:
        entry["schema"]["properties"].pop("id", None)
    output = run_tap(tmp_path, settings(drift), None, catalog)
    (line, _) = lines_with("| ERROR", output.stderr)
    assert "conversations: the catalog has no id, by which records are told apart." in line
    assert output.exit_code == 1
    assert output.bookmark()["replication_key_value"] is None


@pytest.mark.parametrize(
    "odd",
    [
        {"stream": "chats"},
        {"key_properties": "id"},
        {"replication_key": ["updatedAt"]},
        {"schema": {"properties": {"id": True}}},
        {"metadata": [{"metadata": {"selected": True}}]},
        {"metadata": [{"breadcrumb": [], "metadata": None}]},
        {"metadata": [{"breadcrumb": [], "metadata": {"replication-method": ["FULL_TABLE"]}}]},
    ],
    ids=str,
)
def test_a_catalog_in_no_shape_of_one_is_refused(sandbox: Serve, tmp_path: Path, odd: Json) -> None:
    catalog = selecting("conversations")
    for entry in catalog["streams"]:
        if entry["tap_stream_id"] == "conversations":
            entry.update(odd)
    output = run_tap(tmp_path, settings(sandbox(1)), None, catalog)
    assert output.exit_code == 1
    assert len(lines_with("| ERROR", output.stderr)) == 1
    assert "atalog" in output.stderr
    assert "Traceback" not in output.stderr
    assert output.messages == []


def test_nothing_selected_is_warned_of(sandbox: Serve, tmp_path: Path) -> None:
    output = run_tap(tmp_path, settings(sandbox(1)), None, selecting())
    (line,) = lines_with("WARNING", output.stderr)
    assert "No stream is selected" in line
    assert output.exit_code == 0
