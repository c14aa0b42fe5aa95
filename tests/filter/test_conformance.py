"""Docker's own answers: ../shared/conformance/dockerignore, mode ``build``."""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from functools import cache
from typing import Any

import pytest

from overlayws.filter import IgnoreSyntaxError, kept
from tests.conftest import SHARED
from tests.filter import reference

pytestmark = pytest.mark.conformance

CATEGORIES = """
bad-pattern blank-and-comment bom brace-and-pipe case-sensitivity class class-regex-leak clean-path control-chars
doublestar doublestar-newline escape escape-regex-leak lazy-bad-pattern leading-slash line-endings literal long-line
long-names-deep names negation negation-syntax non-utf8 parent-dir parent-results question random-deep random-glob
random-mixed random-nasty random-negation random-soup realistic regex-meta reinclude-deep special-files star sweep
sweep-negated sweep-pairs symlink trimming undetected-bad-pattern unicode
""".split()


@cache
def corpus() -> dict[str, list[dict[str, Any]]]:
    found = defaultdict(list)
    for case in json.loads((SHARED / "conformance/dockerignore/cases.json").read_bytes()):
        found[case["category"]].append(case)
    return found


def ignore_file(case: dict[str, Any]) -> bytes:
    if "ignore_file" in case:
        return str(case["ignore_file"]).encode()
    if "ignore_file_b64" in case:
        return base64.b64decode(case["ignore_file_b64"])
    return "".join(text * count for text, count in case["ignore_file_repeat"]).encode()


def paths(case: dict[str, Any]) -> list[str]:
    return [path if isinstance(path, str) else path["path"] for path in case["tree"]]


@pytest.mark.parametrize("category", CATEGORIES)
def test_docker_keeps_the_same(category: str) -> None:
    wrong = []
    for case in corpus()[category]:
        expected = None if case["error"] else set(case["included"])
        try:
            found = kept(ignore_file(case), paths(case))
        except IgnoreSyntaxError:
            found = None
        if found != expected:
            wrong.append(case["id"])
    assert wrong == []


def test_the_whole_corpus_is_compared() -> None:
    assert set(corpus()) == set(CATEGORIES)
    assert sum(map(len, corpus().values())) == 2919


@pytest.mark.parametrize("category", ["sweep", "sweep-negated", "sweep-pairs", "star", "doublestar", "reinclude-deep"])
def test_the_slow_transcription_is_right_too(category: str) -> None:
    plain = set("ab./*?!\nfox")
    compared = 0
    for case in corpus()[category]:
        if not case["error"] and plain.issuperset(case.get("ignore_file", "-")):
            compared += 1
            assert reference.kept(case["ignore_file"], paths(case)) == set(case["included"]), case["id"]
    assert compared
