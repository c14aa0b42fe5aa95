"""Marks: only what the backend itself can have written is one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from overlayws.layer.whiteout import TRUSTED_PREFIX, USER_PREFIX, Marks, Origin, parse_origin
from overlayws.source.entry import Kind
from tests.layer.conftest import Case

USER, TRUSTED = Marks(USER_PREFIX), Marks(TRUSTED_PREFIX)


@pytest.fixture
def fd(tmp_path: Path):
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def entry(fd: int, name: str) -> tuple[os.stat_result, int, str]:
    return os.stat(name, dir_fd=fd, follow_symlinks=False), fd, name


@pytest.mark.parametrize("marks", [USER, TRUSTED])
def test_a_device_0_0_is_a_whiteout(tmp_path: Path, fd: int, marks: Marks) -> None:
    os.mknod(tmp_path / "w", stat.S_IFCHR, 0)
    (tmp_path / "empty").touch()
    assert marks.is_whiteout(*entry(fd, "w"))
    assert not marks.is_whiteout(*entry(fd, "empty"))


@pytest.mark.root
def test_another_device_is_a_special_file(tmp_path: Path, fd: int) -> None:
    try:
        os.mknod(tmp_path / "null", stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("may not make devices")
    assert not USER.is_whiteout(*entry(fd, "null"))
    assert USER.special(*entry(fd, "null")) is Kind.CHAR_DEVICE


def test_an_attribute_whiteout_counts_in_a_directory_that_announces_it(tmp_path: Path, fd: int) -> None:
    (tmp_path / "w").touch()
    os.setxattr(tmp_path / "w", "user.overlay.whiteout", b"")
    assert not USER.is_whiteout(*entry(fd, "w"))
    os.setxattr(tmp_path, "user.overlay.opaque", b"x")
    assert USER.is_whiteout(*entry(fd, "w"))
    assert not TRUSTED.is_whiteout(*entry(fd, "w"))
    assert not USER.is_opaque(fd)


def test_an_attribute_whiteout_is_empty(tmp_path: Path, fd: int) -> None:
    (tmp_path / "w").write_text("content")
    os.setxattr(tmp_path / "w", "user.overlay.whiteout", b"")
    os.setxattr(tmp_path, "user.overlay.opaque", b"x")
    assert not USER.is_whiteout(*entry(fd, "w"))


def test_only_the_own_prefix_makes_a_directory_opaque(tmp_path: Path, fd: int) -> None:
    os.setxattr(tmp_path, "user.overlay.opaque", b"y")
    assert USER.is_opaque(fd)
    assert not TRUSTED.is_opaque(fd)
    os.setxattr(tmp_path, "user.overlay.opaque", b"yes")
    assert not USER.is_opaque(fd)


def test_an_escaped_mark_is_none(tmp_path: Path, fd: int) -> None:
    (tmp_path / "w").touch()
    os.setxattr(tmp_path / "w", "user.overlay.overlay.whiteout", b"")
    os.setxattr(tmp_path / "w", "user.overlay.overlay.special", b"char-device 1:3")
    os.setxattr(tmp_path, "user.overlay.opaque", b"x")
    assert not USER.is_whiteout(*entry(fd, "w"))
    assert USER.special(*entry(fd, "w")) is None


def test_special_files_are_told_by_kind(tmp_path: Path, fd: int) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, value in (("c", b"char-device 0:0"), ("b", b"block-device 8:0")):
        (tmp_path / name).touch()
        os.setxattr(tmp_path / name, "user.overlay.special", value)
    os.symlink("fifo", tmp_path / "link")
    (tmp_path / "plain").touch()
    kinds = {name: USER.special(*entry(fd, name)) for name in os.listdir(tmp_path)}
    assert kinds == {"fifo": Kind.FIFO, "c": Kind.CHAR_DEVICE, "b": Kind.BLOCK_DEVICE, "link": None, "plain": None}


def test_a_symlink_is_not_followed_to_a_mark(tmp_path: Path, fd: int) -> None:
    (tmp_path / "w").touch()
    os.setxattr(tmp_path / "w", "user.overlay.whiteout", b"")
    os.setxattr(tmp_path, "user.overlay.opaque", b"x")
    os.symlink("w", tmp_path / "link")
    assert not USER.is_whiteout(*entry(fd, "link"))


def test_a_symlink_is_not_followed_to_an_origin(tmp_path: Path, fd: int) -> None:
    (tmp_path / "f").touch()
    os.setxattr(tmp_path / "f", "user.overlay.origin", handle())
    os.symlink("f", tmp_path / "link")
    os.symlink("nowhere", tmp_path / "dangling")
    assert USER.origin(fd, "f") == Origin(1, b"12345678")
    assert USER.origin(fd, "link") is None
    assert USER.origin(fd, "dangling") is None


def test_names_that_are_no_text_are_names(tmp_path: Path, fd: int) -> None:
    name = os.fsdecode(b"\xff\n")
    (tmp_path / name).touch()
    os.setxattr(tmp_path / name, "user.overlay.special", b"char-device 0:0")
    assert USER.special(*entry(fd, name)) is Kind.CHAR_DEVICE


RAW = (
    ("user.overlay.opaque", b"y"),
    ("user.overlay.overlay.opaque", b"mine"),
    ("user.overlay.overlay.overlay.x", b"nested"),
    ("user.overlayed", b"o"),
    ("user.a", b"a"),
    ("trusted.overlay.origin", b"t"),
    ("security.selinux", b"s"),
    ("system.posix_acl_access", b"p"),
)


def test_own_marks_are_dropped_and_escaped_names_restored() -> None:
    assert USER.agent_xattrs(RAW) == (
        ("user.a", b"a"),
        ("user.overlay.opaque", b"mine"),
        ("user.overlay.overlay.x", b"nested"),
        ("user.overlayed", b"o"),
    )


def test_under_the_other_prefix_the_programs_names_are_its_own() -> None:
    assert dict(TRUSTED.agent_xattrs(dict(RAW)))["user.overlay.opaque"] == b"y"


@pytest.mark.parametrize("name", ["user.a", "user.overlay.opaque", "user.overlay.overlay.opaque", "user.overlayed"])
def test_escaping_is_undone_by_reading(name: str) -> None:
    assert USER.agent_xattrs([(USER.escaped(name), b"v")]) == ((name, b"v"),)


def handle(length: int = 29, flags: int = 0, version: int = 0, magic: int = 0xFB) -> bytes:
    return bytes((version, magic, length, flags, 1)) + b"u" * 16 + b"12345678"


def test_an_origin_is_a_file_handle() -> None:
    assert parse_origin(handle()) == Origin(1, b"12345678")


@pytest.mark.parametrize(
    "value",
    [b"", b"\0", handle(length=30), handle(version=1), handle(magic=0xFC), handle(flags=4), handle()[:-1]],
    ids=["empty", "short", "wrong length", "wrong version", "wrong magic", "of an upperdir", "cut"],
)
def test_what_is_no_handle_of_a_lower_file_says_nothing(value: bytes) -> None:
    assert parse_origin(value) is None


def test_a_renamed_file_says_where_it_was_copied_up_from(overlay: Case) -> None:
    overlay.run("os.rename('f', 'g')")
    upper = os.open(overlay.layer.upperdir, os.O_RDONLY)
    origin = Marks(overlay.prefix).origin(upper, "g")
    os.close(upper)
    assert (origin is not None) is (overlay.name == "kernel")
