"""A session is applied, its program goes on, and it is applied again: no edit of the user's is in between."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import overlayws
from overlayws.apply.conflicts import ConflictError
from overlayws.session.session import Session
from overlayws.session.store import Store
from tests.trees import make_tree


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state")


def started(tmp_path: Path, store: Store) -> Session:
    ws = make_tree(tmp_path / "ws", {"a": "one\n", "b": "one\n", "gone": "x\n", "keep": "k\n"})
    return overlayws.start(ws, store=store, backend="copy", git="none")


def change(session: Session, store: Store, script: str) -> None:
    assert overlayws.run(session, ["sh", "-c", script], store=store).exit_code == 0


@pytest.mark.bwrap
def test_what_the_program_changed_twice_is_applied_twice(tmp_path: Path, store: Store) -> None:
    session = started(tmp_path, store)
    change(session, store, "echo two > a; echo new > added; ln -s a link")
    overlayws.apply(session, store=store)
    change(session, store, "echo three > a; rm added; echo last > b; ln -sf b link; rm gone")
    overlayws.apply(session, store=store)
    ws = tmp_path / "ws"
    assert (ws / "a").read_text() == "three\n" and (ws / "b").read_text() == "last\n"
    assert (ws / "link").readlink() == Path("b") and not (ws / "gone").exists()
    overlayws.undo(session, store=store)
    assert (ws / "a").read_text() == "two\n" and (ws / "added").read_text() == "new\n" and (ws / "gone").exists()
    overlayws.undo(session, store=store)
    assert (ws / "a").read_text() == "one\n" and not (ws / "added").exists()


@pytest.mark.bwrap
def test_an_edit_of_the_users_in_between_is_still_a_conflict(tmp_path: Path, store: Store) -> None:
    session = started(tmp_path, store)
    change(session, store, "echo two > a")
    overlayws.apply(session, store=store)
    (tmp_path / "ws/a").write_text("the user's\n")
    change(session, store, "echo three > a")
    with pytest.raises(ConflictError):
        overlayws.apply(session, store=store)
    assert (tmp_path / "ws/a").read_text() == "the user's\n"


@pytest.mark.bwrap
def test_an_edit_of_the_users_that_was_merged_survives_every_further_apply(tmp_path: Path, store: Store) -> None:
    ws = make_tree(tmp_path / "ws", {"f": "1\n2\n3\n4\n5\n6\n", "x": "a\nb\nc\nd\n"})
    session = overlayws.start(ws, store=store, backend="copy", git="none")
    change(session, store, "sed -i s/2/two/ f; chmod +x x")
    (ws / "f").write_text("1\n2\n3\n4\n5\n6\nmine\n")
    (ws / "x").write_text("a\nb\nc\nd\nmine\n")
    overlayws.apply(session, store=store)
    overlayws.apply(session, store=store)
    assert (ws / "f").read_text() == "1\ntwo\n3\n4\n5\n6\nmine\n"
    change(session, store, "sed -i s/4/four/ f; sed -i s/a/A/ x")
    overlayws.apply(session, store=store)
    assert (ws / "f").read_text() == "1\ntwo\n3\nfour\n5\n6\nmine\n"
    assert (ws / "x").read_text() == "A\nb\nc\nd\nmine\n" and os.access(ws / "x", os.X_OK)


@pytest.mark.bwrap
def test_a_mode_and_an_attribute_of_the_users_survive_too(tmp_path: Path, store: Store) -> None:
    session = started(tmp_path, store)
    os.chmod(tmp_path / "ws/a", 0o600)
    os.setxattr(tmp_path / "ws/a", "user.mine", b"1")
    for content in ("two", "three"):
        change(session, store, f"echo {content} > a")
        overlayws.apply(session, store=store)
        assert (tmp_path / "ws/a").read_text() == f"{content}\n"
        assert (tmp_path / "ws/a").stat().st_mode & 0o777 == 0o600
        assert os.getxattr(tmp_path / "ws/a", "user.mine") == b"1"


@pytest.mark.bwrap
def test_the_last_of_several_partial_applies_completes_it(tmp_path: Path, store: Store) -> None:
    session = started(tmp_path, store)
    change(session, store, "echo two > a; echo two > b")
    overlayws.apply(session, ["a"], store=store)
    assert store.load(session.name).state == "partly-applied"
    overlayws.apply(session, ["b"], store=store)
    assert store.load(session.name).state == "applied"


@pytest.mark.bwrap
def test_a_directory_that_git_would_take_for_a_repository_is_refused(tmp_path: Path, store: Store) -> None:
    session = started(tmp_path, store)
    make = "mkdir -p bare/objects bare/refs/heads; touch bare/objects/.k bare/refs/heads/.k; echo x > plain"
    change(session, store, f"{make}; echo 'ref: refs/heads/x' > bare/HEAD; echo '[core]' > bare/config")
    with pytest.raises(ConflictError) as error:
        overlayws.apply(session, store=store)
    assert {c.reason for c in error.value.conflicts} == {"git"}
    overlayws.apply(session, store=store, skip_refused=True)
    assert (tmp_path / "ws/plain").exists() and not (tmp_path / "ws/bare").exists()


@pytest.mark.bwrap
def test_a_repository_that_is_completed_bit_by_bit_is_refused_too(tmp_path: Path, store: Store) -> None:
    ws = make_tree(tmp_path / "ws", {"lib/objects/a": "1\n", "lib/refs/b": "2\n"})
    session = overlayws.start(ws, store=store, backend="copy", git="none")
    change(session, store, "echo 'ref: refs/heads/x' > lib/HEAD")
    with pytest.raises(ConflictError, match="repository"):
        overlayws.apply(session, store=store)
