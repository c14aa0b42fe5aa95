from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from overlayws import upkeep
from overlayws.errors import UntrustedError
from overlayws.session.session import Session
from overlayws.session.store import Store


def saved(store: Store, name: str, state: str) -> Session:
    with store.creating(name) as (final, scratch):
        store.save(Session(final, scratch, Path("/ws"), "2026-01-01", "copy", "bwrap", False, state=state))
    return store.load(name)


def test_a_session_that_was_used_between_the_question_and_the_answer_is_left(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    used, done = saved(store, "used", "applied"), saved(store, "done", "discarded")
    names = upkeep.finished(store)
    assert names == ["done", "used"]
    store.save(replace(used, state="captured"))
    said: list[str] = []
    assert upkeep.gc(store, names, talk=upkeep.Talk(warning=said.append)) == ["done"]
    assert store.names() == ["used"] and "used meanwhile" in said[0] and done.name not in store.names()


def test_one_session_that_cannot_be_read_does_not_stop_the_others_and_gc_removes_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    saved(store, "whole", "captured")
    (store.sessions / "odd/session.json").mkdir(parents=True)
    sessions, damaged = store.all()
    assert [s.name for s in sessions] == ["whole"] and [d.session for d in damaged] == ["odd"]
    with pytest.raises(UntrustedError):
        store.load("odd")
    assert upkeep.gc(store, upkeep.finished(store, damaged=True), damaged=True) == ["odd"]


def test_a_session_whose_engine_has_something_of_it_is_kept_until_that_is_removed(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    for name in ("owes", "done"):
        saved(store, name, "applied")
    owes = store.load("owes")
    owes.owed.write_text('{"engine": "/nowhere/docker.sock"}\n')
    upkeep.recover(store)  # nobody answers
    assert owes.owed.exists() and [s.name for s in upkeep.owing(store)] == ["owes"]
    assert upkeep.finished(store) == ["done"]
    said: list[str] = []
    assert upkeep.gc(store, ["owes", "done"], talk=upkeep.Talk(warning=said.append)) == ["done"]
    assert store.names() == ["owes"] and len(said) == 1
    assert upkeep.gc(store, upkeep.finished(store, damaged=True), damaged=True) == ["owes"]


def test_a_session_that_is_just_being_made_is_not_swept_before_it_is_locked(tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    store.prepare()
    (store.sessions / ".starting-young-1").mkdir()
    assert store.sweep() == []
