"""scan: what an upperdir says, and all that it must not be talked into."""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from overlayws.changes.change import Problem
from overlayws.errors import UntrustedError
from overlayws.source.entry import Kind
from tests.changes.layers import TRUSTED, USER, Opaque, Upper, Whiteout, make_case, merged
from tests.trees import Dir, File, Node, Special, Symlink, make_tree, read_tree

PREFIX = [pytest.param(USER, id="user"), pytest.param(TRUSTED, id="trusted", marks=pytest.mark.root)]

BASES: dict[str, dict[str, Node]] = {
    "nothing": {},
    "file": {"p": "text\n"},
    "executable": {"p": File(b"text\n", 0o755)},
    "empty file": {"p": ""},
    "link": {"p": Symlink("there")},
    "empty directory": {"p": Dir()},
    "tree": {"p/a": "a\n", "p/d/b": "b\n", "p/d/e": Dir(0o700), "p/l": Symlink("a")},
}
UPPERS: dict[str, Upper] = {
    "nothing": {},
    "whiteout": {"p": Whiteout()},
    "the same file": {"p": "text\n"},
    "another file": {"p": "TEXT\n"},
    "a longer file": {"p": "text\nmore\n"},
    "an executable": {"p": File(b"text\n", 0o755)},
    "an empty file": {"p": ""},
    "setuid": {"p": File(b"text\n", 0o4755)},
    "the same link": {"p": Symlink("there")},
    "another link": {"p": Symlink("elsewhere")},
    "fifo": {"p": Special("fifo")},
    "socket": {"p": Special("socket")},
    "a copied-up directory": {"p": Dir()},
    "a private directory": {"p": Dir(0o700)},
    "an opaque directory": {"p": Opaque()},
    "additions": {"p/new": "n\n", "p/d/new": "n\n"},
    "edits": {"p/a": "A\n", "p/d/b": File(b"b\n", 0o755)},
    "copies": {"p/a": "a\n", "p/d/b": "b\n", "p/d/e": Dir(0o700)},
    "whiteouts": {"p/a": Whiteout(), "p/d": Whiteout(), "p/none": Whiteout()},
    "a whiteout inside": {"p/d/b": Whiteout()},
    "made again": {"p": Opaque(), "p/a": "a\n", "p/d/b": "B\n"},
    "made again with whiteouts": {"p": Opaque(), "p/a": Whiteout(), "p/d/b": "b\n"},
    "opaque below": {"p/d": Opaque(), "p/d/b": "b\n"},
    "opaque twice": {"p": Opaque(), "p/d": Opaque(), "p/d/e": Dir(0o700)},
    "types turned": {"p/a": Opaque(), "p/a/x": "x\n", "p/d": "d\n", "p/l": "l\n"},
    "links for directories": {"p/d": Symlink("/etc"), "p/a": Symlink("d/b")},
}


@pytest.mark.parametrize("prefix", PREFIX)
@pytest.mark.parametrize(("base", "upper"), list(itertools.product(BASES, UPPERS)))
def test_the_changes_are_the_difference_of_base_and_merged(base: str, upper: str, prefix: str, tmp_path: Path) -> None:
    case = make_case(tmp_path, BASES[base], UPPERS[upper], prefix=prefix)
    before = read_tree(case.layer.lowerdir)
    after = merged(before, UPPERS[upper], read_tree(case.layer.upperdir))
    expected = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}

    changeset = case.scan()

    assert changeset.problems == ()
    assert [c.path for c in changeset.changes] == sorted(expected, key=os.fsencode)
    for change in changeset.changes:
        for entry, node in ((change.before, before.get(change.path)), (change.after, after.get(change.path))):
            _agrees(entry, node)


def _agrees(entry: object, node: object) -> None:
    if isinstance(node, File):
        seen = (entry.kind, entry.mode, entry.size, entry.digest)  # type: ignore[attr-defined]
        assert seen == (Kind.FILE, node.mode, len(node.content), sha256(node.content).hexdigest())
    elif isinstance(node, Dir):
        assert (entry.kind, entry.mode) == (Kind.DIRECTORY, node.mode)  # type: ignore[attr-defined]
    elif isinstance(node, Symlink):
        assert (entry.kind, entry.target) == (Kind.SYMLINK, node.target)  # type: ignore[attr-defined]
    elif isinstance(node, Special):
        assert entry.kind.value == node.kind  # type: ignore[attr-defined]
    else:
        assert entry is None


def test_a_file_that_was_only_touched_or_opened_is_no_change(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"a": "same\n", "d/b": "same\n"}, {"a": "same\n", "d/b": "same\n"})
    os.utime(case.layer.upperdir / "a", (1, 1))
    os.utime(case.layer.upperdir / "d", (1, 1))
    assert case.statuses() == {}


def test_content_decides_where_size_and_time_are_the_same(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"a": "one\n"}, {"a": "two\n"})
    st = os.stat(case.layer.lowerdir / "a")
    os.utime(case.layer.upperdir / "a", ns=(st.st_atime_ns, st.st_mtime_ns))
    assert case.statuses() == {"a": "modified"}


def test_a_large_file_is_compared_by_its_digest(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192
    edited = content[:-1] + b"!"
    base = {"same": content, "edited": content, "mode": File(content, 0o644)}
    case = make_case(tmp_path, base, {"same": content, "edited": edited, "mode": File(content, 0o755)})
    assert case.statuses() == {"edited": "modified", "mode": "mode-changed"}
    digests = {c.path: c.after.digest for c in case.scan().changes if c.after}
    assert digests["edited"] == sha256(edited).hexdigest()


def test_a_user_attribute_is_a_change_and_taking_it_away_too(tmp_path: Path) -> None:
    tagged = File(b"x\n", 0o644, (("user.note", b"\0v"),))
    case = make_case(tmp_path, {"gets": "x\n", "loses": tagged, "keeps": tagged}, {"loses": "x\n"})
    make_tree(case.layer.upperdir, {"gets": tagged, "keeps": tagged})
    changes = {c.path: c for c in case.scan().changes}
    assert {path: c.status for path, c in changes.items()} == {"gets": "modified", "loses": "modified"}
    assert changes["gets"].after and changes["gets"].after.xattrs == (("user.note", b"\0v"),)


@pytest.mark.root
def test_opaque_marks_of_another_prefix_delete_nothing(tmp_path: Path) -> None:
    for prefix, foreign in ((TRUSTED, USER), (USER, TRUSTED)):
        case = make_case(tmp_path / prefix, {"d/x": "x\n", "d/y": "y\n"}, {"d": Dir()}, prefix=prefix)
        os.setxattr(case.layer.upperdir / "d", foreign + "opaque", b"y")
        os.setxattr(case.layer.upperdir, foreign + "opaque", b"y")
        assert {path for path, status in case.statuses().items() if status == "deleted"} == set()


def test_an_escaped_mark_is_the_programs_own_attribute(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"d/x": "x\n"}, {"d": Dir()})
    os.setxattr(case.layer.upperdir / "d", "user.overlay.overlay.opaque", b"y")
    (change,) = case.scan().changes
    assert change.after is not None
    assert (change.path, change.after.xattrs) == ("d", (("user.overlay.opaque", b"y"),))


def test_names_that_other_formats_read_as_whiteouts_are_files(tmp_path: Path) -> None:
    names = {".wh.x": "1\n", ".wh..wh..opq": "", ".wh..opq": "", ".wh..wh.aufs": ""}
    case = make_case(tmp_path, {"x": "x\n", "y": "y\n"}, names)
    assert case.statuses() == dict.fromkeys(names, "added")


def test_the_programs_own_repository_is_not_looked_at(tmp_path: Path) -> None:
    upper: Upper = {".git/config": "[core]\n", ".git/hooks/pre-commit": "x", ".git/index": Whiteout(), "new": "n\n"}
    assert make_case(tmp_path, {}, upper, own_git=True).statuses() == {"new": "added"}
    assert make_case(tmp_path / "w", {}, {".git": Whiteout()}, own_git=True).statuses() == {}


def test_any_other_repository_is_one_change_and_is_not_entered(tmp_path: Path) -> None:
    deep = "/".join("d" * 40)
    upper: Upper = {
        f".git/objects/{deep}/x": "x",
        "sub/.GIT/config": "[core]\n\tfsmonitor = evil\n",
        "file/.git": "gitdir: /elsewhere\n",
        "link/.Git": Symlink("/elsewhere"),
    }
    changes = {c.path: c for c in make_case(tmp_path, {}, upper).scan().changes}
    assert [p for p in changes if "git" in p.lower()] == [".git", "file/.git", "link/.Git", "sub/.GIT"]
    assert all("git" in changes[p].flags for p in changes if "git" in p.lower())
    top = changes[".git"].after
    assert top is not None and (top.kind, top.digest) == (Kind.DIRECTORY, None)
    assert not any("git" in changes[p].flags for p in ("sub", "file", "link"))


def test_with_an_own_repository_another_spelling_of_git_is_a_change(tmp_path: Path) -> None:
    case = make_case(tmp_path, {}, {".GIT/config": "x", "sub/.git/config": "x"}, own_git=True)
    assert case.statuses() == {".GIT": "added", "sub": "added", "sub/.git": "added"}


def test_special_files_are_changes_of_their_kind_and_never_opened(tmp_path: Path) -> None:
    upper = {"was": Special("fifo"), "pipe": Special("fifo"), "sock": Special("socket")}
    case = make_case(tmp_path, {"was": "a file\n"}, upper)
    changes = {c.path: c for c in case.scan().changes}
    kinds = {path: c.after.kind for path, c in changes.items() if c.after}
    assert kinds == {"was": Kind.FIFO, "pipe": Kind.FIFO, "sock": Kind.SOCKET}
    assert all(c.flags == ("special",) for c in changes.values())
    assert changes["was"].status == "type-changed"


@pytest.mark.root
def test_a_device_is_a_special_file_unless_it_is_a_whiteout(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"gone": "x\n"}, {"gone": Whiteout()}, prefix=TRUSTED)
    os.mknod(case.layer.upperdir / "null", 0o20666, os.makedev(1, 3))
    assert {c.path: c.kind for c in case.scan().changes} == {"gone": Kind.FILE, "null": Kind.CHAR_DEVICE}


def test_hidden_paths_of_a_deleted_directory_do_not_exist_for_the_program(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"d/x": "x\n"}, {"d": Whiteout()}, hidden=("d/.env",))
    changes = {c.path: c for c in case.scan().changes}
    assert list(changes) == ["d", "d/x"]
    assert changes["d"].flags == ("hidden-original",)  # the directory must stay
    assert changes["d/x"].flags == ()


def test_a_file_made_where_a_hidden_one_is_says_so(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"d/x": "x\n"}, {"d/.env": "KEY=\n", "k/in": "x\n"}, hidden=("d/.env", "k"))
    changes = {c.path: c for c in case.scan().changes}
    assert {p for p, c in changes.items() if "hidden-original" in c.flags} == {"d/.env", "k", "k/in"}


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


def test_what_the_base_was_is_told_from_the_manifest_where_it_knows(tmp_path: Path) -> None:
    base = {"edited": "before\n", "same": "x\n", "gone": "y\n", "d/moved": "z\n", "bin": b"\0"}
    gone = {"gone": Whiteout(), "d/moved": Whiteout()}
    upper: Upper = {"edited": "after\n", "same": "x\n", "new": "z\n", "bin": "1", **gone}
    read = make_case(tmp_path / "read", base, upper).scan()
    known = make_case(tmp_path / "known", base, upper, digests=True)
    for text in ("edited", "same", "gone", "d/moved"):  # it need not be read for that
        (known.layer.lowerdir / text).unlink()
    found = known.scan()
    assert found.problems == () and (found.changes, found.renames) == (read.changes, read.renames)


def test_a_base_that_is_not_what_the_manifest_says_is_a_problem(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"cut": "before\n", "away": "x\n"}, {"cut": "after\n", "away": Whiteout()})
    (case.layer.lowerdir / "cut").write_bytes(b"bef")
    (case.layer.lowerdir / "away").unlink()
    problems = case.scan().problems
    assert str(problems[0]).startswith("'away': cannot read it in the base")
    assert str(problems[1]).startswith("'cut': the base is damaged here")


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


def test_scan_leaves_the_layer_as_it_was(tmp_path: Path) -> None:
    case = make_case(tmp_path, BASES["tree"], UPPERS["made again"])
    lower, upper = read_tree(case.layer.lowerdir), read_tree(case.layer.upperdir)
    scan_twice = (case.scan().digest, case.scan().digest)
    assert (read_tree(case.layer.lowerdir), read_tree(case.layer.upperdir)) == (lower, upper)
    assert scan_twice[0] == scan_twice[1]
