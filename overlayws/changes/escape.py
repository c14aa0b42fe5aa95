"""Text of a program that is not trusted, made safe to look at: no control character, nothing invisible."""

from __future__ import annotations

import os
import re

from overlayws.changes.invisible import CHARACTERS

# C0 but tab, DEL, C1, lone surrogates (bytes that are not UTF-8), and what has no width or turns the direction.
_UNSAFE = re.compile(f"[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff{CHARACTERS}]")


def visible(text: str) -> str:
    """``text`` on one line: control characters and bytes that are not UTF-8 as ``\\x1b``, others as ``<U+202E>``.

    A tab stays. Nothing else is changed, so the result is for eyes, not for programs.
    """
    return text if text.isascii() and text.isprintable() else _UNSAFE.sub(_escape, text)


def visible_bytes(data: bytes) -> str:
    """``visible`` of bytes that should be UTF-8."""
    return visible(data.decode("utf-8", "surrogateescape"))


def quoted_path(path: str) -> str:
    """A path as git prints it with core.quotePath: as it is, or in double quotes with C escapes; ASCII only."""
    data = os.fsencode(path)
    if data.isascii() and not _QUOTE.search(data):
        return data.decode("ascii")
    return (
        '"' + "".join(_C_ESCAPES.get(byte) or f"\\{byte:03o}" if _special(byte) else chr(byte) for byte in data) + '"'
    )


_QUOTE = re.compile(rb'[\x00-\x1f\x7f"\\]')
_C_ESCAPES = {
    7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\",
}  # fmt: skip


def _special(byte: int) -> bool:
    return byte < 0x20 or byte > 0x7E or byte in (0x22, 0x5C)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0xA0:
        return f"\\x{code:02x}"
    return f"<U+{code:04X}>"
