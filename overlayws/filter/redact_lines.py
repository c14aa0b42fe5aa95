"""Redactors of files of lines: ``.npmrc``, ``.pypirc``, ``pip.conf``, ``.netrc``, ``.env``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from overlayws.filter.content_match import find_userinfo, is_variable
from overlayws.filter.redact import Span

_LINE = re.compile(rb"[^\n]*\n?")


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(where it begins, the line without its end) of every line."""
    for match in _LINE.finditer(data):
        if match[0]:
            yield match.start(), match[0].rstrip(b"\r\n")


def _span(begin: int, value: bytes) -> list[Span]:
    """The span of a value in a line, without blanks and the quotes around it; none if it is empty or a variable."""
    text = value.strip()
    begin += len(value) - len(value.lstrip())
    if len(text) >= 2 and text[0] in b"\"'" and text[-1] == text[0]:
        begin, text = begin + 1, text[1:-1]
    return [] if not text or is_variable(text) else [(begin, begin + len(text))]


_ENTRY = re.compile(rb"\s*(?P<key>[^=\s\[#;][^=]{0,512}?)\s*(?:=(?P<value>.*))?\Z", re.S)
_SECTION = re.compile(rb"\s*\[[^\]\r\n]{0,200}\]\s*\Z")
# npmrc (docs.npmjs.com/cli/configuring-npm/npmrc): credentials are scoped to a registry by the key's prefix.
_NPM_SECRET = re.compile(rb"(?i)(?:^|:)(?:_authtoken|_auth|_password|password|_secret|otp|key|passphrase|token)\Z")


def npmrc(data: bytes) -> list[Span] | None:
    """ini lines ``key = value``: ``//registry/:_authToken``, ``_auth``, ``_password``, ``key``, ``otp``."""
    spans: list[Span] = []
    for begin, line in _lines(data):
        text = line.strip()
        if b"\0" in line or b"\r" in line:
            return None
        if not text or text[:1] in b"#;":
            spans += _commented(begin, line, _NPM_SECRET)
            continue
        if _SECTION.match(line):
            continue
        entry = _ENTRY.match(line)
        if entry is None:
            return None
        if entry["value"] is not None and _NPM_SECRET.search(entry["key"].strip().strip(b"\"'")):
            spans += _span(begin + entry.start("value"), entry["value"])
    return _with_userinfo(data, spans)


def _commented(begin: int, line: bytes, secret: re.Pattern[bytes]) -> list[Span]:
    """The value of an entry that was commented out."""
    bare = line.lstrip(b" \t#;")
    begin += len(line) - len(bare)
    entry = _ENTRY.match(bare)
    if entry is None or entry["value"] is None or not secret.search(entry["key"].strip()):
        return []
    return _span(begin + entry.start("value"), entry["value"])


def _with_userinfo(data: bytes, spans: list[Span]) -> list[Span]:
    return spans + [(hit.begin, hit.end) for hit in find_userinfo(data, strict=True)]


_INI = re.compile(rb"(?P<key>[^=:\s\[#;][^=:]{0,200}?)[ \t]*[=:](?P<value>.*)\Z", re.S)


def _ini(data: bytes, secret: re.Pattern[bytes]) -> list[Span] | None:
    """configparser's format: sections, ``key = value`` or ``key: value``, values that go on in indented lines."""
    spans: list[Span] = []
    inside = hidden = False
    for begin, line in _lines(data):
        text = line.strip()
        if b"\0" in line or b"\r" in line:
            return None
        if not text:
            continue
        if text[:1] in b"#;":
            spans += _commented(begin, line.replace(b":", b"=", 1) if b"=" not in line else line, secret)
            continue
        if line[:1] in b" \t" and inside:
            if hidden:
                spans += _span(begin, line)
            continue
        if _SECTION.match(line):
            inside = hidden = False
            continue
        entry = _INI.match(line)
        if entry is None:
            return None
        inside, hidden = True, secret.search(entry["key"].lower()) is not None
        if hidden:
            spans += _span(begin + entry.start("value"), entry["value"])
    return _with_userinfo(data, spans)


_PYPI_SECRET = re.compile(rb"(?i)passw|token|secret|passphrase")


def pypirc(data: bytes) -> list[Span] | None:
    """``password`` and the like in every section (packaging.python.org/specifications/pypirc), userinfo of URLs."""
    return _ini(data, _PYPI_SECRET)


def pip(data: bytes) -> list[Span] | None:
    """Userinfo of ``index-url``, ``extra-index-url`` and ``proxy`` (pip.pypa.io, configuration)."""
    return _ini(data, _PYPI_SECRET)


_NETRC = re.compile(rb"\s+|#[^\r\n]*|\"(?:[^\"\\\r\n]|\\.)*\"|[^\s#\"]\S*")


def netrc(data: bytes) -> list[Span] | None:
    """netrc(5): the words after ``password`` and ``account``. A file with macros is not understood."""
    spans: list[Span] = []
    wanted: bytes | None = None
    at = 0
    while at < len(data):
        word = _NETRC.match(data, at)
        if word is None or b"\0" in word[0]:
            return None
        at = word.end()
        text = word[0]
        if text.isspace() or (text.startswith(b"#") and wanted is None):
            if text.startswith(b"#") and re.search(rb"(?i)passw|account", text):
                return None
            continue
        if wanted is not None:
            if wanted in (b"password", b"account"):
                spans += _span(word.start(), text)
            wanted = None
        elif text in (b"machine", b"login", b"password", b"account"):
            wanted = text
        elif text != b"default":
            return None
    return spans if wanted is None else None


_ENV = re.compile(rb"[ \t]*(?:export[ \t]+)?[A-Za-z_][\w.-]{0,200}[ \t]*=(?P<value>.*)\Z", re.S)
_ENV_COMMENT = re.compile(rb"[ \t]*#[ \t#]*(?:export[ \t]+)?[A-Za-z_][\w.-]{0,200}[ \t]*=(?P<value>.*)\Z", re.S)


def env(data: bytes) -> list[Span] | None:
    """``NAME=value`` lines: names stay, every value goes, also of what is commented out. Values in quotes may have
    several lines."""
    spans: list[Span] = []
    quote = b""
    for begin, line in _lines(data):
        if b"\0" in line or b"\r" in line:
            return None
        if quote:
            end = _unescaped(line, quote, 0)
            spans += _span(begin, line if end < 0 else line[:end])
            if end >= 0:
                if line[end + 1 :].strip() and not line[end + 1 :].lstrip().startswith(b"#"):
                    return None
                quote = b""
            continue
        text = line.strip()
        if not text:
            continue
        entry = (_ENV_COMMENT if text.startswith(b"#") else _ENV).match(line)
        if entry is None:
            if text.startswith(b"#"):
                continue
            return None
        value, begin = entry["value"], begin + entry.start("value")
        bare = value.lstrip()
        if bare[:1] in (b'"', b"'", b"`") and not text.startswith(b"#"):
            begin += len(value) - len(bare) + 1
            end = _unescaped(bare, bare[:1], 1)
            if end < 0:
                quote = bare[:1]
                spans += _raw(begin, bare[1:])
            else:
                spans += _raw(begin, bare[1:end])
                rest = bare[end + 1 :].strip()
                if rest and not rest.startswith(b"#"):
                    return None
        else:
            spans += _raw(begin, value)
    return None if quote else spans


def _raw(begin: int, value: bytes) -> list[Span]:
    text = value.strip()
    begin += len(value) - len(value.lstrip())
    return [(begin, begin + len(text))] if text else []


def _unescaped(line: bytes, quote: bytes, at: int) -> int:
    at = line.find(quote, at)
    while at > 0 and line[at - 1 : at] == b"\\" and quote != b"'":
        at = line.find(quote, at + 1)
    return at
