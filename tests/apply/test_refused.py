"""Refused classes: what is never applied, or only when it is admitted."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from overlayws.apply.conflicts import ConflictError
from overlayws.apply.refuse import is_git, leads_outside
from overlayws.changes.change import Change
from overlayws.changes.contents import ChangedSince
from overlayws.errors import UntrustedError, UsageError
from overlayws.source.entry import Entry, Kind
from tests.apply.build import added, entry, make_case, reasons, snapshot, tree
from tests.trees import Symlink


@pytest.mark.parametrize(
    "path",
    [
        ".git",
        ".git/hooks/pre-commit",
        "sub/.git/config",
        ".GIT/config",
        ".Git",
        ".git ",
        ".git.",
        ".git . .",
        "git~1",
        "GIT~1/config",
        ".g\u200cit",
        ".git\ufeff/x",
        "\u202e.git",
        ".git::$INDEX_ALLOCATION/x",
        "a\\.git\\config",
    ],
)
def test_git_in_every_spelling_is_refused(tmp_path: Path, path: str) -> None:
    assert is_git(path)
    case = make_case(tmp_path, {}, {})
    assert reasons(case.plan([added(case, path)], on_conflict="theirs")) == {path: "git"}


@pytest.mark.parametrize("path", [".github/workflows/x", ".gitignore", "git", "x.git", "git~2", ".git2", "digit"])
def test_other_names_with_git_in_them_are_not(path: str) -> None:
    assert not is_git(path)


@pytest.mark.parametrize("kind", [k for k in Kind if k.special])
def test_special_files_are_refused(tmp_path: Path, kind: Kind) -> None:
    case = make_case(tmp_path, {"f": "x"}, {"f": "x"})
    for before in (None, entry(case.workspace / "f")):
        assert reasons(case.plan([Change("f", before, Entry(kind, 0o644))])) == {"f": "special"}


@pytest.mark.parametrize(
    ("path", "target", "outside"),
    [
        ("l", "f", False),
        ("l", "./d/f", False),
        ("a/b/l", "../../f", False),
        ("l", "/etc/passwd", True),
        ("l", "..", True),
        ("a/l", "../../x", True),
        ("a/l", "x/../../../y", True),
        ("l", "a/../..", True),  # a -> b/c makes that the root's parent
        ("l", "", True),
    ],
)
def test_where_a_symlink_leads(path: str, target: str, outside: bool) -> None:
    assert leads_outside(path, target) == outside


def test_an_escaping_symlink_is_refused_and_can_be_admitted(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "x"}, {"f": "x", "l": Symlink("/etc/hostname")})
    assert reasons(case.plan(on_conflict="theirs")) == {"l": "symlink-outside"}
    case.apply(allow=frozenset({"symlink-outside"}))
    assert os.readlink(case.workspace / "l") == "/etc/hostname"


@pytest.mark.parametrize("name", ["git", "hidden-original", "special", "twins", "nonsense"])
def test_no_other_class_can_be_admitted(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        make_case(tmp_path, {}, {}).plan(allow=frozenset({name}))


def test_skip_refused_applies_the_rest_and_nothing_below_what_is_refused(tmp_path: Path) -> None:
    theirs = {"ok": "1", "d": Symlink("/etc")}
    case = make_case(tmp_path, {"d/x": "x"}, theirs)
    plan = case.plan()
    assert reasons(plan) == {"d": "symlink-outside"}
    with pytest.raises(ConflictError, match="symlink-outside") as error:
        case.execute(plan)
    assert "--skip-refused" in error.value.hint
    case.execute(plan, skip_refused=True)
    assert sorted(tree(case.workspace)) == ["d", "ok"]


def test_what_is_below_a_refused_directory_is_refused_with_it(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"d": "hides"}, {})
    file = added(case, "e/x")
    special = Change("e", None, Entry(Kind.FIFO, 0o644))
    assert reasons(case.plan([special, file])) == {"e": "special", "e/x": "special"}


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a//b", "a/./b", "a/../b", "", ".", "..", "a/", "nul\0", "n" * 300, "d/" + "n" * 256]
)
def test_a_path_that_is_not_plain_is_not_to_be_trusted(tmp_path: Path, path: str) -> None:
    case = make_case(tmp_path, {}, {})
    with pytest.raises(UntrustedError):
        case.plan([Change(path, None, Entry(Kind.FILE, 0o644, 0, "0" * 64))])


def test_a_path_twice_is_not_to_be_trusted(tmp_path: Path) -> None:
    case = make_case(tmp_path, {}, {})
    change = Change("f", None, Entry(Kind.DIRECTORY, 0o755))
    with pytest.raises(UntrustedError):
        case.plan([change, replace(change)])


def test_contents_that_changed_since_the_scan_are_not_applied(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "a\n", "g": "1"}, {"f": "b\n", "g": "2"})
    before = snapshot(case.workspace)
    plan = case.plan()
    (case.theirs / "g").write_text("3")
    with pytest.raises(ChangedSince):
        case.execute(plan)
    assert snapshot(case.workspace) == before
    assert not list(case.journals.iterdir())
