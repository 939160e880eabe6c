"""The rooms of the code: imports point downwards only, and no module outgrows its room."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import csfs

ROOT = Path(csfs.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
BELOW: dict[str, frozenset[str]] = {
    "domain": frozenset(),
    "store": frozenset({"domain"}),
    "backing": frozenset({"domain"}),
    "lifecycle": frozenset({"store", "backing", "domain"}),
    "mount": frozenset({"lifecycle", "store", "backing", "domain"}),
    "cli": frozenset({"mount", "lifecycle", "store", "backing", "domain"}),
}
"""Which rooms a room may import from."""
MOST_LINES = 500


def room_of(dotted: str) -> str:
    """`store` for `csfs.store.records`; empty for what lies in no room."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "csfs" and parts[1] in BELOW else ""


def dotted_name(module: Path) -> str:
    parts = ["csfs", *module.relative_to(ROOT).with_suffix("").parts]
    return ".".join(part for part in parts if part != "__init__")


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """The dotted name of all that is imported anywhere in a module, functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: -node.level or None] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for name in node.names:
                yield f"{origin}.{name.name}"


def wrong_imports(source: str, dotted: str) -> list[str]:
    """What a module imports from a room that does not lie below its own."""
    room = room_of(dotted)
    if not room:
        return []
    allowed = BELOW[room] | {room, ""}
    return [name for name in imported(ast.parse(source), dotted) if room_of(name) not in allowed]


def test_every_directory_is_a_room_with_a_place() -> None:
    rooms = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert rooms == set(BELOW)


@pytest.mark.parametrize("module", MODULES, ids=dotted_name)
def test_imports_point_downwards(module: Path) -> None:
    assert wrong_imports(module.read_text(), dotted_name(module)) == []


@pytest.mark.parametrize("module", MODULES, ids=dotted_name)
def test_module_is_small(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize(
    ("dotted", "source"),
    [
        ("csfs.domain.names", "from csfs.backing import io"),
        ("csfs.store.store", "import csfs.backing.io"),
        ("csfs.backing.io", "from csfs.store.records import Project"),
        ("csfs.backing.io", "from csfs import store"),
        ("csfs.lifecycle.move", "def f():\n    from csfs.mount.tree import Tree"),
        ("csfs.mount.tree", "if TYPE_CHECKING:\n    from csfs.cli import main"),
        ("csfs.domain.names", "from ..store import records"),
    ],
)
def test_an_import_upwards_is_seen(dotted: str, source: str) -> None:
    assert len(wrong_imports(source, dotted)) == 1
