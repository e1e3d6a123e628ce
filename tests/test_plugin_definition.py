"""What Meltano, its Hub and the README say of the tap is what the tap is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests import plugin_definition
from tests.meltano import meltano
from tests.plugin_definition import DEFINITION, MELTANO, PIP_URL, PROJECT, README

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.sandbox import Sandbox


@pytest.mark.parametrize("path", [DEFINITION, MELTANO, README], ids=lambda path: str(path.name))
def test_what_is_written_of_the_tap_is_true(path: Path) -> None:
    due = plugin_definition.rendered()[path]
    assert path.read_text(encoding="utf-8") == due, "run `uv run python -m tests.plugin_definition`"


def test_the_readme_without_its_markers_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(plugin_definition, "README", tmp_path / "README.md")
    (tmp_path / "README.md").write_text("# tap-drift\n")
    with pytest.raises(SystemExit, match="<!-- settings -->"):
        plugin_definition.rendered()


def test_meltano_add_from_the_definition_in_an_empty_project(
    sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    drift = sandbox(3)
    (tmp_path / "meltano.yml").write_text("version: 1\nsend_anonymous_usage_stats: false\n")
    definition = tmp_path / "plugin.yml"
    text = DEFINITION.read_text(encoding="utf-8")
    assert f"\npip_url: {PIP_URL}\n" in text
    definition.write_text(text.replace(f"pip_url: {PIP_URL}", f"pip_url: {PROJECT}"))

    def run(*arguments: str) -> list[str]:
        done = meltano(*arguments, drift=drift, folder=tmp_path, project=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    run("add", "--from-ref", str(definition), "tap-drift")
    run("select", "tap-drift", "conversations", "*")  # --from-ref takes no `select` over
    messages = [json.loads(line) for line in run("invoke", "tap-drift") if line.startswith("{")]
    records = [message["record"] for message in messages if message["type"] == "RECORD"]
    assert sorted(record["id"] for record in records) == sorted(drift.account.conversations)
    assert {message["stream"] for message in messages if "stream" in message} == {"conversations"}
