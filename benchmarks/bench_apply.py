"""What does it cost to apply, with journal, digests and fsync? 1,000 modified, 200 added, 100 deleted of 20,000 files.

Beside it binpash's ``try-commit`` (C; no journal, no digest, no sync, no undo) and a plain ``cp -a`` of the same
files, in one run. And as a whole process: ``overlayws apply`` of 5,000 changed files, beside ``rsync -a`` of the same
files onto a copy of the same workspace (``apt-get install rsync``), which verifies and syncs nothing either.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.changed import Changed, as_try_sandbox, change, changed_files
from benchmarks.conftest import peer
from benchmarks.edited import Edited, edited
from overlayws.apply.execute import execute, undo
from overlayws.apply.plan import plan_apply
from overlayws.base.manifest import Manifest
from overlayws.changes.contents import TreeContents
from overlayws.changes.scan import scan

ROUNDS = 5


@pytest.fixture(scope="module")
def changed(quick: bool) -> Iterator[Changed]:
    with tempfile.TemporaryDirectory(prefix="overlayws-bench-") as place:
        n = 10 if quick else 1
        yield change(Path(place), 20_000 // n, 1_000 // n, 200 // n, 100 // n)


def test_apply_in_process(benchmark: BenchmarkFixture, changed: Changed, tmp_path: Path) -> None:
    benchmark.group = "apply"
    rounds = count()
    journals: list[Path] = []

    def undone() -> None:
        if journals:
            undo(journals.pop())

    def run() -> int:
        journals.append(tmp_path / f"journal/{next(rounds)}")
        with (
            Manifest(changed.manifest) as manifest,
            TreeContents(changed.layer.lowerdir) as base,
            TreeContents(changed.layer.upperdir) as theirs,
        ):
            plan = plan_apply(changed.workspace, changeset.changes, manifest, base, theirs)
            execute(plan, journals[-1], theirs)
        return len(plan.steps)

    with Manifest(changed.manifest) as manifest:
        changeset = scan(changed.layer, manifest, changed.prefix, own_git=False)
    steps = benchmark.pedantic(run, setup=undone, rounds=ROUNDS, warmup_rounds=1)
    assert steps == len(changeset.changes)
    undone()


def test_try_commit(benchmark: BenchmarkFixture, changed: Changed, tmp_path: Path) -> None:
    benchmark.group = "apply"
    program, rounds = peer("try-commit"), count()

    def setup() -> tuple[tuple[Path], dict[str, object]]:
        # It moves the upperdir's files over the workspace: each round needs copies of both.
        place = tmp_path / str(next(rounds))
        shutil.copytree(changed.workspace, place / "workspace", symlinks=True)
        sandbox = as_try_sandbox(changed, place / "sandbox", place / "workspace")
        subprocess.run(["sync", "-f", place], check=True)
        return (sandbox,), {}

    def run(sandbox: Path) -> None:
        subprocess.run([program, str(sandbox)], check=True, capture_output=True)

    benchmark.pedantic(run, setup=setup, rounds=ROUNDS)


def test_cp_a_of_the_changed_files(benchmark: BenchmarkFixture, changed: Changed, tmp_path: Path) -> None:
    benchmark.group = "apply"
    names = "\0".join(changed_files(changed)).encode()
    rounds = count()

    def run() -> None:
        target = tmp_path / str(next(rounds))
        target.mkdir()
        command = ["xargs", "-0", "cp", "-a", "--parents", "-t", str(target)]
        subprocess.run(command, input=names, check=True, cwd=changed.layer.upperdir)

    benchmark.pedantic(run, rounds=ROUNDS)


def test_apply_of_5000_changes(benchmark: BenchmarkFixture, quick: bool, tmp_path: Path) -> None:
    benchmark.group = "apply, 5,000 changed files"
    rounds = count()

    def fresh() -> tuple[tuple[Edited], dict[str, object]]:
        # An apply that was undone leaves other ctimes, so the next one would read every file: each round has its own.
        made = edited(tmp_path / str(next(rounds)), 500 if quick else 5_000, 500 if quick else 5_000)
        os.sync()
        return (made,), {}

    def run(made: Edited) -> Edited:
        made.command("apply", "--yes")
        return made

    made = benchmark.pedantic(run, setup=fresh, rounds=ROUNDS)
    assert "changed = 0\n" in (made.workspace / "d0/e0/file0.py").read_text()


def test_rsync_a_of_the_same(benchmark: BenchmarkFixture, quick: bool, tmp_path: Path) -> None:
    if not shutil.which("rsync"):
        pytest.skip("rsync is not installed: apt-get install rsync")
    benchmark.group = "apply, 5,000 changed files"
    made = edited(tmp_path / "made", 500 if quick else 5_000, 500 if quick else 5_000)
    copies = count()

    def fresh() -> tuple[tuple[Path], dict[str, object]]:
        copy = tmp_path / f"copy-{next(copies)}"
        shutil.copytree(made.workspace, copy, symlinks=True)
        os.sync()
        return (copy,), {}

    def run(copy: Path) -> Path:
        subprocess.run(["rsync", "-a", f"{made.session.layer.upperdir}/", f"{copy}/"], check=True)
        return copy

    copy = benchmark.pedantic(run, setup=fresh, rounds=ROUNDS)
    assert "changed = 0\n" in (copy / "d0/e0/file0.py").read_text()
