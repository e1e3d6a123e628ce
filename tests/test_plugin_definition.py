"""What Meltano, its Hub and the documents say of the tap is what the tap is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import plugin_definition

if TYPE_CHECKING:
    from pathlib import Path


RENDERED = plugin_definition.rendered()


@pytest.mark.parametrize("path", RENDERED, ids=lambda path: str(path.name))
def test_what_is_written_of_the_tap_is_true(path: Path) -> None:
    there = path.read_text(encoding="utf-8")
    assert there == RENDERED[path], "run `uv run python -m tests.plugin_definition`"


def test_a_document_without_its_markers_is_refused(tmp_path: Path) -> None:
    (document := tmp_path / "settings.md").write_text("# Settings\n")
    with pytest.raises(SystemExit, match=r"settings\.md needs one line <!-- settings -->"):
        plugin_definition.marked(document, "settings", [])
