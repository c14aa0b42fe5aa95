"""execute: laws, edits that come in between, owners and links, file systems without exchange, what is refused."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from overlayws import beneath
from overlayws.apply import journal as journal_module
from overlayws.apply import transaction
from overlayws.apply.execute import execute
from overlayws.apply.journal import all_journals
from overlayws.apply.transaction import DriftError
from overlayws.changes.change import Change
from overlayws.changes.contents import TreeContents
from overlayws.errors import OverlaywsError, UnableError, UsageError
from overlayws.source.entry import Entry, Kind
from tests.apply.build import Case, make_case, snapshot, tree
from tests.apply.test_crash import BASE, THEIRS
from tests.trees import Dir, File, Symlink, make_tree


@pytest.fixture(params=["same-mount", "cross-mount"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    if request.param == "same-mount":
        yield make_case(tmp_path, BASE, THEIRS)
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as state:
        yield make_case(tmp_path, BASE, THEIRS, state=Path(state))


# Laws.


def test_apply_nothing_is_the_start(case: Case) -> None:
    before = snapshot(case.workspace)
    journal = case.apply(())
    assert snapshot(case.workspace) == before and not journal.exists()


def test_apply_gives_what_the_program_made_and_undo_the_start(case: Case) -> None:
    before = snapshot(case.workspace)
    journal = case.apply()
    assert tree(case.workspace) == tree(case.theirs)
    assert case.recover() == ()
    case.undo(journal)
    assert snapshot(case.workspace) == before
    assert not journal.exists()


def test_apply_twice_is_a_no_op(case: Case) -> None:
    case.apply()
    after = snapshot(case.workspace)
    plan = case.plan()
    assert not plan.steps and not plan.conflicts and not plan.refused
    case.execute(plan)
    assert snapshot(case.workspace) == after


def test_some_then_the_rest_is_all_and_undone_in_turn_is_the_start(case: Case) -> None:
    before = snapshot(case.workspace)
    some = [c for c in case.changes if c.path.split("/")[0] in ("mod", "gone", "d2f", "new")]
    first = case.apply(some)
    between = snapshot(case.workspace)
    second = case.apply()
    assert tree(case.workspace) == tree(case.theirs)
    case.undo(second)
    assert snapshot(case.workspace) == between
    case.undo(first)
    assert snapshot(case.workspace) == before


def test_the_workspace_holds_nothing_else_during_or_after(case: Case) -> None:
    case.apply()
    assert not [name for name in os.listdir(case.workspace) if name.startswith(".")]


def test_a_root_in_which_no_name_changed_keeps_its_mtime(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as state:
        case = make_case(tmp_path, {"d/f": "a"}, {"d/f": "b"}, state=Path(state))
        before = os.stat(case.workspace).st_mtime_ns
        case.apply()
        assert os.stat(case.workspace).st_mtime_ns == before


# Edits between plan and execute, and in the middle of execute.


@pytest.mark.parametrize("path", ["mod", "xattr", "gone/one", "link", "exe", "f2d", "d2f/x"])
@pytest.mark.parametrize("how", ["rewritten", "replaced", "removed", "chmod"])
def test_an_edit_after_the_plan_is_drift_and_nothing_is_changed(case: Case, path: str, how: str) -> None:
    plan = case.plan()
    where = case.workspace / path
    if how == "chmod" and not where.is_symlink():
        os.chmod(where, 0o611)
    elif how == "removed":
        where.unlink()
    else:
        if how == "replaced" or where.is_symlink():
            where.unlink()
        where.write_text("the user's\n")
    before = snapshot(case.workspace)
    with pytest.raises(DriftError, match=path) as error:
        case.execute(plan)
    assert error.value.exit_code == 1
    assert snapshot(case.workspace) == before
    assert not list(case.journals.iterdir())


@pytest.mark.parametrize("path", ["new", "new/file", "f2d/in"])
def test_something_new_where_something_is_added_is_drift(case: Case, path: str) -> None:
    plan = case.plan()
    if path.startswith("f2d"):
        (case.workspace / "f2d").unlink()
    make_tree(case.workspace, {path: "the user's"})
    before = snapshot(case.workspace)
    with pytest.raises(DriftError):
        case.execute(plan)
    assert snapshot(case.workspace) == before


def test_a_new_file_in_a_directory_that_is_removed_is_drift(case: Case) -> None:
    plan = case.plan()
    (case.workspace / "gone/two").write_text("the user's")
    before = snapshot(case.workspace)
    with pytest.raises(DriftError, match="gone"):
        case.execute(plan)
    assert snapshot(case.workspace) == before


def _meddling(monkeypatch: pytest.MonkeyPatch, name: str, at: str, meddle: Callable[[], None]) -> None:
    """Call ``meddle`` once, right before a rename of ``at`` (after apply has looked at it)."""
    real = getattr(beneath, name)
    left = [meddle]

    def first(from_dir: int, from_name: str, to_dir: int, to_name: str) -> None:
        if at in (from_name, to_name) and left:
            left.pop()()
        real(from_dir, from_name, to_dir, to_name)

    monkeypatch.setattr(beneath, name, first)


def test_an_edit_in_the_moment_of_the_swap_goes_back(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def save() -> None:
        (case.workspace / "save").write_text("the user's newest\n")
        os.rename(case.workspace / "save", case.workspace / "mod")

    _meddling(monkeypatch, "exchange", "mod", save)
    with pytest.raises(DriftError, match="mod"):
        case.apply()
    assert (case.workspace / "mod").read_text() == "the user's newest\n"
    (case.workspace / "mod").write_text("a\n")
    assert tree(case.workspace) == tree(case.base)
    assert not list(case.journals.iterdir())


def test_an_edit_in_the_moment_of_the_removal_goes_back(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def save() -> None:
        (case.workspace / "gone/save").write_text("the user's newest\n")
        os.rename(case.workspace / "gone/save", case.workspace / "gone/one")

    _meddling(monkeypatch, "move", "one", save)
    with pytest.raises(DriftError, match="gone/one"):
        case.apply()
    assert (case.workspace / "gone/one").read_text() == "the user's newest\n"


def test_a_write_through_an_open_descriptor_is_not_lost(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(case.workspace / "mod", "a") as editor:
        real = transaction.run

        def late(*arguments: object) -> None:
            real(*arguments)  # type: ignore[arg-type]
            editor.write("typed meanwhile\n")
            editor.flush()

        monkeypatch.setattr("overlayws.apply.execute.run", late)
        with pytest.raises(DriftError, match="mod"):
            case.apply()
    assert (case.workspace / "mod").read_text() == "a\ntyped meanwhile\n"


def test_another_directory_at_the_workspaces_path_is_not_written(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "a"}, {"f": "b"})
    plan = case.plan()
    os.rename(case.workspace, tmp_path / "moved")
    make_tree(case.workspace, {"f": "a"})
    with pytest.raises(OverlaywsError):
        case.execute(plan)
    assert (case.workspace / "f").read_text() == "a"


def test_conflicts_are_not_executed_even_if_the_caller_does_not_look(case: Case) -> None:
    (case.workspace / "mod").write_text("other\n")
    with pytest.raises(OverlaywsError):
        case.apply()


def test_everything_is_on_the_disk_before_the_next_state_is_written(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    syncfs, move, write = beneath.syncfs, beneath._renameat2, journal_module.write_atomic

    def written(path: Path, data: bytes, mode: int = 0o600) -> None:
        events.append(json.loads(data.split(b"\n")[0])["state"])
        write(path, data, mode)

    def moved(from_dir: int, from_name: str, to_dir: int, to_name: str, flags: int) -> None:
        if to_name != ".":
            events.append("move")
        move(from_dir, from_name, to_dir, to_name, flags)

    monkeypatch.setattr(beneath, "syncfs", lambda fd: (events.append("sync"), syncfs(fd)))
    monkeypatch.setattr(beneath, "_renameat2", moved)
    monkeypatch.setattr(journal_module, "write_atomic", written)
    journal = case.apply()
    case.undo(journal)
    order = [event for event, before in zip(events, ["", *events], strict=False) if event != before]
    apply = ["staging", "sync", "applying", "move", "sync", "applied"]
    undo = ["undo-staging", "sync", "undoing", "move", "sync", "finished"]
    assert order[:6] == apply
    assert [event for event in order[6:] if event != "applied"][:6] == undo


def test_paths_longer_than_the_kernel_takes_at_once(tmp_path: Path) -> None:
    deep = "/".join(["n" * 200] * 30)
    case = make_case(tmp_path, {"f": "a\n"}, {"f": "a\n"})
    content = b"deep\n"
    entry = Entry(Kind.FILE, 0o644, len(content), hashlib.sha256(content).hexdigest())
    for root in (case.workspace, case.theirs):
        with beneath.Directories(root) as directories:
            fd = os.dup(directories.root)
            for name in deep.split("/"):
                os.mkdir(name, 0o755, dir_fd=fd)
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = below
            if root == case.theirs:
                with open(os.open("new", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd), "wb") as file:
                    file.write(content)
            os.close(fd)
    journal = case.apply([Change(f"{deep}/new", None, entry)])
    with beneath.Directories(case.workspace) as directories:
        assert os.listdir(directories.open(deep)) == ["new"]
        case.undo(journal)
        assert os.listdir(directories.open(deep)) == []
    for root in (case.workspace, case.theirs):
        shutil.rmtree(root)


# Links and owners.


def test_the_other_name_of_a_hard_linked_file_is_unchanged(tmp_path: Path) -> None:
    base = {"f": "a\n", "m": "m\n"}
    case = make_case(tmp_path / "case", base, {"f": "b\n", "m": File(b"m\n", 0o755)})
    for name in ("f", "m"):
        os.link(case.workspace / name, tmp_path / f"other-{name}")
    # Linking has changed the ctime: the content decides.
    before = snapshot(case.workspace)
    journal = case.apply()
    assert (tmp_path / "other-f").read_text() == "a\n"
    assert os.stat(tmp_path / "other-m").st_mode & 0o777 == 0o644
    assert tree(case.workspace) == tree(case.theirs)
    case.undo(journal)
    assert snapshot(case.workspace) == before
    assert os.path.samefile(case.workspace / "f", tmp_path / "other-f")


@pytest.mark.root
def test_owners_as_root(case: Case) -> None:
    os.chown(case.workspace / "mod", 1234, 2345)
    os.chown(case.workspace, 111, 222)
    before = snapshot(case.workspace)
    journal = case.apply()
    owners = {name: (os.lstat(case.workspace / name).st_uid, os.lstat(case.workspace / name).st_gid)
              for name in ("mod", "d2f", "new", "new/file", "link")}  # fmt: skip
    assert owners == {"mod": (1234, 2345), "d2f": (111, 222), "new": (111, 222), "new/file": (111, 222), "link": (0, 0)}
    case.undo(journal)
    assert snapshot(case.workspace) == before


def test_new_directories_below_a_set_gid_directory_are_set_gid(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"team": Dir(0o2775)}, {"team/new/f": "x", "team": Dir(0o2775)})
    case.apply()
    assert stat.S_IMODE(os.stat(case.workspace / "team/new").st_mode) & stat.S_ISGID
    assert not stat.S_IMODE(os.stat(case.workspace / "team/new/f").st_mode) & stat.S_ISGID


def test_an_access_list_stays_with_a_replaced_file(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "a"}, {"f": "b"})
    # user::rw- user:1:rw- group::r-- mask::rw- other::r-- (linux/posix_acl_xattr.h)
    acl = bytes.fromhex("02000000 01000600ffffffff 0200060001000000 04000400ffffffff 10000600ffffffff 20000400ffffffff")
    try:
        os.setxattr(case.workspace / "f", "system.posix_acl_access", acl)
    except OSError:
        pytest.skip("no access lists here")
    before = snapshot(case.workspace)
    journal = case.apply()
    assert os.getxattr(case.workspace / "f", "system.posix_acl_access") == acl
    case.undo(journal)
    assert snapshot(case.workspace) == before


# File systems that cannot exchange.


@pytest.fixture(params=["no renameat2 flags", "no hard links either"])
def poor_file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "no flags")

    monkeypatch.setattr(beneath, "exchange", refuse)
    monkeypatch.setattr(beneath, "move", refuse)
    if request.param == "no hard links either":

        def no_links(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, "no links")

        monkeypatch.setattr(os, "link", no_links)


@pytest.mark.usefixtures("poor_file_system")
def test_apply_and_undo_without_exchange(case: Case) -> None:
    before = snapshot(case.workspace)
    journal = case.apply()
    assert tree(case.workspace) == tree(case.theirs)
    case.undo(journal)
    assert snapshot(case.workspace) == before


@pytest.mark.usefixtures("poor_file_system")
def test_drift_without_exchange(case: Case) -> None:
    plan = case.plan()
    (case.workspace / "exe").write_text("mine")
    before = snapshot(case.workspace)
    with pytest.raises(DriftError):
        case.execute(plan)
    assert snapshot(case.workspace) == before


@pytest.mark.usefixtures("poor_file_system")
def test_kill_at_every_call_without_exchange(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    import itertools

    from tests.apply.crash import in_child
    from tests.apply.test_crash import settle

    monkeypatch.setattr(beneath, "syncfs", lambda fd: None)
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    before, after = snapshot(case.workspace), tree(case.theirs)
    for nth in itertools.count(1, 2):
        how = in_child(lambda: case.apply(), nth)
        in_child(lambda: case.recover(), 1 + nth % 19)
        settle(case, before, after)
        if how == "unreached":
            break


# What cannot be written.


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


def test_no_workspace_is_a_usage_error(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "a"}, {"f": "b"})
    plan = case.plan()
    os.rename(case.workspace, tmp_path / "away")
    with pytest.raises(UsageError):
        case.plan()
    with pytest.raises(UsageError):
        case.execute(plan)


def test_a_journal_that_exists_is_not_written_over(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "a"}, {"f": "b"})
    with TreeContents(case.theirs) as theirs, pytest.raises(UnableError, match="journal"):
        execute(case.plan(), make_tree(tmp_path / "journal", {}), theirs)
    assert tree(case.workspace) == tree(case.base)


def test_an_interrupt_from_the_keyboard_rolls_back(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(case.workspace)
    real = transaction._run
    done = []

    def interrupted(*arguments: object) -> None:
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(1)
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(transaction, "_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        case.apply()
    assert snapshot(case.workspace) == before
    assert not list(case.journals.iterdir())


# The racer.


@pytest.mark.parametrize("openat2", [True, False])
def test_a_racer_swapping_directories_for_symlinks_never_reaches_the_victim(
    openat2: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 applies while another thread swaps the directory for a symlink to a victim with the same names; also
    component by component, as under gVisor, which has no openat2(2)."""
    monkeypatch.setattr(beneath, "_have_openat2", openat2)
    base = {f"d/s/{n}": f"{n}\n" for n in range(3)}
    theirs = {"d/s/0": "changed\n", "d/s/1": "1\n", "d/s/new": "n\n", "d/s/sub/x": "x\n"}
    home = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        case = make_case(home, base, theirs)
        victim = make_tree(home / "victim", {**{f"s/{n}": f"{n}\n" for n in range(3)}})
        untouched = snapshot(victim)
        stop = threading.Event()

        def race() -> None:
            real, link = case.workspace / "d", case.workspace / "swapped"
            link.symlink_to(victim)
            with beneath.Directories(case.workspace) as directories:
                while not stop.is_set():
                    beneath.exchange(directories.root, "d", directories.root, "swapped")
                if real.is_symlink():
                    beneath.exchange(directories.root, "d", directories.root, "swapped")
            link.unlink()

        racer = threading.Thread(target=race)
        racer.start()
        applied = refused = 0
        try:
            for _ in range(1000):
                try:
                    journal = case.apply()
                    applied += 1
                    case.undo(journal)
                except OverlaywsError:
                    refused += 1
                    with suppress(OverlaywsError):
                        case.recover()
                        for journal in all_journals(case.journals):
                            case.undo(journal.directory)
        finally:
            stop.set()
            racer.join()
        assert snapshot(victim) == untouched
        assert applied and refused, "the racer never won, or never lost"
    finally:
        shutil.rmtree(home)


def test_a_symlink_in_the_place_of_a_file_is_swapped_not_followed(tmp_path: Path) -> None:
    victim = make_tree(tmp_path / "victim", {"v": "a\n"})
    case = make_case(tmp_path / "case", {"f": "a\n"}, {"f": "b\n"})
    (case.workspace / "f").unlink()
    (case.workspace / "f").symlink_to(victim / "v")
    assert [c.reason for c in case.plan().conflicts] == ["kind"]
    case.apply(on_conflict="theirs")
    assert (victim / "v").read_text() == "a\n"
    assert not (case.workspace / "f").is_symlink()


def test_a_changed_symlink_is_a_conflict(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"l": Symlink("a")}, {"l": Symlink("b")})
    (case.workspace / "l").unlink()
    (case.workspace / "l").symlink_to("c")
    assert [c.reason for c in case.plan().conflicts] == ["content"]
