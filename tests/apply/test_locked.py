"""Directories that the program or the user locked (chmod 000): an ordinary user's apply opens its own for as long as
it needs them, and every mode comes back, whatever happens."""

from __future__ import annotations

import itertools
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlayws import beneath
from overlayws.apply import moves, rollback, transaction
from overlayws.apply.journal import Ground
from overlayws.apply.locked import READING, WRITING, Log, Opened, Reach
from overlayws.apply.record import JournalError, Move
from overlayws.errors import UnableError
from overlayws.source.remove import remove_tree
from tests.apply.build import Case, make_case, snapshot, tree
from tests.apply.crash import in_child
from tests.trees import Dir, File

pytestmark = pytest.mark.root  # who looks at the result, and is an ordinary user in between

BASE = {
    "d/f": "a\n",
    "d/e/f": "a\n",
    "d/e/gone": "1",
    "open/f": "a\n",
    "open": Dir(0o555),
    "shut/in/f": "a\n",
    "shut": Dir(0o000),
    "shuts/in/f": "a\n",
    "shuts/in": Dir(0o500),
    "was/f": "a\n",
    "was/in/f": "a\n",
    "was/in": Dir(0o500),
    "was": Dir(0o000),
    "empty/f": "1",
    "empty": Dir(0o500),
}
THEIRS = {
    "d/f": "b\n",
    "d/e/f": "b\n",
    "d/e/new": "n",
    "d/e": Dir(0o000),
    "d": Dir(0o000),
    "open/f": "b\n",
    "open/n": "n",
    "open": Dir(0o555),
    "shut/in/f": "b\n",
    "shut": Dir(0o000),
    "shuts/in/f": "b\n",
    "shuts/in": Dir(0o500),
    "shuts": Dir(0o000),
    "was/f": "b\n",
    "was/in/f": "b\n",
    "was/in": Dir(0o500),
    "was": Dir(0o700),
    "new/in/f": "n",
    "new/in": Dir(0o100),
    "new": Dir(0o000, (("user.k", b"1"),)),
}


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Be one: without a capability, so that modes count."""
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def as_user(case: Case, verb: str, *arguments: object) -> object:
    with ordinary_user():
        return getattr(case, verb)(*arguments)


@pytest.fixture(params=["same-mount", "cross-mount"])
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    with tempfile.TemporaryDirectory(dir="/tmp") as home, tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        os.chmod(home, 0o777)
        os.chmod(memory, 0o777)
        yield _made(Path(home), BASE, THEIRS, None if request.param == "same-mount" else Path(memory))
        remove_tree(Path(home) / "case")


def _made(home: Path, base: dict[str, object], theirs: dict[str, object], state: Path | None = None) -> Case:
    """A case that belongs to the user, with the modes of the two trees."""
    case = make_case(home / "case", base, theirs, state=state)  # type: ignore[arg-type]
    for top in (home / "case", *(state,) * bool(state)):
        for directory, names, files in os.walk(top):
            for name in [*names, *files, "."]:
                os.chown(os.path.join(directory, name), 65534, 65534, follow_symlinks=False)
    return case


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beneath, "syncfs", lambda fd: None)
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def test_everything_is_applied_and_undone_with_every_mode(case: Case) -> None:
    before = snapshot(case.workspace)
    journal = as_user(case, "apply")
    assert tree(case.workspace) == tree(case.theirs)
    assert as_user(case, "recover") == ()
    again = as_user(case, "plan")
    assert not again.steps and not again.conflicts  # type: ignore[attr-defined]
    assert tree(case.workspace) == tree(case.theirs)
    as_user(case, "undo", journal)
    assert snapshot(case.workspace) == before
    assert not list(case.journals.iterdir())


def test_a_plan_alone_leaves_every_mode_and_nothing_behind(case: Case) -> None:
    before = snapshot(case.workspace)
    assert as_user(case, "plan").steps  # type: ignore[attr-defined]
    assert snapshot(case.workspace) == before
    assert not case.journals.exists() or not list(case.journals.iterdir())


@pytest.mark.usefixtures("no_sync")
@pytest.mark.parametrize("verb", ["apply", "undo"])
def test_kill_before_every_call(case: Case, verb: str) -> None:
    before, after = snapshot(case.workspace), tree(case.theirs)

    def work() -> None:
        journal = as_user(case, "apply")
        if verb == "undo":
            started.append(journal)
            as_user(case, "undo", journal)

    started: list[object] = []
    for nth in itertools.count(1 if verb == "apply" else 60, 1 if verb == "apply" else 2):
        how = in_child(work, nth)
        in_child(lambda: as_user(case, "recover"), 1 + nth % 29)
        as_user(case, "recover")
        if snapshot(case.workspace) != before:
            assert tree(case.workspace) == after, f"call {nth}"
            for journal in case.journals.iterdir():
                as_user(case, "undo", journal)
            assert snapshot(case.workspace) == before, f"call {nth}"
        assert not case.journals.exists() or not list(case.journals.iterdir()), f"call {nth}"
        if how == "unreached":
            break
        assert how == "killed"
    assert nth > 100


@pytest.mark.usefixtures("no_sync")
def test_a_directory_made_again_with_the_inode_of_the_one_that_was_opened(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ext4 gives it: then it counts as opened, and what is above it must not be locked before it gets its mode."""
    before = snapshot(case.workspace)
    journal = as_user(case, "apply")
    _kill_where(case, "undo", journal, lambda: not (case.workspace / "new").exists())
    real, remade = rollback._unrmdir, []

    def with_that_inode(ground: Ground, step: Move, parent: int, name: str) -> rollback.Stuck | None:
        if step.path == "new/in":
            with monkeypatch.context() as inside:
                inside.setattr(rollback, "move", moved)
                opened.append(ground.directories.opened[step.path])
                return real(ground, step, parent, name)
        return real(ground, step, parent, name)

    def moved(stage: int, slot: str, parent: int, name: str) -> None:
        moves.move(stage, slot, parent, name)
        opened[-1].ino = os.stat(name, dir_fd=parent).st_ino
        remade.append(name)

    opened: list[Opened] = []
    monkeypatch.setitem(rollback._BACK, "rmdir", with_that_inode)
    as_user(case, "recover")
    assert remade == ["in"] and tree(case.workspace) == tree(case.theirs)
    as_user(case, "undo", journal)
    assert snapshot(case.workspace) == before


def _kill_where(case: Case, verb: str, journal: object, reached: Callable[[], bool]) -> None:
    """Begin ``verb`` and end the process, as kill -9 does, after the first move that makes ``reached`` true."""
    child = os.fork()
    if not child:
        real = transaction._run

        def step(*arguments: object) -> None:
            real(*arguments)  # type: ignore[arg-type]
            if reached():
                os._exit(9)

        transaction._run = step  # type: ignore[assignment]
        as_user(case, verb, journal)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_a_directory_that_was_locked_since_the_start_is_respected(case: Case) -> None:
    for name, mode in (("d", 0o555), ("d", 0o100)):
        os.chmod(case.workspace / name, mode)
        before = snapshot(case.workspace)
        with pytest.raises(UnableError, match=f"'{name}'.* since the start") as error:
            as_user(case, "apply")
        assert error.value.exit_code == 3 and error.value.hint
        assert snapshot(case.workspace) == before
        os.chmod(case.workspace / name, 0o755)


def test_another_owners_directory_is_not_opened_and_named_whole(case: Case) -> None:
    os.chown(case.workspace / "d/e", 0, 0)
    before = snapshot(case.workspace)
    with pytest.raises(UnableError, match="'d/e'"):
        as_user(case, "apply")
    assert snapshot(case.workspace) == before


def test_an_error_in_the_middle_gives_every_mode_back(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(case.workspace)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("overlayws.apply.execute.check_originals", full)
    with pytest.raises(UnableError):
        as_user(case, "apply")
    assert snapshot(case.workspace) == before
    assert not list(case.journals.iterdir())


def test_a_damaged_list_of_opened_directories_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    log = Log(tmp_path / "journal", tmp_path)
    (tmp_path / "d").mkdir(0o500)
    log.add("d", (tmp_path / "d").stat().st_ino, 0o500)
    data = log.path.read_bytes()
    assert Log(log.path.parent, tmp_path).load().opened["d"].mode == 0o500
    log.path.write_bytes(data.replace(b'"d"', b'"e"'))
    with pytest.raises(JournalError):
        Log(log.path.parent, tmp_path).load()
    log.path.write_bytes(data[:-5])  # the crash came while it was written, so the directory was not opened yet
    assert Log(log.path.parent, tmp_path).load().opened == {}


def test_a_mode_that_somebody_changed_meanwhile_stays() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        os.chmod(home, 0o777)
        with ordinary_user():
            os.mkdir(f"{home}/d", 0o000)
            os.mkdir(f"{home}/e", 0o000)
            with Reach(Path(home), Log(Path(home) / "journal", Path(home)), WRITING) as directories:
                directories.open("d")
                directories.open("e")
                os.chmod(f"{home}/d", 0o711)
                directories.close_opened()
        assert stat.S_IMODE(os.stat(f"{home}/d").st_mode) == 0o711
        assert stat.S_IMODE(os.stat(f"{home}/e").st_mode) == 0o000


def test_a_symlink_in_the_place_of_a_locked_directory_is_not_followed() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        os.chmod(home, 0o777)
        with ordinary_user():
            os.makedirs(f"{home}/ws/d")
            os.mkdir(f"{home}/victim", 0o000)
            os.chmod(f"{home}/ws/d", 0o000)
            with Reach(Path(home) / "ws", Log(Path(home) / "journal", Path(home)), READING) as directories:
                directories.open("d")
                os.rename(f"{home}/ws/d", f"{home}/ws/moved")
                os.symlink("../victim", f"{home}/ws/d")
                directories.forget()
                for opening in (directories.open, directories._open_all):  # the second: swapped in between
                    with pytest.raises(OSError):
                        opening("d")
                directories.close_opened()
        assert stat.S_IMODE(os.stat(f"{home}/victim").st_mode) == 0o000


def test_files_of_every_mode_in_a_locked_directory(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        os.chmod(home, 0o777)
        base = {"d/f": File(b"a", 0o400)}
        theirs = {"d/f": File(b"b", 0o000), "d/g": File(b"b", 0o200), "d": Dir(0o000)}
        case = _made(Path(home), base, theirs)  # type: ignore[arg-type]
        before = snapshot(case.workspace)
        journal = as_user(case, "apply")
        assert tree(case.workspace) == tree(case.theirs)
        as_user(case, "undo", journal)
        assert snapshot(case.workspace) == before
        remove_tree(Path(home) / "case")
