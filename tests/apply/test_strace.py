"""The same as test_crash, done by strace to a process of its own: SIGKILL, and an error, at each system call that
changes something. Here nothing of the program is replaced, so that a call which test_crash does not know counts too."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apply.build import Case, make_case, snapshot, tree
from tests.apply.test_crash import settle
from tests.trees import File

pytestmark = pytest.mark.strace

# "?": a call that this architecture does not have is no error.
CALLS = (
    "rename renameat renameat2 unlink unlinkat link linkat mkdir mkdirat rmdir write fsync fdatasync syncfs ftruncate "
    "symlink symlinkat fchmod fchmodat fchown utimensat setxattr fsetxattr"
).split()

BASE = {"mod": "a\n", "exe": File(b"x", 0o755), "gone/one": "1"}
THEIRS = {"mod": "b\n", "exe": File(b"x", 0o644), "new/file": "n"}


@pytest.fixture(params=["same-mount", "cross-mount"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        if request.param == "same-mount":
            yield make_case(Path(memory), BASE, THEIRS)
        else:
            yield make_case(Path(memory), BASE, THEIRS, state=tmp_path)


def traced(case: Case, verb: str, call: str, nth: int, fault: str) -> int:
    """The status of one process: negative if it was killed."""
    strace = [
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        f"trace=?{call}",
        "-e",
        f"inject=?{call}:{fault}:when={nth}",
    ]
    python = [sys.executable, "-B", "-m", "tests.apply.once", verb, case.home, case.journals]
    done = subprocess.run([*strace, *python], cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, env=_environment())
    assert done.returncode < 0 or b"Traceback" not in done.stderr, done.stderr.decode()
    return done.returncode


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.mark.parametrize("call", CALLS)
def test_kill_at_every_system_call_of_an_apply(case: Case, call: str) -> None:
    before, after = snapshot(case.workspace), tree(case.theirs)
    for nth in itertools.count(1):
        status = traced(case, "apply", call, nth, "signal=SIGKILL")
        outcome = settle(case, before, after)
        if status >= 0:
            assert outcome == "after"
            assert nth > 1 or call not in ("renameat2", "write", "fsync", "syncfs")
            break


@pytest.mark.parametrize("call", CALLS)
def test_no_space_at_every_system_call_of_an_apply(case: Case, call: str) -> None:
    before, after = snapshot(case.workspace), tree(case.theirs)
    for nth in itertools.count(1):
        status = traced(case, "apply", call, nth, "error=ENOSPC")
        found = tree(case.workspace)
        if status:
            assert status in (3, 4)
            assert found == tree(case.base)
        outcome = settle(case, before, after)
        if not status:
            assert outcome == "after"
            # Either the call was not made that often, or it was made after the commit.
            if traced_count(case, call) < nth:
                settle(case, before, after)
                break
            settle(case, before, after)


def traced_count(case: Case, call: str) -> int:
    """How often an apply makes a call."""
    log = case.home / "trace"
    strace = ["strace", "-f", "-qq", "-o", log, "-e", f"trace=?{call}"]
    python = [sys.executable, "-B", "-m", "tests.apply.once", "apply", case.home, case.journals]
    subprocess.run([*strace, *python], cwd=Path(__file__).parents[2], check=True, env=_environment())
    return sum(f" {call}(" in line for line in log.read_text().splitlines())


def test_kill_at_every_system_call_of_an_undo(case: Case) -> None:
    before, after = snapshot(case.workspace), tree(case.theirs)
    for call in CALLS:
        for nth in itertools.count(1):
            case.apply()
            status = traced(case, "undo", call, nth, "signal=SIGKILL")
            settle(case, before, after)
            if status >= 0:
                break
