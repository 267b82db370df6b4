"""The rooms import each other in one direction only: the table of docs/architecture.md, read from the sources."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src" / "rla_exp"

# what each room may import of ours at the top of a file
ALLOWED = {
    "config": {"errors"},
    "kernels": {"errors"},
    "models": {"errors", "kernels", "config"},
    "data": {"errors", "config"},
    "hf": {"errors", "models", "data", "config"},
    "runs": {"errors", "config"},
    "generation": {"errors", "kernels", "models", "data", "config", "runs"},
    "eval": {"errors", "kernels", "models", "data", "config", "runs", "generation"},
    "lit": {"errors", "kernels", "models", "data", "config", "runs", "eval"},
    "sweep": {"errors", "config", "runs", "lit", "data"},
    "report": {"errors", "config", "runs"},
    "dashboard": {"errors", "config", "runs", "report"},
    "bench": {"errors", "kernels", "models", "config", "runs", "report"},
    "cli": {"errors", "kernels", "config", "runs", "sweep", "report", "dashboard", "bench"},
}


def _imported_rooms(path: Path, *, top_level_only: bool) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    modules = [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    modules += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return {module.split(".")[1] for module in modules if module.startswith("rla_exp.")}


def test_every_room_is_in_the_table():
    rooms = {path.name for path in SOURCES.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(ALLOWED)


@pytest.mark.parametrize("room", ALLOWED)
def test_imports_go_one_way(room):
    for path in (SOURCES / room).rglob("*.py"):
        wrong = _imported_rooms(path, top_level_only=True) - ALLOWED[room] - {room}
        assert not wrong, f"{path.relative_to(SOURCES)} imports {sorted(wrong)}"


def test_imports_inside_functions_never_go_up():
    order = list(ALLOWED)
    for path in SOURCES.rglob("*.py"):
        room = path.relative_to(SOURCES).parts[0]
        if room in ALLOWED:
            higher = {
                name for name in _imported_rooms(path, top_level_only=False) if name in order[order.index(room) + 1 :]
            }
            # the command line alone stands above everything
            assert not higher, f"{path.relative_to(SOURCES)} imports {sorted(higher)}"


@pytest.mark.parametrize("room", ["config", "runs"])
def test_rooms_that_read_files_need_no_torch(room):
    for path in (SOURCES / room).rglob("*.py"):
        names = {
            alias.name
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert "torch" not in names, path.name
