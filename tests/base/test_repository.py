from __future__ import annotations

import os
import subprocess
import zlib
from pathlib import Path

import pytest

from overlayws.base.judge import Judge
from overlayws.base.shelf import Shelf
from overlayws.filter.sources import load_filter
from tests.base.test_shelf import settle
from tests.trees import File, make_tree

TREE = {
    "a/one": "one is here\n",
    "a/two": "two is here\n",
    "b/run": File(b"#!/bin/sh\n", 0o755),
    ".gitignore": "*.o\n",
    "x.o": "o",
    "empty": "",
    **{f"many/{n}": f"{n}\n" * n for n in range(40)},
}


@pytest.fixture
def ws(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "ws", TREE)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "bases")


def lower(shelf: Shelf, ws: Path, **options: object) -> Path:
    settle()
    with shelf.locked(ws):
        return shelf.obtain(ws, Judge(load_filter(ws, **options)), own_git=True).base.lowerdir  # type: ignore[arg-type]


def git(lowerdir: Path, *arguments: str) -> str:
    command = ["git", "-C", str(lowerdir), "-c", f"safe.directory={lowerdir}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def check(lowerdir: Path, ws: Path) -> None:
    """One commit of exactly what git would commit of the lowerdir; nothing else in the repository."""
    assert git(lowerdir, "log", "--oneline", "--all", "--reflog").count("\n") == 1
    assert git(lowerdir, "status", "--porcelain", "--ignored").splitlines() == ["!! x.o"]
    assert git(lowerdir, "fsck", "--strict", "--unreachable", "--no-reflogs") == ""
    files = {str(p.relative_to(lowerdir)) for p in lowerdir.rglob("*") if p.is_file() and ".git" not in p.parts}
    assert set(git(lowerdir, "ls-files").splitlines()) == files - {"x.o"}
    for path in files - {"x.o"}:
        assert git(lowerdir, "show", f"HEAD:{path}").encode() == (lowerdir / path).read_bytes()


def objects(lowerdir: Path) -> list[bytes]:
    listed = git(lowerdir, "cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)").splitlines()
    names = [line.split()[0] for line in listed if line.endswith(" blob")]
    command = ["git", "-C", str(lowerdir), "-c", f"safe.directory={lowerdir}", "cat-file", "--batch"]
    return [subprocess.run(command, input=n.encode(), check=True, capture_output=True).stdout for n in names]


def test_a_renewed_repository_is_as_good_as_a_new_one(shelf: Shelf, ws: Path) -> None:
    check(lower(shelf, ws), ws)
    (ws / "a/one").write_text("one was edited\n")
    (ws / "a/three").write_text("three is new\n")
    (ws / "a/two").unlink()
    os.chmod(ws / "b/run", 0o644)
    second = lower(shelf, ws)
    check(second, ws)
    (ws / "empty").write_text("no more")
    check(lower(shelf, ws), ws)


def test_what_a_user_took_out_is_in_no_object(shelf: Shelf, ws: Path) -> None:
    first = lower(shelf, ws)
    assert any(b"one is here" in data for data in objects(first))
    (ws / "a/one").write_text("nothing\n")
    (ws / "a/two").unlink()
    second = lower(shelf, ws)
    assert not any(b"is here" in data for data in objects(second))
    for directory, _, names in os.walk(second / ".git"):
        for name in names:
            data = Path(directory, name).read_bytes()
            assert b"is here" not in data, name  # objects are stored, not compressed
            if len(Path(directory).name) == 2:
                assert b"is here" not in zlib.decompress(data)


def test_what_is_hidden_by_now_is_in_no_object(shelf: Shelf, ws: Path) -> None:
    lower(shelf, ws)
    second = lower(shelf, ws, hide=["a"])
    assert not any(b"is here" in data for data in objects(second))
    assert "a/" not in git(second, "ls-files")


def test_the_old_repository_is_left_as_it_is(shelf: Shelf, ws: Path) -> None:
    first = lower(shelf, ws)
    (ws / "a/one").write_text("one was edited\n")
    lower(shelf, ws)
    assert git(first, "show", "HEAD:a/one") == "one is here\n"
    assert git(first, "status", "--porcelain") == "" and git(first, "fsck", "--unreachable") == ""


def test_a_tree_of_empty_files_and_no_file_at_all(shelf: Shelf, tmp_path: Path) -> None:
    ws = make_tree(tmp_path / "bare", {"d/e": ""})
    first = lower(shelf, ws)
    assert git(first, "ls-files") == "d/e\n"
    (ws / "d/e").unlink()
    second = lower(shelf, ws)
    assert git(second, "log", "--oneline").count("\n") == 1 and git(second, "ls-files") == ""
    (ws / "d/f").write_text("f")  # too small for a pack
    assert git(lower(shelf, ws), "ls-files") == "d/f\n"
    (ws / "d/g").write_text("more")
    assert git(lower(shelf, ws), "ls-files") == "d/f\nd/g\n"


def test_line_endings_that_attributes_ask_for_leave_a_clean_status(shelf: Shelf, tmp_path: Path) -> None:
    attributes = "*.bat text eol=crlf\n*.txt text\n"
    ws = make_tree(tmp_path / "crlf", {".gitattributes": attributes, "a.bat": "x\r\ny\r\n", "b.txt": "x\r\n"})
    first = lower(shelf, ws)
    (ws / "c").write_text("c")
    for lowerdir in (first, lower(shelf, ws)):
        assert git(lowerdir, "status", "--porcelain") == ""
