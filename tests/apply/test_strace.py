"""The same as test_crash, done by strace to a process of its own: SIGKILL, and an error, at each system call that
changes something. Here nothing of the program is replaced, so that a call which test_crash does not know counts too."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from overlayws.errors import OverlaywsError
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


def traced(case: Case, verb: str, *options: str | Path) -> int:
    """The status of a process that does ``verb`` under strace, negative if it was killed. It is forked, so that it has
    loaded all that it needs, and stopped until strace has it: what is counted is what the verb calls."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            sys.dont_write_bytecode = True
            os.kill(os.getpid(), signal.SIGSTOP)
            code = once(case, verb)
        except Exception:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(code)
    try:
        os.waitpid(pid, os.WUNTRACED)
        with subprocess.Popen(["strace", "-f", "-qq", "-p", str(pid), *options]) as strace:
            while b"TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_bytes():
                assert strace.poll() is None
                time.sleep(0.001)
            os.kill(pid, signal.SIGCONT)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    assert status != 99
    return status


def once(case: Case, verb: str) -> int:
    try:
        if verb == "apply":
            case.apply()
        else:
            for journal in case.journals.iterdir():
                case.undo(journal)
    except OverlaywsError as error:
        return error.exit_code
    return 0


def injected(call: str, fault: str, nth: int) -> tuple[str, ...]:
    return "-o", "/dev/null", "-e", f"trace=?{call}", "-e", f"inject=?{call}:{fault}:when={nth}"


@pytest.mark.parametrize("call", CALLS)
def test_kill_at_every_system_call_of_an_apply(case: Case, call: str) -> None:
    before, after = snapshot(case.workspace), tree(case.theirs)
    for nth in itertools.count(1):
        status = traced(case, "apply", *injected(call, "signal=SIGKILL", nth))
        outcome = settle(case, before, after)
        if status >= 0:
            assert outcome == "after"
            assert nth > 1 or call not in ("renameat2", "write", "fsync", "syncfs")
            break


@pytest.mark.parametrize("call", CALLS)
def test_no_space_at_every_system_call_of_an_apply(case: Case, call: str) -> None:
    before, after = snapshot(case.workspace), tree(case.theirs)
    for nth in itertools.count(1):
        status = traced(case, "apply", *injected(call, "error=ENOSPC", nth))
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
    assert traced(case, "apply", "-o", log, "-e", f"trace=?{call}") == 0
    return sum(f" {call}(" in line for line in log.read_text().splitlines())


def test_kill_at_every_system_call_of_an_undo(case: Case) -> None:
    before, after = snapshot(case.workspace), tree(case.theirs)
    for call in CALLS:
        for nth in itertools.count(1):
            case.apply()
            status = traced(case, "undo", *injected(call, "signal=SIGKILL", nth))
            settle(case, before, after)
            if status >= 0:
                break
