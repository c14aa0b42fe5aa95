"""Benchmarks: ``scripts/bench`` (pytest-benchmark). Each answers one question beside a named competitor, in one run.

Peers that are no Debian or PyPI package are used where ``OVERLAYWS_PEERS`` names a directory with their programs:
``overlay`` (overlayfs-tools), ``try-commit`` and ``try-summary`` (binpash/try, utils/). Without it those rows are
skipped; the others stand.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import engine


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["kernel"] = platform.release()
    machine_info["cpus"] = os.cpu_count()


@pytest.fixture(scope="session")
def quick() -> bool:
    """With ``OVERLAYWS_BENCH=quick`` the trees are a tenth of the size: to see that the benchmarks run."""
    return os.environ.get("OVERLAYWS_BENCH") == "quick"


def peer(name: str) -> str:
    """The path of a peer's program; skips the benchmark where it is missing."""
    where = os.environ.get("OVERLAYWS_PEERS")
    found = shutil.which(name, path=where) if where else None
    if found is None:
        pytest.skip(f"{name} is not below OVERLAYWS_PEERS")
    return str(Path(found).resolve())


@pytest.fixture(scope="session")
def host() -> Iterator[str]:
    """Where the tests' own container engine is to be found; it has gVisor. Skips the benchmark where it cannot be."""
    if reason := engine.gvisor_missing():
        pytest.skip(reason)
    engine.prepare()
    try:
        yield engine.host()
    finally:
        engine.finish()
