"""Placeholders: what stands where a secret was, in the same line, and how an edited file gets its secrets back.

A placeholder is a plain word (letters, digits and dashes), so that the file is still read by what reads it: YAML,
JSON, XML, shells and URLs. It has one length whatever it replaces, and its number is an HMAC of the secret under the
session's key: equal secrets have equal placeholders within a session, and no two sessions agree.
"""

from __future__ import annotations

import hashlib
import hmac
import re

from overlayws.filter.content_runs import narrowed

PLACEHOLDER = re.compile(rb"overlayws-redacted-([0-9a-f]{16})(?![0-9a-f])")
Span = tuple[int, int]  # begin and end, in bytes


def placeholder(secret: bytes, key: bytes) -> bytes:
    """The placeholder of ``secret``."""
    digest = hmac.new(key, b"overlayws redaction\0" + secret, hashlib.sha256).hexdigest()
    return b"overlayws-redacted-" + digest[:16].encode()


def by_lines(data: bytes, begin: int, end: int) -> list[Span]:
    """The parts of a span that lie in one line each, without line ends, blanks around them, and empty ones."""
    spans = []
    while begin < end:
        stop = data.find(b"\n", begin, end)
        if stop < 0:
            stop = end
        first, last = begin, stop
        while first < last and data[first] in b" \t\r":
            first += 1
        while first < last and data[last - 1] in b" \t\r":
            last -= 1
        if first < last:
            spans.append((first, last))
        begin = stop + 1
    return spans


def replaced(data: bytes, text: bytes, spans: list[Span], key: bytes, codec: str | None = None) -> bytes:
    """``data`` with a placeholder for each span (sorted, disjoint, in one line each); all else byte for byte.

    With a ``codec`` of UTF-16 the spans count units: ``text`` is ``data`` with one byte for each.
    """
    width = 2 if codec else 1
    parts, at = [], 0
    for begin, end in spans:
        mark = placeholder(data[begin * width : end * width] if codec is None else text[begin:end], key)
        parts += [data[at * width : begin * width], mark if codec is None else mark.decode().encode(codec)]
        at = end
    parts.append(data[at * width :])
    return b"".join(parts)


def placeholders(data: bytes) -> list[tuple[int, str]]:
    """(line from 1, number) of every placeholder in ``data``, UTF-16 included: a change that carries one is flagged."""
    wide = narrowed(data) if b"\0" in data[:4096] else None
    text = wide[0] if wide else data
    found = []
    line, counted = 1, 0
    for match in PLACEHOLDER.finditer(text):
        line += text.count(b"\n", counted, match.start())
        counted = match.start()
        found.append((line, match[1].decode()))
    return found
