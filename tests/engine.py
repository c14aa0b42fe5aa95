"""The tests' own container engine: one for all processes of a test run, started when a test first needs it.

``OVERLAYWS_TEST_ENGINE`` names the socket of one that somebody else started (for an ordinary user, who cannot).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

_GIVEN = "OVERLAYWS_TEST_ENGINE"
_SHARED = "OVERLAYWS_TEST_ENGINE_DIRECTORY"
_OWNER = "OVERLAYWS_TEST_ENGINE_OWNER"
SCRIPT = Path(__file__).parents[1] / "scripts" / "engine.sh"


def missing() -> str | None:
    """Why the tests can have no engine here, or None."""
    if os.environ.get(_GIVEN):
        return None
    if os.geteuid() != 0:
        return f"not root, and {_GIVEN} names no engine"
    absent = [name for name in ("dockerd", "containerd", "runc") if not shutil.which(name)]
    return f"not installed: {', '.join(absent)} (docker.io)" if absent else None


def gvisor_missing() -> str | None:
    """Why gVisor cannot be tested here, or None."""
    return missing() or (None if shutil.which("runsc") else "runsc is not installed")


def prepare() -> None:
    """In the process that controls a test run: choose the directory that its workers share."""
    if os.geteuid() == 0 and _SHARED not in os.environ:
        os.environ[_SHARED] = tempfile.mkdtemp(prefix="overlayws-engine-")
        os.environ[_OWNER] = str(os.getpid())


def finish() -> None:
    """In the same process, at the end: stop the engine, if one was started."""
    directory = os.environ.get(_SHARED)
    if directory is None or os.environ.get(_OWNER) != str(os.getpid()):
        return
    if os.path.exists(f"{directory}/socket"):
        Path(directory, "stop").touch()
        end = time.monotonic() + 30
        while os.path.exists(directory) and time.monotonic() < end:
            time.sleep(0.05)
    shutil.rmtree(directory, ignore_errors=True)


def host() -> str:
    """The engine as ``DOCKER_HOST`` names it; it is started if it does not run."""
    if given := os.environ.get(_GIVEN):
        return given
    directory = Path(os.environ[_SHARED])
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "ready").exists():
            # Not a Popen: one that is forgotten while it runs is a warning, and this one outlives us.
            null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
            words = [os.fspath(SCRIPT), os.fspath(directory), os.environ[_OWNER]]
            os.posix_spawn(words[0], words, os.environ, file_actions=null, setsid=True)
            end = time.monotonic() + 60
            while not (directory / "ready").exists():
                log = directory / "log"
                assert time.monotonic() < end, log.read_text()[-2000:] if log.exists() else "no engine"
                time.sleep(0.05)
    return f"unix://{directory}/socket"
