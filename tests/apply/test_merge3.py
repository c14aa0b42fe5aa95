"""merge3: what git merge-file makes of it, and nothing of the user's or a tree's configuration."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from overlayws.apply import merge3 as module
from overlayws.apply.merge3 import merge3

BASE = b"".join(b"%d\n" % n for n in range(10))


def test_edits_in_different_places_are_both_kept() -> None:
    merged = merge3(BASE, BASE.replace(b"1\n", b"one\n"), BASE.replace(b"8\n", b"eight\n"))
    assert (merged.conflicts, merged.content) == (0, BASE.replace(b"1\n", b"one\n").replace(b"8\n", b"eight\n"))


def test_edits_in_the_same_place_are_conflicts_with_markers() -> None:
    ours = BASE.replace(b"1\n", b"one\n").replace(b"8\n", b"acht\n")
    merged = merge3(BASE, ours, BASE.replace(b"1\n", b"uno\n").replace(b"8\n", b"ocho\n"))
    assert merged.conflicts == 2
    assert merged.content is not None
    assert merged.content.count(b"<<<<<<< ours (workspace)\n") == 2
    assert merged.content.count(b">>>>>>> theirs (accepted)\n") == 2


@pytest.mark.parametrize("data", [b"\0", b"x" * (16 << 20) + b"x"])
def test_binary_and_huge_files_are_not_merged(data: bytes) -> None:
    for three in ((data, b"a", b"b"), (b"a", data, b"b"), (b"a", b"b", data)):
        merged = merge3(*three)
        assert merged.content is None and merged.why


def test_one_side_only_needs_no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", None)
    assert merge3(b"a\0", b"a\0", b"b\0").content == b"b\0"
    assert merge3(b"a\0", b"b\0", b"a\0").content == b"b\0"
    assert merge3(b"a\0", b"b\0", b"b\0").content == b"b\0"


def test_line_ends_and_odd_bytes_survive() -> None:
    base = b"a\r\n\xff\xfe\r\nx\r\ny\r\nlast"
    merged = merge3(base, base.replace(b"a\r", b"A\r"), base.replace(b"last", b"LAST"))
    assert merged.content == b"A\r\n\xff\xfe\r\nx\r\ny\r\nLAST"


def test_no_configuration_has_a_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = "[merge]\nconflictStyle = diff3\n"
    (tmp_path / ".gitconfig").write_text(config)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "merge.conflictStyle")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "diff3")
    # A repository that somebody planted above the temporary directory.
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    with open(tmp_path / ".git/config", "a") as file:
        file.write(config)
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    merged = merge3(BASE, BASE.replace(b"1\n", b"one\n"), BASE.replace(b"1\n", b"uno\n"))
    assert merged.content is not None and b"|||||||" not in merged.content
    assert sorted(os.listdir(tmp_path)) == [".git", ".gitconfig"]


def test_without_git_there_is_no_merge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.ENVIRONMENT, "PATH", "/nonexistent")
    merged = merge3(b"a\n", b"b\n", b"c\n")
    assert merged.content is None and "git" in merged.why
