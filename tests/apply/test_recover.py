"""recover after a crash, where the user (or a tool) edited in between: their bytes are never touched."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from overlayws.apply import execute as module
from overlayws.apply.journal import Ground
from overlayws.apply.record import JournalError, Record
from overlayws.apply.recover import LeftOver, recover
from overlayws.apply.transaction import run
from tests.apply.build import Case, make_case, paths, snapshot, tree
from tests.apply.crash import in_child
from tests.apply.test_crash import BASE, THEIRS


def crash(case: Case, monkeypatch: pytest.MonkeyPatch, work: Callable[[], object] | None = None) -> None:
    """Die when all moves are made and nothing is committed."""

    def die(ground: Ground, record: Record) -> None:
        run(ground, (move for move in record.moves if move.locks))
        os._exit(0)

    pid = os.fork()
    if pid == 0:
        try:
            module.check_originals = die  # type: ignore[assignment]
            (work or case.apply)()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_an_interrupted_apply_is_rolled_back_and_told(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(case.workspace)
    crash(case, monkeypatch)
    visible = {path: state for path, state in tree(case.workspace).items() if not path.startswith(".overlayws-apply-")}
    assert visible == tree(case.theirs)
    (line,) = case.recover()
    assert "rolled back" in line and str(case.workspace) in line
    assert snapshot(case.workspace) == before
    assert case.recover() == ()


@pytest.mark.parametrize("how", ["in place", "replaced"])
@pytest.mark.parametrize("path", ["mod", "d2f", "link", "xattr", "f2d/in"])
def test_an_edit_after_the_crash_stays_and_the_original_is_kept(
    case: Case, monkeypatch: pytest.MonkeyPatch, path: str, how: str
) -> None:
    original = (case.workspace / path).read_bytes() if path in ("mod", "xattr") else None
    crash(case, monkeypatch)
    where = case.workspace / path
    if how == "replaced" or where.is_symlink():
        where.unlink()
    where.write_text("the user's work\n")
    with pytest.raises(LeftOver) as error:
        case.recover()
    assert error.value.exit_code == 4
    assert where.read_text() == "the user's work\n"
    if original is not None:
        (kept,) = re.findall(r"its original: ([^)]*)\)", error.value.message)
        assert Path(kept).read_bytes() == original
    assert not [name for name in os.listdir(case.workspace) if name.startswith(".overlayws")]
    # Told once: the journal keeps the original, and the next command goes on.
    assert case.recover() == ()
    # All else is as before.
    found, base = tree(case.workspace), tree(case.base)
    assert {p for p in {*found, *base} if found.get(p) != base.get(p)} <= {
        path,
        path.split("/")[0],
        "d2f/x" if path == "d2f" else path,
    }


def test_a_file_where_one_was_removed_stays(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    crash(case, monkeypatch)
    (case.workspace / "gone").mkdir()
    (case.workspace / "gone/one").write_text("the user's\n")
    with pytest.raises(LeftOver) as error:
        case.recover()
    (kept,) = re.findall(r"its original: ([^)]*)\)", error.value.message)
    assert Path(kept).read_text() == "1"
    assert (case.workspace / "gone/one").read_text() == "the user's\n"


def test_a_file_in_a_directory_that_was_made_stays(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    crash(case, monkeypatch)
    (case.workspace / "new/mine").write_text("the user's\n")
    with pytest.raises(LeftOver):
        case.recover()
    assert [p for p in paths(case.workspace) if p.startswith("new")] == ["new", "new/mine"]


def test_a_directory_that_the_user_removed_does_not_lose_the_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(tmp_path, {"d/f": "a\n"}, {"d/f": "b\n"})
    crash(case, monkeypatch)
    shutil.rmtree(case.workspace / "d")
    with pytest.raises(LeftOver) as error:
        case.recover()
    (kept,) = re.findall(r"its original: ([^)]*)\)", error.value.message)
    assert Path(kept).read_text() == "a\n"


def _quietly(case: Case) -> None:
    with suppress(LeftOver):
        case.recover()


def test_kill_at_every_call_of_a_recover_that_keeps_something(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    from overlayws import beneath

    monkeypatch.setattr(beneath, "syncfs", lambda fd: None)
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    for nth in range(1, 1000):
        crash(case, monkeypatch)
        (case.workspace / "mod").write_text("the user's\n")
        how = in_child(lambda: _quietly(case), nth)
        try:
            case.recover()
        except LeftOver as error:
            assert "'mod'" in error.message
        assert (case.workspace / "mod").read_text() == "the user's\n"
        assert not [name for name in os.listdir(case.workspace) if name.startswith(".overlayws")]
        (journal,) = case.journals.iterdir()
        originals = [
            *(journal / "stage").iterdir(),
            *((journal / "kept").iterdir() if (journal / "kept").exists() else ()),
        ]
        assert [original.read_text() for original in originals] == ["a\n"], nth
        (case.workspace / "mod").write_text("a\n")
        assert tree(case.workspace) == tree(case.base)
        shutil.rmtree(journal)
        if how == "unreached":
            return
    raise AssertionError("recover does not end")


def test_an_interrupted_undo_is_rolled_back_to_the_apply(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(case.workspace)
    journal = case.apply()
    after = snapshot(case.workspace)
    crash(case, monkeypatch, lambda: case.undo(journal))
    (line,) = case.recover()
    assert "undo" in line
    assert snapshot(case.workspace) == after
    case.undo(journal)
    assert snapshot(case.workspace) == before


def test_another_directory_at_the_workspaces_path_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(tmp_path, BASE, THEIRS)
    crash(case, monkeypatch)
    os.rename(case.workspace, tmp_path / "away")
    shutil.copytree(tmp_path / "away", case.workspace, symlinks=True)
    copied = snapshot(case.workspace)
    with pytest.raises(JournalError):
        case.recover()
    assert snapshot(case.workspace) == copied
    shutil.rmtree(case.workspace)
    os.rename(tmp_path / "away", case.workspace)
    case.recover()
    assert tree(case.workspace) == tree(case.base)


def test_journals_of_another_workspace_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(tmp_path, BASE, THEIRS)
    crash(case, monkeypatch)
    assert recover(case.journals, tmp_path) == ()
    assert len(recover(case.journals)) == 1
