"""Mask: whiteouts and placeholders over a workspace."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from overlayws.base.mask import Mask
from tests.trees import make_tree

TREE = {"a/.env": "A=1\n", "a/id_rsa": "key\n", "b/.env": "B=1\n", "b/deep/.env": "C=1\n"}


def mask(tmp_path: Path, *paths: str) -> Path:
    """The mask that hides ``paths``, one after the other."""
    workspace = make_tree(tmp_path / "w", TREE)
    root = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with Mask(tmp_path / "mask", root) as made:
            made.hide_at_top([".git", ".npmrc"])
            for path in paths:
                made.hide(path)
    finally:
        os.close(root)
    return tmp_path / "mask"


def is_whiteout(path: Path) -> bool:
    st = path.lstat()
    return stat.S_ISCHR(st.st_mode) and st.st_rdev == 0


def test_every_hidden_path_is_a_whiteout_and_all_are_names_of_one(tmp_path: Path) -> None:
    made = mask(tmp_path, *TREE)
    paths = [made / path for path in (".git", ".npmrc", *TREE)]
    assert all(map(is_whiteout, paths))
    assert len({path.lstat().st_ino for path in paths}) == 1


def test_where_no_more_names_can_be_given_another_whiteout_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, given = os.link, []

    def full(*args: object, **kwargs: object) -> None:
        given.append(args)
        if len(given) % 2:  # each has room for one name more
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        link(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", full)
    made = mask(tmp_path, *TREE)
    assert given and all(is_whiteout(made / path) for path in (".git", ".npmrc", *TREE))


def test_what_is_hidden_above_a_whiteout_takes_it_along(tmp_path: Path) -> None:
    made = mask(tmp_path, "b/deep/.env", "b", "a/.env")
    assert is_whiteout(made / "b") and is_whiteout(made / "a/.env")
    assert not any(name.startswith(".overlayws") for name in os.listdir(made))
