"""A patch on a terminal: nothing in it steers the terminal, hides, or pretends to be a header."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from overlayws.changes import render
from overlayws.changes.escape import quoted_path, visible
from overlayws.changes.sections import sections
from overlayws.changes.terminal import of_sections, words_of_sections
from tests.changes.layers import make_case
from tests.trees import Node

COLOUR = re.compile("\x1b\\[(?:1|31|32|36)?m")


def shown(tmp_path: Path, before: Node, after: Node, *, colour: bool = False, name: str = "f") -> str:
    case = make_case(tmp_path, {name: before}, {name: after})
    with case.base() as base, case.theirs() as theirs:
        return of_sections(sections(render.patch(case.scan(), base, theirs)[0]), colour)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b[2J", "\\x1b[2J"),
        ("\x1b]52;c;aGk=\x07", "\\x1b]52;c;aGk=\\x07"),
        ("a\rb", "a\\x0db"),
        ("a\x08b", "a\\x08b"),
        ("\x9b2J", "\\x9b2J"),
        ("\x7f", "\\x7f"),
        ("\u202eabc", "<U+202E>abc"),
        ("\u2066abc", "<U+2066>abc"),
        ("a\u200bb", "a<U+200B>b"),
        ("\u034f\u3164", "<U+034F><U+3164>"),
        ("\U000e0041", "<U+E0041>"),
        ("\ufeff", "<U+FEFF>"),
        ("\udcff\udc80", "\\xff\\x80"),
        ("tab\there", "tab\there"),
        ("é 漢 😀", "é 漢 😀"),
        ("\u2028", "<U+2028>"),
    ],
)
def test_what_cannot_be_seen_is_made_visible(text: str, seen: str, tmp_path: Path) -> None:
    assert visible(text) == seen
    lines = shown(tmp_path, "x\n", f"x\n{text}\n").split("\n")
    assert f"+{seen}" in lines


def test_no_control_character_survives_with_or_without_colour(tmp_path: Path) -> None:
    nasty = "".join(map(chr, [*range(1, 10), *range(11, 32), *range(127, 160)]))
    for number, colour in enumerate((False, True)):
        text = shown(tmp_path / str(number), f"{nasty}\n", f"x{nasty}\n", colour=colour)
        rest = COLOUR.sub("", text) if colour else text
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", rest)


def test_names_are_quoted_in_the_header(tmp_path: Path) -> None:
    text = shown(tmp_path, "x\n", "y\n", name="a\x1b[2J\n+++ b/\u202ex")
    assert 'diff --git "a/a\\033[2J\\n+++ b/\\342\\200\\256x"' in text


def test_a_line_of_the_content_is_never_taken_for_a_header(tmp_path: Path) -> None:
    before = "-- a/etc/passwd\n@@ -1 +1 @@\ndiff --git a/x b/x\n"
    text = shown(tmp_path, before, "++ b/etc/passwd\n@@ -9 +9 @@\n", colour=True)
    lines = text.splitlines()
    assert "\x1b[31m--- a/etc/passwd\x1b[m" in lines
    assert "\x1b[32m+++ b/etc/passwd\x1b[m" in lines
    assert "\x1b[31m-diff --git a/x b/x\x1b[m" in lines
    assert sum(line.startswith("\x1b[36m") for line in lines) == 1


def test_the_colours_are_the_usual_ones(tmp_path: Path) -> None:
    lines = shown(tmp_path, "a\nb\n", "a\nc\n", colour=True).splitlines()
    assert lines[0] == "\x1b[1mdiff --git a/f b/f\x1b[m"
    assert lines[-4:] == ["\x1b[36m@@ -1,2 +1,2 @@\x1b[m", " a", "\x1b[31m-b\x1b[m", "\x1b[32m+c\x1b[m"]


def test_a_line_without_end_is_said_so(tmp_path: Path) -> None:
    assert shown(tmp_path, "a\n", "b").endswith("+b\n\\ No newline at end of file\n")


def test_a_very_long_line_is_cut_with_its_length(tmp_path: Path) -> None:
    text = shown(tmp_path, "x\n", "y" * 1_000_000 + "\n")
    assert len(text) < 5000
    assert "[and 998001 more characters]" in text


def test_padding_does_not_push_code_out_of_sight(tmp_path: Path) -> None:
    text = shown(tmp_path, "x\n", "ok" + " " * 600 + "; evil()\n")
    assert "+ok [600 spaces] ; evil()" in text


def test_binary_content_is_said_and_not_printed(tmp_path: Path) -> None:
    text = shown(tmp_path, b"\0" * 5000, bytes(range(256)) * 40)
    assert "(binary content, not shown)" in text
    assert len(text.splitlines()) < 8


def test_words_are_coloured(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "one two\n"}, {"f": "one 2\x1b\n"})
    with case.base() as base, case.theirs() as theirs:
        patch, _ = render.patch(case.scan(), base, theirs)
    assert words_of_sections(sections(patch), True).endswith("one \x1b[31m[-two-]\x1b[m\x1b[32m{+2\\x1b+}\x1b[m\n")


def words(tmp_path: Path, before: Node, after: Node) -> list[str]:
    """The lines of the only hunk."""
    case = make_case(tmp_path, {"f": before}, {"f": after})
    with case.base() as base, case.theirs() as theirs:
        lines = words_of_sections(sections(render.patch(case.scan(), base, theirs)[0]), False).splitlines()
    return lines[next(n for n, line in enumerate(lines) if line.startswith("@@")) + 1 :]


def test_a_line_of_the_content_does_not_end_the_words(tmp_path: Path) -> None:
    lines = words(tmp_path, "a\nb\n", "a\nGIT binary patch\ndiff --git a/x b/x\nb\nevil()\n")
    assert lines == [" a", "+GIT binary patch", "+diff --git a/x b/x", " b", "+evil()"]


def test_a_changed_end_of_line_is_shown_with_words(tmp_path: Path) -> None:
    before, after = "# never do this: x.danger()\n", "# never do this:\n    x.danger()\n"
    assert words(tmp_path, before, after) == [f"-{before[:-1]}", "+# never do this:", "+    x.danger()"]


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ("run \\\n", "run \\ \n", ["~run \\{+ +}"]),
        ("run x\n", "run  x\n", ["~run[- -]{+  +}x"]),
        ("a b\n", "a b\r\n", ["~a b{+\\x0d+}"]),
        ("x = 1\n", "x = 1", ["-x = 1", "+x = 1", "\\ No newline at end of file"]),
        ("x = 1 y\nz = 1\n", "x = 2 y\nz = 2\n", ["~x = [-1-]{+2+} y", "~z = [-1-]{+2+}"]),
        ("one\n", "two\n", ["-one", "+two"]),
        ("x é y\n", "x è y\n", ["~x [-é-]{+è+} y"]),
    ],
)
def test_every_change_within_a_line_is_marked(before: str, after: str, lines: list[str], tmp_path: Path) -> None:
    assert words(tmp_path, before, after) == lines


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a b", "a x+} evil_call() {+y b"),
        ("a {+ b", "a {+ c"),
        ("a b", "a } evil() b"),
        ("a [ b", "a c b"),
        ("a [ b", "a [- b"),
        ("a-] b", "a-] c"),
        ("a + } b", "a +} b"),
    ],
)
def test_what_the_program_wrote_does_not_pass_for_a_mark(before: str, after: str, tmp_path: Path) -> None:
    lines = words(tmp_path, f"{before}\n", f"{after}\n")
    text = "".join(lines)
    if lines != [f"-{before}", f"+{after}"]:  # else each mark is there once, and what it holds is read back
        assert text.count("[-") == text.count("-]") <= 1 and text.count("{+") == text.count("+}") <= 1
        assert re.sub(r"\[-.*?-\]", "", text).replace("{+", "").replace("+}", "") == f"~{after}"
        assert re.sub(r"\{\+.*?\+\}", "", text).replace("[-", "").replace("-]", "") == f"~{before}"


def test_no_patch_is_no_text() -> None:
    assert of_sections(sections(b""), True) == ""


@pytest.mark.parametrize(
    ("path", "quoted"),
    [
        ("a b", "a b"),
        ("a\nb", '"a\\nb"'),
        ('q"', '"q\\""'),
        ("b\\", '"b\\\\"'),
        ("é", '"\\303\\251"'),
        ("\udcff", '"\\377"'),
        ("\x7f\x1b", '"\\177\\033"'),
    ],
)
def test_a_path_is_quoted_as_git_does(path: str, quoted: str) -> None:
    assert quoted_path(path) == quoted
