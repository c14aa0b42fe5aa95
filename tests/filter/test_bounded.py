"""No ignore file makes the matcher slow or large without limit. Work is counted, not timed."""

from __future__ import annotations

import random

import pytest

from overlayws.filter import automaton, kept
from overlayws.filter.automaton import Automaton, TooExpensiveError
from overlayws.filter.goregex import BadRegex
from overlayws.filter.ignorefile import parse
from overlayws.filter.pattern import compile_pattern


def work(patterns: list[str], paths: list[str]) -> int:
    made = Automaton(map(compile_pattern, patterns))
    for path in paths:
        made.start.after(path)
    return made.work


@pytest.mark.parametrize(
    "pattern",
    ["**/*a*a*a*a*b", "**/" + "*a" * 40 + "*b", "**/a/" * 30 + "b", "*[ab]" * 200 + "c", "[a]{0,100}[a]{100}*b"],
)
def test_one_pattern_costs_its_length_times_the_path_at_most(pattern: str) -> None:
    """A matcher that backtracks needs more than 10^15 steps for most of these."""
    positions = sum(len(branch) for branch in compile_pattern(pattern)) + 200 * pattern.count("{")
    length = 4000
    assert work([pattern], ["a" * length, "a/" * (length // 2)]) <= 2 * length * 4 * (positions + 10)


def test_a_path_like_one_before_costs_nothing() -> None:
    patterns = ["**/*a*b", "src/**/*.py"]
    assert work(patterns, ["src/x/aab.py"] * 1000) == work(patterns, ["src/x/aab.py"])


def test_ten_thousand_patterns() -> None:
    choose = random.Random(2)
    patterns = [f"**/*{choose.randrange(10**6)}*x{n}" for n in range(10_000)]
    paths = [f"d{n % 20}/{choose.randrange(10**9)}x{n}" for n in range(300)]
    assert len(kept("\n".join(patterns).encode(), paths)) > 0


def test_a_file_of_ten_megabytes_of_patterns() -> None:
    data = b"".join(b"some/dir%d/file%d.txt\n" % (n, n) for n in range(341_000))
    assert len(data) >= 10_000_000
    assert kept(data, ["some/", "some/dir7/", "some/dir7/file7.txt", "some/dir7/file8.txt"]) == {
        "some/",
        "some/dir7/",
        "some/dir7/file8.txt",
    }


@pytest.mark.parametrize("line", [b"# a comment\n", b"a/b/c/d\n", b"!xxxx\n", b"  \r\n"])
def test_a_file_of_ten_megabytes_of_one_line(line: bytes) -> None:
    assert len(parse(line * (10_000_000 // len(line)), "f")) <= 1


def test_repetitions_of_one_pattern_are_limited() -> None:
    compile_pattern("[a]{1000}" * 20)
    with pytest.raises(BadRegex):
        compile_pattern("[a]{1000}" * 21)


def test_states_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automaton, "MOST_STATES", 5)
    patterns = ["*ab*", "a/**/b?", "*c"]
    small = Automaton(map(compile_pattern, patterns))
    monkeypatch.undo()
    large = Automaton(map(compile_pattern, patterns))
    choose = random.Random(3)
    for _ in range(300):
        path = "".join(choose.choice("abc/") for _ in range(8))
        monkeypatch.setattr(automaton, "MOST_STATES", 5)
        found = small.start.after(path).hits
        assert len(small._known) <= 5
        monkeypatch.undo()
        assert found == large.start.after(path).hits


def test_work_without_end_is_an_error_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automaton, "MOST_WORK", 10_000)
    with pytest.raises(TooExpensiveError, match="too expensive") as caught:
        kept(b"*[ab]" * 500, ["ab" * n for n in range(500)])
    assert caught.value.exit_code == 2 and caught.value.hint
