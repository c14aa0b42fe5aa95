"""Sets of characters, and the items that a compiled pattern is a sequence of.

A path is a ``str`` as ``os.fsdecode`` gives it: a byte that is not UTF-8 is a lone surrogate. Go's regular
expressions see such a byte as U+FFFD, so a set does too; a literal run compares the bytes as they are.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from enum import Enum

from overlayws.filter import scripts

MAX = 0x10FFFF

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Chars:
    """A class of a regular expression: code point ranges and Unicode tables (name, negated), all negated or not."""

    ranges: Ranges = ()
    tables: tuple[tuple[str, bool], ...] = ()
    negated: bool = False

    def has(self, c: str) -> bool:
        code = ord(c)
        if 0xDC80 <= code <= 0xDCFF:
            code = 0xFFFD
        inside = any(low <= code <= high for low, high in self.ranges) or any(
            _in_table(name, code) != negated for name, negated in self.tables
        )
        return inside != self.negated


@dataclass(frozen=True, slots=True)
class Fragment:
    """The characters whose UTF-8 begins (``leading``) or ends with these bytes, which alone are not UTF-8.

    Prefixes and suffixes are compared byte by byte, so one may begin or end inside a character.
    """

    part: bytes
    leading: bool

    def has(self, c: str) -> bool:
        if "\ud800" <= c <= "\udfff":
            return False
        encoded = c.encode()
        if len(encoded) <= len(self.part):
            return False
        return encoded.startswith(self.part) if self.leading else encoded.endswith(self.part)


CharSet = Chars | Fragment


@dataclass(frozen=True, slots=True)
class Loop:
    """Any number of characters of a set."""

    chars: CharSet


@dataclass(frozen=True, slots=True)
class Folders:
    """Nothing, or any number of characters of a set and then a slash: ``**/`` before more."""

    chars: CharSet


@dataclass(frozen=True, slots=True)
class Repeat:
    """An item ``low`` to ``high`` times; ``high`` is None for no limit."""

    item: Chars | Repeat
    low: int
    high: int | None


class Look(Enum):
    """What is true between two characters. A word is ASCII letters, digits and ``_``, as in RE2."""

    BEGIN = "begin"
    END = "end"
    EDGE = "edge of a word"
    NO_EDGE = "no edge of a word"


Item = str | CharSet | Loop | Folders | Repeat | Look
Branch = tuple[Item, ...]  # a sequence that matches a whole path; a pattern is a tuple of alternative branches

ANY = Chars(negated=True)
NOT_SLASH = Chars(((0x2F, 0x2F),), negated=True)
NOT_NEWLINE = Chars(((0x0A, 0x0A),), negated=True)


def complement(ranges: Ranges) -> Ranges:
    """The ranges of everything else."""
    found, at = [], 0
    for low, high in sorted(ranges):
        if at < low:
            found.append((at, low - 1))
        at = max(at, high + 1)
    if at <= MAX:
        found.append((at, MAX))
    return tuple(found)


def is_word(c: str) -> bool:
    return c.isascii() and (c.isalnum() or c == "_")


def _in_table(name: str, code: int) -> bool:
    category = unicodedata.category(chr(code))
    if name == "Any":
        return True
    if name == "ASCII":
        return code < 0x80
    if name == "Assigned":
        return category != "Cn"
    if name == "C":  # Go leaves unassigned code points out of C
        return category[0] == "C" and category != "Cn"
    if name == "LC":
        return category in ("Lu", "Ll", "Lt")
    if len(name) == 1:
        return category[0] == name
    if len(name) == 2:
        return category == name
    return scripts.is_in(name, code)
