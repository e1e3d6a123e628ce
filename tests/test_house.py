"""The rules of the house, read off the source: `.github/CONTRIBUTING.md` says what they are for."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tap_drift

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HOUSE = Path(tap_drift.__file__).parent
MODULES = {
    ".".join(path.relative_to(HOUSE).with_suffix("").parts): ast.parse(path.read_text("utf-8"))
    for path in HOUSE.rglob("*.py")
    if path.name != "__init__.py"
}

ORDER = (
    "archive.__main__",
    "archive.cli",
    "archive.reading",
    "archive.pages",
    "archive.sqlite",
    "archive.copying",
    "archive.writer",
    "archive.report",
    "archive.progress",
    "archive.checking",
    "archive.folder",
    "archive.files",
    "archive.endings",
    "__main__",
    "tap",
    "runs",
    "trial",
    "settings",
    "streams",
    "files",
    "reports",
    "windows",
    "items",
    "owed",
    "newest_first",
    "list_pages",
    "bookmarked",
    "owner",
    "stream",
    "progress",
    "batches",
    "workers",
    "answers",
    "walk",
    "bookmark",
    "drift",
    "connections",
    "errors",
    "maps",
    "given",
    "output",
    "signals",
    "values",
    "compat",
)
"""A module imports only from those below it."""

NEVER_REACHED = {
    "walk": {"requests", "urllib3", "singer_sdk"},
    "bookmark": {"requests", "urllib3", "singer_sdk"},
    "drift": {"singer_sdk"},
    "values": {"singer_sdk"},
}
"""What a module may not import, not even through others of ours."""

OF_THE_SDK = {"TapDrift._config", "TapDrift.mapper"}
"""Attributes that a class from elsewhere has declared."""

LONGEST_CLASS, LONGEST_FUNCTION = 200, 55

Function = ast.FunctionDef | ast.AsyncFunctionDef


def imported(tree: ast.AST) -> set[str]:
    """What stands in the imports of a module, in full."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def packages(module: str) -> set[str]:
    """What a module imports from elsewhere."""
    return {name.partition(".")[0] for name in imported(MODULES[module])} - {"tap_drift"}


def ours(tree: ast.AST) -> set[str]:
    """Which modules of ours a module imports."""
    found = set()
    for name in imported(tree):
        parts = name.removeprefix("tap_drift.").split(".")
        paths = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
        if name.startswith("tap_drift.") and (module := next(filter(MODULES.get, paths), None)):
            found.add(module)
    return found


def reached(module: str) -> set[str]:
    """A module, and those of ours that it needs, directly or not."""
    found, left = set(), {module}
    while left:
        found.add(here := left.pop())
        left |= ours(MODULES[here]) - found
    return found


def too_long(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | Function):
            most = LONGEST_CLASS if isinstance(node, ast.ClassDef) else LONGEST_FUNCTION
            lines = (node.end_lineno or 0) - node.lineno + 1
            if lines > most:
                yield f"{node.name}: {lines} lines"


def attributes(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Names that are assigned on `self`."""
    for node in nodes:
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        ):
            yield node.attr


def declared(class_: ast.ClassDef) -> set[str]:
    """Names that a class has by its body and by its `__init__`."""
    found: set[str] = set()
    for node in class_.body:
        if isinstance(node, ast.AnnAssign):
            found.add(ast.unparse(node.target))
        elif isinstance(node, ast.Assign):
            found |= {ast.unparse(target) for target in node.targets}
        elif isinstance(node, Function):
            found.add(node.name)
            if node.name == "__init__":
                found |= set(attributes(ast.walk(node)))
    return found


def born_late(trees: Iterable[ast.AST]) -> Iterator[str]:
    """Attributes that neither a class nor one of its bases of ours declares."""
    classes = {n.name: n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.ClassDef)}

    def known(name: str) -> set[str]:
        if name not in classes:
            return set()
        bases = (ast.unparse(base).partition("[")[0] for base in classes[name].bases)
        return declared(classes[name]).union(*map(known, bases))

    for name, class_ in classes.items():
        for attribute in sorted(set(attributes(ast.walk(class_))) - known(name)):
            yield f"{name}.{attribute}"


def test_every_module_has_its_place() -> None:
    assert sorted(ORDER) == sorted(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_those_below_it(module: str) -> None:
    assert ours(MODULES[module]) <= set(ORDER[ORDER.index(module) + 1 :])


@pytest.mark.parametrize(("module", "forbidden"), NEVER_REACHED.items())
def test_what_a_module_never_reaches(module: str, forbidden: set[str]) -> None:
    for needed in reached(module):
        assert not packages(needed) & forbidden, needed


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_too_long(module: str) -> None:
    assert list(too_long(MODULES[module])) == []


def test_attributes_are_born_with_their_object() -> None:
    assert set(born_late(MODULES.values())) == OF_THE_SDK


def test_what_breaks_the_rules_is_found() -> None:
    broken = ast.parse(
        "import requests.adapters\n"
        "from tap_drift import walk\n"
        "def f():\n"
        "    from tap_drift.drift import Drift\n"
        "class A:\n"
        "    a = 1\n"
        "    def __init__(self):\n"
        "        self.b, self.c = 1, 2\n"
        "class B(A):\n"
        "    def f(self):\n"
        "        self.a, self.b = 3, 4\n"
        "        self.d: int = 5\n"
    )
    assert imported(broken) >= {"requests.adapters", "tap_drift.drift.Drift"}
    assert ours(broken) == {"walk", "drift"}
    assert list(born_late([broken])) == ["B.d"]
    body = "\n    ..." * LONGEST_FUNCTION
    assert list(too_long(ast.parse(f"def f():{body}"))) == ["f: 56 lines"]
    assert list(too_long(ast.parse(f"class A:{body}"))) == []
    assert list(too_long(ast.parse(f"class A:{body * 4}"))) == ["A: 221 lines"]
