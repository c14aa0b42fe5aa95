"""Cursor and opened: nothing followed, nothing waited for, modes as they were."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from overlayws.layer.cursor import Cursor, opened
from tests.trees import Dir, File, Special, Symlink, make_tree


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def fd(tmp_path: Path):
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_a_symlink_is_no_way_down(tmp_path: Path) -> None:
    make_tree(tmp_path, {"out/x": "", "top/link": Symlink("../out")})
    with Cursor(tmp_path / "top") as cursor, pytest.raises(OSError, match="Not a directory|Too many"):
        cursor.down("link")
    with pytest.raises(OSError, match="Not a directory|Too many"):
        Cursor(tmp_path / "top" / "link")


@pytest.mark.parametrize("node", [Symlink("f"), Special("fifo"), Special("socket"), Dir()])
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, fd: int, node: object) -> None:
    make_tree(tmp_path, {"f": "content", "n": node})  # type: ignore[dict-item]
    with pytest.raises(OSError), opened(fd, "n"):
        pass


def test_closed_directories_are_open_inside_and_closed_afterwards(tmp_path: Path) -> None:
    make_tree(tmp_path / "top", {"a/b/x": "x"})
    for path in ("top/a/b", "top/a", "top"):
        os.chmod(tmp_path / path, 0o100)
    with Cursor(tmp_path / "top") as cursor:
        assert stat.S_IMODE(cursor.root.st_mode) == 0o100
        assert stat.S_IMODE(cursor.down("a").st_mode) == 0o100
        cursor.down("b")
        assert cursor.names() == ["x"]
        cursor.up()
    assert [mode(tmp_path / "top"), mode(tmp_path / "top" / "a")] == [0o100, 0o100]
    os.chmod(tmp_path / "top", 0o700)
    os.chmod(tmp_path / "top" / "a", 0o700)
    assert mode(tmp_path / "top/a/b") == 0o100
    os.chmod(tmp_path / "top/a/b", 0o700)


def test_closed_directories_are_closed_again_after_an_error(tmp_path: Path) -> None:
    make_tree(tmp_path / "top", {"a/x": "x"})
    os.chmod(tmp_path / "top/a", 0o000)
    with pytest.raises(ZeroDivisionError), Cursor(tmp_path / "top") as cursor:
        cursor.down("a")
        raise ZeroDivisionError
    assert mode(tmp_path / "top/a") == 0
    os.chmod(tmp_path / "top/a", 0o700)


def test_a_closed_file_can_be_read_and_stays_closed(tmp_path: Path, fd: int) -> None:
    make_tree(tmp_path, {"f": File(b"content", 0o200)})
    with opened(fd, "f") as (file, st):
        assert os.read(file, 100) == b"content"
        assert stat.S_IMODE(st.st_mode) == 0o200
    assert mode(tmp_path / "f") == 0o200
