from __future__ import annotations

import pytest

from overlayws.filter import IgnoreSyntaxError, kept
from overlayws.filter.ignorefile import Rule, parse, shown


def patterns(data: bytes) -> list[str]:
    return [("!" if rule.negated else "") + rule.pattern for rule in parse(data, "f")]


def test_a_rule_knows_its_file_and_line() -> None:
    assert parse(b"# x\n\n a/ \n!b\n", "some/file") == (
        Rule("a", False, "some/file", 3),
        Rule("b", True, "some/file", 4),
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\rb\x0bc\x0cd\xc2\x85e\xe2\x80\xa8f", ["a\rb\x0bc\x0cd\x85e\u2028f"]),  # none of these ends a line
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb", ["a", "\ufeffb"]),  # the first byte order mark only
        (b"\xef\xbb\xbf# comment", []),
        (b"#a\n #a", ["#a"]),
        (b"\xc2\xa0\xe3\x80\x80 a \x85", ["a \udc85"]),  # a stray byte is no blank
        (b"\x1ca\x1f", ["\x1ca\x1f"]),
        (b"\xff/./\xfe//", ["\udcff/\udcfe"]),
        (b"a\0b", ["a\0b"]),
        (b"/a/../b/./c//", ["b/c"]),
        (b"../a\n/../a\n**/..\n*/../x", ["../a", "a", ".", "x"]),
        (b"! a\n!a\n./!a\n/!a\n!!a\n\\!a", ["!a"] * 4 + ["!!a", "\\!a"]),
    ],
)
def test_lines_are_read_as_docker_reads_them(data: bytes, expected: list[str]) -> None:
    assert patterns(data) == expected


def test_a_repetition_that_cannot_matter_is_left_out() -> None:
    assert patterns(b"a\nb\na\n!c\n!c\n\na\n") == ["a", "b", "!c", "a"]


@pytest.mark.parametrize("line", [b"!", b"! ", b"!/", b"!//", b"!/.."])
def test_a_lone_exclamation_mark_is_an_error(line: bytes) -> None:
    with pytest.raises(IgnoreSyntaxError, match=r"f:2: a lone '!'.*: !") as caught:
        parse(b"x\n" + line, "f")
    assert caught.value.exit_code == 2 and "!PATTERN" in caught.value.hint


@pytest.mark.parametrize("pattern", ["[", "a[", "*[", "?*[", "[a-]", "[]a]", "[^]", "a\\", "[a-\udcff]", ".*[", "[-a]"])
def test_a_pattern_that_go_refuses_names_file_line_and_pattern(pattern: str) -> None:
    with pytest.raises(IgnoreSyntaxError) as caught:
        parse(b"ok\n\n" + pattern.encode("utf-8", "surrogateescape"), "dir/f")
    assert caught.value.message.startswith("dir/f:3: syntax error in pattern: ")
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("pattern", [b"a*[", b"*a*[", b"[z-a]", b"a*\\", b"[a]]"])
def test_what_go_does_not_look_at_loads(pattern: bytes) -> None:
    assert len(parse(pattern, "f")) == 1


def test_a_broken_pattern_fails_only_when_it_is_tried() -> None:
    with pytest.raises(IgnoreSyntaxError, match=r"ignore:2: syntax error in pattern: \[z-a\]"):
        kept(b"a\n[z-a]\n", ["a", "b"])
    assert kept(b"a\n[z-a]\n", ["a"]) == set()


def test_a_long_line_refuses_the_file_even_as_a_comment() -> None:
    assert patterns(b"b" * 65_535 + b"\nc\n") == ["b" * 65_535, "c"]
    with pytest.raises(IgnoreSyntaxError, match=r"f:2: line too long \(65,536 bytes\)"):
        parse(b"[\n#" + b"x" * 65_535 + b"\nc\n", "f")
    with pytest.raises(IgnoreSyntaxError):
        parse(b"b" * 65_535 + b"\r\n", "f")


def test_a_file_of_too_many_patterns_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overlayws.filter.ignorefile._MOST_RULES", 10)
    parse(b"".join(b"%d\n" % n for n in range(10)), "f")
    with pytest.raises(IgnoreSyntaxError, match="f:11: more than 10 patterns"):
        parse(b"".join(b"%d\n" % n for n in range(11)), "f")


def test_what_is_printed_of_a_pattern_is_printable_and_short() -> None:
    text = shown(Rule("a\x1b[2J\u202e\udcff\n" + "x" * 300, True, "f", 1))
    assert text.startswith("!a\\x1b[2J\\u202e\\udcff\\n") and text.isprintable() and len(text) < 240
