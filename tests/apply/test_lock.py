"""One apply at a time in a workspace."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from overlayws.apply.conflicts import ConflictError
from overlayws.apply.lock import workspace_lock
from overlayws.errors import UnableError, UsageError
from tests.apply.build import make_case, tree


def test_the_second_waits_and_says_so_after_a_second(tmp_path: Path) -> None:
    workspace = tmp_path / "w"
    workspace.mkdir()
    (tmp_path / "alias").symlink_to(workspace)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with workspace_lock(tmp_path / "state", workspace):
            os.write(write, b"x")
            time.sleep(1.4)
        os._exit(0)
    os.read(read, 1)
    told = []
    started = time.monotonic()
    with workspace_lock(tmp_path / "state", tmp_path / "alias", lambda: told.append(time.monotonic() - started)):
        waited = time.monotonic() - started
    assert waited > 1.2
    assert len(told) == 1 and 0.9 < told[0] < 1.4
    os.waitpid(pid, 0)
    with workspace_lock(tmp_path / "state", workspace, lambda: told.append(0.0)):
        pass
    assert len(told) == 1


def test_other_workspaces_do_not_wait(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with workspace_lock(tmp_path / "state", tmp_path / "a"):
        started = time.monotonic()
        with workspace_lock(tmp_path / "state", tmp_path / "b"):
            pass
        assert time.monotonic() - started < 0.5


def test_concurrent_applies_one_waits_and_the_second_sees_drift(tmp_path: Path) -> None:
    first = make_case(tmp_path / "one", {"f": "a\n", "g": "1"}, {"f": "b\n", "g": "1"})
    results = []
    pids = []
    for number in range(4):
        (first.theirs / "f").write_text(f"b{number}\n")
        from dataclasses import replace

        from tests.apply.build import differences

        case = replace(first, changes=differences(first.base, first.theirs), journals=tmp_path / f"journals-{number}")
        copy = tmp_path / f"theirs-{number}"
        copy.mkdir()
        (copy / "f").write_text(f"b{number}\n")
        case = replace(case, theirs=copy)
        pid = os.fork()
        if pid == 0:
            code = 9
            try:
                with workspace_lock(tmp_path / "state", case.workspace):
                    try:
                        case.apply()
                        code = 0
                    except ConflictError:
                        code = 1
            finally:
                os._exit(code)
        pids.append(pid)
    results = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert sorted(results) == [0, 1, 1, 1]
    assert tree(first.workspace)["f"] == tree(tmp_path / f"theirs-{results.index(0)}")["f"]


def test_no_workspace_and_no_state(tmp_path: Path) -> None:
    with pytest.raises(UsageError), workspace_lock(tmp_path / "state", tmp_path / "none"):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(UnableError), workspace_lock(tmp_path / "file", tmp_path):
        pass
