"""The redactor of kubeconfig files (kubernetes.io/docs/reference/config-api/kubeconfig.v1), as YAML or JSON.

Only the plain YAML that kubectl and cloud tools write is understood: one key or list item a line, scalars in one
line. A file with anchors, tags, block scalars or flow collections is hidden. Of the values only those known to be
harmless stay.
"""

from __future__ import annotations

import re

from overlayws.filter.redact import Span
from overlayws.filter.redact_json import strings

_HARMLESS = frozenset(
    "apiversion kind name server cluster user namespace current-context certificate-authority "
    "certificate-authority-data client-certificate client-certificate-data client-key tokenfile "
    "insecure-skip-tls-verify tls-server-name command interactivemode provideclusterinfo installhint "
    "colors disable-compression username as extension last-update provider version".split()
)
_LINE = re.compile(
    rb"(?P<lead>[ ]{0,200}(?:-[ ]+){0,4})"
    rb"(?:(?P<key>[A-Za-z0-9_.@/:-]{1,200}|\"[^\"\\]{1,200}\"|'[^']{1,200}'):(?:[ ]+(?P<value>.*))?"
    rb"|(?P<item>(?<=- ).*))\Z",
    re.S,
)
_NOT_PLAIN = re.compile(rb"[|>&*!%@`{\[]")


def kubeconfig(data: bytes) -> list[Span] | None:
    """The values of all keys but the harmless ones: tokens, passwords, ``client-key-data``, plugin environments."""
    if data.lstrip()[:1] == b"{":
        return strings(data, lambda path: bool(path) and not _harmless(path[-1]) and path[-1] != "args")
    spans: list[Span] = []
    begin = 0
    for raw in data.split(b"\n"):
        line = raw.rstrip(b" \t\r")
        at, begin = begin, begin + len(raw) + 1
        text = line.lstrip(b" -")
        if b"\t" in line or b"\0" in line or b"\r" in line:
            return None
        if not text or text.startswith(b"#") or line in (b"---", b"..."):
            if text.startswith(b"#") and b":" in text:
                spans += [(at + line.index(b":") + 1, at + len(line))] if line.index(b":") + 1 < len(line) else []
            continue
        match = _LINE.match(line)
        if match is None:
            return None
        value = match["value"] if match["key"] is not None else match["item"]
        if value is None:
            continue
        value = value.strip()
        if value in (b"{}", b"[]", b"null", b"~", b'""', b"''", b""):
            continue
        if _NOT_PLAIN.match(value) or not _one_scalar(value):
            return None
        key = (match["key"] or b"").strip(b"\"'").decode("latin-1")
        if match["key"] is not None and not _harmless(key):
            start = at + line.rindex(value)
            quoted = len(value) >= 2 and value[0] in b"\"'"
            spans.append((start + quoted, start + len(value) - quoted))
    return spans


def _harmless(key: str) -> bool:
    return key.lower() in _HARMLESS


def _one_scalar(value: bytes) -> bool:
    if value[:1] == b'"':
        return re.fullmatch(rb'"(?:[^"\\]|\\.)*"', value) is not None
    if value[:1] == b"'":
        return re.fullmatch(rb"'(?:[^']|'')*'", value) is not None
    return b": " not in value and b" #" not in value
