"""One pattern -> what it matches, as Docker's matcher compiles it (rules 10 to 13 of ``docs/filter.md``).

Docker compares a pattern without wildcards as it is; one whose only wildcard is a ``**`` at its end or at its
beginning as a prefix or suffix; all others become a Go regular expression, with everything that leaks through.
"""

from __future__ import annotations

import os
import re

from overlayws.filter import goregex
from overlayws.filter.chars import ANY, NOT_NEWLINE, NOT_SLASH, Branch, Folders, Fragment, Item, Loop

_TOKEN = re.compile(r"(?s)\*\*/?|\*|\?|\\.?|[][]|[^][*?\\]+")
_ESCAPED = re.compile(r"[.+()$]")
_STRAY = re.compile("[\udc80-\udcff]")  # a byte that is not UTF-8
_LEAKING = frozenset("[]\\|{}^\ufffd")


def compile_pattern(pattern: str) -> tuple[Branch, ...]:
    """The alternatives that the pattern has; it matches a path that one of them matches as a whole.

    Raises goregex.BadRegex where Docker would fail with "syntax error in pattern" on the first path.
    """
    if "*" not in pattern and "?" not in pattern and not _LEAKING.intersection(pattern):
        return ((pattern,),)
    # Go's text/scanner skips a byte order mark; the plain comparisons keep it.
    scanned = pattern.removeprefix("\ufeff")
    kind, pieces = _scan(scanned)
    if kind == "exact":
        return ((pattern,),)
    raw = os.fsencode(pattern)
    if kind == "prefix":
        return _prefix(raw[:-2])
    if kind == "suffix":
        return _suffix(raw[2:])
    if not _LEAKING.intersection(scanned) and not _STRAY.search(scanned):
        return (goregex.joined(pieces),)
    return goregex.parse("^" + "".join(map(_as_regex, pieces)) + "$")


def _scan(pattern: str) -> tuple[str, list[Item]]:
    """(exact, prefix, suffix or regex; the items of the regex, where a str may hold leaking characters)."""
    kind = "exact"
    pieces: list[Item] = []
    for found in _TOKEN.finditer(pattern):
        token = found[0]
        if token == "*":
            pieces.append(Loop(NOT_SLASH))
            kind = "regex"
        elif token == "?":
            pieces.append(NOT_SLASH)
            kind = "regex"
        elif token[0] == "*":
            if found.end() < len(pattern):
                pieces.append(Folders(NOT_NEWLINE))
                kind = "regex"
            elif kind == "exact":
                kind = "prefix"
            else:
                pieces.append(Loop(NOT_NEWLINE))
                kind = "regex"
            if found.start() == 0:
                kind = "suffix"
        else:
            pieces.append(token)
            if token in ("[", "]") or (token[0] == "\\" and len(token) == 2):
                kind = "regex"
    return kind, pieces


def _as_regex(piece: Item) -> str:
    if isinstance(piece, Folders):
        return "(.*/)?"
    if isinstance(piece, Loop):
        return "[^/]*" if piece.chars == NOT_SLASH else ".*"
    if not isinstance(piece, str):
        return "[^/]"
    piece = _STRAY.sub("\ufffd", piece)
    return piece if piece[0] == "\\" else _ESCAPED.sub(r"\\\g<0>", piece)


def _prefix(raw: bytes) -> tuple[Branch, ...]:
    text = os.fsdecode(raw)
    branches: list[list[Item]] = [[text, Loop(ANY)]]
    for size in (1, 2, 3):  # bytes of a character that the path may complete
        tail = raw[-size:]
        if len(raw) >= size and tail[0] >= 0xC0 and _STRAY.search(text[-size:]):
            branches.append([text[:-size], Fragment(tail, leading=True), Loop(ANY)])
    return tuple(map(goregex.joined, branches))


def _suffix(raw: bytes) -> tuple[Branch, ...]:
    text = os.fsdecode(raw)
    if text.startswith("/"):
        branches: list[list[Item]] = [[Folders(ANY), text[1:]]]
    else:
        branches = [[Loop(ANY), text]]
    for size in (1, 2, 3):  # bytes that end a character of the path
        head = raw[:size]
        if len(head) == size and all(0x80 <= byte < 0xC0 for byte in head):
            branches.append([Loop(ANY), Fragment(head, leading=False), text[size:]])
    return tuple(map(goregex.joined, branches))
