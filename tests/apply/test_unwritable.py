"""What cannot be written, and mounts below the workspace."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from overlayws.errors import UnableError
from tests.apply.build import make_case, snapshot, tree
from tests.apply.test_crash import BASE, THEIRS
from tests.trees import Dir


def _in_a_child(*steps: Callable[[], None]) -> int:
    """Do ``steps`` in a child, which they may change as they like; its exit status."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for step in steps:
                step()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _become_a_user() -> None:
    """Ordinary; who is one stays so."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)


def _have_own_mounts() -> None:
    """A mount namespace: what is mounted goes with the process."""
    assert ctypes.CDLL(None).unshare(0x00020000) == 0  # CLONE_NEWNS
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def _as_user(work: Callable[[], None]) -> int:
    return _in_a_child(_become_a_user, work)


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that another user can work in."""
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        os.chmod(home, 0o777)
        yield Path(home)


def test_everything_as_an_ordinary_user(home: Path) -> None:
    def work() -> None:
        case = make_case(home / "mine", BASE, THEIRS)
        before = snapshot(case.workspace)
        journal = case.apply()
        assert tree(case.workspace) == tree(case.theirs)
        assert not case.plan().steps
        case.undo(journal)
        assert snapshot(case.workspace) == before

    assert _as_user(work) == 0


def test_a_read_only_directory_is_told_before_the_first_write(home: Path) -> None:
    def work() -> None:
        case = make_case(home / "mine", {"f": "a", "d/f": "a"}, {"f": "b", "d/f": "b"})
        plan = case.plan()
        os.chmod(case.workspace / "d", 0o555)
        before = snapshot(case.workspace)
        with pytest.raises(UnableError, match="'d'") as error:
            case.execute(plan)
        assert error.value.exit_code == 3 and error.value.hint
        assert snapshot(case.workspace) == before
        assert not case.journals.exists()
        os.chmod(case.workspace / "d", 0o755)

    assert _as_user(work) == 0


def test_a_stage_is_made_where_that_is_possible(home: Path) -> None:
    def work() -> None:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as state:
            case = make_case(home / "mine", {"d/f": "a"}, {"d/f": "b", "d/n": "n"}, state=Path(state))
            os.chmod(case.workspace, 0o555)
            before = snapshot(case.workspace)
            journal = case.apply()
            assert tree(case.workspace) == tree(case.theirs)
            case.undo(journal)
            assert snapshot(case.workspace) == before
            os.chmod(case.workspace, 0o755)

    assert _as_user(work) == 0


def test_a_directory_that_the_program_made_writable_is_opened_first(home: Path) -> None:
    def work() -> None:
        case = make_case(home / "mine", {"d/f": "a", "d": Dir(0o555)}, {"d/f": "b", "d/n": "n", "d": Dir(0o755)})
        before = snapshot(case.workspace)
        journal = case.apply()
        assert tree(case.workspace) == tree(case.theirs)
        case.undo(journal)
        assert snapshot(case.workspace) == before
        os.chmod(case.workspace / "d", 0o755)
        os.chmod(case.base / "d", 0o755)

    assert _as_user(work) == 0


@pytest.mark.root
def test_a_read_only_file_system_is_told_before_the_first_write(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "a"}, {"f": "b"})
    plan = case.plan()

    def work() -> None:
        subprocess.run(["mount", "--bind", case.workspace, case.workspace], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", case.workspace], check=True)
        with pytest.raises(UnableError, match="read-only file system"):
            case.execute(plan)

    assert _in_a_child(_have_own_mounts, work) == 0
    assert not case.journals.exists()


@pytest.mark.root
def test_a_mount_below_the_workspace_gets_a_stage_of_its_own(tmp_path: Path) -> None:
    case = make_case(tmp_path, BASE, THEIRS)

    def work() -> None:
        where = case.workspace / "gone"
        subprocess.run(["mount", "-t", "tmpfs", "x", where], check=True)
        (where / "one").write_text("1")
        change = [c for c in case.changes if c.path in ("mod", "gone/one")]
        before = snapshot(case.workspace)
        journal = case.apply(change)
        assert not os.listdir(where) and (case.workspace / "mod").read_text() == "b\n"
        case.undo(journal)
        assert snapshot(case.workspace) == before

    assert _in_a_child(_have_own_mounts, work) == 0
