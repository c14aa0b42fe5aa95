"""Extended attributes come only where they are asked for, access lists never; both are told."""

from __future__ import annotations

import inspect
import os
import struct
from pathlib import Path

import pytest

import overlayws
from overlayws.apply.execute import EditedError
from overlayws.changes.change import unsaid
from overlayws.session.session import Session
from overlayws.session.store import Store
from overlayws.source.entry import Entry, Kind
from tests.apply.build import snapshot
from tests.apply.test_acceptance import BACKEND
from tests.trees import File, make_tree


def acl() -> bytes:
    """user::rw- user:OWN:rwx group::r-- mask::rwx other::r-- (linux/posix_acl_xattr.h)"""
    entries = ((1, 6, -1), (2, 7, os.geteuid()), (4, 4, -1), (16, 7, -1), (32, 4, -1))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


PROGRAM = f"""
import os, struct
{inspect.getsource(acl)}
os.setxattr("a", "user.note", b"1"); os.setxattr("d", "user.d", b"2")
open("b", "w").write("2\\n"); os.setxattr("b", "user.b", b"3"); os.removexattr("b", "user.old")
open("n", "w").write("n\\n"); os.setxattr("n", "user.n", b"4")
open("plain", "a").write("2\\n")
for path in ("listed", "n") if LISTS else ():
    os.setxattr(path, "system.posix_acl_access", acl())
"""


@pytest.fixture(params=BACKEND)
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Session:
    ws = make_tree(tmp_path / "ws", {
        "a": "a\n", "b": File(b"b\n", 0o644, (("user.old", b"0"), ("user.own", b"0"))), "d/in": "", "listed": "l\n",
        "plain": "p\n",
    })  # fmt: skip
    store = Store(tmp_path / "state")
    made = overlayws.start(ws, store=store, backend=request.param, git="none")
    done = overlayws.run(made, ["python3", "-c", f"LISTS = {_lists(ws)}\n{PROGRAM}"], store=store)
    assert done.exit_code == 0
    return store.load(made.name)


def _lists(ws: Path) -> bool:
    try:
        os.setxattr(make_tree(ws.parent / "probe", {"f": ""}) / "f", "system.posix_acl_access", acl())
    except OSError:
        return False
    return True


def attributes(ws: Path) -> dict[str, list[str]]:
    return {path: sorted(os.listxattr(ws / path)) for path in ("a", "b", "d", "n", "listed")}


@pytest.mark.bwrap
def test_attributes_are_left_out_and_told_until_they_are_asked_for(session: Session, tmp_path: Path) -> None:
    store, ws = Store(tmp_path / "state"), session.workspace
    before = snapshot(ws)
    plan = overlayws.apply(session, store=store)
    assert plan.notes[0] == "extended attributes are left out (--xattrs applies them): a, b, d, n"
    assert {step.path for step in plan.steps} == {"b", "n", "plain"}
    assert attributes(ws) == {"a": [], "b": ["user.old", "user.own"], "d": [], "n": [], "listed": []}
    assert not overlayws.apply(session, store=store).steps
    os.setxattr(ws / "a", "user.mine", b"5")
    assert {step.path for step in overlayws.apply(session, store=store, xattrs=True).steps} == {"a", "b", "d", "n"}
    assert attributes(ws) == {
        "a": ["user.mine", "user.note"], "b": ["user.b", "user.own"], "d": ["user.d"], "n": ["user.n"], "listed": [],
    }  # fmt: skip
    assert not overlayws.apply(session, store=store, xattrs=True).steps
    overlayws.undo(session, store=store)
    os.removexattr(ws / "a", "user.mine")
    overlayws.undo(session, store=store)
    assert snapshot(ws) == before


@pytest.mark.bwrap
def test_an_access_list_opens_nothing_and_is_told(session: Session, tmp_path: Path) -> None:
    store, ws = Store(tmp_path / "state"), session.workspace
    if not _lists(ws):
        pytest.skip("no access lists on this file system")
    assert overlayws.scan(session, store=store).access_lists == ("listed", "n")
    plan = overlayws.apply(session, store=store, xattrs=True)
    assert plan.notes == ("access lists are never applied: listed, n",)
    # The group's bits of the mode are the mask of the list then, which the file's own group does not have.
    assert not any("posix_acl" in name for names in attributes(ws).values() for name in names)
    assert (ws / "listed").stat().st_mode & 0o777 == (ws / "n").stat().st_mode & 0o777 == 0o644


def test_names_of_attributes_steer_nothing_and_are_few() -> None:
    names = ["user.\x1b[2J", "user.a\nb", "user.\u202e", "user.x"]
    after = Entry(Kind.FILE, 0o644, 1, "0" * 64, xattrs=tuple(sorted((name, b"") for name in names)))
    line = unsaid(None, after)
    assert line == 'attributes "user.\\u001b[2J", "user.a\\nb", "user.x" and 1 more'


@pytest.mark.parametrize("session", ["copy"], indirect=True)
@pytest.mark.parametrize("xattrs", [False, True])
@pytest.mark.parametrize("path", ["b", "n", "a"])
@pytest.mark.parametrize("edit", ["set", "removed", "another"])
def test_attributes_that_were_edited_since_are_never_undone(
    edit: str, path: str, xattrs: bool, session: Session, tmp_path: Path
) -> None:
    store, ws = Store(tmp_path / "state"), session.workspace
    overlayws.apply(session, store=store, xattrs=xattrs)
    here = sorted(name for name in os.listxattr(ws / path) if name.startswith("user."))
    if edit == "another" or not here:
        os.setxattr(ws / path, "user.mine", b"edited")
    elif edit == "set":
        os.setxattr(ws / path, here[0], b"edited")
    else:
        os.removexattr(ws / path, here[0])
    before = snapshot(ws)
    if path == "a" and (edit == "another" or not xattrs):  # of which undo touches nothing that was edited
        overlayws.undo(session, store=store)
        assert snapshot(ws)["a"][5] == before["a"][5] or edit == "another"
        return
    with pytest.raises(EditedError) as refused:
        overlayws.undo(session, store=store)
    assert path in refused.value.message and snapshot(ws) == before


@pytest.mark.parametrize("session", ["copy"], indirect=True)
def test_a_file_that_was_linked_meanwhile_is_still_undone(session: Session, tmp_path: Path) -> None:
    store, ws = Store(tmp_path / "state"), session.workspace
    before = snapshot(ws)
    overlayws.apply(session, store=store, xattrs=True)
    for path in ("b", "n", "plain"):  # a new ctime
        os.link(ws / path, tmp_path / "other")
        os.unlink(tmp_path / "other")
    overlayws.undo(session, store=store)
    assert snapshot(ws) == before
