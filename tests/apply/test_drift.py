"""Edits that come between plan and execute, and in the middle of execute."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from overlayws import beneath
from overlayws.apply import transaction
from overlayws.apply.transaction import DriftError
from tests.apply.build import Case, snapshot, tree
from tests.trees import make_tree


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
