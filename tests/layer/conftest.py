"""The layers that the tests use: one on each kind of file system, for each backend."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from overlayws.layer.all_backends import BACKENDS
from overlayws.layer.mount import Backend, Layer, Mount, check_entered
from overlayws.source.remove import remove_tree
from tests.trees import make_tree

PYTHON = (sys.executable, "-I", "-S")


def backend_params(*names: str) -> list[object]:
    marks = {"kernel": [pytest.mark.kernel], "userns": [pytest.mark.userns], "copy": []}
    return [pytest.param(name, marks=marks[name], id=name) for name in names or BACKENDS]


@dataclass(frozen=True)
class Case:
    """One backend and one layer."""

    name: str
    layer: Layer

    @property
    def backend(self) -> Backend:
        return BACKENDS[self.name]

    @property
    def prefix(self) -> str:
        return self.backend.XATTR_PREFIX

    @contextmanager
    def mounted(self, at: Path | None = None) -> Iterator[Mount]:
        with self.backend.mounted(self.layer, at) as mount:
            yield mount

    def run(self, code: str, *arguments: object, at: Path | None = None, cwd: Path | None = None) -> str:
        """Run Python code as the program, in merged; what it printed."""
        with self.mounted(at) as mount:
            return run_in(mount, code, *arguments, cwd=cwd)


def run_in(mount: Mount, code: str, *arguments: object, cwd: Path | None = None) -> str:
    words = [*mount.enter, *PYTHON, "-c", "import os, sys\n" + code, *map(str, arguments)]
    done = subprocess.run(words, cwd=cwd or mount.merged, capture_output=True, text=True, timeout=60)
    check_entered(mount)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def make_layer(top: Path, tree: dict[str, object] | None = None) -> Layer:
    """A layer whose lowerdir holds ``tree``; no other directory of it exists."""
    layer = Layer(*(top / name for name in ("lower", "upper", "work", "merged")))
    make_tree(layer.lowerdir, tree or {"f": "old\n", "d/x": "x\n", "d/y": "y\n"})
    return layer


@pytest.fixture(params=["disk", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory on the disk, and one on a tmpfs."""
    if request.param == "disk":
        yield tmp_path
    else:
        if not os.access("/dev/shm", os.W_OK):
            pytest.skip("no /dev/shm")
        made = Path(tempfile.mkdtemp(dir="/dev/shm"))
        yield made
        remove_tree(made)


@pytest.fixture(params=backend_params())
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    yield Case(request.param, make_layer(tmp_path / "layer"))
    remove_tree(tmp_path / "layer")


@pytest.fixture
def copied(tmp_path: Path) -> Iterator[Case]:
    """The ``copy`` backend alone."""
    yield Case("copy", make_layer(tmp_path / "layer"))
    remove_tree(tmp_path / "layer")


@pytest.fixture(params=backend_params("kernel", "userns"))
def overlay(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """The backends that mount."""
    yield Case(request.param, make_layer(tmp_path / "layer"))
    shutil.rmtree(tmp_path / "layer", ignore_errors=True)
    remove_tree(tmp_path / "layer")


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No mount of ours appears in our own namespace, whatever a test does (others may mount meanwhile)."""
    ours = (os.fspath(tmp_path_factory.getbasetemp()), "/dev/shm/")
    yield
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    assert [line for line in mounts if " - overlay " in line and any(place in line for place in ours)] == []
