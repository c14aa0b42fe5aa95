"""Characters that make text look like something else: bidirectional controls, zero width, tags.

Trojan Source (CVE-2021-42574) and the Unicode technical report 36; the ranges are from the Unicode Character
Database: Bidi_Control, Default_Ignorable_Code_Point and the line and paragraph separators, without the sixteen
variation selectors U+FE00-FE0F, which ordinary emoji use.
"""

from __future__ import annotations

import re

_RANGES = (
    (0x00AD, 0x00AD),  # soft hyphen
    (0x034F, 0x034F),  # combining grapheme joiner
    (0x061C, 0x061C),  # arabic letter mark
    (0x115F, 0x1160),  # hangul fillers
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),  # mongolian variation selectors, vowel separator
    (0x200B, 0x200F),  # zero width, left-to-right and right-to-left marks
    (0x2028, 0x202E),  # line and paragraph separators, embeddings and overrides
    (0x2060, 0x206F),  # word joiner, invisible operators, isolates
    (0x2800, 0x2800),  # braille blank: it looks like a space, and is none
    (0x3164, 0x3164),  # hangul filler
    (0xFEFF, 0xFEFF),  # zero width no-break space
    (0xFFA0, 0xFFA0),
    (0xFFF9, 0xFFFB),  # interlinear annotation
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),  # tags, variation selectors supplement
)
CHARACTERS = "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in _RANGES)  # for a class of a regular expression
_INVISIBLE_NAME = re.compile(f"[\x00-\x1f\x7f-\x9f{CHARACTERS}]")
_INVISIBLE = re.compile(f"[{CHARACTERS}]")


def invisible(data: bytes) -> bool:
    """Whether a text in UTF-8 holds such a character (a byte order mark at its very start is none)."""
    if data.isascii():
        return False
    text = data.decode("utf-8", "replace")
    return _INVISIBLE.search(text, 1 if text.startswith("\ufeff") else 0) is not None


def hides(name: str) -> bool:
    """Whether a name holds such a character, or a control character."""
    return _INVISIBLE_NAME.search(name) is not None


def adds_invisible(before: bytes, after: bytes) -> bool:
    """Whether ``after`` holds a line with such a character that ``before`` does not hold."""
    if not invisible(after):
        return False
    known = set(before.split(b"\n"))
    return any(invisible(line) for line in after.split(b"\n") if line not in known)
