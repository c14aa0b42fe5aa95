"""execute: laws, the order of things, what is not accepted."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from overlayws import beneath
from overlayws.apply import journal as journal_module
from overlayws.apply import transaction
from overlayws.apply.execute import execute
from overlayws.changes.change import Change
from overlayws.changes.contents import TreeContents
from overlayws.errors import OverlaywsError, UnableError, UsageError
from overlayws.source.entry import Entry, Kind
from tests.apply.build import Case, make_case, snapshot, tree
from tests.trees import make_tree


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
