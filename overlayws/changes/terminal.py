"""A patch for a person's terminal: nothing in it moves the cursor, hides text or pretends to be a header."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from overlayws.changes.escape import visible_bytes
from overlayws.changes.sections import Section

_BOLD, _CYAN, _GREEN, _RED, _OFF = "\x1b[1m", "\x1b[36m", "\x1b[32m", "\x1b[31m", "\x1b[m"
_PADDING = re.compile(" {80,}")
_LONGEST = 2000  # characters of a line
_TOKENS = re.compile(rb"[0-9A-Za-z_\x80-\xff]+|\s+|.", re.DOTALL)  # no character of UTF-8 is torn
_MARKS = (b"[-", b"-]", b"{+", b"+}")
_STYLES = {b"+": _GREEN, b"-": _RED}


def of_sections(shown: Iterable[Section], colour: bool, *, cut: bool = True) -> str:
    """A patch (as ``sections.sections`` reads it) as text that is safe to print.

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


def words_of_sections(shown: Iterable[Section], colour: bool) -> str:
    """A patch (as ``of_sections``) in which a line that changed in part is one line that begins with ``~``, with
    ``[-what was-]{+what is+}`` in it.

    Such a line stands only for one removed and one added line, and only where the content has none of the marks: what
    the program wrote cannot pass for a mark, and a line that came or went is always a line with ``-`` or ``+``.
    """
    return "".join(f"{line}\n" for section in shown for line in _word_lines(section, colour))


def _word_lines(section: Section, colour: bool) -> Iterator[str]:
    yield from _lines(Section(section.header, binary=section.binary, notes=section.notes), colour, True)
    for hunk in section.hunks:
        yield _styled(visible_line(hunk.header), _CYAN, colour)
        for same, block in groupby(hunk.lines, lambda line: line[:1] == b" "):
            lines = list(block)
            half = len(lines) // 2
            pairs = list(zip(lines[:half], lines[half:], strict=False))
            paired = not same and all(old[:1] == b"-" and new[:1] == b"+" for old, new in pairs) and len(lines) % 2 == 0
            for pair in pairs if paired else ((line,) for line in lines):
                marked = _marked(pair[0][1:], pair[1][1:], colour) if len(pair) == 2 else None
                if marked is not None:
                    yield marked
                else:
                    for line in pair:
                        yield _styled(visible_line(line), _STYLES.get(line[:1], ""), colour)


def _marked(old: bytes, new: bytes, colour: bool) -> str | None:
    """Both lines as one; None where that could mislead, or they have nothing in common."""
    if max(len(old), len(new)) > _LONGEST or any(text in side for side in (old, new) for text in (b" " * 80, *_MARKS)):
        return None  # the long ones are cut or counted, as lines of their own
    a, b = _TOKENS.findall(old), _TOKENS.findall(new)
    most = min(len(a), len(b))
    head = next((at for at in range(most) if a[at] != b[at]), most)
    tail = next((at for at in range(most - head) if a[-1 - at] != b[-1 - at]), most - head)
    if not b"".join(a[:head] + a[len(a) - tail :]).strip():
        return None
    was, now = (visible_bytes(b"".join(side[head : len(side) - tail])) for side in (a, b))
    before, after = (visible_bytes(b"".join(part)) for part in (a[:head], a[len(a) - tail :]))
    removed, added = f"[-{was}-]" if was else "", f"{{+{now}+}}" if now else ""
    # Counted in the whole line: where the content meets a mark, it may make another one.
    whole = before + removed + added + after
    if [whole.count(mark.decode()) for mark in _MARKS] != [bool(was)] * 2 + [bool(now)] * 2:
        return None
    return f"~{before}{_styled(removed, _RED, colour)}{_styled(added, _GREEN, colour)}{after}"


def visible_line(line: bytes, cut: bool = True) -> str:
    """A line as it may be looked at; with ``cut``, what is very long is cut and counted."""
    text = visible_bytes(line)
    if cut and len(text) > 80:
        text = _PADDING.sub(lambda m: f" [{len(m[0])} spaces] ", text)
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]} [and {len(text) - _LONGEST} more characters]"
    return text


def _styled(text: str, style: str, colour: bool) -> str:
    return f"{style}{text}{_OFF}" if colour and style and text else text
