"""Modes and attributes of what is applied."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.apply.build import make_case, reasons, snapshot
from tests.trees import File


@pytest.mark.parametrize(
    ("base", "theirs", "umask", "expected"),
    [
        (None, 0o666, 0o022, 0o644),
        (None, 0o777, 0o022, 0o755),
        (None, 0o777, 0o077, 0o700),
        (None, 0o4755, 0o022, 0o755),
        (None, 0o6777, 0o022, 0o755),
        (0o666, 0o666, 0o022, 0o666),
        (0o664, 0o775, 0o022, 0o775),
        (0o644, 0o777, 0o022, 0o755),
        (0o600, 0o600, 0o022, 0o600),
        (0o644, 0o4755, 0o022, 0o755),
        (0o4755, 0o4755, 0o022, 0o755),
    ],
)
def test_the_mode_of_a_written_file(tmp_path: Path, base: int | None, theirs: int, umask: int, expected: int) -> None:
    given = {} if base is None else {"f": File(b"a", base)}
    case = make_case(tmp_path, given, {"f": File(b"b", theirs)})
    case.apply(umask=umask)
    assert os.stat(case.workspace / "f").st_mode & 0o7777 == expected


def test_a_mode_that_the_user_changed_stays_where_the_program_did_not(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "a\n", "g": "a\n"}, {"f": "b\n", "g": File(b"b\n", 0o755)})
    os.chmod(case.workspace / "f", 0o600)
    case.apply([c for c in case.changes if c.path == "f"])
    assert os.stat(case.workspace / "f").st_mode & 0o777 == 0o600
    os.chmod(case.workspace / "g", 0o600)
    assert reasons(case.plan()) == {"g": "mode"}


def test_set_id_bits_are_named(tmp_path: Path) -> None:
    case = make_case(tmp_path, {}, {"f": File(b"b", 0o4755)})
    assert any("set-id" in note for note in case.plan().notes)


def test_a_mode_alone_is_set_in_place(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "a\n"}, {"f": File(b"a\n", 0o755)})
    before = snapshot(case.workspace)
    inode = os.stat(case.workspace / "f").st_ino
    journal = case.apply()
    assert os.stat(case.workspace / "f").st_mode & 0o777 == 0o755
    assert os.stat(case.workspace / "f").st_ino == inode
    case.undo(journal)
    assert snapshot(case.workspace) == before


def test_user_attributes_are_merged_name_by_name(tmp_path: Path) -> None:
    base = {"f": File(b"a", xattrs=(("user.a", b"1"), ("user.b", b"1"), ("user.c", b"1")))}
    theirs = {"f": File(b"b", xattrs=(("user.a", b"2"), ("user.c", b"1"), ("user.n", b"n")))}
    case = make_case(tmp_path, base, theirs)
    os.setxattr(case.workspace / "f", "user.c", b"mine")
    case.apply()
    names = {name: os.getxattr(case.workspace / "f", name) for name in os.listxattr(case.workspace / "f")}
    assert names == {"user.a": b"2", "user.c": b"mine", "user.n": b"n"}
    case = make_case(tmp_path / "again", base, theirs)
    os.setxattr(case.workspace / "f", "user.a", b"mine")
    assert reasons(case.plan()) == {"f": "xattrs"}
