"""The program's first commit is made without git; git itself is the second opinion."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from overlayws.base import packs
from overlayws.base.gitcommit import ordinary
from overlayws.base.repository import make_repository
from overlayws.errors import UnableError
from tests.base.test_repository import git
from tests.trees import File, Symlink, make_tree

SIZES = (0, 1, 15, 16, 2047, 2048, 65_534, 65_535, 65_536, 300_000)
TREE = {
    **{f"sizes/{n}": random.Random(n).randbytes(n).decode("latin-1") for n in SIZES},
    **{name: f"{name}\n" for name in ("a-b", "a.c", "a/x", "a/y/z", "a0", "ab/c/d", "ab/c0", "b/deep/er/down/f", "z")},
    "same": "a-b\n",
    "run": File(b"#!/bin/sh\n", 0o755),
    "locked": File(b"x", 0o400),
    "link": Symlink("a/x"),
    "dangling": Symlink("n" * 1000),
    ".gitignore": "*.o\n/out/\n",
    "x.o": "o",
    "out/f": "f",
    "a/.gitignore": "!x.o\n",
    "a/x.o": "o",
    "name\nwith 'all' \x01 \u00e9": "1",
    "n" * 200 + "/" + "m" * 200: "long",
}


def tree_of_git(lowerdir: Path, elsewhere: Path) -> str:
    """The tree that git makes of the same files."""
    command = ["git", f"--git-dir={elsewhere}", f"--work-tree={lowerdir}"]
    subprocess.run(["git", "init", "-q", "--bare", str(elsewhere)], check=True)
    subprocess.run([*command, "add", "--all"], check=True, cwd=lowerdir)
    return subprocess.run([*command, "write-tree"], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("limit", [8 << 20, 70_000, 1_000])
def test_the_commit_is_the_one_that_git_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(packs, "_LIMIT", limit)
    monkeypatch.setattr(packs, "_PIECE", 2 * 65_535)
    monkeypatch.setattr("overlayws.base.repository._commit", None)  # git is not asked
    lowerdir = make_tree(tmp_path / "lower", TREE)
    (lowerdir / os.fsdecode(b"not-utf8-\xff")).write_text("2")
    make_repository(lowerdir)
    assert git(lowerdir, "rev-parse", "HEAD^{tree}").strip() == tree_of_git(lowerdir, tmp_path / "elsewhere")
    assert git(lowerdir, "fsck", "--strict", "--unreachable") == ""
    assert git(lowerdir, "status", "--porcelain") == ""
    assert git(lowerdir, "diff-files") == ""  # no file is read again: the index has its stat
    for index in (lowerdir / ".git/objects/pack").glob("*.idx"):
        git(lowerdir, "verify-pack", str(index))
    assert len(list((lowerdir / ".git/objects/pack").glob("*.pack"))) > (2 if limit < 100_000 else 1)


def test_attributes_count_also_where_they_are_ignored(tmp_path: Path) -> None:
    tree = {".gitignore": "*\n!*.txt\n!*/\n", "d/.gitattributes": "*.txt text\n", "d/b.txt": "x\r\n"}
    lowerdir = make_tree(tmp_path / "lower", tree)
    make_repository(lowerdir)
    assert git(lowerdir, "ls-files").split() == ["d/b.txt"]
    assert git(lowerdir, "rev-parse", "HEAD^{tree}").strip() == tree_of_git(lowerdir, tmp_path / "elsewhere")


@pytest.mark.parametrize("name", [b".git", b"d/.GIT", b".git /x", b".git.", b"git~1/x", b".gitmodules", b"a\\b",
                                  b"GITMOD~1", b"gi7eba~1", b".g\xe2\x80\x8cit/x"])  # fmt: skip
def test_git_is_asked_about_names_that_it_looks_at_closer(name: bytes) -> None:
    assert not ordinary([b"a", name, b"z"])
    assert ordinary([b".gitignore", b".github/x", b"git/x", b"legit", b"digit~1", b"x.git/y", b"\xc3\xa9"])


def test_no_space_is_one_line_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> str:
        raise OSError(28, "No space left on device")

    lowerdir = make_tree(tmp_path / "lower", {"f": "f"})
    monkeypatch.setattr("overlayws.base.repository.commit_files", full)
    with pytest.raises(UnableError, match="cannot make the program's own repository: No space left on device"):
        make_repository(lowerdir)
