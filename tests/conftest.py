"""What this machine has, and a private home for every test.

A test that needs a capability is marked with its name. Where it is missing the test is skipped with the reason;
where ``OVERLAYWS_REQUIRE`` promises it (names separated by commas, or ``all``), the run stops with an error instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests import engine

SHARED = Path(__file__).resolve().parents[2] / "shared"
# The program is installed by pip, which compiles it. Here it is run from its source, a thousand times: once is enough.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def _root() -> str | None:
    return None if os.geteuid() == 0 else "not root"


def _backend(name: str) -> str | None:
    from overlayws.layer.all_backends import BACKENDS

    with tempfile.TemporaryDirectory() as state:
        return BACKENDS[name].unusable(Path(state))


def _bwrap() -> str | None:
    from overlayws.run import bwrap

    return bwrap.unusable()


def _fuse() -> str | None:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is not there, or not for this user"
    try:
        import fuse  # noqa: F401
    except OSError as error:  # fusepy looks for the library
        return str(error)
    return None if shutil.which("fusermount") else "fusermount is not installed"


def _strace() -> str | None:
    if not shutil.which("strace"):
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True)
    return None if done.returncode == 0 else f"strace cannot trace: {done.stderr.strip()}"


def _reflink() -> str | None:
    if os.geteuid() != 0:
        return "not root"
    for kind in ("btrfs", "xfs"):
        if not shutil.which(f"mkfs.{kind}"):
            return f"mkfs.{kind} is not installed"
        if f"\t{kind}\n" not in Path("/proc/filesystems").read_text():
            return f"the kernel has no {kind}"
    return None


def _loop() -> str | None:
    if os.geteuid() != 0:
        return "not root"
    from overlayws.layer import image, loop
    from overlayws.layer.room import Room

    try:
        with tempfile.TemporaryDirectory() as place:
            image.make(Path(place, "image"), Room(1 << 20, 16))
            with loop.mounted(Path(place, "image")):
                return None
    except (OSError, image.NoImage) as error:
        return str(error)


def _conformance() -> str | None:
    return None if (SHARED / "conformance").is_dir() else f"{SHARED}/conformance is not there"


CAPABILITIES: dict[str, Callable[[], str | None]] = {
    "root": _root,
    "kernel": lambda: _backend("kernel"),
    "userns": lambda: _backend("userns"),
    "bwrap": _bwrap,
    "docker": engine.missing,
    "gvisor": engine.gvisor_missing,
    "fuse": _fuse,
    "strace": _strace,
    "loop": _loop,
    "reflink": _reflink,
    "conformance": _conformance,
}


@cache
def missing(capability: str) -> str | None:
    """Why this machine lacks a capability, or None."""
    return CAPABILITIES[capability]()


def _required() -> set[str]:
    names = os.environ.get("OVERLAYWS_REQUIRE", "")
    return set(CAPABILITIES) if names == "all" else {n for n in names.split(",") if n}


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        engine.prepare()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        engine.finish()


def pytest_report_header() -> list[str]:
    return [f"{name}: {missing(name) or 'yes'}" for name in CAPABILITIES]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name in CAPABILITIES:
            if item.get_closest_marker(name) and (why := missing(name)):
                if name in _required():
                    raise pytest.UsageError(f"{name} is promised (OVERLAYWS_REQUIRE) but missing: {why}")
                item.add_marker(pytest.mark.skip(reason=f"needs {name}: {why}"))


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """pytest's, removed at once: its own clean-up fails on trees deeper than Python can recurse."""
    from overlayws.source.remove import remove_tree

    yield tmp_path
    remove_tree(tmp_path)


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test touches the real home or state; git and tools find no user configuration."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("OVERLAYWS_HOME", str(home / "state"))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/engine")  # never the machine's own
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)
    return home
