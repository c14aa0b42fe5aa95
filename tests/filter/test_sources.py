"""Where rules come from: order, files that are not what they seem, warnings."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from overlayws.errors import UsageError
from overlayws.filter import IgnoreSyntaxError, sources
from overlayws.filter.sources import describe, load_filter
from tests.trees import Special, Symlink, make_tree


def test_all_sources_in_their_order(tmp_path: Path) -> None:
    ws = make_tree(tmp_path / "ws", {".overlaywsignore": "c\n!b\n", "more": "b\n"})
    made = load_filter(ws, user_rules=b"a\n", ignore_files=[ws / "more"], hide=["d", "e"], show=["e"])
    assert [describe(rule) for rule in made.rules] == [
        "`user configuration` line 1: `a`",
        f"`{ws}/more` line 1: `b`",
        "`.overlaywsignore` line 1: `c`",
        "`.overlaywsignore` line 2: `!b`",
        "`--hide d`",
        "`--hide e`",
        "`--show e`",
    ]
    assert [name for name in "abcdef" if made.hidden_path(name, False).hidden] == ["a", "c", "d"]
    assert not made.hidden_path(".overlaywsignore", False).hidden


def test_without_an_ignore_file_there_are_the_built_in_rules(tmp_path: Path) -> None:
    made = load_filter(tmp_path)
    assert made.rules == () and made.warnings == ()
    assert made.hidden_path("a/.env", False).hidden


def test_ignore_files_come_before_the_workspace_s_own(tmp_path: Path) -> None:
    ws = make_tree(tmp_path / "ws", {".overlaywsignore": "!a\n"})
    (tmp_path / "one").write_bytes(b"a\n")
    assert not load_filter(ws, ignore_files=[tmp_path / "one"]).hidden_path("a", False).hidden


@pytest.mark.parametrize("line", ["!.env", "!**/.env", "!a/.npmrc", "!*.pem", "!.git", "!.env.*", "!.aws/", "!.ENV"])
def test_an_exception_of_the_repository_for_a_secret_is_a_warning_and_no_more(tmp_path: Path, line: str) -> None:
    ws = make_tree(tmp_path / "ws", {".overlaywsignore": f"x\n{line}\n!.env.example\n!src/**\n"})
    made = load_filter(ws)
    (warning,) = made.warnings
    assert re.match(r"`\.overlaywsignore` line 2: .* does not show what the built-in secret rule `.*` hides", warning)
    for path in (".env", "x/.env", "a/.npmrc", "k.pem", ".git/config", ".env.local", ".aws/config", "src/.env"):
        assert made.hidden_path(path, False).hidden


def test_the_user_and_show_open_a_secret_with_a_warning(tmp_path: Path) -> None:
    made = load_filter(tmp_path, show=[".env"], user_rules=b"!**/.npmrc\n")
    assert not made.hidden_path(".env", False).hidden and not made.hidden_path("a/.npmrc", False).hidden
    assert sorted(made.warnings) == [
        "`--show .env` shows what the built-in secret rule `env` hides",
        "`user configuration` line 1: `!**/.npmrc` shows what the built-in secret rule `package-credentials` hides",
    ]
    wide = load_filter(tmp_path, show=["**"])
    assert list(wide.warnings) == []  # known only from the paths
    assert not wide.hidden_path("a/.env", False).hidden
    assert list(wide.warnings) == ["`--show **` shows what the built-in secret rule `env` hides"]
    (git,) = load_filter(tmp_path, show=[".git"]).warnings
    assert "does not show the repository" in git


@pytest.mark.parametrize("option", ["hide", "show"])
@pytest.mark.parametrize("pattern", ["!a", "", "  ", "./!a"])
def test_an_option_that_is_no_pattern_is_refused(tmp_path: Path, option: str, pattern: str) -> None:
    with pytest.raises(UsageError, match=f"--{option} .*not a pattern"):
        load_filter(tmp_path, **{option: [pattern]})  # type: ignore[arg-type]
    with pytest.raises(IgnoreSyntaxError, match=rf"--{option}: syntax error in pattern: \[a"):
        load_filter(tmp_path, **{option: ["[a"]})  # type: ignore[arg-type]


def test_a_symlink_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"password\n")
    ws = make_tree(tmp_path / "ws", {".overlaywsignore": Symlink("../secret")})
    with pytest.raises(UsageError, match="ignore file .overlaywsignore: it is a symbolic link") as caught:
        load_filter(ws)
    assert "password" not in caught.value.message


def test_a_dangling_symlink_is_no_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="symbolic link"):
        load_filter(make_tree(tmp_path / "ws", {".overlaywsignore": Symlink("nowhere")}))


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a regular file"):
        load_filter(make_tree(tmp_path / "ws", {".overlaywsignore": Special("fifo")}))  # and it does not hang
    (tmp_path / "other/.overlaywsignore").mkdir(parents=True)
    with pytest.raises(UsageError, match="not a regular file"):
        load_filter(tmp_path / "other")
    with pytest.raises(UsageError, match="not a regular file"):
        load_filter(tmp_path, ignore_files=[Path("/dev/zero")])


def test_a_missing_or_unreadable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the ignore file .*none: No such file") as caught:
        load_filter(tmp_path, ignore_files=[tmp_path / "none"])
    assert caught.value.exit_code == 2 and caught.value.hint
    with pytest.raises(UsageError, match="cannot read the workspace"):
        load_filter(tmp_path / "none")


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    ws = make_tree(tmp_path / "ws", {".overlaywsignore": ""})
    os.truncate(ws / ".overlaywsignore", sources.MOST_BYTES + 1)
    with pytest.raises(UsageError, match=r"\.overlaywsignore is larger than 64 MiB"):
        load_filter(ws)


def test_an_error_names_the_file_and_line(tmp_path: Path) -> None:
    ws = make_tree(tmp_path / "ws", {".overlaywsignore": "a\nb[\n"})
    with pytest.raises(IgnoreSyntaxError, match=r"\.overlaywsignore:2: syntax error in pattern: b\["):
        load_filter(ws)
    with pytest.raises(IgnoreSyntaxError, match="user configuration:1"):
        load_filter(tmp_path, user_rules=b"!")


def test_the_rules_are_frozen_when_they_are_loaded(tmp_path: Path) -> None:
    ws = make_tree(tmp_path / "ws", {".overlaywsignore": "a\n"})
    made = load_filter(ws)
    (ws / ".overlaywsignore").write_bytes(b"!a\nb\n")
    assert made.hidden_path("a", False).hidden and not made.hidden_path("b", False).hidden
