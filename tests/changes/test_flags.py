"""Flags: what a reviewer must know, and no crying wolf."""

from __future__ import annotations

from pathlib import Path

import pytest

from overlayws.base.manifest import Manifest
from overlayws.changes.autorun import is_run_on_its_own
from overlayws.changes.flags import leads_outside
from overlayws.changes.freeze import freeze
from overlayws.changes.frozen import thaw
from overlayws.changes.gitname import is_git_name
from tests.changes.layers import Case, Upper, Whiteout, make_case
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
        (None, "p\u0430yload = 1\n", ("confusable",)),
        (None, "\u0421lass\n", ("confusable",)),
        (None, "\u043f\u0440\u0438\u0432\u0435\u0442 world, \u0394t, \u03b1x, na\u00efve\n", ()),
        ("p\u0430y\n", "p\u0430y\nmore\n", ()),
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


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("a\u202egpj.exe", {"invisible-text"}),
        ("zero\u200bwidth", {"invisible-text"}),
        ("tag\U000e0041", {"invisible-text"}),
        ("new\nline", {"invisible-text"}),
        ("esc\x1b[2J", {"invisible-text"}),
        ("c1\x9b2J", {"invisible-text"}),
        ("\u0430pp.txt", {"confusable"}),
        ("caf\u00e9 \u6f22 \u0444\u0430\u0439\u043b", set()),
        ("latin-1 \udce9", set()),
    ],
)
def test_a_name_is_flagged_as_text_is(name: str, flags: set[str], tmp_path: Path) -> None:
    case = make_case(tmp_path, {}, {name: "x\n", f"d/{name}": Symlink("x")})
    found = {c.path: set(c.flags) for c in case.scan().changes}
    assert found[name] == found[f"d/{name}"] == flags


def frozen(case: Case) -> dict[str, tuple[str, ...]]:
    """The flags that are made when the changes are frozen, too."""
    store = case.manifest.parent / "store"
    with Manifest(case.manifest) as manifest:
        capture = freeze(case.layer, manifest, case.prefix, own_git=False, store=store)
    changeset, contents = thaw(store, capture)
    contents.close()
    return {change.path: change.flags for change in changeset.changes}


def test_a_twin_of_a_name_is_flagged_wherever_the_other_one_is(tmp_path: Path) -> None:
    twins = ("\u0430\u0440\u0440", "d/\uff41pp", "\u0441\u0441")
    upper: Upper = {twins[0]: "", twins[1]: "x\n", f"{twins[2]}/in": "", "alone/\u0441\u043e\u0441": "", "d/app": "x\n"}
    flags = frozen(make_case(tmp_path, {"app": "x\n", "cc/y": "y\n"}, upper))
    assert {path for path, found in flags.items() if "confusable" in found} == set(twins)


def test_two_new_names_that_look_alike_are_both_flagged(tmp_path: Path) -> None:
    flags = frozen(make_case(tmp_path, {}, {"d/\u0441\u043e\u0441\u00e9": "", "d/\uff43oc\u00e9": "x\n"}))
    assert {path for path, found in flags.items() if "confusable" in found} == set(flags) - {"d"}


def test_what_git_takes_for_a_repository_is_flagged_whatever_it_is_called(tmp_path: Path) -> None:
    bare = {"HEAD": "ref: refs/heads/x\n", "objects/pack": Dir(), "refs": Dir(), "config": "[core]\n"}
    upper: Upper = {f"lib/inner/{name}": node for name, node in bare.items()}
    upper = {**upper, "half/HEAD": "x\n", "half/objects": Dir(), "sub/.git": "gitdir: /etc\n", "made/HEAD": "x\n"}
    upper = {**upper, "lib/inner.txt": "x\n"}
    flags = frozen(make_case(tmp_path, {"made/objects/x": "", "made/refs/x": ""}, upper))
    assert {path for path, found in flags.items() if "embedded-repository" in found} == {
        "lib/inner", *(f"lib/inner/{name}" for name in (*bare, "objects")), "sub/.git", "made/HEAD",
    }  # fmt: skip


def test_a_secret_that_is_written_is_flagged(tmp_path: Path) -> None:
    token = "ghp_" + "x7Kq2mVb9TzRw4Ys8NpLd3HfJc6GtE1aQuMn"
    upper: Upper = {"notes.md": f"the token is {token}\n", "fine.md": "nothing\n", "known.py": "password = get()\n"}
    flags = frozen(make_case(tmp_path, {}, upper))
    assert {path for path, found in flags.items() if "secret" in found} == {"notes.md"}
