"""What the base has x what the program made of it x what the workspace has now: every combination."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from overlayws.apply.conflicts import ConflictError
from tests.apply.build import Case, make_case, snapshot, tree
from tests.trees import Node, Symlink, make_tree

STATES: dict[str, Mapping[str, Node]] = {
    "nothing": {},
    "a": {"d": "a\n"},
    "b": {"d": "b\n"},
    "c": {"d": "c\n"},
    "link": {"d": Symlink("other")},
    "link2": {"d": Symlink("elsewhere")},
    "dir": {"d/x": "x\n"},
    "dir+": {"d/x": "x\n", "d/user": "u\n"},
}
ROWS = list(itertools.product(("nothing", "a", "link", "dir"), ("nothing", "a", "b", "link", "dir"), STATES))


def outcome(base: str, theirs: str, now: str) -> str:
    if theirs in (base, now):
        return "as it is"
    if now == base:
        return "theirs"
    if theirs == "dir" and now == "dir+":
        return "as it is"
    if (base, theirs, now) == ("dir", "nothing", "dir+"):
        return "user"
    return "conflict"


def _case(home: Path, base: str, theirs: str, now: str) -> Case:
    case = make_case(home, {"other": "o\n", **STATES[base]}, {"other": "o\n", **STATES[theirs]})
    if now != base:
        where = case.workspace / "d"
        if where.is_dir() and not where.is_symlink():
            shutil.rmtree(where)
        elif os.path.lexists(where):
            where.unlink()
        make_tree(case.workspace, STATES[now])
    return case


def _expected(case: Case, name: str) -> dict[str, tuple[object, ...]]:
    return tree(make_tree(case.home / f"expected-{name}", {"other": "o\n", **STATES.get(name, {"d/user": "u\n"})}))


@pytest.mark.parametrize(("base", "theirs", "now"), ROWS)
def test_outcome(tmp_path: Path, base: str, theirs: str, now: str) -> None:
    case = _case(tmp_path, base, theirs, now)
    before = snapshot(case.workspace)
    expected = outcome(base, theirs, now)
    plan = case.plan()
    if expected == "conflict":
        assert plan.conflicts and not plan.refused
        with pytest.raises(ConflictError):
            case.execute(plan)
        assert snapshot(case.workspace) == before
        assert not case.journals.exists()
        return
    assert not plan.conflicts
    journal = case.execute(plan)
    result = {"as it is": now, "theirs": theirs, "user": "user"}[expected]
    assert tree(case.workspace) == _expected(case, result)
    assert journal.exists() == bool(plan.steps)
    if expected == "as it is":
        assert not plan.steps
        assert snapshot(case.workspace) == before
    else:
        again = case.plan()
        assert not again.steps and not again.conflicts, "applied twice is applied once"
        case.undo(journal)
        assert snapshot(case.workspace) == before


@pytest.mark.parametrize(("base", "theirs", "now"), [row for row in ROWS if outcome(*row) == "conflict"])
def test_ours_leaves_the_workspace_and_theirs_takes_the_change_but_empties_no_directory(
    tmp_path: Path, base: str, theirs: str, now: str
) -> None:
    case = _case(tmp_path, base, theirs, now)
    before = snapshot(case.workspace)
    kept = case.plan(on_conflict="ours")
    assert not kept.conflicts and kept.notes
    if now not in ("dir", "dir+"):  # of a directory, what the user did not touch is removed
        assert not kept.steps
        case.execute(kept)
        assert snapshot(case.workspace) == before
    taken = case.plan(on_conflict="theirs")
    if now in ("dir", "dir+"):
        assert taken.conflicts
        return
    journal = case.execute(taken)
    assert tree(case.workspace) == _expected(case, theirs)
    case.undo(journal)
    assert snapshot(case.workspace) == before
