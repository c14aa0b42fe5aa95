"""Pathspecs mean what they mean to git."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from overlayws.changes.change import Change, ChangeSet
from overlayws.changes.pathspec import escaped, matcher, parse
from overlayws.changes.shown import select
from overlayws.cleangit import ENVIRONMENT
from overlayws.errors import UsageError
from overlayws.source.entry import Entry, Kind


def meant(spec: str, *names: str) -> list[str]:
    matches = matcher(parse(spec))
    return [name for name in names if matches(name)]


def changes(*paths: str) -> ChangeSet:
    made = Entry(Kind.FILE, 0o644, 0, "0" * 64)
    return ChangeSet(tuple(Change(path, None, made) for path in sorted(paths)), (), ())


def chosen(changeset: ChangeSet, *specs: str) -> list[str]:
    return [change.path for change in select(changeset, specs).changes]


def test_nothing_is_unanchored() -> None:
    names = ("app.py", "app.pyc", "app.py/x", "src/app.py", "my-app.py")
    assert meant("app.py", *names) == ["app.py", "app.py/x"]
    assert meant("*.py", *names) == ["app.py", "src/app.py", "my-app.py"]
    assert meant(":(glob)*.py", *names) == ["app.py", "my-app.py"]
    assert meant(":(glob)**/*.py", *names) == ["app.py", "src/app.py", "my-app.py"]
    assert meant("src/", *names) == meant("src", *names) == ["src/app.py"]
    assert meant(":(icase)APP.py", *names) == ["app.py", "app.py/x"]
    assert meant(":(literal)*.py", *names) == []


def test_what_is_named_exactly_is_meant_exactly() -> None:
    changeset = changes("a*", "ab", "[x]", "x", ":!odd", "plain")
    assert chosen(changeset, "a*") == ["a*"]
    assert chosen(changeset, "[x]") == ["[x]"]
    assert chosen(changeset, ":!odd") == [":!odd"]
    assert chosen(changeset, "?b") == ["ab"]


def test_excluded_paths_are_left_out() -> None:
    changeset = changes("src/a.py", "src/a.lock", "docs/b", "src/deep/c.lock")
    assert chosen(changeset, "src", ":!*.lock") == ["src/a.py"]
    assert chosen(changeset, ":(exclude)src") == ["docs/b"]
    assert chosen(changeset, ":/", ":^docs") == ["src/a.lock", "src/a.py", "src/deep/c.lock"]


@pytest.mark.parametrize(
    "spec", [":(nothing)x", ":(glob", ":(glob,literal)x", ":x", ":#x", "/abs", "../up", "a/../../b"]
)
def test_what_is_no_pathspec_is_a_usage_error(spec: str) -> None:
    with pytest.raises(UsageError) as error:
        select(changes("x"), [spec])
    assert error.value.hint


def test_a_pattern_without_a_match_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="nothing changed at"):
        select(changes("x"), ["x", "*.py"])


def test_an_escaped_name_means_that_name() -> None:
    for name in ("a*b", "[x]", "back\\slash", "?"):
        assert meant(escaped(name) + "/*", f"{name}/f", "axb/f", "x/f", "b/f") == [f"{name}/f"]


@pytest.mark.parametrize("spec", ["*a*a*a*a*a*b", ":(glob)*a*a*a*a*a*b", ":(glob)**/*a*a*b"])
def test_hostile_names_cost_no_exponential_time(spec: str) -> None:
    started = time.process_time()
    assert meant(spec, "a" * 4000, "/".join(["a" * 200] * 20)) == []
    assert time.process_time() - started < 5


@pytest.mark.parametrize("seed", range(2))
def test_git_means_the_same(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)

    def git(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["git", *arguments], cwd=tmp_path, input=given, capture_output=True, env=ENVIRONMENT)

    git("init", "-q")
    names: set[str] = set()
    while len(names) < 120:
        parts = [
            "".join(dice.choice("aAb.*?[]-\\c") for _ in range(dice.randint(1, 3))) for _ in range(dice.randint(1, 3))
        ]
        name = "/".join(parts)
        if not {".", ".."} & set(parts) and not any(
            n.startswith(f"{name}/") or name.startswith(f"{n}/") for n in names
        ):
            names.add(name)
    blob = git("hash-object", "-w", "--stdin").stdout.strip()
    git("update-index", "-z", "--index-info", given=b"".join(b"100644 %s\t%s\0" % (blob, n.encode()) for n in names))
    words = "a A b . * ** / ? [ ] [ab] [!a] [^b] [a-c] [[:alpha:]] - c **/ /**".split()
    compared = 0
    for _ in range(100):
        magic = dice.choice(["", ":(glob)", ":(icase)", ":(glob,icase)", ":(literal)"])
        pattern = "".join(dice.choice(words) for _ in range(dice.randint(1, 6)))
        if pattern.startswith((":", "/")) or pattern.endswith("/") or {"", ".", ".."} & set(pattern.split("/")):
            continue
        listed = git("ls-files", "-z", "--", magic + pattern)
        if listed.returncode == 0:
            compared += 1
            wanted = {path.decode() for path in listed.stdout.split(b"\0") if path}
            assert set(meant(magic + pattern, *names)) == wanted, magic + pattern
    assert compared > 40
