"""Opening what a program left: unreadable things of ours are read all the same, and stay as they were."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from overlayws.changes.contents import ChangedSince, TreeContents
from overlayws.changes.opening import Parents, Unlocked, open_file
from overlayws.source.entry import Entry, Kind
from tests.changes.layers import make_case
from tests.trees import make_tree


def scan_what_is_unreadable(top: Path) -> None:
    """Run as an ordinary user: root needs no permission, so the test would show nothing."""
    case = make_case(top, {"d/f": "old\n", "d/g": "same\n"}, {"d/f": "new\n", "d/g": "same\n", "x/y/z": "deep\n"})
    upper = case.layer.upperdir
    closed = {"x/y/z": 0, "x/y": 0, "x": 0o444, "d/f": 0o200, "d": 0o300, "": 0}
    for path, mode in closed.items():
        os.chmod(upper / path, mode)
    try:
        changeset = case.scan()
        assert changeset.problems == ()
        assert [(c.path, oct(c.after.mode) if c.after else None) for c in changeset.changes] == [
            ("d", "0o300"), ("d/f", "0o200"), ("x", "0o444"), ("x/y", "0o0"), ("x/y/z", "0o0"),
        ]  # fmt: skip
        with case.theirs() as theirs:
            contents = [theirs.read(c.path, c.after) for c in changeset.changes if c.after and c.kind is Kind.FILE]
        assert contents == [b"new\n", b"deep\n"]
        for path, mode in reversed(closed.items()):
            assert stat.S_IMODE(os.lstat(upper / path).st_mode) == mode, path
            os.chmod(upper / path, 0o700)
    finally:
        subprocess.run(["chmod", "-R", "u+rwX", str(upper)], check=True)


def test_what_the_program_made_unreadable_is_read_and_left_as_it_was() -> None:
    with tempfile.TemporaryDirectory() as place:  # pytest's own directories are closed to ordinary users
        if os.geteuid():
            scan_what_is_unreadable(Path(place))
        else:
            os.chown(place, 65534, 65534)
            assert as_an_ordinary_user(lambda: scan_what_is_unreadable(Path(place))) == 0


def as_an_ordinary_user(do: Callable[[], None]) -> int:
    """Forked, not executed: an ordinary user may not be able to read this interpreter."""
    child = os.fork()
    if not child:
        status = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            do()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_symlink_is_not_opened(tmp_path: Path) -> None:
    make_tree(tmp_path, {"outside/secret": "secret\n"})
    (tmp_path / "root").mkdir()
    (tmp_path / "root/dir").symlink_to(tmp_path / "outside")
    (tmp_path / "root/file").symlink_to(tmp_path / "outside/secret")
    root = os.open(tmp_path / "root", os.O_RDONLY)
    unlocked, parents = Unlocked(), Parents(root)
    for opening in (
        lambda: open_file("file", root),
        lambda: unlocked.open("dir", root),
        lambda: parents.fd("dir"),
        lambda: parents.fd("dir/.."),
    ):
        with pytest.raises((OSError, ValueError)):
            opening()
    parents.close()
    os.close(root)


def test_contents_follows_no_symlink_and_hangs_on_nothing(tmp_path: Path) -> None:
    entry = Entry(Kind.FILE, 0o644, 7, "0" * 64)
    make_tree(tmp_path, {"outside/secret": "secret\n", "root/real/file": "secret\n"})
    (tmp_path / "root/dir").symlink_to(tmp_path / "outside")
    (tmp_path / "root/file").symlink_to("real/file")
    os.mkfifo(tmp_path / "root/fifo")
    with TreeContents(tmp_path / "root") as contents:
        for path in ("dir/secret", "file", "fifo", "gone", "real", "gone/deeper"):
            with pytest.raises(ChangedSince):
                contents.read(path, Entry(Kind.FILE, 0o644))
        with pytest.raises(ChangedSince):
            contents.read("real/file", entry)
        assert contents.read("real/file", Entry(Kind.FILE, 0o644)) == b"secret\n"


def test_no_more_is_read_of_a_file_than_was_reviewed(tmp_path: Path) -> None:
    make_tree(tmp_path, {"f": "reviewed, and then it grew\n" * 100_000})
    seen = 0
    with TreeContents(tmp_path) as contents, pytest.raises(ChangedSince):
        for chunk in contents.chunks("f", Entry(Kind.FILE, 0o644, 8, "0" * 64)):
            seen += len(chunk)
    assert seen <= 8


def test_contents_are_copied_with_their_holes(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as f:
        f.seek(8 << 20)
        f.write(b"end")
        f.truncate(16 << 20)
    with TreeContents(tmp_path) as contents, open(tmp_path / "copy", "wb") as out:
        contents.copy("sparse", Entry(Kind.FILE, 0o644, 16 << 20), out.fileno())
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "sparse").read_bytes()
    assert (tmp_path / "copy").stat().st_blocks < 8192


def test_directories_are_found_whatever_the_order(tmp_path: Path) -> None:
    make_tree(tmp_path, {"a/b/c/x": "1", "a/b/y": "2", "a-b/z": "3"})
    root = os.open(tmp_path, os.O_RDONLY)
    parents = Parents(root)
    open_before = len(os.listdir("/proc/self/fd"))
    for path in ("a/b/c", "a/b", "a", "", "a-b", "a/b/c", "a/b/c", "a-b", ""):
        names = sorted(os.listdir(parents.fd(path)))
        assert names == sorted(os.listdir(tmp_path / path))
        assert len(os.listdir("/proc/self/fd")) == open_before + 1
    parents.close()
    os.close(root)
