"""Is ``overlayws --help`` instant? Beside it Python importing click, in one run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pytest_benchmark.fixture import BenchmarkFixture


def test_overlayws_help(benchmark: BenchmarkFixture) -> None:
    benchmark.group = "help"
    command = [str(Path(sys.executable).with_name("overlayws")), "--help"]
    benchmark.pedantic(lambda: subprocess.run(command, check=True, capture_output=True), rounds=20, warmup_rounds=2)


def test_python_importing_click(benchmark: BenchmarkFixture) -> None:
    benchmark.group = "help"
    command = [sys.executable, "-c", "import click"]
    benchmark.pedantic(lambda: subprocess.run(command, check=True, capture_output=True), rounds=20, warmup_rounds=2)
