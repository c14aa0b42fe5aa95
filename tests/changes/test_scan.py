"""scan: what an upperdir says. (What it must not be talked into: test_scan_hostile.)"""

from __future__ import annotations

import itertools
import os
from hashlib import sha256
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (0o700, 0o755, True), (0o700, 0o711, True), (0o750, 0o770, True), (0o755, 0o700, False), (0o500, 0o700, False),
        (0o755, 0o755, False),
    ],
)  # fmt: skip
def test_a_directory_opened_over_what_is_hidden_says_so(tmp_path: Path, before: int, after: int, said: bool) -> None:
    base: dict[str, Node] = {"d": Dir(before), "d/in": Dir(), "d/in/x": "x\n", "d-other": Dir(before)}
    upper: Upper = {"d": Dir(after), "d-other": Dir(after), "d/in/x": "y\n"}
    changes = {c.path: c for c in make_case(tmp_path, base, upper, hidden=("d/in/.env",)).scan().changes}
    assert {p for p, c in changes.items() if "hidden-original" in c.flags} == ({"d"} if said else set())


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


def test_scan_leaves_the_layer_as_it_was(tmp_path: Path) -> None:
    case = make_case(tmp_path, BASES["tree"], UPPERS["made again"])
    lower, upper = read_tree(case.layer.lowerdir), read_tree(case.layer.upperdir)
    scan_twice = (case.scan().digest, case.scan().digest)
    assert (read_tree(case.layer.lowerdir), read_tree(case.layer.upperdir)) == (lower, upper)
    assert scan_twice[0] == scan_twice[1]
