"""Does the cost of looking follow the change? And what does a diff cost beside git's own?

``overlayws diff --stat`` of 100 changed files in trees of 1,000 and 100,000; ``overlayws diff`` of 5,000 changed files
(which is parsed back and compared) beside ``git diff --no-index`` of the same two trees; and what the end of the run
costs, when the changes are frozen. All as whole processes but the last, in one run.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.edited import Edited, edited
from overlayws.upkeep import captured

SIZES = (1_000, 100_000)


@pytest.fixture(scope="module")
def trees(quick: bool) -> Iterator[dict[int, Edited]]:
    """Both are there, and on the disk, before one is looked at: else the larger one pays for being written."""
    with tempfile.TemporaryDirectory(prefix="overlayws-bench-") as place:
        n = 10 if quick else 1
        made = {size: edited(Path(place, str(size)), size // n, 100 // n) for size in SIZES}
        os.sync()
        yield made


@pytest.fixture(scope="module")
def many(quick: bool) -> Iterator[Edited]:
    with tempfile.TemporaryDirectory(prefix="overlayws-bench-") as place:
        count = 500 if quick else 5_000
        yield edited(Path(place), count, count, after=True)


@pytest.mark.parametrize("size", SIZES)
def test_stat_of_100_changes(benchmark: BenchmarkFixture, trees: dict[int, Edited], size: int) -> None:
    benchmark.group = "diff --stat, 100 changed files"
    out = benchmark.pedantic(lambda: trees[size].command("diff", "--stat"), rounds=15, warmup_rounds=2)
    assert b"files changed" in out


def test_diff_of_5000_changes(benchmark: BenchmarkFixture, many: Edited) -> None:
    benchmark.group = "diff, 5,000 changed files"
    out = benchmark.pedantic(lambda: many.command("diff"), rounds=7, warmup_rounds=1)
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
