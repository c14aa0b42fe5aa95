"""What scripts and people get: JSON to the schema, listings a line each, selections by path."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from overlayws.changes import render
from overlayws.changes.change import ChangeSet, Problem
from overlayws.changes.git import private_repository
from overlayws.changes.listing import Row, rows
from overlayws.changes.shown import listed, select
from overlayws.errors import UsageError
from overlayws.source.entry import Entry, Kind
from tests.changes.layers import Case, Opaque, Whiteout, make_case
from tests.trees import Dir, File, Special, Symlink

LINES = "".join(f"line {n}\n" for n in range(20))
BASE = {
    "edited": "one\ntwo\n",
    "old name": LINES,
    "gone": "gone\n",
    "gone dir/a/b": "below\n",
    "mode": "x\n",
    "link": Symlink("a"),
    "to link": "x\n",
    "empty dir": Dir(),
    "private": Dir(),
    "bin": b"\0\1",
}
UPPER = {
    "edited": "one\n2\nthree\n",
    "old name": Whiteout(),
    "new name": LINES + "more\n",
    "gone": Whiteout(),
    "gone dir": Whiteout(),
    "mode": File(b"x\n", 0o755),
    "link": Symlink("b\udcff"),
    "to link": Symlink("/etc"),
    "empty dir": Whiteout(),
    "private": Dir(0o700),
    "bin": b"\0\2\3",
    "made/of/files": "x\n",
    "made/empty": Dir(),
    "pipe": Special("fifo"),
    "esc\x1b[2J\n": "x\n",
    "b\udcffd": "x\n",
}


def listing(case: Case, changeset: ChangeSet | None = None) -> list[Row]:
    changeset = changeset or case.scan()
    with case.base() as base, case.theirs() as theirs, private_repository(changeset, base, theirs) as repository:
        return rows(changeset, repository)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path, BASE, UPPER)


def document(case: Case) -> dict[str, Any]:
    changeset = case.scan()
    made = render.as_json(
        changeset, listing(case), session="calm-otter", base={"mode": "copy", "files": 9, "hidden": 3}
    )
    return json.loads(json.dumps(made, ensure_ascii=False))  # ensure_ascii=False: fails for a lone surrogate


def test_the_json_says_what_the_schema_says(case: Case) -> None:
    found = document(case)
    assert found["schema"] == "overlayws.changeset/1"
    assert found["session"] == "calm-otter"
    assert found["digest"] == case.scan().digest
    assert found["base"] == {"mode": "copy", "files": 9, "hidden": 3}
    assert found["problems"] == []
    by_path = {change["path"]: change for change in found["changes"]}
    assert list(by_path["edited"].items()) == [
        ("path", "edited"),
        ("status", "modified"),
        ("kind", "file"),
        ("mode", ["0644", "0644"]),
        ("size", [8, 12]),
        ("sha256", by_path["edited"]["sha256"]),
        ("added", 2),
        ("removed", 1),
        ("binary", False),
        ("flags", []),
    ]
    assert all(len(digest) == 64 for digest in by_path["edited"]["sha256"])
    assert by_path["gone"]["mode"] == ["0644", None]
    assert by_path["gone"]["size"] == [5, None]
    assert by_path["gone"]["sha256"][1] is None
    assert by_path["mode"]["status"] == "mode-changed"
    assert by_path["mode"]["flags"] == ["executable"]
    renamed = by_path["new name"]
    assert (renamed["status"], renamed["from"], renamed["added"], renamed["removed"]) == ("renamed", "old name", 1, 0)
    assert 80 < renamed["similarity"] < 100
    assert (by_path["to link"]["kinds"], by_path["to link"]["target"]) == (["file", "symlink"], [None, "/etc"])
    assert by_path["link"]["target"] == ["a", "b\\xff"]
    assert by_path["link"]["size"] == [None, None]
    assert (by_path["bin"]["binary"], by_path["bin"]["added"]) == (True, None)
    assert (by_path["pipe"]["kind"], by_path["pipe"]["added"]) == ("fifo", None)


def test_a_path_that_is_not_utf8_is_escaped_and_exact_beside_it(case: Case) -> None:
    (change,) = [change for change in document(case)["changes"] if "path_b64" in change]
    assert change["path"] == "b\\xffd"
    assert base64.b64decode(change["path_b64"]) == b"b\xffd"


def test_the_summary_adds_up(case: Case) -> None:
    found = document(case)
    changes = found["changes"]
    assert found["summary"] == {
        "files": len(changes),
        "added": sum(change["added"] or 0 for change in changes),
        "removed": sum(change["removed"] or 0 for change in changes),
    }


def test_directories_are_listed_only_where_no_file_says_them(case: Case) -> None:
    paths = [row.path for row in listing(case)]
    assert "made" not in paths and "made/of" not in paths and "gone dir" not in paths and "gone dir/a" not in paths
    assert {"made/empty", "empty dir", "private", "made/of/files", "gone dir/a/b"} <= set(paths)


def test_of_nested_empty_directories_only_the_last_is_listed(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"x/y": Dir()}, {"x": Whiteout(), "a/b/c": Dir(0o700)})
    assert [c.path for c in listed(case.scan())] == ["a/b/c", "x/y"]


def test_a_directory_that_is_only_made_again_is_listed_by_its_files(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"d/a": "a\n"}, {"d": Opaque(), "d/b": "b\n"})
    assert [c.path for c in listed(case.scan())] == ["d/a", "d/b"]


def test_name_status_is_a_line_for_each_change_whatever_the_names(case: Case) -> None:
    text = render.name_status(listing(case))
    assert text.isascii() and "\x1b" not in text
    lines = text.splitlines()
    assert "M\tedited" in lines
    assert "D\tgone dir/a/b" in lines
    assert "T\tto link" in lines
    assert 'A\t"esc\\033[2J\\n"' in lines
    assert 'A\t"b\\377d"' in lines
    assert [line for line in lines if line.startswith("R")] == ["R096\told name\tnew name"]
    assert len(lines) == len(listing(case))


def test_name_status_is_what_git_says_of_the_same_files(tmp_path: Path) -> None:
    case = make_case(tmp_path, BASE, {k: v for k, v in UPPER.items() if not isinstance(v, Special | Dir)})
    changeset = case.scan()
    with case.base() as base, case.theirs() as theirs, private_repository(changeset, base, theirs) as repository:
        own = render.name_status(rows(changeset, repository)).splitlines()
        said = repository._diff(["--name-status", "-M"]).decode().splitlines()
    assert [line for line in own if not line.endswith("empty dir")] == said


def test_stat_has_a_line_for_each_change_and_fits_the_width(case: Case) -> None:
    found = listing(case)
    for width in (20, 40, 80, 200):
        text = render.stat(found, width=width)
        assert len(text.splitlines()) == len(found) + 1
        assert all(len(line) <= max(width, 60) for line in text.splitlines()), text
    assert "Bin 2 -> 3 bytes" in text
    assert "mode 0755 -> 0700" in text
    assert "fifo added" in text
    assert text.splitlines()[-1] == f" {len(found)} files changed, 8 insertions(+), 5 deletions(-)"
    assert "\x1b" not in text
    assert "\x1b[32m" in render.stat(found, colour=True)


def test_stat_of_many_lines_is_scaled(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"a": "x\n"}, {"a": "y\n", "b": "z\n" * 5000})
    small, large, _ = render.stat(listing(case), width=60).splitlines()
    assert (small.count("+"), small.count("-")) == (1, 1)
    assert 30 < large.count("+") < 60


def test_the_patch_is_the_repositorys(case: Case) -> None:
    with case.base() as base, case.theirs() as theirs:
        patch, _ = render.patch(case.scan(), base, theirs)
    assert patch.startswith(b"diff --git ")
    done = subprocess.run(["git", "apply", "--numstat", "-"], input=patch, capture_output=True, cwd=case.layer.lowerdir)
    assert done.returncode == 0, done.stderr


def test_a_selection_takes_paths_and_what_is_below_them(case: Case) -> None:
    changeset = case.scan()
    assert [c.path for c in select(changeset, ["made/of"]).changes] == ["made/of", "made/of/files"]
    assert [c.path for c in select(changeset, ["./edited", "gone/"]).changes] == ["edited", "gone"]
    assert [c.path for c in select(changeset, ["mode"]).changes] == ["mode"]
    assert select(changeset, []) is changeset
    assert select(changeset, ["."]).changes == changeset.changes
    assert [c.path for c in select(changeset, ["b\udcffd"]).changes] == ["b\udcffd"]


@pytest.mark.parametrize("path", ["kept", "edite", "*.none", "made/", "/edited", "../edited", "made/../edited"])
def test_a_path_without_a_change_is_wrong_usage(path: str, case: Case) -> None:
    if path == "made/":
        path = "made/none"
    with pytest.raises(UsageError) as caught:
        select(case.scan(), [path])
    assert repr(path) in caught.value.message and caught.value.hint


def test_half_of_a_rename_is_selected_as_what_it_is(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"old": LINES}, {"old": Whiteout(), "new": LINES})
    half = select(case.scan(), ["new"])
    assert half.renames == ()
    assert [(row.path, row.status) for row in listing(case, half)] == [("new", "added")]


def test_problems_are_told_and_escaped(tmp_path: Path) -> None:
    changeset = ChangeSet((), (), (Problem("a\x1b[2J", "unreadable"),))
    assert render.as_json(changeset, [], session="s", base={})["problems"] == ["'a\\x1b[2J': unreadable"]


def test_a_file_that_was_too_large_to_be_shown_does_not_look_empty_in_the_stat() -> None:
    large = Entry(Kind.FILE, 0o644, 2 << 30, "d" * 64)
    row = Row("big", "added", None, large, ("large",), None, None)
    assert "not shown: 2147483648 bytes" in render.stat([row])
