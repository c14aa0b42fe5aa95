"""Copier: what was surveyed is believed only of the very file, as it was."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from overlayws.base.contents import Scan
from overlayws.base.files import Copied, Copier
from overlayws.base.fingerprint import now_ns
from overlayws.filter.contents import Inspector
from tests.trees import make_tree


@pytest.fixture
def copier(tmp_path: Path) -> Iterator[Copier]:
    make_tree(tmp_path / "ws", {"f": "value = 1\n"})
    (tmp_path / "lower").mkdir()
    root, target = (os.open(tmp_path / name, os.O_RDONLY) for name in ("ws", "lower"))
    yield Copier(root, target, clock=now_ns(), scan=Scan(Inspector()))
    os.close(root)
    os.close(target)


def altered(st: os.stat_result, **changes: int) -> os.stat_result:
    """``st`` as it would be with other numbers."""
    made: Any = st.__reduce__()
    visible, rest = made[1]
    numbers = list(visible)
    for name, value in changes.items():
        numbers[("st_mode", "st_ino", "st_dev").index(name)] = value
    return os.stat_result(numbers, rest)


@pytest.mark.parametrize("field", ["st_mode", "st_ino", "st_dev"])
def test_another_mode_or_inode_with_the_same_stamps_is_seen(copier: Copier, tmp_path: Path, field: str) -> None:
    """Within one tick of the clock a file can be changed, or another one put in its place, with no new stamp."""
    st = os.lstat(tmp_path / "ws/f")
    row = copier.copy({"f": altered(st, **{field: getattr(st, field) ^ 0o22})}).rows[0]
    assert (row[2], row[7], row[6]) == (st.st_mode & 0o777, st.st_ino, st.st_dev)
    assert (tmp_path / "lower/f").stat().st_mode == st.st_mode


@pytest.mark.parametrize("what", ["fifo", "directory", "link", "nothing"])
def test_what_is_no_file_any_more_is_left_out(copier: Copier, tmp_path: Path, what: str) -> None:
    path = tmp_path / "ws/f"
    st = os.lstat(path)
    path.unlink()
    if what == "fifo":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
    elif what == "link":
        path.symlink_to("/etc/passwd")
    assert copier.copy({"f": st}) == Copied()
    assert os.listdir(tmp_path / "lower") == []


def test_a_file_that_grew_since_is_copied_as_it_is(copier: Copier, tmp_path: Path) -> None:
    st = os.lstat(tmp_path / "ws/f")
    (tmp_path / "ws/f").write_text("value = 2\n" * 100)
    row = copier.copy({"f": st}).rows[0]
    assert row[3] == 1000 and (tmp_path / "lower/f").read_text() == "value = 2\n" * 100
