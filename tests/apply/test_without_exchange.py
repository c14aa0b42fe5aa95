"""File systems that cannot exchange two names."""

from __future__ import annotations

import errno
import os

import pytest

from overlayws import beneath
from overlayws.apply.transaction import DriftError
from tests.apply.build import Case, snapshot, tree


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
