"""A patch for a person's terminal: nothing in it moves the cursor, hides text or pretends to be a header."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from overlayws.changes.escape import visible_bytes
from overlayws.changes.sections import Section, sections

_BOLD, _CYAN, _GREEN, _RED, _OFF = "\x1b[1m", "\x1b[36m", "\x1b[32m", "\x1b[31m", "\x1b[m"
_PADDING = re.compile(" {80,}")
_LONGEST = 2000  # characters of a line
_WORDS = re.compile(r"\[-.*?-\]|\{\+.*?\+\}")
_STYLES = {b"+": _GREEN, b"-": _RED}


def for_terminal(patch: bytes, colour: bool) -> str:
    """``patch`` (as ``render.patch`` made it) as text that is safe to print: see ``of_sections``."""
    return of_sections(sections(patch), colour)


def of_sections(shown: Iterable[Section], colour: bool, *, cut: bool = True) -> str:
    """A patch as text that is safe to print.

    Control characters, bytes that are not UTF-8, bidirectional and invisible characters are made visible; with ``cut``
    very long lines are cut and very long runs of spaces counted, both with a mark; the data of binary patches is left
    out, and our notes stand in brackets after a file's header. The colours are ours only.
    """
    return "".join(f"{line}\n" for section in shown for line in _lines(section, colour, cut))


def _lines(section: Section, colour: bool, cut: bool) -> Iterator[str]:
    for line in section.header:
        yield _styled(visible_line(line, cut), _BOLD, colour)
    if section.binary:
        yield "(binary content, not shown)"
    for note in section.notes:
        yield f"({note})"
    for hunk in section.hunks:
        yield _styled(visible_line(hunk.header, cut), _CYAN, colour)
        for line in hunk.lines:
            yield _styled(visible_line(line, cut), _STYLES.get(line[:1], ""), colour)


def words_for_terminal(patch: bytes, colour: bool) -> str:
    """A patch that was made with ``words``, as text that is safe to print: as ``of_sections``."""
    return "".join(f"{line}\n" for line in _word_lines(patch, colour))


def _word_lines(patch: bytes, colour: bool) -> Iterator[str]:
    binary = False
    for line in patch.removesuffix(b"\n").split(b"\n") if patch else ():
        if line.startswith(b"diff --git "):
            binary = False
            yield _styled(visible_line(line), _BOLD, colour)
        elif line == b"GIT binary patch":
            binary = True
            yield "(binary content, not shown)"
        elif not binary:
            text = visible_line(line)
            if colour and line.startswith(b"@@ "):
                text = _styled(text, _CYAN, colour)
            elif colour:
                text = _WORDS.sub(lambda m: f"{_RED if m[0][0] == '[' else _GREEN}{m[0]}{_OFF}", text)
            yield text


def visible_line(line: bytes, cut: bool = True) -> str:
    """A line as it may be looked at; with ``cut``, what is very long is cut and counted."""
    text = visible_bytes(line)
    if cut and len(text) > 80:
        text = _PADDING.sub(lambda m: f" [{len(m[0])} spaces] ", text)
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]} [and {len(text) - _LONGEST} more characters]"
    return text


def _styled(text: str, style: str, colour: bool) -> str:
    return f"{style}{text}{_OFF}" if colour and style else text
