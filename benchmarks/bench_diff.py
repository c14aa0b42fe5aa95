"""Does the cost of looking follow the change? And what does a diff cost beside git's own?

``overlayws diff --stat`` of 100 changed files in trees of 1,000 and 100,000; ``overlayws diff`` of 5,000 changed files
(which is parsed back and compared) beside ``git diff --no-index`` of the same two trees; and what the end of the run
costs, when the changes are frozen. All as whole processes but the last, in one run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.changed import make_files
from overlayws import api
from overlayws.session.session import Session
from overlayws.session.store import Store
from overlayws.upkeep import captured

_EDIT = """
import sys
root, count, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for i in range(count):
    n = i * step
    path = f"{root}/d{n // 2500}/e{n // 50}/file{n}.py"
    with open(path) as f: lines = f.readlines()
    lines[len(lines) // 2] = f"changed = {i}\\n"; lines.insert(3, "inserted = 1\\n")
    with open(path, "w") as f: f.writelines(lines)
"""


@dataclass(frozen=True)
class Edited:
    """A session whose program edited ``count`` files; ``after`` is a plain tree with the same edits."""

    session: Session
    store: Store
    workspace: Path
    after: Path

    def diff(self, *options: str) -> bytes:
        command = [sys.executable, "-m", "overlayws", "diff", self.session.name, *options]
        environment = {**os.environ, "OVERLAYWS_HOME": str(self.store.home)}
        return subprocess.run(command, env=environment, check=True, capture_output=True).stdout


def edited(place: Path, files: int, count: int, *, after: bool = False) -> Edited:
    workspace, store = place / "workspace", Store(place / "home")
    make_files(workspace, files)
    words = [sys.executable, "-c", _EDIT]
    numbers = [str(count), str(files // count)]
    session = api.start(workspace, store=store, name="s", confinement=api.Confinement(sandbox="none"))
    api.run(session, [*words, ".", *numbers], store=store)
    if after:
        subprocess.run(["cp", "-a", workspace, place / "after"], check=True)
        subprocess.run([*words, str(place / "after"), *numbers], check=True)
    return Edited(store.load("s"), store, workspace, place / "after")


@pytest.fixture(scope="module", params=[1_000, 100_000])
def tree(request: pytest.FixtureRequest, quick: bool) -> Iterator[Edited]:
    with tempfile.TemporaryDirectory(prefix="overlayws-bench-") as place:
        yield edited(Path(place), request.param // (10 if quick else 1), 10 if quick else 100)


@pytest.fixture(scope="module")
def many(quick: bool) -> Iterator[Edited]:
    with tempfile.TemporaryDirectory(prefix="overlayws-bench-") as place:
        count = 500 if quick else 5_000
        yield edited(Path(place), count, count, after=True)


def test_stat_of_100_changes(benchmark: BenchmarkFixture, tree: Edited) -> None:
    benchmark.group = "diff --stat, 100 changed files"
    out = benchmark.pedantic(lambda: tree.diff("--stat"), rounds=10, warmup_rounds=1)
    assert b"files changed" in out


def test_diff_of_5000_changes(benchmark: BenchmarkFixture, many: Edited) -> None:
    benchmark.group = "diff, 5,000 changed files"
    out = benchmark.pedantic(many.diff, rounds=7, warmup_rounds=1)
    assert out.startswith(b"diff --git ")


def test_git_diff_no_index_of_the_same(benchmark: BenchmarkFixture, many: Edited) -> None:
    benchmark.group = "diff, 5,000 changed files"
    command = ["git", "diff", "--no-index", str(many.workspace), str(many.after)]
    out = benchmark.pedantic(lambda: subprocess.run(command, capture_output=True).stdout, rounds=7, warmup_rounds=1)
    assert out.startswith(b"diff --git ")


def test_freezing_5000_changes_in_process(benchmark: BenchmarkFixture, many: Edited) -> None:
    benchmark.group = "freeze, 5,000 changed files"
    found = benchmark.pedantic(lambda: captured(many.session, state="captured").capture, rounds=5)
    assert found == many.session.capture
