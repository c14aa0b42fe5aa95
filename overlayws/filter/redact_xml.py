"""The redactor of Maven's settings.xml (maven.apache.org/settings.html)."""

from __future__ import annotations

import re
from xml.parsers import expat

from overlayws.filter.content_match import is_variable
from overlayws.filter.redact import Span

# Text of these elements is secret, and of any whose name says so; <value> holds HTTP headers of a server.
_SECRET = re.compile(r"(?i)passw|passphrase|secret|token|api-?key|privatekeydata|^value$|auth$")


def maven_settings(data: bytes) -> list[Span] | None:
    """The text of ``password``, ``passphrase``, ``value`` and the like. None for what is not well-formed UTF-8 XML,
    has a document type (entities), or has secrets in comments, CDATA or child elements."""
    root = re.search(rb"<(?:[\w.-]{1,40}:)?([A-Za-z][\w.-]{0,80})", data)
    if root is None or root[1] != b"settings":
        return []  # another program's settings.xml: an ordinary file
    if re.search(rb"<!DOCTYPE|<!\[CDATA\[", data) or data.startswith((b"\xff", b"\xfe")):
        return None
    if (declared := re.match(rb"\s*(?:\xef\xbb\xbf)?<\?xml[^>]{0,200}encoding=[\"']([^\"']{1,40})", data)) and declared[
        1
    ].lower() not in (b"utf-8", b"us-ascii", b"iso-8859-1"):
        return None
    parser = expat.ParserCreate()
    spans: list[Span] = []
    names: list[str] = []
    begin = -1  # of the text of the innermost element, if that is secret
    understood = True

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal begin, understood
        if names and _secret(names[-1]) and begin >= 0:
            understood = False
        names.append(name)
        begin = -1
        if any(_SECRET.search(key) for key in attributes):
            understood = False

    def text(_: str) -> None:
        nonlocal begin
        if begin < 0 and names and _secret(names[-1]):
            begin = parser.CurrentByteIndex

    def end(name: str) -> None:
        nonlocal begin
        names.pop()
        if begin >= 0 and _secret(name):
            value = data[begin : parser.CurrentByteIndex]
            if value.strip() and not is_variable(value.strip()):
                spans.append((begin, begin + len(value)))
        begin = -1

    def comment(content: str) -> None:
        nonlocal understood
        if re.search(r"<[\w:.-]*(?i:passw|passphrase|secret|token|value)", content):
            understood = understood and re.search(r"<([\w:.-]+)>[^<\s]", content) is None
        elif begin >= 0:
            understood = False

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.CommentHandler = text, comment
    try:
        parser.Parse(data, True)
    except expat.ExpatError:
        return None
    return spans if understood else None


def _secret(name: str) -> bool:
    return _SECRET.search(name.rpartition(":")[2]) is not None
