"""Where in a file's bytes the secrets are: each detector starts from a place that a fast search found, and looks at a
bounded number of bytes around it, so that a hostile file of any form takes linear time."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from overlayws.filter.content_assign import ANCHORS, find_assigned, keyed
from overlayws.filter.content_command import COMMANDS, find_commands
from overlayws.filter.content_rules import SHAPES, Shape
from overlayws.filter.content_runs import runs
from overlayws.filter.content_values import is_stand_in
from overlayws.filter.literal import Text

_MANY = 100  # tokens in one run, with nothing between them: the rest of the run is taken for secret as it is
_BEFORE = 20  # bytes before a run at which the head of its shape may begin: ``12345678:AA``, ``SG.``, an Airtable id


@dataclass(frozen=True, slots=True)
class Hit:
    """The bytes from ``begin`` to ``end`` are a secret, by ``rule``."""

    rule: str
    begin: int
    end: int


def find_secrets(data: bytes, *, code: bool, config: bool, nested: bool = False, binary: bool = False) -> list[Hit]:
    """Every secret in ``data``, sorted, none overlapping another.

    ``code`` says that names and calls stand where values do, ``config`` that a bare word is a value. ``nested``
    data was decoded from base64, and is not decoded again. In ``binary`` data names say nothing of what follows.
    """
    hits: list[Hit] = []
    putty = False
    for begin, end in runs(data):
        hits += _in_run(data, begin, end, code, nested, binary)
        putty = putty or data.startswith(b"PuTTY-User-Key-File-", begin)
    if putty and re.search(rb"^Private-Lines: [0-9]", data, re.M):
        return [Hit("putty-key", 0, len(data))]
    if b"PRIVATE KEY" in data:
        hits += _key_blocks(data)
    if b"@" in data:
        hits += find_userinfo(data)
    if b"$" in data:
        hits += _hashes(data)
    if not binary:
        lower = data.lower()
        text = Text(lower)
        if text.find(b"login") >= 0:
            hits += _logins(data)
        for anchor in ANCHORS:
            if text.find(anchor) >= 0:
                hits += (
                    Hit("password", *span) for span in find_assigned(data, lower, anchor, code=code, config=config)
                )
        for command in COMMANDS:
            if text.find(command) >= 0:
                hits += (Hit("password", *span) for span in find_commands(data, lower, command))
    return disjoint(hits)


def disjoint(hits: list[Hit]) -> list[Hit]:
    """The hits in order of their places; of two that overlap the first, made longer where the second goes on."""
    if len(hits) < 2:
        return hits
    kept: list[Hit] = []
    for hit in sorted(hits, key=lambda hit: (hit.begin, -hit.end)):
        if kept and hit.begin < kept[-1].end:
            if hit.end > kept[-1].end:
                kept[-1] = Hit(kept[-1].rule, kept[-1].begin, hit.end)
        else:
            kept.append(hit)
    return kept


# --- tokens ---


@cache
def _heads() -> re.Pattern[bytes]:
    # Literals only: sre then looks at a byte once, and tries the alternatives only where one of them begins.
    literals = sorted((head for shape in SHAPES for head in shape.heads.split()), key=len, reverse=True)
    return re.compile(b"|".join(re.escape(head.encode()) for head in dict.fromkeys(literals)))


@cache
def _shapes(head: bytes) -> tuple[tuple[Shape, re.Pattern[bytes], re.Pattern[bytes] | None], ...]:
    """The shapes with one head, with their patterns; compiled when first met."""
    return tuple(
        (shape, re.compile(shape.body), re.compile(shape.before) if shape.before else None)
        for shape in SHAPES
        if head.decode() in shape.heads.split()
    )


def _token(data: bytes, head: re.Match[bytes]) -> Hit | None:
    begin = head.start()
    for shape, body, before in _shapes(head[0]):
        if shape.edge and data[begin - 1 : begin].isalnum():
            continue
        if shape.near and shape.near not in data[max(0, begin - 24) : begin]:
            continue
        lead = before.search(data, max(0, begin - 48), begin) if before else None
        if before and lead is None:
            continue
        tail = body.match(data, head.end())
        if tail is None:
            continue
        first, last = tail.span("s") if "s" in body.groupindex else (lead.start() if lead else begin, tail.end())
        if not _fake(data[first:last]):
            return Hit(shape.rule, first, last)
    return None


def _in_run(data: bytes, begin: int, end: int, code: bool, nested: bool, binary: bool) -> Iterator[Hit]:
    found = 0
    for head in _heads().finditer(data, max(0, begin - _BEFORE), end):
        hit = _token(data, head)
        if hit is not None:
            found += 1
            if found == _MANY:
                yield Hit(hit.rule, hit.begin, max(hit.end, end))
                return
            yield hit
    if found:
        return
    if data[begin - 5 : begin] in (b"{SHA}", b"SSHA}") and len(set(data[begin:end])) > 5:
        yield Hit("password-hash", begin, end)
        return
    span = None if binary else keyed(data, begin, end, code=code)
    if span is not None:
        yield Hit(*span)
    elif not nested and end - begin >= 24:
        yield from _encoded(data, begin, end)


def _fake(token: bytes) -> bool:
    """The documentation's own tokens: ``AKIAIOSFODNN7EXAMPLE``, ``ghp_xxxxxxxx…``, counting digits."""
    tail = token[-24:]
    return (
        len(set(tail)) <= 5
        or b"EXAMPLE" in token
        or b"0123456789" in tail
        or b"1234567890" in tail
        or is_stand_in(tail)
    )


# --- one level of base64 ---

_URLSAFE = bytes.maketrans(b"-_", b"+/")


def _encoded(data: bytes, begin: int, end: int) -> Iterator[Hit]:
    """A hit for all of a run that is base64 (RFC 4648, either alphabet) of text that holds a secret."""
    try:
        head = binascii.a2b_base64(data[begin : begin + 24].translate(_URLSAFE))
    except binascii.Error:
        return
    if not (head.isascii() or head.startswith(b"\xff\xfe")):  # random bytes are not text: most runs end here
        return
    text = data[begin:end].translate(_URLSAFE)
    text = text[: len(text) & ~3] if len(text) % 4 == 1 else text + b"=" * (-len(text) % 4)
    try:
        decoded = binascii.a2b_base64(text)
    except binascii.Error:
        return
    if decoded[1::2].count(0) > len(decoded) // 3:  # UTF-16, as PowerShell's -EncodedCommand
        decoded = decoded[0::2]
    inner = find_secrets(decoded, code=False, config=True, nested=True)
    if inner:
        while data[end : end + 1] == b"=":
            end += 1
        yield Hit(inner[0].rule, begin, end)


# --- keys ---

_MARK = re.compile(rb"-{4,5} ?(?P<what>BEGIN|END) [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}")
_KEY_TEXT = re.compile(rb"[A-Za-z0-9+/]{16}")
_KEY_LIMIT = 128 << 10  # bytes; an RSA key of 16,384 bits has 13 KB of armor


def _key_blocks(data: bytes) -> Iterator[Hit]:
    begin: re.Match[bytes] | None = None
    for mark in _MARK.finditer(data):
        if mark["what"] == b"BEGIN":
            if begin is not None:
                yield from _cut(data, begin, mark.start())
            begin = mark
        elif begin is not None:
            if mark.start() - begin.end() > _KEY_LIMIT:
                yield from _cut(data, begin, mark.start())
            elif _KEY_TEXT.search(data, begin.end(), mark.start()):
                yield Hit("private-key", begin.end(), mark.start())
            begin = None
    if begin is not None:
        yield from _cut(data, begin, len(data))


def _cut(data: bytes, begin: re.Match[bytes], limit: int) -> Iterator[Hit]:
    """A block without an end, if it looks like a key: programs and documents name the first line alone."""
    if len(_KEY_TEXT.findall(data, begin.end(), min(limit, begin.end() + 400))) >= 4:
        yield Hit("private-key-cut", begin.start(), begin.end())


# --- URLs ---

_AUTHORITY = re.compile(rb"[^\s/?#\"'`<>\\]*\Z")
LONGEST_USERINFO = 600  # bytes from the "://" to the '@'


def find_userinfo(data: bytes, *, strict: bool = False) -> Iterator[Hit]:
    """The password of ``scheme://user:password@host``, or the token of ``scheme://token@host``.

    ``strict`` is for files where everything before an '@' is a secret, stand-in or not; variables stay.
    """
    at = data.find(b"@")
    floor = 0
    while at >= 0:
        begin = data.rfind(b"://", max(floor, at - LONGEST_USERINFO), at)
        if begin >= 0:
            begin += 3
            # The last '@' before the path ends the userinfo: a password may hold one.
            stop = at + 1
            while (more := data.find(b"@", stop, stop + 256)) >= 0 and _AUTHORITY.match(data[stop:more]):
                at, stop = more, more + 1
            text = data[begin:at]
            if _AUTHORITY.match(text):
                user, colon, password = text.partition(b":")
                secret = password if colon else user
                if secret and (_is_userinfo(secret, bool(colon)) or (strict and not is_variable(secret))):
                    yield Hit("url-credentials", at - len(secret), at)
            floor = at
        at = data.find(b"@", at + 1)


def _is_userinfo(secret: bytes, password: bool) -> bool:
    if is_stand_in(secret):
        return False
    if password:
        return len(secret) >= 4 and secret not in (b"port", b"8080") and not secret.startswith((b"{", b"%", b"$", b"+"))
    return len(secret) >= 16 and any(48 <= c <= 57 for c in secret) and b"." not in secret and b"%" not in secret


def is_variable(value: bytes) -> bool:
    """``${NAME}``, ``$NAME`` or ``%NAME%`` and nothing else: the value is elsewhere."""
    return (
        re.fullmatch(rb"\$\{[A-Za-z_.:-][\w.:-]{0,80}\??\}|\$[A-Za-z_]\w{0,80}|%[A-Za-z_]\w{0,80}%", value) is not None
    )


# --- hashes and logins ---

HASH_HEAD = re.compile(rb"\$(?:apr1|1|2[abxy]|[56]|y|argon2(?:id|i|d))\$")  # what every match of _HASH begins with
_HASH = re.compile(
    rb"\$(?:apr1|1)\$[./A-Za-z0-9]{1,8}\$[./A-Za-z0-9]{22}(?![./A-Za-z0-9])"
    rb"|\$2[abxy]\$[0-9]{2}\$[./A-Za-z0-9]{53}"
    rb"|\$[56]\$(?:rounds=[0-9]{1,9}\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{43,86}"
    rb"|\$y\$[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{1,86}\$[./A-Za-z0-9]{43}"
    rb"|\$argon2(?:id|i|d)\$v=[0-9]{1,3}\$[a-z0-9=,]{5,40}\$[A-Za-z0-9+/]{11,64}\$[A-Za-z0-9+/]{16,128}"
)
_LOGIN = re.compile(
    rb"(?i)\blogin[ \t]{1,8}\S{1,100}(?:[ \t]{1,8}|[ \t]{0,8}\r?\n[ \t]{0,8}(?=password[ \t]+\S+[ \t]*(?:\r?\n|\Z)))"
    rb"password[ \t]{1,8}(?P<s>\"[^\"\r\n]{1,200}\"|[^\s\"]{1,200})"
)


def _hashes(data: bytes) -> Iterator[Hit]:
    for match in _HASH.finditer(data):
        if len(set(match[0][-20:])) > 5:
            yield Hit("password-hash", match.start(), match.end())


def _logins(data: bytes) -> Iterator[Hit]:
    for match in _LOGIN.finditer(data):
        if len(match["s"]) >= 4 and not is_stand_in(match["s"].strip(b'"')) and not is_variable(match["s"]):
            yield Hit("netrc-password", *match.span("s"))
