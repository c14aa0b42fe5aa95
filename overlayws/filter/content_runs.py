"""Where a secret can be, found at the speed of C: long runs of the bytes that tokens are made of.

Every known token holds 20 such bytes in a row. One ``translate`` and a few ``find`` tell where those are; in ordinary
text hardly any of them holds a digit or begins like a token, and only those few are looked at by patterns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from overlayws.filter.literal import Text

RUN = 20  # bytes; the shortest token that is found by its shape alone
_WIDE = 0.8  # of the first units of a text without BOM that must have a zero byte to be taken for UTF-16

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+/-"
_CLASSES = bytes(97 if code in _ALPHABET else 32 for code in range(256))
_KEY = b" " + b"a" * RUN  # with what stands before it: a word begins more seldom than it goes on
# Random tokens nearly always hold a digit. Of the shorter shapes, one in 30 does not: those are found by their heads.
_LIKELY = re.compile(rb"[0-9]|A[BCKS][CI]A|gl[a-z]{2,5}-|gh[opsru]_|[rs]k_|AIza|xox|npm_|hf_|GOC|cio|dckr")


def runs(data: bytes) -> Iterator[tuple[int, int]]:
    """(begin, end) of every run of at least RUN token bytes that may be or hold a token."""
    classes = b" " + data.translate(_CLASSES)  # so what is found at n begins at n in the data
    text, find, likely = Text(classes), classes.find, _LIKELY.search
    begin = text.find(_KEY)
    while begin >= 0:
        end = find(b" ", begin + RUN) - 1
        if end < 0:
            end = len(data)
        if likely(data, begin, end):
            yield begin, end
        begin = text.find(_KEY, end + 1)


def narrowed(data: bytes) -> tuple[bytes, str] | None:
    """UTF-16 text with one byte for each unit (what is beyond Latin-1 becomes 0xff), and its codec; else None.

    Byte n of the result is unit n of the text, so places in both are known from each other. Text without a byte
    order mark is taken for UTF-16 where nearly every unit of its beginning has the same byte zero.
    """
    if data[:2] == b"\xff\xfe":
        codec = "utf-16-le"
    elif data[:2] == b"\xfe\xff":
        codec = "utf-16-be"
    else:
        head = data[:4096]
        units = len(head) // 2
        if units < 8:
            return None
        if head[1::2].count(0) >= _WIDE * units and head[0::2].count(0) < units // 4:
            codec = "utf-16-le"
        elif head[0::2].count(0) >= _WIDE * units and head[1::2].count(0) < units // 4:
            codec = "utf-16-be"
        else:
            return None
    even = len(data) & ~1
    low, high = (0, 1) if codec == "utf-16-le" else (1, 0)
    narrow, above = data[low:even:2], data[high:even:2]
    if above.count(0) != len(above):
        narrow = bytes(n if not a else 0xFF for n, a in zip(narrow, above, strict=True))
    return narrow, codec
