"""Sets of characters that have a name in Go's regular expressions: ``\\d``, ``[:alpha:]``, ``\\p{Greek}``.

The first two kinds are ASCII only, as in RE2 (https://github.com/google/re2/wiki/Syntax); ``\\s`` is without ``\\v``.
"""

from __future__ import annotations

from functools import cache

from overlayws.filter import scripts
from overlayws.filter.chars import Ranges, complement

_UPPER, _LOWER, _DIGIT = (0x41, 0x5A), (0x61, 0x7A), (0x30, 0x39)
PERL: dict[str, Ranges] = {
    "d": (_DIGIT,),
    "s": ((9, 10), (12, 13), (32, 32)),
    "w": (_DIGIT, _UPPER, (0x5F, 0x5F), _LOWER),
}
PERL |= {name.upper(): complement(ranges) for name, ranges in PERL.items()}
POSIX: dict[str, Ranges] = {
    "alnum": (_DIGIT, _UPPER, _LOWER),
    "alpha": (_UPPER, _LOWER),
    "ascii": ((0, 0x7F),),
    "blank": ((9, 9), (32, 32)),
    "cntrl": ((0, 0x1F), (0x7F, 0x7F)),
    "digit": (_DIGIT,),
    "graph": ((0x21, 0x7E),),
    "lower": (_LOWER,),
    "print": ((0x20, 0x7E),),
    "punct": ((0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)),
    "space": ((9, 13), (32, 32)),
    "upper": (_UPPER,),
    "word": PERL["w"],
    "xdigit": (_DIGIT, (0x41, 0x46), (0x61, 0x66)),
}
POSIX |= {"^" + name: complement(ranges) for name, ranges in POSIX.items()}

# General categories and their long names (PropertyValueAliases.txt), which Go takes since 1.25.
_CATEGORIES = """
C Other, Cc Control cntrl, Cf Format, Cn Unassigned, Co Private_Use, Cs Surrogate, L Letter, LC Cased_Letter,
Ll Lowercase_Letter, Lm Modifier_Letter, Lo Other_Letter, Lt Titlecase_Letter, Lu Uppercase_Letter,
M Mark Combining_Mark, Mc Spacing_Mark, Me Enclosing_Mark, Mn Nonspacing_Mark, N Number, Nd Decimal_Number digit,
Nl Letter_Number, No Other_Number, P Punctuation punct, Pc Connector_Punctuation, Pd Dash_Punctuation,
Pe Close_Punctuation, Pf Final_Punctuation, Pi Initial_Punctuation, Po Other_Punctuation, Ps Open_Punctuation,
S Symbol, Sc Currency_Symbol, Sk Modifier_Symbol, Sm Math_Symbol, So Other_Symbol, Z Separator, Zl Line_Separator,
Zp Paragraph_Separator, Zs Space_Separator
"""


def table_named(name: str) -> str | None:
    """The Unicode table that ``\\p{name}`` means, spelled as ``Chars.tables`` wants it; None if there is none.

    Compared as Go does since 1.25: without regard to case, spaces, ``_`` and ``-`` (Unicode TR18, RL1.2).
    """
    return _tables().get(_loose(name))


@cache
def _tables() -> dict[str, str]:
    found = {_loose(name): name for name in (*scripts.names(), "Any", "ASCII", "Assigned")}
    for row in _CATEGORIES.replace("\n", " ").split(","):
        category, *aliases = row.split()
        found |= {_loose(alias): category for alias in (category, *aliases)}
    return found


def _loose(name: str) -> str:
    return name.replace("_", "").replace("-", "").replace(" ", "").lower() if name.isascii() else name
