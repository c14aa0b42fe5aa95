"""A patch for a person's terminal: nothing in it moves the cursor, hides text or pretends to be a header."""

from __future__ import annotations

import re
from collections.abc import Iterator

from overlayws.changes.escape import visible_bytes

_BOLD, _CYAN, _GREEN, _RED, _OFF = "\x1b[1m", "\x1b[36m", "\x1b[32m", "\x1b[31m", "\x1b[m"
_HUNK = re.compile(rb"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_PADDING = re.compile(" {80,}")
_LONGEST = 2000  # characters of a line
_WORDS = re.compile(r"\[-.*?-\]|\{\+.*?\+\}")


def for_terminal(patch: bytes, colour: bool, *, words: bool = False) -> str:
    """``patch`` (as ``render.patch`` made it, or with ``words``) as text that is safe to print.

    Control characters, bytes that are not UTF-8, bidirectional and invisible characters are made visible; very long
    lines are cut and very long runs of spaces counted, both with a mark; the data of binary patches is left out. The
    colours are ours only. Which line is a header is decided by the hunks' line counts, not by how a line begins.
    """
    return "".join(f"{line}\n" for line in _lines(patch, colour, words))


def _lines(patch: bytes, colour: bool, words: bool) -> Iterator[str]:
    old = new = 0  # lines of the hunk that are still to come
    binary = False
    body = patch[:-1] if patch.endswith(b"\n") else patch
    for line in body.split(b"\n") if patch else ():
        style = ""
        if (old or new) and not words:
            if line[:1] == b"+":
                new, style = new - 1, _GREEN
            elif line[:1] == b"-":
                old, style = old - 1, _RED
            elif line[:1] != b"\\":
                old, new = old - 1, new - 1
        elif line.startswith(b"diff --git "):
            binary, style = False, _BOLD
        elif hunk := _HUNK.match(line):
            old, new = (int(count) if count is not None else 1 for count in hunk.groups())
            style = _CYAN
        elif line == b"GIT binary patch":
            binary = True
            yield "(binary content, not shown)"
            continue
        elif binary:
            continue
        elif not words:
            style = _BOLD
        text = _shortened(visible_bytes(line))
        if colour and words and not style:
            text = _WORDS.sub(lambda m: f"{_RED if m[0][0] == '[' else _GREEN}{m[0]}{_OFF}", text)
        yield f"{style}{text}{_OFF}" if colour and style else text


def _shortened(text: str) -> str:
    if len(text) > 80:
        text = _PADDING.sub(lambda m: f" [{len(m[0])} spaces] ", text)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} [and {len(text) - _LONGEST} more characters]"
    return text
