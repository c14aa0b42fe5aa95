"""What cannot be written, and mounts below the workspace."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from overlayws.errors import UnableError
from tests.apply.build import make_case, snapshot, tree
from tests.apply.test_crash import BASE, THEIRS
from tests.trees import Dir


def _as_user(work: Callable[[], None]) -> int:
    """Run ``work`` as an ordinary user (as ourselves if we are one)."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            work()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


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
    import ctypes
    import subprocess

    case = make_case(tmp_path, {"f": "a"}, {"f": "b"})
    plan = case.plan()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert ctypes.CDLL(None).unshare(0x00020000) == 0
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            subprocess.run(["mount", "--bind", case.workspace, case.workspace], check=True)
            subprocess.run(["mount", "-o", "remount,ro,bind", case.workspace], check=True)
            with pytest.raises(UnableError, match="read-only file system"):
                case.execute(plan)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not case.journals.exists()


@pytest.mark.root
def test_a_mount_below_the_workspace_gets_a_stage_of_its_own(tmp_path: Path) -> None:
    import ctypes
    import subprocess

    case = make_case(tmp_path, BASE, THEIRS)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert ctypes.CDLL(None).unshare(0x00020000) == 0
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            where = case.workspace / "gone"
            subprocess.run(["mount", "-t", "tmpfs", "x", where], check=True)
            (where / "one").write_text("1")
            change = [c for c in case.changes if c.path in ("mod", "gone/one")]
            before = snapshot(case.workspace)
            journal = case.apply(change)
            assert not os.listdir(where) and (case.workspace / "mod").read_text() == "b\n"
            case.undo(journal)
            assert snapshot(case.workspace) == before
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
