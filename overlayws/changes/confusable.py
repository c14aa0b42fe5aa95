"""Letters that look like others: a name or an identifier that reads as one thing and is another.

The letters are those of the Unicode security mechanisms (UTS 39, confusables.txt) that cannot be told from an ASCII
letter in usual fonts, of the Cyrillic, Greek and Armenian scripts; fullwidth and mathematical letters are folded by
NFKC.
"""

from __future__ import annotations

import re
import unicodedata

_LIKE = {
    **dict(zip("аеорсухіјѕһԁԛԝӏҽ", "aeopcyxijshdqwle", strict=True)),
    **dict(zip("АВЕКМНОРСТХУІЈЅԌԚԜӀ", "ABEKMHOPCTXYIJSGQWI", strict=True)),
    **dict(zip("ονκιρυχγ", "ovkipuxy", strict=True)),
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "ABEZHIKMNOPTYX", strict=True)),
    **dict(zip("օսոհ", "ounh", strict=True)),
}
# In a word with Latin letters: only what is rarely there for its own sake (Greek small letters are, in formulas).
_MIXED = "".join(c for c in _LIKE if not "α" <= c <= "ω" or c in "ον")
_WORD = re.compile(rf"\w*(?:[A-Za-z_]\w*[{_MIXED}]|[{_MIXED}]\w*[A-Za-z_])\w*")
_TABLE = str.maketrans(_LIKE)


def skeleton(name: str) -> str:
    """What ``name`` looks like: confusable letters as ASCII letters, compatibility forms folded, nothing invisible.

    Names that look alike have one skeleton.
    """
    folded = unicodedata.normalize("NFKC", name).translate(_TABLE)
    return "".join(c for c in folded if unicodedata.category(c) not in ("Cf", "Mn", "Cc"))


def mixes(text: str) -> bool:
    """Whether a word of ``text`` mixes Latin letters with letters of another script that look like Latin ones."""
    return not text.isascii() and _WORD.search(text) is not None


def adds_mixed(before: bytes, after: bytes) -> bool:
    """Whether ``after`` holds a line with such a word that ``before`` does not hold."""
    if not mixes(after.decode("utf-8", "replace")):
        return False
    known = set(before.split(b"\n"))
    return any(mixes(line.decode("utf-8", "replace")) for line in after.split(b"\n") if line not in known)
