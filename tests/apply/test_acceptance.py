"""The numbered acceptance list of apply, on every backend, through the verbs.

Shown elsewhere, without a backend, because what apply reads is the frozen store, whoever wrote the upperdir: 76
test_race (1,000 trials), 79 test_journal and changes/test_freeze, 80 also there, bit by bit, 81 and 82 test_crash,
test_strace and test_locked, 84 test_unwritable and test_locked (as an ordinary user), 89 test_twins
and, on a real file system that folds names, test_folding.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

import overlayws
from overlayws.apply.conflicts import ConflictError
from overlayws.errors import UntrustedError
from overlayws.session.session import Session
from overlayws.session.store import Store
from tests.apply.build import snapshot
from tests.trees import make_tree, read_tree, stamps

pytestmark = pytest.mark.bwrap
BACKEND = [
    pytest.param("kernel", marks=pytest.mark.kernel),
    pytest.param("userns", marks=pytest.mark.userns),
    pytest.param("copy"),
]
WORKSPACE = {
    "a": "1\n2\n3\n4\n5\n6\n7\n",
    "b": "b\n",
    "gone": "g\n",
    "link-to-be": "l\n",
    "d/f": "f\n",
    "d/.env": "SECRET=1\n",
    "p/q/f": "f\n",
    "twin": "t\n",
    ".env": "SECRET=1\n",
    "s/f": "f\n",
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state")


@pytest.fixture(params=BACKEND)
def session(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> Session:
    ws = make_tree(tmp_path / "ws", WORKSPACE)
    return overlayws.start(ws, store=store, backend=request.param, git="none")


def did(session: Session, store: Store, script: str) -> Session:
    assert overlayws.run(session, ["sh", "-euc", script], store=store).exit_code == 0
    return store.load(session.name)


def reasons(error: pytest.ExceptionInfo[ConflictError]) -> dict[str, str]:
    return {conflict.path: conflict.reason for conflict in error.value.conflicts}


def test_71_what_was_captured_is_what_is_applied(session: Session, store: Store) -> None:
    session = did(session, store, "echo reviewed > b; echo reviewed > n")
    for name in ("b", "n"):
        (session.layer.upperdir / name).write_text("planted after the review\n")
    overlayws.apply(session, store=store)
    assert (session.workspace / "b").read_text() == (session.workspace / "n").read_text() == "reviewed\n"


def test_72_to_75_the_users_edits_are_merged_or_in_the_way(session: Session, store: Store) -> None:
    ws = session.workspace
    did(
        session,
        store,
        "sed -i s/2/two/ a; echo 2 > b; echo 2 > gone; echo 2 > link-to-be; echo 2 > p/q/f; echo n > p/q/n",
    )
    victim = make_tree(ws.parent / "victim", {"f": "victim\n", "q/f": "victim\n"})
    (ws / "a").write_text("1\n2\n3\n4\n5\n6\nmine\n")
    (ws / "b").write_text("mine\n")
    (ws / "gone").unlink()
    (ws / "link-to-be").unlink()
    (ws / "link-to-be").symlink_to(victim / "f")
    os.rename(ws / "p", ws / "moved")
    (ws / "p").symlink_to(victim)
    before, untouched = snapshot(ws), stamps(victim)
    with pytest.raises(ConflictError) as error:
        overlayws.apply(session, store=store)
    assert error.value.exit_code == 1 and error.value.hint
    assert reasons(error) == {
        "b": "content", "gone": "deleted", "link-to-be": "kind", "p/q/f": "parent-symlink", "p/q/n": "parent-symlink",
    }  # fmt: skip
    assert snapshot(ws) == before
    overlayws.apply(session, ["a"], store=store)
    assert (ws / "a").read_text() == "1\ntwo\n3\n4\n5\n6\nmine\n"
    overlayws.apply(session, ["link-to-be", "gone"], store=store, on_conflict="theirs")
    assert not (ws / "link-to-be").is_symlink() and (ws / "gone").read_text() == "2\n"
    assert stamps(victim) == untouched


def test_77_and_78_what_is_hidden_is_never_touched(session: Session, store: Store) -> None:
    ws = session.workspace
    did(session, store, "echo mine > .env; rm -r d")
    for force in ("theirs", "ours", "markers"):
        with pytest.raises(ConflictError) as error:
            overlayws.apply(session, store=store, on_conflict=force, allow=["symlink-outside"])
        assert reasons(error)[".env"] == "hidden-original"
    overlayws.apply(session, store=store, skip_refused=True)
    assert (ws / ".env").read_text() == "SECRET=1\n"
    assert read_tree(ws / "d").keys() == {".env"} and (ws / "d/.env").read_text() == "SECRET=1\n"


@pytest.mark.parametrize("name", ["manifest", "pack"])
def test_80_a_bit_that_changed_is_found_before_anything_is_written(session: Session, store: Store, name: str) -> None:
    session = did(session, store, "echo 2 > a; echo n > n")
    before = snapshot(session.workspace)
    (damaged,) = session.captures.glob(f"*/{name}")
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(UntrustedError) as error:
        overlayws.apply(session, store=store)
    assert error.value.exit_code == 4 and error.value.hint
    assert snapshot(session.workspace) == before


def test_83_85_and_86_twice_is_once_and_modes_times_and_links_are_as_promised(session: Session, store: Store) -> None:
    ws = session.workspace
    os.link(ws / "twin", ws.parent / "other-name")
    did(session, store, "echo 2 > twin; echo x > s/x; chmod 04777 s/x; mkdir w; chmod 01777 w; touch -d 2001-01-01 s/x")
    started = time.time() - 1
    overlayws.apply(session, store=store)
    assert stat.S_IMODE((ws / "s/x").stat().st_mode) == 0o755 and stat.S_IMODE((ws / "w").stat().st_mode) == 0o755
    assert (ws / "s/x").stat().st_mtime > started
    assert (ws.parent / "other-name").read_text() == "t\n" and (ws / "twin").read_text() == "2\n"
    after = stamps(ws)
    assert not overlayws.apply(session, store=store).steps
    assert stamps(ws) == after


def test_87_and_88_a_selection_is_that_and_no_more(session: Session, store: Store) -> None:
    ws = session.workspace
    did(session, store, "mkdir -p -m 700 new/deep; echo 1 > new/deep/f; echo 2 > new/deep/f.bak; rm -r s; ln -s p s;"
        "rm b; mkdir b; echo 3 > b/in; mkdir q; ln -s ../p q/l")  # fmt: skip
    overlayws.apply(session, ["new/deep/f"], store=store)
    assert read_tree(ws / "new").keys() == {"deep", "deep/f"}
    assert stat.S_IMODE((ws / "new/deep").stat().st_mode) == 0o755
    before = snapshot(ws)
    with pytest.raises(ConflictError) as error:
        overlayws.apply(session, ["b/in"], store=store)
    assert reasons(error) == {"b/in": "parent-not-a-directory"} and "'b'" in error.value.message
    assert snapshot(ws) == before
    overlayws.apply(session, ["b", "s"], store=store)
    assert (ws / "b/in").read_text() == "3\n" and (ws / "s").is_symlink()


def test_90_discard_leaves_the_host_as_it_was(session: Session, store: Store) -> None:
    before = stamps(session.workspace)
    session = did(session, store, "echo 2 > b; rm -r d; echo n > n; mkdir -m 0 locked")
    overlayws.discard(session, store=store)
    assert stamps(session.workspace) == before
    assert not session.layer.upperdir.exists() and store.load(session.name).state == "discarded"
    assert not any(session.captures.iterdir()) if session.captures.exists() else True


def test_two_sessions_one_after_the_other_the_second_sees_drift(session: Session, store: Store) -> None:
    ws = session.workspace
    other = overlayws.start(ws, store=store, backend=session.backend, git="none")
    did(session, store, "sed -i s/2/two/ a; echo first > b")
    did(other, store, "sed -i s/6/six/ a; echo second > b")
    overlayws.apply(session, store=store)
    with pytest.raises(ConflictError) as error:
        overlayws.apply(other, store=store)
    assert reasons(error) == {"b": "content"}
    overlayws.apply(other, store=store, on_conflict="markers")
    assert (ws / "a").read_text() == "1\ntwo\n3\n4\n5\nsix\n7\n"
    assert (ws / "b").read_text().count("first") == (ws / "b").read_text().count("second") == 1
    overlayws.undo(other, store=store)
    overlayws.undo(session, store=store)
    assert (ws / "b").read_text() == "b\n"
