"""undo: everything comes back, or (where somebody edited since) nothing changes."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from overlayws.apply.execute import EditedError
from overlayws.apply.record import JournalError
from overlayws.errors import UntrustedError
from tests.apply.build import Case, make_case, snapshot, tree
from tests.apply.test_crash import BASE, THEIRS
from tests.trees import Dir


@pytest.mark.parametrize("path", ["mod", "d2f", "f2d/in", "exe", "xattr", "new/file"])
def test_an_edit_since_the_apply_stops_it(case: Case, path: str) -> None:
    journal = case.apply()
    with open(case.workspace / path, "a") as file:
        file.write("edited")
    after = snapshot(case.workspace)
    with pytest.raises(EditedError) as error:
        case.undo(journal)
    assert error.value.paths == (path,) and repr(path) in error.value.message
    assert error.value.exit_code == 1
    assert snapshot(case.workspace) == after
    assert case.recover() == ()


@pytest.mark.parametrize("path", ["mod", "link", "new", "gone", "lock"])
def test_what_is_gone_or_back_or_has_another_mode_stops_it(case: Case, path: str) -> None:
    journal = case.apply()
    where = case.workspace / path
    if path == "gone":
        where.mkdir()
    elif path == "lock":
        os.chmod(where, 0o711)
    elif path == "new":
        shutil.rmtree(where)
    else:
        where.unlink()
    after = snapshot(case.workspace)
    with pytest.raises(EditedError):
        case.undo(journal)
    assert snapshot(case.workspace) == after


def test_a_new_file_in_a_directory_that_apply_made_stops_it(case: Case) -> None:
    journal = case.apply()
    (case.workspace / "new/mine").write_text("mine")
    with pytest.raises(EditedError) as error:
        case.undo(journal)
    assert error.value.paths == ("new",)
    assert (case.workspace / "new/mine").read_text() == "mine"


def test_a_file_that_was_saved_with_the_same_content_does_not(case: Case) -> None:
    before = snapshot(case.workspace)
    journal = case.apply()
    content = (case.workspace / "mod").read_bytes()
    (case.workspace / "mod").unlink()
    (case.workspace / "mod").write_bytes(content)
    case.undo(journal)
    found = snapshot(case.workspace)
    assert {path: value for path, value in found.items() if path != "."} == {
        path: value for path, value in before.items() if path != "."
    }


def test_other_edits_stay_and_their_directory_keeps_its_new_mtime(case: Case) -> None:
    journal = case.apply()
    (case.workspace / "unrelated").write_text("u")
    mtime = os.stat(case.workspace).st_mtime_ns
    case.undo(journal)
    assert (case.workspace / "unrelated").read_text() == "u"
    (case.workspace / "unrelated").unlink()
    assert tree(case.workspace) == tree(case.base)
    assert os.stat(case.workspace).st_mtime_ns >= mtime


def test_the_same_inodes_come_back_on_one_mount(tmp_path: Path) -> None:
    case = make_case(tmp_path, BASE, THEIRS)
    inodes = {name: os.lstat(case.workspace / name).st_ino for name in ("mod", "link", "gone/one", "f2d")}
    case.undo(case.apply())
    assert {name: os.lstat(case.workspace / name).st_ino for name in inodes} == inodes


def test_a_removed_directory_comes_back_with_mode_attributes_and_mtime(case: Case, tmp_path: Path) -> None:
    other = make_case(
        tmp_path / "other",
        {"a/b": Dir(0o750, (("user.k", b"v"),)), "a/b/f": "x"},
        {"a": Dir(0o755)},
        state=case.journals.parent / "other",
    )
    os.utime(other.workspace / "a/b", ns=(1, 1_000_000_007))
    before = snapshot(other.workspace)
    other.undo(other.apply())
    assert snapshot(other.workspace) == before


def test_undo_after_a_failed_undo(case: Case) -> None:
    before = snapshot(case.workspace)
    journal = case.apply()
    (case.workspace / "gone").write_text("in the way")
    with pytest.raises(EditedError):
        case.undo(journal)
    (case.workspace / "gone").unlink()
    case.undo(journal)
    assert {k: v for k, v in snapshot(case.workspace).items() if k != "."} == {
        k: v for k, v in before.items() if k != "."
    }


def test_no_journal_and_twice(case: Case) -> None:
    with pytest.raises(UntrustedError):
        case.undo(case.journals / "none")
    journal = case.apply()
    case.undo(journal)
    with pytest.raises(UntrustedError):
        case.undo(journal)


def test_a_lost_original_is_told_and_nothing_is_changed(case: Case) -> None:
    journal = case.apply()
    for folder in ("stage", "kept"):
        if (journal / folder).is_dir():
            for name in os.listdir(journal / folder):
                (journal / folder / name).unlink()
    after = tree(case.workspace)
    with pytest.raises((JournalError, OSError, UntrustedError)):
        case.undo(journal)
    assert tree(case.workspace) == after


def test_a_kept_copy_that_was_tampered_with_is_told(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as state:
        case = make_case(tmp_path, {"f": "a\n"}, {"f": "b\n"}, state=Path(state))
        journal = case.apply()
        (kept,) = (journal / "kept").iterdir()
        kept.write_text("x\n")
        with pytest.raises(JournalError):
            case.undo(journal)
        assert (case.workspace / "f").read_text() == "b\n"
        assert case.recover() == ()
        kept.write_text("a\n")
        case.undo(journal)
        assert (case.workspace / "f").read_text() == "a\n"
