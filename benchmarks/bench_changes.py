"""What does it cost to find out what changed? 20,000 files, 1,000 modified, 200 added, 100 deleted.

Ours: ``scan`` with the hashes of both sides and the digest. Beside it overlayfs-tools' ``overlay diff`` and binpash's
``try-summary`` (both C, no content compared or hashed) and a plain ``cp -a`` of the changed files, in one run.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.changed import Changed, as_try_sandbox, change, changed_files
from benchmarks.conftest import peer
from overlayws.base.manifest import Manifest
from overlayws.changes.scan import scan


@pytest.fixture(scope="module")
def changed(quick: bool) -> Iterator[Changed]:
    with tempfile.TemporaryDirectory(prefix="overlayws-bench-") as place:
        n = 10 if quick else 1
        yield change(Path(place), 20_000 // n, 1_000 // n, 200 // n, 100 // n)


def test_scan_in_process(benchmark: BenchmarkFixture, changed: Changed) -> None:
    benchmark.group = "changes"

    def run() -> str:
        with Manifest(changed.manifest) as manifest:
            return scan(changed.layer, manifest, changed.prefix, own_git=False).digest

    assert benchmark.pedantic(run, rounds=10, warmup_rounds=1).startswith("sha256:")


def test_overlayfs_tools_diff(benchmark: BenchmarkFixture, changed: Changed) -> None:
    benchmark.group = "changes"
    layer = changed.layer
    command = [peer("overlay"), "diff", "-b", "-l", str(layer.lowerdir), "-u", str(layer.upperdir)]
    benchmark.pedantic(lambda: subprocess.run(command, check=True, capture_output=True), rounds=10)


def test_try_summary(benchmark: BenchmarkFixture, changed: Changed, tmp_path: Path) -> None:
    benchmark.group = "changes"
    command = [peer("try-summary"), str(as_try_sandbox(changed, tmp_path, changed.workspace))]
    benchmark.pedantic(lambda: subprocess.run(command, check=True, capture_output=True), rounds=10)


def test_cp_a_of_the_changed_files(benchmark: BenchmarkFixture, changed: Changed, tmp_path: Path) -> None:
    benchmark.group = "changes"
    names = "\0".join(changed_files(changed)).encode()
    count = iter(range(1000))

    def run() -> None:
        target = tmp_path / str(next(count))
        target.mkdir()
        command = ["xargs", "-0", "cp", "-a", "--parents", "-t", str(target)]
        subprocess.run(command, input=names, check=True, cwd=changed.layer.upperdir)

    benchmark.pedantic(run, rounds=5)
