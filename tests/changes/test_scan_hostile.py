"""scan: all that an upperdir must not talk it into, by names, depth, sizes, and by changing meanwhile."""

from __future__ import annotations

import os
import resource
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from overlayws.changes.change import Problem
from overlayws.errors import UntrustedError
from tests.changes.layers import Whiteout, make_case


def test_hostile_names_are_only_names(tmp_path: Path) -> None:
    names = [
        "new\nline",
        "-rf",
        "--",
        " lead",
        "esc\x1b[2J",
        "b\udcff\udcfe",
        "\u202egpj.exe",
        "x" * 255,
        '"q"',
        "a\\b",
    ]
    case = make_case(tmp_path, {}, {f"{d}{name}": "x\n" for name in names for d in ("", "dir/")})
    found = [c.path for c in case.scan().changes]
    assert found == sorted(["dir", *names, *(f"dir/{name}" for name in names)], key=os.fsencode)


@pytest.fixture
def deep_upper(tmp_path: Path) -> Iterator[Path]:
    """An upperdir that is removed by a program that can remove deep trees (shutil.rmtree cannot)."""
    yield tmp_path / "upper"
    subprocess.run(["rm", "-rf", "--", str(tmp_path / "upper")], check=True)


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_tree_of_1200_levels_is_captured_with_few_descriptors(
    tmp_path: Path, deep_upper: Path, few_descriptors: None
) -> None:
    case = make_case(tmp_path, {"top": "x\n"})
    levels, name = 1200, "directory"  # 12,000 bytes of path: far beyond PATH_MAX
    fd = os.open(deep_upper, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    for file in ("deep", "second"):
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)
    open_before = len(os.listdir("/proc/self/fd"))

    changeset = case.scan()

    assert len(os.listdir("/proc/self/fd")) == open_before
    assert changeset.problems == ()
    assert len(changeset.changes) == levels + 2
    last = changeset.changes[-1]
    assert last.path == f"{name}/" * levels + "second"
    with case.theirs() as theirs:
        assert theirs.read(last.path, last.after) == b""


def test_names_that_come_to_gigabytes_are_a_problem_and_take_no_time(tmp_path: Path, deep_upper: Path) -> None:
    """1,500 levels of 250 bytes: linear in time, bounded in memory, told, and gone in no time."""
    case = make_case(tmp_path, {"top": "x\n"})
    fd = os.open(deep_upper, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d" * 250, dir_fd=fd)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    start = time.process_time()
    tracemalloc.start()
    changeset = case.scan()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - start < 3 and peak < 64 << 20
    (problem,) = changeset.problems
    assert "nested more deeply" in problem.why and len(str(problem)) < 600
    assert len(changeset.changes) == 262


def test_more_names_than_memory_is_for_are_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overlayws.changes.bounds._NAMES", 9000)
    case = make_case(tmp_path, {}, {f"file{n:04}": "" for n in range(500)})
    changeset = case.scan()
    (problem,) = changeset.problems
    assert str(problem) == "'.': more changes than can be captured: 125 are"
    assert len(changeset.changes) == 125


def test_attributes_count_as_what_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four kilobytes of them on each of a million empty files would be twenty gigabytes of diff."""
    monkeypatch.setattr("overlayws.changes.bounds._NAMES", 200_000)
    case = make_case(tmp_path, {}, {f"file{n:04}": "" for n in range(500)})
    for name in os.listdir(case.layer.upperdir):
        os.setxattr(case.layer.upperdir / name, "user.note", bytes(3000))
    changeset = case.scan()
    (problem,) = changeset.problems
    assert str(problem) == "'.': more changes than can be captured: 64 are"
    assert len(changeset.changes) == 64


def test_a_hundred_sparse_files_do_not_take_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overlayws.changes.bounds._HOLES", 64 << 20)
    case = make_case(tmp_path, {})
    for n in range(10):
        with open(case.layer.upperdir / f"sparse{n}", "wb") as f:
            f.truncate(16 << 20)
    changeset = case.scan()
    assert len(changeset.problems) == 6 and len(changeset.changes) == 10
    assert sum(c.after is not None and c.after.digest is None for c in changeset.changes) == 6


def test_a_deep_tree_that_was_deleted_is_captured_whole(tmp_path: Path) -> None:
    path = "/".join(["d"] * 400)
    case = make_case(tmp_path, {f"{path}/x": "x\n", "d/y": "y\n"}, {"d": Whiteout()})
    changeset = case.scan()
    assert changeset.problems == ()
    assert len(changeset.changes) == 402
    assert all(c.after is None for c in changeset.changes)


def test_a_directory_that_is_moved_while_it_is_read_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overlayws.changes.scan._OPEN_FRAMES", 2)
    case = make_case(tmp_path, {}, {"a/b/c/d/x": "x\n"})
    real = os.scandir
    moved = []

    def move(fd):
        if not moved and os.readlink(f"/proc/self/fd/{fd}").endswith("c/d"):
            moved.append(os.rename(case.layer.upperdir / "a/b/c", tmp_path / "elsewhere"))
        return real(fd)

    monkeypatch.setattr("os.scandir", move)
    with pytest.raises(UntrustedError, match="changed while it was read"):
        case.scan()


def test_a_file_too_large_to_hash_is_a_problem_and_takes_no_time(tmp_path: Path) -> None:
    case = make_case(tmp_path, {})
    with open(case.layer.upperdir / "sparse", "wb") as f:
        f.truncate(1 << 40)
    (problem,) = case.scan().problems
    assert str(problem).startswith("'sparse': larger than a change may be")


def test_a_symlink_in_the_lowerdir_is_not_followed(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"d/f": "before\n"}, {"d/f": "after\n"})
    (case.layer.lowerdir / "d").rename(tmp_path / "outside")
    (case.layer.lowerdir / "d").symlink_to(tmp_path / "outside")
    (problem,) = case.scan().problems
    assert str(problem).startswith("'d/f': cannot read it in the base")


def test_a_file_that_becomes_a_fifo_under_the_scan_does_not_hang_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(tmp_path, {}, {"f": "x\n"})
    from overlayws.changes import scan as module

    real = module.open_file

    def swap(name: str, parent: int) -> int:
        os.unlink(name, dir_fd=parent)
        os.mkfifo(name, dir_fd=parent)
        return real(name, parent)

    monkeypatch.setattr(module, "open_file", swap)
    assert case.scan().problems == (Problem("f", "changed while it was read"),)
