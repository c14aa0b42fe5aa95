"""What does it cost to apply, with journal, digests and fsync? 1,000 modified, 200 added, 100 deleted of 20,000 files.

Beside it binpash's ``try-commit`` (C; no journal, no digest, no sync, no undo) and a plain ``cp -a`` of the same
files, in one run.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.changed import Changed, as_try_sandbox, change, changed_files
from benchmarks.conftest import peer
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
    count = iter(range(1000))
    journals: list[Path] = []

    def undone() -> None:
        if journals:
            undo(journals.pop())

    def run() -> int:
        journals.append(tmp_path / f"journal/{next(count)}")
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
    program, count = peer("try-commit"), iter(range(1000))

    def setup() -> tuple[tuple[Path], dict[str, object]]:
        # It moves the upperdir's files over the workspace: each round needs copies of both.
        place = tmp_path / str(next(count))
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
    count = iter(range(1000))

    def run() -> None:
        target = tmp_path / str(next(count))
        target.mkdir()
        command = ["xargs", "-0", "cp", "-a", "--parents", "-t", str(target)]
        subprocess.run(command, input=names, check=True, cwd=changed.layer.upperdir)

    benchmark.pedantic(run, rounds=ROUNDS)
