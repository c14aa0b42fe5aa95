"""The main job on a real repository with a real tool: what is applied is what the tool does when it is run directly.

The repository is what mypy ships (mypy, mypyc and typeshed: some 1,200 text files, in the development environment), the
tool is ruff, which rewrites several hundred of them and is shown to the program with ``--tools``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import BACKEND, Program
from tests.trees import stamps

TOOLS = Path(sys.executable).parent
# A line length that no file was written for, so that the tool has much to do; settings of the tree are left out.
COMMANDS = (
    ["ruff", "format", "--isolated", "--quiet", "--no-cache", "--line-length", "60", "."],
    ["ruff", "check", "--isolated", "--quiet", "--no-cache", "--exit-zero", "--select", "I,UP", "--fix", "."],
)
pytestmark = pytest.mark.bwrap


def packages() -> list[Path]:
    found = [importlib.util.find_spec(name) for name in ("mypy", "mypyc")]
    places = [Path(spec.origin).parent for spec in found if spec is not None and spec.origin is not None]
    if len(places) != 2 or not (TOOLS / "ruff").exists():
        pytest.skip("needs mypy and ruff beside this Python")
    return places


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository, committed, with a secret and with times and modes that are easy to lose."""
    root = tmp_path_factory.mktemp("real") / "mypy"
    for package in packages():
        shutil.copytree(package, root / package.name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    assert sum(path.is_file() for path in root.rglob("*")) > 1000
    (root / ".env").write_text("TOKEN=planted-value-7141\n")
    (root / ".gitignore").write_text(".env\n")
    for number, path in enumerate(sorted(root.rglob("*.pyi"))):
        if number % 50 == 0:
            path.chmod(0o755)
        os.utime(path, ns=(10**18, 10**18 + number * 1_000_001))
    git = ["git", "-C", root, "-c", "user.name=u", "-c", "user.email=u@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "as it ships"]):
        subprocess.run([*git, *words], check=True)
    return root


@pytest.fixture(scope="module")
def direct(original: Path) -> dict[str, tuple[str, int, str]]:
    """What the tool makes of a copy."""
    copy = original.with_name("direct")
    shutil.copytree(original, copy, symlinks=True)
    for command in COMMANDS:
        subprocess.run([TOOLS / command[0], *command[1:]], cwd=copy, check=True)
    tree = contents(copy)
    shutil.rmtree(copy)
    assert sum(tree[path] != node for path, node in contents(original).items()) > 100
    return tree


def contents(root: Path) -> dict[str, tuple[str, int, str]]:
    """Kind, mode and content of every path but git's own."""
    found = {}
    for directory, names, files in os.walk(root):
        if directory == os.fspath(root):
            names.remove(".git")
        for name in [*names, *files]:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            data = b"" if stat.S_ISDIR(st.st_mode) else Path(path).read_bytes()
            row = (stat.filemode(st.st_mode)[0], stat.S_IMODE(st.st_mode), hashlib.sha256(data).hexdigest())
            found[os.path.relpath(path, root)] = row
    return found


@pytest.mark.parametrize("backend", BACKEND)
def test_start_diff_apply_undo_on_a_real_repository(
    backend: str, original: Path, direct: dict[str, tuple[str, int, str]], tmp_path: Path, private_home: Path
) -> None:
    workspace = tmp_path / "mypy"
    shutil.copytree(original, workspace, symlinks=True)
    program = Program(workspace, private_home / "state")
    start, before = contents(workspace), stamps(workspace)
    script = " && ".join(" ".join(command) for command in COMMANDS)
    options = ["--name", "s", "--backend", backend, "--tools", TOOLS, *interpreter()]
    program("start", *options, "--", "sh", "-c", f"! grep -rqs planted.value . && {script}")
    patch = program("diff").out
    data = json.loads(program("diff", "--json").out)
    assert len(patch) > 100_000 and data["summary"]["files"] > 100
    assert stamps(workspace) == before, "touched before apply"

    fresh = tmp_path / "fresh"
    shutil.copytree(original, fresh, symlinks=True)
    subprocess.run(["git", "apply", "--whitespace=nowarn", "-"], cwd=fresh, input=patch, check=True)
    assert contents(fresh) == direct
    shutil.rmtree(fresh)

    program("apply", "--yes")
    assert contents(workspace) == direct
    git = {path: s for path, s in stamps(workspace).items() if "/.git" in path}
    assert git == {path: s for path, s in before.items() if "/.git" in path}, "the user's repository was touched"

    program("undo", "--yes")
    assert contents(workspace) == start
    after = stamps(workspace)
    assert {p: (s[1], s[2], s[3]) for p, s in after.items()} == {p: (s[1], s[2], s[3]) for p, s in before.items()}


def interpreter() -> list[str | Path]:
    """ruff is a program of its own; in an environment whose bin holds links only, what these point to is needed too."""
    real = (TOOLS / "ruff").resolve().parent
    return [] if real == TOOLS.resolve() else ["--tools", real]
