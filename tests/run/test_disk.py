"""What counts for --disk: every inode once, nothing followed, nothing changed, and no more work than the limit."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from overlayws.errors import UsageError
from overlayws.layer.room import size_shown
from overlayws.run.held import held
from overlayws.run.limits import Limits, parse_disk
from overlayws.run.usage import Usage, usage
from overlayws.source.remove import remove_tree
from tests.trees import Dir, Symlink, make_tree, stamps


def test_hard_links_count_once_and_holes_not_at_all(tmp_path: Path) -> None:
    make_tree(tmp_path, {"d/a": b"x" * 100_000})
    os.link(tmp_path / "d/a", tmp_path / "again")
    one = usage(tmp_path)
    with open(tmp_path / "hole", "wb") as file:
        file.truncate(1 << 40)
    two = usage(tmp_path)
    assert 100_000 <= one.size < 150_000 and (one.files, one.longest) == (2, 100_000)
    assert two.size - one.size < 10_000 and (two.files, two.longest) == (3, 1 << 40)


def test_nothing_is_followed_or_waited_for_and_no_time_changes(tmp_path: Path) -> None:
    outside = make_tree(tmp_path / "outside", {"big": b"x" * 100_000})
    top = make_tree(
        tmp_path / "top", {"a/b": "x", "link": Symlink("../outside"), "a/link": Symlink("../../outside/big")}
    )
    os.mkfifo(top / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(top / "socket"))
    os.utime(top / "a", ns=(10**18, 10**18))
    before = stamps(top)
    accessed = os.stat(top / "a").st_atime_ns
    found = usage(top)
    assert found.files == 6 and found.size < 50_000 and found.longest == 1
    assert stamps(top) == before and os.stat(top / "a").st_atime_ns == accessed
    assert outside.exists()


def test_a_tree_deeper_than_any_path_is_counted(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(60):
        os.mkdir("d" * 200, dir_fd=fd)
        below = os.open("d" * 200, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("last", os.O_CREAT, dir_fd=fd))
    os.close(fd)
    assert usage(tmp_path).files == 61


def test_levels_without_end_do_not_make_a_look_slow(tmp_path: Path) -> None:
    """Each costs the same: by a path from the top for each a look takes a minute, in which nothing is limited."""
    top = tmp_path / "top"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(2000):
        os.mkdir("e", dir_fd=fd)
        os.mkdir("d" * 250, dir_fd=fd)
        below = os.open("d" * 250, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "c_call"

    sys.setprofile(count)
    try:
        found = usage(top)
    finally:
        sys.setprofile(None)
        remove_tree(top)
    assert found.files == 4000 and calls < 50 * found.files


@pytest.mark.parametrize(("moved", "files"), [("the directory", 11), ("the one above too", 9)])
def test_what_is_moved_while_it_is_read_hides_nothing_else(
    moved: str, files: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = make_tree(tmp_path / "top", {"a/1/f": "x", "a/2/f": "x", "a/3/f": "x", "b/f": "x", "c/f": "x"})
    names = {path.stat().st_ino: path for path in top.glob("a/*")}
    scandir = os.scandir
    first: list[Path] = []

    def moving(fd: int) -> Any:
        name = names.get(os.fstat(fd).st_ino)
        if name is not None and not first:
            first.append(name)
            name.rename(tmp_path / "elsewhere")
            if moved == "the one above too":
                (top / "a").rename(tmp_path / "elsewhere too")
        return scandir(fd)

    monkeypatch.setattr(os, "scandir", moving)
    found = usage(top)
    assert first and (found.files, found.closed) == (files, "")


def test_counting_ends_where_the_limit_is_passed(tmp_path: Path) -> None:
    make_tree(tmp_path, {f"{n}": "x" for n in range(200)})
    assert usage(tmp_path, Usage(1 << 30, 50)).files == 51
    assert usage(tmp_path, Usage(50_000, 1000)).size < 70_000
    assert usage(tmp_path, Usage(1 << 30, 200)).files == 200


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every directory")
@pytest.mark.parametrize("mode", [0o000, 0o300, 0o600])
def test_a_directory_that_we_may_not_look_into_is_told(mode: int, tmp_path: Path) -> None:
    make_tree(tmp_path, {"dark/file": "x", "dark": Dir(mode)})
    try:
        assert usage(tmp_path).closed == "dark"
    finally:
        (tmp_path / "dark").chmod(0o700)


@pytest.mark.parametrize("how", ["open", "mapped"])
def test_a_removed_file_counts_while_a_process_below_has_it(how: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * (1 << 20))
    keep = "f.close()" if how == "mapped" else "m.close()"
    program = (
        f"import mmap, os, sys; f = open({str(file)!r}, 'r+b'); m = mmap.mmap(f.fileno(), 4096); {keep};"
        f"os.unlink({str(file)!r}); print(flush=True); sys.stdin.read()"
    )
    before = held().size
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout and child.stdin and child.stdout.readline()
        assert held().size - before >= 1 << 20
        child.stdin.close()
        child.wait()
    assert held().size == before


def test_the_words_of_the_option() -> None:
    assert parse_disk("2g") == (2 << 30, 0) and parse_disk("1.5m,700") == (3 << 19, 700)
    for text in ("", ",", "1g,", "1g,-1", "1g,1k", "1g,1,1", "1g,٣"):
        with pytest.raises(UsageError):
            parse_disk(text)
    assert (Limits(disk=1 << 30).files, Limits(disk=1 << 20).files, Limits(disk=1, inodes=9).files) == (262144, 1024, 9)
    assert [size_shown(n) for n in (1 << 30, 512 << 20, 1536 << 20, 4096, 4097)] == [
        "1 GiB", "512 MiB", "1536 MiB", "4 KiB", "4,097 bytes",
    ]  # fmt: skip
