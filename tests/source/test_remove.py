from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from overlayws.source.remove import remove_tree
from tests.trees import Special, Symlink, make_tree


def test_a_tree_goes_with_all_that_is_in_it_and_nothing_that_it_points_to(tmp_path: Path) -> None:
    make_tree(tmp_path / "victim", {"f": "x"})
    make_tree(tmp_path / "t", {"a/b": "x", "link": Symlink("../victim"), "fifo": Special("fifo"), "n\udcff\n": "y"})
    (tmp_path / "t/a").chmod(0)
    remove_tree(tmp_path / "t")
    assert sorted(os.listdir(tmp_path)) == ["victim"] and (tmp_path / "victim/f").read_text() == "x"


def test_a_symlink_is_removed_not_followed(tmp_path: Path) -> None:
    make_tree(tmp_path, {"victim/f": "x", "t": Symlink("victim")})
    remove_tree(tmp_path / "t")
    assert not (tmp_path / "t").is_symlink() and (tmp_path / "victim/f").exists()


def test_nothing_there_is_fine(tmp_path: Path) -> None:
    remove_tree(tmp_path / "missing/tree")


@pytest.mark.parametrize("call", ["unlink", "open", "rmdir"])
def test_what_somebody_else_removes_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    make_tree(tmp_path, {"t/a/b/f": "x", "t/a/g": "x", "t/h": "x"})
    real: Callable[..., int | None] = getattr(os, call)
    met: set[object] = set()

    def late(name: object, *rest: int, **options: int) -> int | None:
        if name in ("a", "b", "f", "g", "h") and name not in met:
            met.add(name)
            for path in tmp_path.rglob(str(name)):
                subprocess.run(["rm", "-r", path], check=True)
        return real(name, *rest, **options)

    monkeypatch.setattr(os, call, late)
    remove_tree(tmp_path / "t")
    assert os.listdir(tmp_path) == [] and met


def test_a_tree_deeper_than_a_path_can_be_long_goes(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for name in ["t", *["d" * 250] * 1500]:
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    start = time.process_time()
    remove_tree(tmp_path / "t")
    assert time.process_time() - start < 1, "each level costs the same"
    assert os.listdir(tmp_path) == []
