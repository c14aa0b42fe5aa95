"""What does a start cost beside `cp -a`? Cold, warm, and with one file changed; 1,000, 10,000 and 100,000 files.

Beside it `cp -a`, `rsync -a` and `git worktree add` of the same files, in one run on one file system (TMPDIR says
which; it takes 15 GB for the largest). The contents are inspected, as `overlayws start` does; the rows `names only`
say what that costs, and `whole command` is `overlayws start --no-run` as a process of its own, `again` on an unchanged
workspace, beside a Python that imports click and nothing else. `git` rows have the program's own repository
(`--git fresh`), which nothing but `git worktree add` has beside them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.changed import make_files
from overlayws.base.judge import Judge
from overlayws.base.live_build import build_live
from overlayws.base.shelf import Shelf, Shelved
from overlayws.filter.contents import ContentPolicy, Inspector
from overlayws.filter.sources import load_filter
from overlayws.source.remove import remove_tree

SIZES = (1_000, 10_000, 100_000)
KEY = bytes(32)


class Tree:
    """A workspace, and a place beside it on the same file system."""

    def __init__(self, place: Path, files: int) -> None:
        self.place, self.files = place, files
        self.rounds = max(2, min(25, 60_000 // files))  # of 50 ms each one in three is far off
        self.workspace = place / "workspace"
        make_files(self.workspace, files)
        self._count = 0

    def fresh(self) -> Path:
        """A path where nothing is, after what was made before is written back: not part of the time.

        Nothing is removed before the end: ext4 looks for an inode that was not freed during the last minutes, which
        makes each new file five times as dear, and two processes that look at once still more.
        """
        subprocess.run(["sync", "-f", self.place], check=True)
        self._count += 1
        return self.place / f"copy-{self._count}"


@pytest.fixture(scope="module", params=SIZES)
def tree(request: pytest.FixtureRequest, quick: bool) -> Iterator[Tree]:
    place = Path(tempfile.mkdtemp(prefix="overlayws-bench-"))
    try:
        yield Tree(place, request.param // (10 if quick else 1))
    finally:
        remove_tree(place)


def measure(benchmark: BenchmarkFixture, tree: Tree, run: Callable[[Path], object]) -> None:
    benchmark.group = f"start, {tree.files} files"
    benchmark.pedantic(run, setup=lambda: ((tree.fresh(),), {}), rounds=tree.rounds)


def obtain(tree: Tree, shelf: Path, *, inspect: bool = True, own_git: bool = False) -> Shelved:
    rules = load_filter(tree.workspace)
    judge = Judge(rules, Inspector(ContentPolicy(key=KEY)) if inspect else None)
    with Shelf(shelf).locked(tree.workspace):
        return Shelf(shelf).obtain(tree.workspace, judge, own_git=own_git)


def test_cp_a(benchmark: BenchmarkFixture, tree: Tree) -> None:
    measure(benchmark, tree, lambda to: subprocess.run(["cp", "-a", tree.workspace, to], check=True))


def test_rsync_a(benchmark: BenchmarkFixture, tree: Tree) -> None:
    if not shutil.which("rsync"):
        pytest.skip("rsync is not installed")
    measure(benchmark, tree, lambda to: subprocess.run(["rsync", "-a", f"{tree.workspace}/", to], check=True))


def test_git_worktree_add(benchmark: BenchmarkFixture, tree: Tree) -> None:
    repository = tree.place / "repository"
    git = ["git", "--git-dir", str(repository), "-c", "user.name=n", "-c", "user.email=e", "-c", "gc.auto=0"]
    if not repository.exists():
        subprocess.run(["git", "init", "-q", "--bare", str(repository)], check=True)
        subprocess.run([*git, "--work-tree", tree.workspace, "add", "-A"], check=True, cwd=tree.workspace)
        commit = [*git, "--work-tree", tree.workspace, "commit", "-qm", "all"]
        subprocess.run(commit, check=True, cwd=tree.workspace)
        subprocess.run([*git, "gc", "--quiet"], check=True)
    add = [*git, "worktree", "add", "-q", "--detach", "-f"]
    measure(benchmark, tree, lambda to: subprocess.run([*add, str(to), "HEAD"], check=True))


def test_cold(benchmark: BenchmarkFixture, tree: Tree) -> None:
    measure(benchmark, tree, lambda to: obtain(tree, to))


def test_cold_names_only(benchmark: BenchmarkFixture, tree: Tree) -> None:
    measure(benchmark, tree, lambda to: obtain(tree, to, inspect=False))


def test_cold_git(benchmark: BenchmarkFixture, tree: Tree) -> None:
    measure(benchmark, tree, lambda to: obtain(tree, to, own_git=True))


@pytest.mark.parametrize("own_git", [False, True], ids=["", "git"])
def test_warm(benchmark: BenchmarkFixture, tree: Tree, own_git: bool) -> None:
    shelf = tree.fresh()
    obtain(tree, shelf, own_git=own_git)
    benchmark.group = f"start, {tree.files} files"
    assert benchmark.pedantic(lambda: obtain(tree, shelf, own_git=own_git), rounds=tree.rounds).reused


@pytest.mark.parametrize("own_git", [False, True], ids=["", "git"])
def test_one_file_changed(benchmark: BenchmarkFixture, tree: Tree, own_git: bool) -> None:
    shelf = tree.fresh()
    obtain(tree, shelf, own_git=own_git)
    file = tree.workspace / "d0/e0/file0.py"

    def edit() -> None:
        file.write_text(f"edited = {os.urandom(4).hex()!r}\n")
        time.sleep(0.03)

    benchmark.group = f"start, {tree.files} files"
    assert not benchmark.pedantic(lambda: obtain(tree, shelf, own_git=own_git), setup=edit, rounds=tree.rounds).reused


def test_whole_command(benchmark: BenchmarkFixture, tree: Tree) -> None:
    """What a user waits for: Python's own start, the choice of backend and sandbox by trying them, a cold base."""
    command = [sys.executable, "-m", "overlayws", "start", str(tree.workspace), "--no-run", "--git", "none"]

    def run(to: Path) -> None:
        subprocess.run(command, check=True, env={**os.environ, "OVERLAYWS_HOME": str(to)}, capture_output=True)

    measure(benchmark, tree, run)


def test_whole_command_again(benchmark: BenchmarkFixture, tree: Tree) -> None:
    """The same where nothing changed since: what is left of it is the command itself. Beside it `import click`."""
    home = tree.fresh()
    command = [sys.executable, "-m", "overlayws", "start", str(tree.workspace), "--no-run", "--git", "none"]

    def run() -> None:
        subprocess.run(command, check=True, env={**os.environ, "OVERLAYWS_HOME": str(home)}, capture_output=True)

    benchmark.group = f"start, {tree.files} files"
    run()
    benchmark.pedantic(run, rounds=max(tree.rounds, 9))


def test_python_importing_click(benchmark: BenchmarkFixture, tree: Tree) -> None:
    benchmark.group = f"start, {tree.files} files"
    command = [sys.executable, "-c", "import click"]
    benchmark.pedantic(lambda: subprocess.run(command, check=True, capture_output=True), rounds=max(tree.rounds, 9))


def test_live(benchmark: BenchmarkFixture, tree: Tree) -> None:
    """`--base live`, all that a start makes; the mount, which a run makes, is a few milliseconds more."""
    judge = Judge(load_filter(tree.workspace), Inspector(ContentPolicy(key=KEY)))

    def run(to: Path) -> None:
        to.mkdir()
        build_live(tree.workspace, to, judge)

    measure(benchmark, tree, run)
