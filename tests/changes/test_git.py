"""The private repository: patches that git apply accepts and that give the same tree, and nothing else of git."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from overlayws.changes import git as module
from overlayws.changes.contents import ChangedSince
from overlayws.changes.git import private_repository, without_patch
from overlayws.changes.sections import sections
from overlayws.changes.terminal import words_of_sections
from overlayws.errors import UnableError
from tests.changes.layers import Case, Opaque, Whiteout, make_case
from tests.trees import Dir, File, Special, Symlink, Tree, make_tree, read_tree

LINES = "".join(f"line {n}\n" for n in range(60))
BASE = {
    "edited": LINES,
    "moved/from": LINES + "moved\n",
    "moved/same": "the same content, only elsewhere\n" * 4,
    "deleted": "gone\n",
    "deleted dir/a": "a\n",
    "deleted dir/b/c": "c\n",
    "run": "#!/bin/sh\n",
    "binary": bytes(range(256)) * 8,
    "link": Symlink("edited"),
    "file to link": "text\n",
    "link to file": Symlink("edited"),
    "file to directory": "text\n",
    "directory to file/x": "x\n",
    "no newline": "end",
    "crlf": "a\r\nb\r\n",
    "empty": "",
    "kept": "kept\n",
}
UPPER = {
    "edited": LINES.replace("line 30", "LINE 30"),
    "moved/from": Whiteout(),
    "moved/to": LINES + "moved and edited\n",
    "moved/same": Whiteout(),
    "other/place": "the same content, only elsewhere\n" * 4,
    "deleted": Whiteout(),
    "deleted dir": Whiteout(),
    "run": File(b"#!/bin/sh\n", 0o755),
    "binary": bytes(range(256)) * 7 + b"\0edited",
    "new binary": b"\0\1\2\xff" * 100,
    "link": Symlink("else where\n"),
    "new link": Symlink("-rf"),
    "file to link": Symlink("../../outside"),
    "link to file": "text\n",
    "file to directory/x": "x\n",
    "directory to file": "now a file\n",
    "no newline": "END",
    "crlf": "a\r\nB\r\n",
    "empty": "not any more\n",
    "new empty": "",
    "executable": File(b"#!/bin/sh\necho\n", 0o755),
    " lead": "x\n",
    "trail ": "x\n",
    "new\nline": "x\n",
    'quo"te': "x\n",
    "back\\slash": "x\n",
    "tab\there": "x\n",
    "esc\x1b[2J": "x\n",
    "b\udcff\udcfe": "x\n",
    "é \u202e": "x\n",
    "-rf": "x\n",
    "--": "x\n",
    "dash/-x": "x\n",
    "b/a/x": "x\n",
    "a b/x": "x\n",
    "=> arrow": "x\n",
    "dev/null": "x\n",
}


def applied(case: Case, patch: bytes, where: Path, *options: str) -> Tree:
    """The base after ``git apply``; no empty directories, modes as git keeps them."""
    shutil.copytree(case.layer.lowerdir, where, symlinks=True)
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", "--allow-empty", *options, "-"],
        cwd=where,
        input=patch,
        capture_output=True,
        env={"PATH": os.environ["PATH"], "GIT_CEILING_DIRECTORIES": str(where.parent), "HOME": "/nonexistent"},
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return as_git_keeps(read_tree(where))


def as_git_keeps(tree: Tree) -> Tree:
    return {
        path: File(node.content, 0o755 if node.mode & stat.S_IXUSR else 0o644) if isinstance(node, File) else node
        for path, node in tree.items()
        if not isinstance(node, Dir)
    }


def wanted(case: Case) -> Tree:
    """What the merged view shows, by the change set."""
    tree = read_tree(case.layer.lowerdir)
    upper = read_tree(case.layer.upperdir)
    for change in case.scan().changes:
        if change.after is None:
            del tree[change.path]
        else:
            tree[change.path] = upper[change.path]
    return as_git_keeps(tree)


def patch_of(case: Case, **options: object) -> bytes:
    with case.base() as base, case.theirs() as theirs, private_repository(case.scan(), base, theirs) as repository:
        return repository.patch(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"context": 0}, {"context": 25}, {"renames": False}], ids=str)
def test_git_apply_gives_the_same_tree(options: dict[str, object], tmp_path: Path) -> None:
    case = make_case(tmp_path, BASE, UPPER)
    zero = ["--unidiff-zero"] if options.get("context") == 0 else []
    assert applied(case, patch_of(case, **options), tmp_path / "applied", *zero) == wanted(case)


@pytest.mark.parametrize("seed", range(25))
def test_git_apply_gives_the_same_tree_for_any_change(seed: int, tmp_path: Path) -> None:
    r = random.Random(seed)
    names = ["a", "b", "a b", "-x", "n\nl", 'q"', "\udcff", "é", "d", "d1"]
    contents = [b"", b"one\ntwo\nthree\n", b"one\n2\nthree\n", b"\0b", b"end", LINES.encode(), LINES.encode() + b"\xff"]

    def node() -> File | Symlink:
        if r.random() < 0.2:
            return Symlink(r.choice(["target", "nowhere", "../x y"]))  # a loop (a -> a) git apply cannot replace
        return File(r.choice(contents), r.choice([0o644, 0o755]))

    def tree() -> dict[str, File | Symlink]:
        found: dict[str, File | Symlink] = {}
        for _ in range(r.randrange(12)):
            path = "/".join(r.choice(names) for _ in range(r.randrange(1, 4)))
            clash = any(p == path or p.startswith(path + "/") or path.startswith(p + "/") for p in found)
            if not clash:
                found[path] = node()
        return found

    # The upperdir of "everything deleted, then this made": opaque at the top.
    case = make_case(tmp_path, tree(), tree())
    os.setxattr(case.layer.upperdir, "user.overlay.opaque", b"y")
    assert applied(case, patch_of(case), tmp_path / "applied") == wanted(case)


def test_a_moved_symlink_whose_place_a_directory_took_can_be_applied(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"l": Symlink("there")}, {"l/x": "x\n", "moved": Symlink("there")})
    assert applied(case, patch_of(case), tmp_path / "applied") == wanted(case)


def test_a_rename_is_one_entry_of_the_patch(tmp_path: Path) -> None:
    patch = patch_of(make_case(tmp_path, BASE, UPPER))
    assert b"rename from moved/from\nrename to moved/to\n" in patch
    assert b"similarity index 100%\nrename from moved/same\nrename to other/place\n" in patch


def test_what_has_no_patch_form_is_left_out_and_named(tmp_path: Path) -> None:
    case = make_case(
        tmp_path,
        {"private": "x\n", "tagged": "x\n", "was": "x\n", "d/x": "x\n", "edited": "x\n"},
        {
            "private": File(b"x\n", 0o600),
            "tagged": File(b"x\n", 0o644, (("user.a", b"b"),)),
            "was": Special("fifo"),
            "pipe": Special("fifo"),
            "empty dir": Dir(),
            "sub/.git": "gitdir: /x\n",
            "sub2/.Git/hooks/x": "x\n",
            ".git ": "ntfs\n",
            "git~1": "ntfs\n",
            ".g\u200cit": "hfs\n",
            "d": Opaque(0o700),
            "d/x": "x\n",
            "edited": File(b"y\n", 0o600),
        },
    )
    changeset = case.scan()
    left = {c.path for c in without_patch(changeset.changes)}
    assert left == {
        "private", "tagged", "was", "pipe", "empty dir", "sub", "sub/.git", "sub2", "sub2/.Git", ".git ", "git~1",
        ".g\u200cit", "d",
    }  # fmt: skip
    patch = patch_of(case)
    assert patch.count(b"diff --git ") == 1
    assert applied(case, patch, tmp_path / "applied")["edited"] == File(b"y\n")


def test_attributes_and_configuration_of_the_change_set_have_no_effect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    make_tree(home, {".gitconfig": "[core]\n\tattributesFile = ~/attributes\n[diff]\n\tnoprefix = true\n"})
    make_tree(home, {"attributes": "* -diff\n", ".config/git/attributes": "* -diff\n", ".config/git/config": "[x\n"})
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "/bin/false")
    monkeypatch.setenv("GIT_ATTR_SOURCE", "refs/overlayws/after")
    attributes = {".gitattributes": "* -diff diff=x\n*.py binary\n", ".gitconfig": "[diff]\n\texternal = false\n"}
    case = make_case(tmp_path, {"a.py": "one\n", **attributes}, {"a.py": "two\n", ".gitattributes": "* -diff\n"})
    patch = patch_of(case)
    assert b"-one\n+two\n" in patch
    assert b"diff --git a/a.py b/a.py\n" in patch


def test_a_git_that_reads_attributes_from_the_head_of_a_bare_repository_finds_none(tmp_path: Path) -> None:
    # git 2.43 and later do (attr.tree defaults to HEAD); so HEAD must not name one of the trees.
    case = make_case(tmp_path, {}, {".gitattributes": "* -diff\n", "a": "x\n"})
    with case.base() as base, case.theirs() as theirs, private_repository(case.scan(), base, theirs) as repository:
        done = subprocess.run(
            ["git", "rev-parse", "--verify", "HEAD"], env=repository._environment(), capture_output=True
        )
        assert done.returncode != 0


def test_the_repository_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    case = make_case(tmp_path / "case", {"a": "x\n"}, {"a": "y\n"})
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with (
        case.base() as base,
        case.theirs() as theirs,
        private_repository(case.scan(), base, theirs, scratch=scratch),
    ):
        (made,) = scratch.iterdir()
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert list(scratch.iterdir()) == []


def test_bytes_that_changed_since_the_scan_are_refused(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"a": "x\n"}, {"a": "y\n"})
    changeset = case.scan()
    for swapped in ("z\n", "longer than before\n", ""):
        (case.layer.upperdir / "a").write_text(swapped)
        with case.base() as base, case.theirs() as theirs, pytest.raises(ChangedSince):
            with private_repository(changeset, base, theirs):
                pass


def test_lines_are_counted_and_binary_files_have_none(tmp_path: Path) -> None:
    case = make_case(tmp_path, BASE, UPPER)
    with case.base() as base, case.theirs() as theirs, private_repository(case.scan(), base, theirs) as repository:
        stats = {stat.path: stat for stat in repository.stats()}
    assert (stats["edited"].added, stats["edited"].removed) == (1, 1)
    assert (stats["binary"].added, stats["binary"].removed) == (None, None)
    assert (stats["moved/to"].old, stats["moved/to"].added) == ("moved/from", 1)
    assert stats["other/place"].similarity == 100
    assert stats["b\udcff\udcfe"].added == 1
    assert stats["new\nline"].added == 1
    assert stats["new link"].added == 1


def test_a_word_diff_marks_the_words(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"a": "one two three\n"}, {"a": "one 2 three\n"})
    assert "one [-two-]{+2+} three" in words_of_sections(sections(patch_of(case)), False)


def test_no_git_is_said_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._ENVIRONMENT, "PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    case = make_case(tmp_path, {"a": "x\n"}, {"a": "y\n"})
    with pytest.raises(UnableError, match="git is not installed") as caught:
        patch_of(case)
    assert caught.value.hint


def test_a_change_set_without_files_is_an_empty_patch(tmp_path: Path) -> None:
    assert patch_of(make_case(tmp_path, {"d/x": "x\n"}, {"new": Dir()})) == b""


def test_a_large_file_is_streamed(tmp_path: Path) -> None:
    big = b"0123456789abcdef" * (1 << 18)
    case = make_case(tmp_path, {"big": big}, {"big": big + b"\n", "zero": bytes(5 << 20)})
    patch = patch_of(case)
    assert applied(case, patch, tmp_path / "applied") == wanted(case)
