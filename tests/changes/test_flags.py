"""Flags: what a reviewer must know, and no crying wolf."""

from __future__ import annotations

from pathlib import Path

import pytest

from overlayws.changes.autorun import is_run_on_its_own
from overlayws.changes.flags import leads_outside
from overlayws.changes.gitname import is_git_name
from tests.changes.layers import Upper, Whiteout, make_case
from tests.trees import Dir, File, Node, Special, Symlink

TEXT = "text\n"


@pytest.mark.parametrize(
    ("before", "after", "flags"),
    [
        (None, TEXT, ()),
        (TEXT, "other\n", ()),
        (None, File(b"x\n", 0o755), ("executable",)),
        (TEXT, File(b"text\n", 0o755), ("executable",)),
        (File(b"x\n", 0o755), File(b"y\n", 0o755), ()),
        (None, "#!/bin/sh\n", ("executable",)),
        ("#!/bin/sh\nold\n", "#!/bin/sh\nnew\n", ()),
        ("#!/bin/sh\nold\n", "#!/tmp/sh\nold\n", ("executable",)),
        (TEXT, File(b"text\n", 0o4755), ("executable", "setuid")),
        (None, Dir(0o2755), ("setuid",)),
        (None, Dir(0o1777), ("setuid",)),
        (None, Symlink("x"), ()),
        (None, Symlink("/etc/passwd"), ("symlink-outside",)),
        (None, b"\0binary", ("binary",)),
        (b"\0binary", TEXT, ("binary",)),
        (None, b"x" * 8000 + b"\0", ()),
        (None, b"x" * (1 << 20), ()),
        (None, b"x" * ((1 << 20) + 1), ("large",)),
        (None, Special("fifo"), ("special",)),
        (None, "a = '\u202e'\n", ("invisible-text",)),
        (None, "a\u200bb\n", ("invisible-text",)),
        (None, "\U000e0041\n", ("invisible-text",)),
        (None, "\ufeffbyte order mark\n", ()),
        (None, "in the \ufeff middle\n", ("invisible-text",)),
        (None, "emoji \u2764\ufe0f, \u00e9, \u05d0\u05d1\n", ()),
        ("one\na\u200bb\n", "two\na\u200bb\n", ()),
        ("one\na\u200bb\n", "one\na\u200bc\n", ("invisible-text",)),
        ("a\u200bb\n", "ab\n", ()),
        (None, b"x" * ((1 << 20) - 1) + "\u202e\n".encode(), ("large", "invisible-text")),
        (None, b"\xff\xfe not utf-8\n", ()),
    ],
)
@pytest.mark.parametrize("digests", [False, True])
def test_flags_of_a_change(
    before: Node | None, after: Node, flags: tuple[str, ...], digests: bool, tmp_path: Path
) -> None:
    case = make_case(tmp_path, {"f": before} if before is not None else {}, {"f": after}, digests=digests)
    (change,) = case.scan().changes
    assert change.flags == flags


@pytest.mark.parametrize("digests", [False, True])
def test_a_deletion_has_only_the_flags_of_what_it_deletes(digests: bool, tmp_path: Path) -> None:
    upper: Upper = {"Makefile": Whiteout(), "b": Whiteout()}
    case = make_case(tmp_path, {"Makefile": "all:\n", "b": b"\0"}, upper, digests=digests)
    assert [c.flags for c in case.scan().changes] == [(), ("binary",)]


@pytest.mark.parametrize(
    ("path", "target", "outside"),
    [
        ("l", "a", False),
        ("l", "a/b", False),
        ("l", "..", True),
        ("l", "../x", True),
        ("d/l", "..", False),
        ("d/l", "../x", False),
        ("d/l", "../../x", True),
        ("d/l", ".././x", False),
        ("d/e/l", "../..//x", False),
        ("l", "/", True),
        ("l", "a/../b", True),  # a may be a symlink
        ("l", "./a", False),
        ("l", "...", False),
    ],
)
def test_a_link_that_may_lead_outside(path: str, target: str, outside: bool) -> None:
    assert leads_outside(path, target) is outside


@pytest.mark.parametrize(
    "path",
    [
        "Makefile", "sub/makefile", "package.json", ".envrc", ".github/workflows/ci.yml", "a/.GitHub/Workflows/x/y",
        ".github/actions/a/action.yml", ".github/dependabot.yml", ".vscode/tasks.json", "deep/.IDEA/x", "conftest.py",
        ".husky/pre-commit", "x.pth", "mod.pyc", "lib.so", "lib.so.1.2", "Dockerfile", "Dockerfile.dev", "CLAUDE.md",
        "agents.md", ".claude/settings.json", "docker-compose.prod.yaml", "compose.yml", "vite.config.ts",
        ".eslintrc.json", "gradle/wrapper/x.jar", "build.gradle.kts", "node_modules/x/index.js", "json.py",
        "json/__init__.py", "setup.py", ".gitattributes", ".gitmodules", "requirements-dev.txt", ".yarnrc.yml",
        "Directory.Build.props", ".pre-commit-config.yaml", ".gdbinit", "a/.cargo/config.toml",
    ],
)  # fmt: skip
def test_files_that_tools_run_on_their_own(path: str) -> None:
    assert is_run_on_its_own(path)


@pytest.mark.parametrize(
    "path",
    ["src/app.py", "README.md", "src/json.py", "json/x.py", "docs/makefile.md", "workflows/ci.yml", ".github/x.md",
     "a.config.txt", "mk", "vscode/x", "src/packages.json", "json"],
)  # fmt: skip
def test_files_that_they_do_not(path: str) -> None:
    assert not is_run_on_its_own(path)


@pytest.mark.parametrize(
    "path",
    [".git", "a/.git", ".GIT/config", "a/.Git/x", ".git ", ".git.", ".git. .", "git~1", "GIT~1/x", ".g\u200cit",
     "\ufeff.git", ".git::$INDEX_ALLOCATION", ".git:x", "a\\.git", "a\\.git\\hooks"],
)  # fmt: skip
def test_names_that_some_file_system_takes_for_git(path: str) -> None:
    assert is_git_name(path)


@pytest.mark.parametrize("path", [".gitignore", ".github/x", "git", "x.git", "a.git/b", "git~10", ".gitx", "..git"])
def test_names_that_none_does(path: str) -> None:
    assert not is_git_name(path)
