from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from overlayws import api
from overlayws.base.gitignore import ignored_by_git
from overlayws.errors import UsageError
from tests.trees import make_tree, read_tree, stamps


@pytest.fixture
def ws(tmp_path: Path) -> Path:
    top = make_tree(
        tmp_path / "ws",
        {".gitignore": "*.o\nbuild/\n!keep.o\n", "a.o": "o", "keep.o": "k", "src/b.o": "o", "src/b.c": "c",
         "build/deep/x": "x", "sub/.gitignore": "local\n", "sub/local": "l", "n\udcff\n.o": "odd", "tracked.o": "t"},
    )  # fmt: skip
    git = ["git", "-C", str(top), "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "-f", "tracked.o", "src/b.c"], check=True)
    (top / ".git/info/exclude").write_text("only-here\n")
    (top / "only-here").write_text("x")
    return top


def test_what_git_ignores_is_what_it_says(ws: Path) -> None:
    assert set(ignored_by_git(ws, os.environ)) == {
        "a.o", "src/b.o", "build", "sub/local", "n\udcff\n.o", "only-here",
    }  # fmt: skip


def test_the_session_does_not_see_it_and_show_is_the_last_word(ws: Path) -> None:
    session = api.start(ws, confinement=api.Confinement("none"), backend="copy", git="none", gitignore=True,
                        show=["build/deep", "a.o"])  # fmt: skip
    assert set(read_tree(session.layer.lowerdir)) == {
        ".gitignore", "a.o", "build", "build/deep", "build/deep/x", "keep.o", "src", "src/b.c", "sub",
        "sub/.gitignore", "tracked.o",
    }  # fmt: skip
    without = api.start(ws, confinement=api.Confinement("none"), backend="copy", git="none")
    assert (without.layer.lowerdir / "src/b.o").exists()


def test_asking_git_writes_nothing_and_runs_nothing_of_the_repository(ws: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch {ran}\n")
    hook.chmod(0o755)
    settings = {"core.fsmonitor": str(hook), "core.hooksPath": str(tmp_path), "core.untrackedCache": "true"}
    for name, value in settings.items():
        subprocess.run(["git", "-C", str(ws), "config", name, value], check=True)
    os.utime(ws / "src/b.c", (1, 1))  # the index is out of date: git status would refresh it
    before = stamps(ws)
    assert ignored_by_git(ws, {**os.environ, "GIT_DIR": "/nonexistent"})
    assert stamps(ws) == before and not ran.exists()


def test_without_a_repository_it_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    with pytest.raises(UsageError, match="no git repository"):
        ignored_by_git(tmp_path / "bare", {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path)})
