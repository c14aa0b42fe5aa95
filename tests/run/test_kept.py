"""What came out of a sandbox's memory is put in place as a whole, at whatever call everything is killed."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

import pytest

from overlayws import beneath
from overlayws.layer.mount import Layer
from overlayws.run.kept import END, INCOMPLETE, UNPACKING, checkpoint, forget, keep, put_aside, settle
from tests.apply.crash import in_child
from tests.trees import File, make_tree, read_tree

OLD = {"one": "1\n", "d/old": "old\n"}
NEW = {"two": "2\n", "d/new": "new\n"}


def received(top: Path) -> tuple[Layer, Path]:
    """A session's directory in which a whole upperdir came."""
    layer = Layer(top / "lower", top / "upper", top / "work", top / "merged")
    make_tree(layer.upperdir, OLD)
    make_tree(top / UNPACKING, NEW)
    return layer, top / UNPACKING


def files(layer: Layer) -> dict[str, str]:
    return {path: node.content.decode() for path, node in read_tree(layer.upperdir).items() if isinstance(node, File)}


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("when, told", [(END, END), ("120501", "12:05:01")])
def test_killed_at_every_call_what_came_whole_is_kept_and_told(
    exchange: bool, when: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:

        def refuse(*_: object) -> None:
            raise OSError(errno.EINVAL, "no flags")

        monkeypatch.setattr(beneath, "exchange", refuse)
    for nth in itertools.count(1):
        layer, made = received(tmp_path / str(nth))
        ended = in_child(lambda: keep(layer, made, when), nth)  # noqa: B023
        assert exchange is False or layer.upperdir.is_dir(), f"before call {nth}"
        named = not made.exists()
        settle(layer)
        assert not put_aside(layer) or not named
        assert files(layer) == (NEW if named else OLD), f"before call {nth}"
        assert checkpoint(layer) == (told if named else ""), f"before call {nth}"
        left = {name for name in os.listdir(tmp_path / str(nth)) if "checkpoint" not in name}
        assert left - {"upper", "work"} == (set() if named else {INCOMPLETE})
        if ended == "unreached":
            break
    assert nth > 8
    forget(layer)
    assert checkpoint(layer) == ""


def test_nothing_is_put_in_place_twice(tmp_path: Path) -> None:
    layer, made = received(tmp_path)
    keep(layer, made, END)
    make_tree(tmp_path / "received-end-1", OLD)  # as an old upperdir that could not be removed
    settle(layer)
    assert files(layer) == NEW
