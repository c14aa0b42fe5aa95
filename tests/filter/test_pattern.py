"""What leaks from Go's regular expressions into a pattern (rules 10 to 13), one pattern at a time."""

from __future__ import annotations

import pytest

from overlayws.filter.automaton import Automaton
from overlayws.filter.goregex import BadRegex
from overlayws.filter.pattern import compile_pattern


def matches(pattern: str, path: str) -> bool:
    return bool(Automaton([compile_pattern(pattern)]).start.after(path).hits)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("a.b", ["a.b"], ["axb", "x/a.b"]),
        ("a/**", ["a/", "a/b", "a/b/c"], ["a", "xa/b"]),
        ("a**", ["a", "ab", "a/b"], ["xa"]),
        ("**foo", ["foo", "xfoo", "d/foo"], ["foox"]),
        ("**/foo", ["foo", "d/foo", "d\n/foo"], ["xfoo"]),
        ("**", ["a", "a/b", "\n"], []),
        ("**/fo?", ["foo", "d/foo"], ["xfoo", "d\n/foo"]),  # a regex: '.' is no newline
        ("a**b", ["ab", "a/b", "ax/b"], ["axb"]),
        ("*.py", ["a.py", ".py", "\n.py"], ["d/a.py", "apy"]),
        ("a|*", ["a", "abc", "a/b", "x/y"], []),
        ("a|b", ["a|b"], ["a", "b"]),
        ("*.{js,ts}", ["x.{js,ts}"], ["x.js"]),
        ("[a]{2}", ["aa"], ["a", "aaa"]),
        ("x{2}*", ["xx", "xxy"], ["x", "x{2}"]),
        ("x{0,2}[b]", ["b", "xb", "xxb"], ["xxxb"]),
        ("x{2,}[b]", ["xxb", "xxxxxb"], ["xb"]),
        ("^foo*", ["foo", "foox"], ["^foo"]),
        ("a^*", [], ["a^", "a"]),
        ("*\\bfoo", ["foo", "x-foo"], ["xfoo"]),
        ("a\\B*", ["ab", "a"[:0] + "ab-"], ["a", "a-"]),
        ("\\d", ["7"], ["d", "\\d", "\u0661"]),
        ("\\s*", [" x", "\tx"], ["\x0bx"]),
        ("\\x41\\102\\x{43}", ["ABC"], []),
        ("\\Q*\\E?", ["[^/]*a"], ["*a"]),
        ("\\Qa", ["a$", "a$x"], ["a"]),  # the quote swallows the anchor
        ("\\pL", ["é", "a"], ["1"]),
        ("\\p{Greek}\\P{Lu}\\p{^Nd}", ["αaa"], ["aaa", "αAa", "αa1"]),
        ("[[:alpha:]][[:^digit:]]", ["ab", "a-"], ["a1", "é-"]),
        ("[*]", ["^]", "[]", "/^[]", "]"], ["*"]),
        ("[^a]", ["b", "\n", "/", "\udcff"], ["a"]),
        ("[\ufffd]", ["\udcff", "\ufffd"], ["a"]),
        ("\udcff*", ["\udcff", "\ufffda"], ["a"]),
        ("\udcff", ["\udcff"], ["\ufffd", "\udcfe"]),  # compared as it is
        ("\udcc3**", ["\udcc3", "éa", "\udcc3a"], ["\udcc2"]),  # a prefix ends inside a character
        ("**\udca9", ["é", "a\udca9", "\udca9"], ["a", "ê"]),
        ("**\udca9\udca9x", ["é\udca9x"], ["éx"]),
        ("\ufeffa*", ["ab"], ["\ufeffab"]),
        ("\ufeffa", ["\ufeffa"], ["a"]),
        ("[a]{2}\\Q\\E{3}", ["aaaaaa"], ["aa", "aaaaa", "aaaaaaa"]),
        ("[a]{2}\\Q\\E{1,}", ["aa", "aaaa"], ["a", "aaa"]),
        ("[a]{2,3}\\Q\\E{0,2}", ["", "aa", "aaa", "aaaa", "aaaaaa"], ["a", "aaaaaaa"]),
    ],
)
def test_a_pattern_matches(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [path for path in yes if not matches(pattern, path)] == []
    assert [path for path in no if matches(pattern, path)] == []


REFUSED = (
    "a*[  [z-a]  \\q*  \\é  \\1*  \\8  [[:foo:]]  *{2}  [a]{1001}  x{2}{3}*  |{2}*  \\p{Klingon}  \\pX  \\x4g "
    "\\x{110000}  [a-\\d]  [\\C]  a*[b  [a]{2,1}  [a]{500}\\Q\\E{3}  **/{2}*  \\x{"
).split()


@pytest.mark.parametrize("pattern", REFUSED)
def test_re2_refuses(pattern: str) -> None:
    with pytest.raises(BadRegex):
        compile_pattern(pattern)


@pytest.mark.parametrize("name", ["Greek", "greek", "Old_Italic", "OldItalic", "Lu", "Uppercase_Letter", "Any", "LC"])
def test_unicode_tables_are_found_by_loose_names(name: str) -> None:
    assert compile_pattern(f"\\p{{{name}}}")


def test_many_patterns_at_once_say_which() -> None:
    names = ["a", "**/a", "*", "b/*", "a|x*", "**"]
    start = Automaton(map(compile_pattern, names)).start
    assert start.after("a").hits == (0, 1, 2, 4, 5)
    assert start.after("b/a").hits == (1, 3, 5)
