"""Sessions and the bases that they share: who needs which, and when one is dropped."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from overlayws import api, upkeep
from overlayws.session.record import DamagedSession
from overlayws.session.session import Session
from overlayws.session.store import Store
from tests.base.test_shelf import settle
from tests.trees import make_tree, read_tree


@pytest.fixture
def ws(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "ws", {"a": "1\n", "b": "2\n", ".env": "K=1"})


@pytest.fixture
def store() -> Store:
    return upkeep.default_store()


def start(ws: Path, name: str) -> Session:
    settle()
    return api.start(ws, name=name, backend="copy", confinement=api.Confinement("none"), git="none")


def bases(store: Store) -> set[str]:
    return {name for name in os.listdir(store.home / "bases") if not name.startswith(".")}


def test_two_sessions_share_a_base_and_do_not_see_each_others_changes(ws: Path, store: Store) -> None:
    one, two = start(ws, "one"), start(ws, "two")
    assert one.base_id == two.base_id and one.base == two.base and bases(store) == {one.base_id}
    api.run(one, ["sh", "-c", "echo changed > a; rm b"])
    assert {c.path for c in api.scan(one).changes} == {"a", "b"} and not api.scan(two).changes
    assert set(read_tree(two.layer.lowerdir)) == {"a", "b"}


def test_what_a_session_changed_needs_its_base_and_that_is_durable_before_it_is_noted(
    ws: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    fsync = os.fsync

    def told(fd: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", told)
    one = start(ws, "one")
    assert str(one.manifest) not in flushed  # nothing would be lost with it, and a start does not wait for the disk
    flushed.clear()
    api.run(one, ["sh", "-c", "echo changed > a"])
    capture = [path for path in flushed if "/captures/" in path][-1]
    assert flushed.index(str(one.manifest)) < flushed.index(capture)


def test_discarding_one_session_leaves_the_base_of_the_other(ws: Path, store: Store) -> None:
    one, two = start(ws, "one"), start(ws, "two")
    api.discard(one)
    assert upkeep.drop_bases(store) == []
    api.run(two, ["sh", "-c", "echo changed > a"])
    assert [c.path for c in api.scan(two).changes] == ["a"]
    api.discard(two)
    assert upkeep.drop_bases(store) == [two.base_id] and bases(store) == set()


def test_a_start_drops_what_no_session_needs_but_keeps_the_newest_base(ws: Path, store: Store) -> None:
    kept = start(ws, "kept")
    ids = []
    for text in ("x", "y"):
        (ws / "a").write_text(text)
        ids.append(start(ws, f"s{text}"))
        api.discard(ids[-1])
    assert bases(store) == {kept.base_id, ids[-1].base_id}
    assert start(ws, "again").base_id == ids[-1].base_id


def test_a_damaged_session_keeps_its_base(ws: Path, store: Store) -> None:
    one = start(ws, "one")
    path = one.directory / "session.json"
    path.write_bytes(path.read_bytes() + b"}")
    assert upkeep.drop_bases(store) == []
    upkeep.gc(store, ["one"], damaged=True)
    assert upkeep.drop_bases(store) == [one.base_id]


@pytest.mark.parametrize("evil", ["../../ws", "..", "/etc", "x", "0123456789abcdef-0123456", 7])
def test_a_base_id_that_is_none_is_a_damaged_session(ws: Path, store: Store, evil: object) -> None:
    one = start(ws, "one")
    path = one.directory / "session.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "base_id": evil}))
    with pytest.raises(DamagedSession):
        store.load("one")


def test_a_start_that_fails_leaves_no_session_and_a_whole_base(ws: Path, store: Store) -> None:
    start(ws, "one")
    with pytest.raises(api.UsageError, match="exists"):
        start(ws, "one")
    assert store.names() == ["one"] and len(bases(store)) == 1
