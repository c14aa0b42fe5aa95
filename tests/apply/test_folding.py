"""A real file system that folds names (``folding.py``): twins are refused, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from overlayws.apply.transaction import DriftError
from tests.apply import folding
from tests.apply.build import Case, make_case, reasons, snapshot, tree
from tests.trees import Dir, Node, make_tree

pytestmark = pytest.mark.fuse
COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
Folded = Callable[..., Case]


@contextmanager
def mounted(place: Path, *only: str) -> Iterator[Path]:
    backing, mount = place / "backing", place / "mount"
    for directory in (backing, mount):
        directory.mkdir(parents=True)
    child = subprocess.Popen([sys.executable, folding.__file__, backing, mount, *only])
    try:
        while not os.path.ismount(mount):
            assert child.poll() is None
            time.sleep(0.02)
        yield mount
    finally:
        subprocess.run(["fusermount", "-u", mount], check=child.poll() is None)
        child.wait(10)


@pytest.fixture
def folded(tmp_path: Path) -> Iterator[Folded]:
    """Makes a case whose workspace is on a file system that folds names."""
    with ExitStack() as stack:

        def make(
            base: Mapping[str, Node],
            theirs: Mapping[str, Node],
            hidden: Mapping[str, Node] | None = None,
            only: str = "",
        ) -> Case:
            made = make_case(tmp_path / "home", base, theirs, hidden)
            mount = stack.enter_context(mounted(tmp_path / "fuse", *([only] if only else [])))
            # The manifest knows other inodes: everything is compared by content, as after a clone of the workspace.
            shutil.copytree(made.workspace, mount / "Work", symlinks=True)
            return replace(made, workspace=mount / "Work")

        yield make


def test_apply_and_undo_where_names_fold(folded: Folded) -> None:
    base = {"Makefile": "1\n", "Src/a": "a\n", "Src/gone": "g\n", "old/x": "x\n", COMPOSED: "c\n"}
    theirs = {"Makefile": "2\n", "Src/a": "a\n", "Src/new": "n\n", "New/deep/f": "f\n", COMPOSED: "C\n", "F": "f\n"}
    case = folded(base, theirs)
    before = snapshot(case.workspace)
    journal = case.apply()
    assert tree(case.workspace) == tree(case.theirs)
    case.undo(journal)
    assert snapshot(case.workspace) == before


@pytest.mark.parametrize(
    ("base", "twins"),
    [
        ({"x": "x\n"}, {"Makefile": "1\n", "makefile": "2\n"}),
        ({"x": "x\n"}, {COMPOSED: "1\n", DECOMPOSED: "2\n"}),
        ({"x": "x\n"}, {"New/a": "1\n", "new/b": "2\n"}),
        ({"1/.keep": "x\n"}, {"1/A": "1\n", "1/a": "2\n"}),
        ({"Empty": Dir(), "x": "x\n"}, {"Empty/A": "1\n", "Empty/a": "2\n"}),
        ({"1": "x\n"}, {"A": "1\n", "a": "2\n"}),  # no name in it tells that it folds
        ({"Src/f": "f\n"}, {"Src/f": "f\n", "src/g": "2\n"}),
    ],
)
def test_twins_are_refused_and_the_rest_can_be_applied(
    folded: Folded, base: dict[str, Node], twins: dict[str, Node]
) -> None:
    case = folded(base, {**base, **twins, "rest": "r\n"})
    before = snapshot(case.workspace)
    plan = case.plan(on_conflict="theirs")
    assert set(reasons(plan).values()) == {"twins"}
    assert snapshot(case.workspace) == before
    case.execute(plan, skip_refused=True)
    assert tree(case.workspace).keys() == {*tree(case.base).keys(), "rest"}


def test_a_rename_of_case_alone_loses_nothing(folded: Folded) -> None:
    base = {"readme": "r\n", "dir/in": "i\n", COMPOSED: "c\n", "x": "x\n"}
    case = folded(base, {"README": "r\n", "Dir/in": "i\n", DECOMPOSED: "c\n", "x": "2\n"})
    before = snapshot(case.workspace)
    plan = case.plan(on_conflict="theirs")
    assert reasons(plan) == dict.fromkeys(
        ["readme", "README", "dir", "dir/in", "Dir", "Dir/in", COMPOSED, DECOMPOSED], "twins"
    )
    journal = case.execute(plan, skip_refused=True)
    assert tree(case.workspace).keys() == tree(case.base).keys() and (case.workspace / "x").read_text() == "2\n"
    case.undo(journal)
    assert snapshot(case.workspace) == before


@pytest.mark.parametrize("name", [".ENV", "D/.env", "d/.Env"])
def test_a_hidden_file_is_not_reached_under_another_spelling(folded: Folded, name: str) -> None:
    hidden = {".env": "SECRET=1\n", "d/.env": "SECRET=2\n"}
    case = folded({"d/f": "f\n"}, {"d/f": "f\n", name: "mine\n"}, hidden)
    for choice in ("theirs", "markers"):
        plan = case.plan(on_conflict=choice)
        assert reasons(plan)[name] == "twins" and not plan.steps
    assert {path: (case.workspace / path).read_text() for path in hidden} == hidden


def test_what_the_user_made_meanwhile_is_not_replaced_by_its_twin(folded: Folded) -> None:
    case = folded({"x": "x\n"}, {"x": "x\n", "makefile": "theirs\n", COMPOSED: "theirs\n"})
    make_tree(case.workspace, {"Makefile": "mine\n", DECOMPOSED: "mine\n"})
    assert reasons(case.plan(on_conflict="theirs")) == {"makefile": "twins", COMPOSED: "twins"}


def test_a_rename_of_letters_alone_loses_nothing_where_only_they_fold(folded: Folded) -> None:
    base = {f"d/{COMPOSED}": "c\n", "x": "x\n", f"{COMPOSED}s/in": "i\n"}
    theirs = {f"d/{DECOMPOSED}": "c\n", "x": "2\n", f"{DECOMPOSED}s/in": "i\n"}
    case = folded(base, theirs, only="letters")
    plan = case.plan(on_conflict="theirs")
    assert {p for p, why in reasons(plan).items() if why == "twins"} == {c.path for c in case.changes} - {"x"}
    journal = case.execute(plan, skip_refused=True)
    assert tree(case.workspace) == {**tree(case.base), "x": tree(case.theirs)["x"]}
    case.undo(journal)


def test_hard_links_with_names_that_are_alike_are_no_twins(tmp_path: Path) -> None:
    case = make_case(tmp_path, {COMPOSED: "c\n", DECOMPOSED: "c\n"}, {COMPOSED: "1\n", DECOMPOSED: "2\n"})
    (case.workspace / DECOMPOSED).unlink()
    os.link(case.workspace / COMPOSED, case.workspace / DECOMPOSED)
    assert not case.plan(on_conflict="theirs").refused


def test_letters_alone_that_fold_are_found_when_they_meet(folded: Folded) -> None:
    """A file system that takes no case for another, but one letter for two: nothing tells before the second is made."""
    case = folded({"x": "x\n"}, {"x": "2\n", COMPOSED: "1\n", DECOMPOSED: "2\n"}, only="letters")
    before = snapshot(case.workspace)
    plan = case.plan()
    assert not reasons(plan)
    with pytest.raises(DriftError):
        case.execute(plan)
    assert snapshot(case.workspace) == before
