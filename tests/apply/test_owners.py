"""Hard links, owners, groups and access lists of what is replaced."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from overlayws.apply.transaction import DriftError
from tests.apply.build import Case, make_case, snapshot, tree
from tests.trees import Dir, File


@pytest.mark.parametrize("edit", [False, True])
def test_several_names_of_one_file_are_changed_and_come_back_together(edit: bool, tmp_path: Path) -> None:
    names = ("a", "b", "d/c", "gone", "d/gone")
    base = dict.fromkeys(names, "one\n")
    case = make_case(tmp_path, {**base, "x": "x\n"}, {"a": "1\n", "b": "2\n", "d/c": "3\n", "x": "y\n"})
    for name in names[1:]:
        (case.workspace / name).unlink()
        os.link(case.workspace / "a", case.workspace / name)
    before = snapshot(case.workspace)
    plan = case.plan(on_conflict="theirs")
    if edit:  # between the plan and the apply, through one of them
        (case.workspace / "d/c").write_text("mine\n")
        before = snapshot(case.workspace)
        with pytest.raises(DriftError):
            case.execute(plan)
    else:
        journal = case.execute(plan)
        assert tree(case.workspace) == tree(case.theirs)
        case.undo(journal)
    assert snapshot(case.workspace) == before
    assert os.stat(case.workspace / "gone").st_nlink == len(names)


def test_the_other_name_of_a_hard_linked_file_is_unchanged(tmp_path: Path) -> None:
    base = {"f": "a\n", "m": "m\n"}
    case = make_case(tmp_path / "case", base, {"f": "b\n", "m": File(b"m\n", 0o755)})
    for name in ("f", "m"):
        os.link(case.workspace / name, tmp_path / f"other-{name}")
    # Linking has changed the ctime: the content decides.
    before = snapshot(case.workspace)
    journal = case.apply()
    assert (tmp_path / "other-f").read_text() == "a\n"
    assert os.stat(tmp_path / "other-m").st_mode & 0o777 == 0o644
    assert tree(case.workspace) == tree(case.theirs)
    case.undo(journal)
    assert snapshot(case.workspace) == before
    assert os.path.samefile(case.workspace / "f", tmp_path / "other-f")


@pytest.mark.root
def test_owners_as_root(case: Case) -> None:
    os.chown(case.workspace / "mod", 1234, 2345)
    os.chown(case.workspace, 111, 222)
    before = snapshot(case.workspace)
    journal = case.apply()
    owners = {name: (os.lstat(case.workspace / name).st_uid, os.lstat(case.workspace / name).st_gid)
              for name in ("mod", "d2f", "new", "new/file", "link")}  # fmt: skip
    assert owners == {"mod": (1234, 2345), "d2f": (111, 222), "new": (111, 222), "new/file": (111, 222), "link": (0, 0)}
    case.undo(journal)
    assert snapshot(case.workspace) == before


def test_new_directories_below_a_set_gid_directory_are_set_gid(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"team": Dir(0o2775)}, {"team/new/f": "x", "team": Dir(0o2775)})
    case.apply()
    assert stat.S_IMODE(os.stat(case.workspace / "team/new").st_mode) & stat.S_ISGID
    assert not stat.S_IMODE(os.stat(case.workspace / "team/new/f").st_mode) & stat.S_ISGID


def test_an_access_list_stays_with_a_replaced_file(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "a"}, {"f": "b"})
    # user::rw- user:1:rw- group::r-- mask::rw- other::r-- (linux/posix_acl_xattr.h)
    acl = bytes.fromhex("02000000 01000600ffffffff 0200060001000000 04000400ffffffff 10000600ffffffff 20000400ffffffff")
    try:
        os.setxattr(case.workspace / "f", "system.posix_acl_access", acl)
    except OSError:
        pytest.skip("no access lists here")
    before = snapshot(case.workspace)
    journal = case.apply()
    assert os.getxattr(case.workspace / "f", "system.posix_acl_access") == acl
    case.undo(journal)
    assert snapshot(case.workspace) == before
