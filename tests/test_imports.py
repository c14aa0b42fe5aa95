"""The stages are a line: a module imports only from the packages above its own, so there are no cycles."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import overlayws

ROOT = Path(overlayws.__file__).parent
ORDER = (
    "errors atomic locking beneath cleangit source filter base layer egress run changes review policy apply session "
    "upkeep watching live starting viewing api committing cli"
).split()
PROGRAMS = {"layer/enter.py", "run/supervise.py"}  # started by path with -I -S: only the standard library

MODULES = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*.py"))


def _imports(module: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "overlayws" else [f"overlayws.{a.name}" for a in node.names]
            assert node.level == 0, f"{module}: relative import"
            found.update(names)
        elif isinstance(node, ast.Import):
            found.update(a.name for a in node.names)
    return {name for name in found if name.startswith("overlayws.")}


@pytest.mark.parametrize("module", [m for m in MODULES if m not in ("__init__.py", "__main__.py")])
def test_a_module_imports_only_from_the_stages_above_it(module: str) -> None:
    own = module.split("/")[0].removesuffix(".py")
    for imported in _imports(module):
        stage = imported.split(".")[1]
        if stage == "__version__":
            continue
        assert ORDER.index(stage) <= ORDER.index(own), f"{module} imports {imported}"


@pytest.mark.parametrize("module", sorted(PROGRAMS))
def test_a_program_started_by_path_needs_only_the_standard_library(module: str) -> None:
    assert _imports(module) == set()


def test_only_the_console_and_the_defaults_read_the_environment() -> None:
    allowed = {"cli/terminal.py", "cli/main.py", "session/places.py", "api.py", "starting.py", "layer/enter.py"}
    reading = {m for m in MODULES if "os.environ" in (ROOT / m).read_text() or "getenv" in (ROOT / m).read_text()}
    assert reading <= allowed, reading - allowed


def test_no_file_is_past_400_lines() -> None:
    long = {m: n for m in MODULES if (n := len((ROOT / m).read_text().splitlines())) > 400}
    assert not long
