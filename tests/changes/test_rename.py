"""Renames: certain ones from the inode or the content, the others by git's similarity. They change nothing else."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from overlayws.changes.change import Rename
from overlayws.changes.git import private_repository
from overlayws.changes.listing import rows
from tests.changes.layers import TRUSTED, Case, Whiteout, make_case

LINES = "".join(f"line {n}\n" for n in range(50))


def shown(case: Case) -> dict[str, tuple[str, str | None, int | None]]:
    changeset = case.scan()
    with case.base() as base, case.theirs() as theirs, private_repository(changeset, base, theirs) as repository:
        return {row.path: (row.status, row.old, row.similarity) for row in rows(changeset, repository)}


def set_origin(case: Case, new: str, old: str) -> None:
    """What overlayfs writes when it copies ``old`` up and it is then renamed (struct ovl_fb)."""

    class Handle(ctypes.Structure):
        _fields_ = (("bytes", ctypes.c_uint32), ("type", ctypes.c_int32), ("data", ctypes.c_ubyte * 128))

    handle = Handle(bytes=128)
    path = os.fsencode(case.layer.lowerdir / old)
    assert ctypes.CDLL(None).name_to_handle_at(-100, path, ctypes.byref(handle), ctypes.byref(ctypes.c_int()), 0) == 0
    data = bytes(handle.data[: handle.bytes])
    value = bytes([0, 0xFB, 21 + len(data), 0, handle.type]) + bytes(16) + data
    os.setxattr(case.layer.upperdir / new, TRUSTED + "origin", value)


def test_equal_content_is_a_rename_and_the_same_name_is_preferred(tmp_path: Path) -> None:
    case = make_case(
        tmp_path,
        {"a/x": LINES, "a/y": LINES, "empty": ""},
        {"a": Whiteout(), "b/y": LINES, "b/z": LINES, "b/more": LINES, "empty": Whiteout(), "void": ""},
    )
    assert case.scan().renames == (Rename("a/x", "b/more", 100), Rename("a/y", "b/y", 100))


@pytest.mark.root
def test_the_inode_that_was_copied_up_decides_whatever_became_of_the_content(tmp_path: Path) -> None:
    base = {"one": LINES, "two": LINES, "three": LINES}
    upper = {"one": Whiteout(), "two": Whiteout(), "three": Whiteout(), "a": LINES, "b": LINES, "c": "rewritten\n"}
    case = make_case(tmp_path, base, upper, prefix=TRUSTED)
    for new, old in (("a", "two"), ("b", "one"), ("c", "three")):
        set_origin(case, new, old)
    assert case.scan().renames == (Rename("two", "a", 100), Rename("one", "b", 100), Rename("three", "c", 0))
    assert shown(case) == {
        "a": ("renamed", "two", 100),
        "b": ("renamed", "one", 100),
        "c": ("renamed", "three", 0),
    }


@pytest.mark.root
def test_a_renamed_file_is_counted_by_its_literal_name(tmp_path: Path) -> None:
    base = {":(glob)**": "old\n" * 3, "other": "o\n"}
    upper = {":(glob)**": Whiteout(), "*": "new\n", "other": "edited\n"}
    case = make_case(tmp_path, base, upper, prefix=TRUSTED)
    set_origin(case, "*", ":(glob)**")
    changeset = case.scan()
    with case.base() as before, case.theirs() as theirs, private_repository(changeset, before, theirs) as repository:
        (row, _) = rows(changeset, repository)
    assert (row.old, row.added, row.removed) == (":(glob)**", 1, 3)


@pytest.mark.root
def test_an_origin_of_a_file_that_is_still_there_is_no_rename(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"one": LINES}, {"copy": LINES}, prefix=TRUSTED)
    set_origin(case, "copy", "one")
    assert case.scan().renames == ()


@pytest.mark.root
def test_a_damaged_origin_is_none(tmp_path: Path) -> None:
    for value in (b"", b"\0\xfb\x05", b"\0\xfb" + b"\xff" * 40, os.urandom(200)):
        case = make_case(tmp_path / value.hex()[:20], {"x": "1\n"}, {"x": Whiteout(), "y": "2\n"}, prefix=TRUSTED)
        os.setxattr(case.layer.upperdir / "y", TRUSTED + "origin", value)
        assert case.scan().renames == ()


def test_similar_content_is_a_rename_where_it_is_shown(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"old": LINES, "x": "x\n"}, {"old": Whiteout(), "new": LINES + "more\n"})
    assert case.scan().renames == ()
    ((path, (status, old, similarity)),) = shown(case).items()
    assert (path, status, old) == ("new", "renamed", "old")
    assert similarity is not None and 90 < similarity < 100


def test_a_rename_leaves_both_changes_and_the_digest_as_they_are(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"old": LINES}, {"old": Whiteout(), "new": LINES})
    changeset = case.scan()
    assert {c.path: c.status for c in changeset.changes} == {"new": "added", "old": "deleted"}
    assert changeset.renames == (Rename("old", "new", 100),)
