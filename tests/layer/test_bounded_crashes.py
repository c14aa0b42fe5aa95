"""Crashes while an upperdir is on a file system of its own: the process ends before its nth call, for every n."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from overlayws import beneath
from overlayws.errors import UntrustedError
from overlayws.layer import bounded, kernel
from overlayws.layer.mount import Layer, scratch_layer
from overlayws.layer.room import IMAGE
from overlayws.source.remove import remove_tree
from tests.layer.conftest import run_in
from tests.layer.dying import dying, in_child
from tests.layer.test_bounded import PROGRAM, ROOM, layer, written

__all__ = ["layer"]
pytestmark = [pytest.mark.root, pytest.mark.kernel, pytest.mark.loop]

CALLS = (
    "open", "mkdir", "mknod", "symlink", "link", "unlink", "rmdir", "rename", "fsync", "fchmod", "utime", "setxattr",
    "ftruncate", "lstat", "statvfs",
)  # fmt: skip


def _die_before_call(nth: int) -> None:
    """End this process before its nth look or change, in whichever module."""
    counted = dying(nth)
    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    beneath.exchange = counted(beneath.exchange)


def copied(layer: Layer, top: Path) -> Layer:
    subprocess.run(["cp", "-a", "--sparse=always", layer.lowerdir.parent, top], check=True)
    return scratch_layer(top)


def test_a_crash_at_any_step_of_bringing_it_back(layer: Layer, tmp_path: Path) -> None:
    with kernel.mounted(layer, None, ROOM) as mount:
        run_in(mount, "open('f', 'w').write('1')")
    old = written(layer)
    with pytest.raises(UntrustedError), kernel.mounted(layer, None, ROOM) as mount:
        run_in(mount, PROGRAM)
        raise UntrustedError("lost")
    seen = set()
    for nth in range(1000):
        case = copied(layer, tmp_path / str(nth))

        def again(case: Layer = case, nth: int = nth) -> None:
            _die_before_call(nth)
            bounded.absorb(case)

        survived = in_child(again)
        there = case.upperdir.with_name(IMAGE).exists()
        now = written(case)
        assert there or now != old, f"crash before call {nth}"
        seen.add((there, now == old))
        assert bounded.absorb(case) is there
        new = written(case)
        assert new.keys() == {"f", "d", "d/x", "n", "l"} and new["d/x"] == "whiteout", f"crash before call {nth}"
        assert sorted(os.listdir(case.lowerdir.parent)) == ["lower", "merged", "upper", "work"], nth
        remove_tree(tmp_path / str(nth))
        if survived:
            break
    assert seen == {(True, True), (True, False), (False, False)} and nth > 40


def test_a_crash_at_any_step_of_making_it(layer: Layer, tmp_path: Path) -> None:
    seen = set()
    with kernel.mounted(layer) as mount:
        run_in(mount, PROGRAM)
    old = written(layer)
    for nth in range(1000):
        case = copied(layer, tmp_path / str(nth))

        def begin(case: Layer = case, nth: int = nth) -> None:
            _die_before_call(nth)
            with kernel.mounted(case, None, ROOM):
                os._exit(0)

        survived = in_child(begin)
        there = case.upperdir.with_name(IMAGE).exists()
        seen.add(there)
        assert bounded.absorb(case) is there
        assert written(case) == old, f"crash before call {nth}"
        assert not list(case.upperdir.parent.glob("*.img*")), nth
        remove_tree(tmp_path / str(nth))
        if survived:
            break
    assert seen == {False, True} and nth > 40
