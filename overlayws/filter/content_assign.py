"""Secrets that are known by the name before them: ``password = "…"``, ``api_key: …``, ``Authorization: Bearer …``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from overlayws.filter.content_values import is_password, is_random, is_stand_in

_NAMES_A_SECRET = re.compile(
    rb"secret|token|passw|pwd|passphrase|credential|api[-_.]?key|apikey|access[-_.]?key|auth[-_.]?key|account[-_.]?key"
    rb"|private[-_.]?key|shared[-_.]?access|sign(?:ing|ature)?[-_.]?key|encrypt(?:ion)?[-_.]?key|master[-_.]?key"
    rb"|client[-_.]?key|app(?:lication)?[-_.]?key|storage[-_.]?key|license[-_.]?key|session[-_.]?key|service[-_.]?key"
    rb"|bearer|^_?auth$|^sig$|^pat$|webhook[-_.]?key|salt$|^key-data$"
)
# Names of something about a secret, or of what is public.
_NOT_ITSELF = re.compile(
    rb"(?:name|names|ref|id|ids|path|file|filename|dir|type|version|arn|url|uri|endpoint|length|len|size|min|max|policy"
    rb"|field|label|hint|prompt|reset|regex|pattern|expires|expiry|expiration|ttl|count|provider|manager|store|namespace"
    rb"|env|class|algorithm|alg|hash|digest|checksum|sha|sha1|sha256|sha512|fingerprint|format|scheme|status|index|usage"
    rb"|help|title|text|message|error|description|placeholder|input|validator|form|view|test|tests)s?\Z"
    rb"|public|pubkey|csrf|tokeniz|next[-_]?token|page[-_]?token|continuation|cancel|lock[-_]?token"
    rb"|client[-_]?token|request[-_]?token|starting[-_]?token|action[-_]?token|idempoten"
)
_OUTSIDE_NAMES = bytes(
    code if chr(code).isalnum() and code < 128 or code in b"_.-" else 32 for code in range(256)
)  # fmt: skip
_LEAD = 96  # bytes before a value in which its name is looked for
_LONGEST = 512  # bytes of a value
_QUOTES = b"\"'`"
_WORD = re.compile(rb"[A-Za-z0-9_+/=.~%-]{1,512}")
_OPTION = re.compile(rb"(?:\A|[ \t\"'])--?([\w-]{3,40})\Z")  # --token VALUE
_SCHEME = re.compile(rb"(?i)(?:bearer|basic|token|apikey|ssws)[ \t]{1,4}\Z")


def keyed(data: bytes, begin: int, end: int, *, code: bool) -> tuple[str, int, int] | None:
    """(rule, begin, end) of the value around a run of token bytes, if the name before it says that it is a secret."""
    floor = data.rfind(b"\n", max(0, begin - _LEAD), begin) + 1 or max(0, begin - _LEAD)
    lead = data[floor:begin]
    if lead[-2:-1].isalpha() and (scheme := _SCHEME.search(lead[-12:])):
        if b"uthorization" in lead or b"UTHORIZATION" in lead:
            stop = _end_of_word(data, begin)
            value = data[begin:stop]
            if not is_stand_in(value) and (is_random(value) or scheme[0][:5].lower() == b"basic"):
                return "authorization", begin, stop
    # A run may begin in the value (after a '.' or ':'), be the value, or hold the name too (``-``, ``_`` and ``/``).
    bare = lead.rstrip(b" \t")
    quote = bare[-1:] if bare[-1:] in (b'"', b"'", b"`") else b""
    if quote:
        start, bare = floor + len(bare), bare[:-1].rstrip(b" \tbrfuBRFU@")
    else:
        start = begin
    opened = bare.rstrip(b"=:>")
    if len(opened) == len(bare):
        option = _OPTION.search(bare) if bare != lead else None
        if option is None or not names_a_secret(option[1]):
            return _inside(data, floor, begin, end, code)
        stop = _closing(data, start, quote) if quote else _end_of_word(data, start)
        return ("named-secret", start, stop) if stop >= end and is_random(data[start:stop]) else None
    name = _name(opened)
    if not quote and code and not _in_comment(lead) and not _in_string(opened, name):
        return None
    if not names_a_secret(name):
        return None
    stop = _closing(data, start, quote) if quote else _end_of_word(data, start)
    if stop < end and quote:
        return None
    value = data[start:stop]
    exact = name.strip(b"_").lower() in (b"auth", b"key-data", b"client-key-data") and len(value) >= 24
    return ("named-secret", start, stop) if (exact and not is_stand_in(value)) or is_random(value) else None


def _inside(data: bytes, floor: int, begin: int, end: int, code: bool) -> tuple[str, int, int] | None:
    """A quoted value whose run does not begin it (``"v1.9f8e…"``)."""
    lead = data[floor:begin]
    at = max(lead.rfind(b'"'), lead.rfind(b"'"))
    if at < 0 or not re.fullmatch(rb"[\w.:~!#%^&*+-]{1,40}", lead[at + 1 :]):
        return None
    bare = lead[:at].rstrip(b" \tbrfuBRFU@")
    opened = bare.rstrip(b"=:>")
    if len(opened) == len(bare) or not names_a_secret(_name(opened)):
        return None
    start = floor + at + 1
    stop = _closing(data, start, lead[at : at + 1])
    return ("named-secret", start, stop) if stop >= end and is_random(data[start:stop]) else None


def _name(before: bytes) -> bytes:
    """The last name in ``before``, which ends at a '=' or ':': quotes, brackets and a type annotation are passed."""
    before = before.rstrip(b" \t\"'`])")
    name = before.translate(_OUTSIDE_NAMES).rpartition(b" ")[2]
    if name in (b"str", b"bytes", b"string", b"String", b"String_", b"SecretStr") and b":" in before:
        return before.rpartition(b":")[0].rstrip().translate(_OUTSIDE_NAMES).rpartition(b" ")[2]
    if name in (b"value", b"Value", b"default", b"data"):
        # {name: API_TOKEN, value: …}: YAML and JSON of containers, one line
        names = before.translate(_OUTSIDE_NAMES).split()
        return names[-2] if len(names) > 1 and names_a_secret(names[-2]) else name
    return name


def names_a_secret(name: bytes) -> bool:
    """Whether the last part of a name is that of a secret: ``GITHUB_TOKEN``, but not ``token_type``."""
    lower = name[-64:].lower().strip(b"_.-")
    return _NAMES_A_SECRET.search(lower) is not None and _NOT_ITSELF.search(lower) is None


def _closing(data: bytes, start: int, quote: bytes) -> int:
    """Where the string that begins at ``start`` ends: its quote or the end of the line, at most _LONGEST bytes on."""
    stop = data.find(b"\n", start, start + _LONGEST)
    if stop < 0:
        stop = min(len(data), start + _LONGEST)
    at = data.find(quote, start, stop)
    while at > start and data[at - 1 : at] == b"\\":
        at = data.find(quote, at + 1, stop)
    return at if at >= 0 else len(data[start:stop].rstrip(b"\r")) + start


def _end_of_word(data: bytes, start: int) -> int:
    word = _WORD.match(data, start)
    return word.end() if word else start


def _in_string(before: bytes, name: bytes) -> bool:
    """Whether a name is that of a field in a string: ``"Server=db;AccountKey=…"``, ``"/path?sig=…"``."""
    return before[: len(before) - len(name)][-1:] in (b";", b"&", b"?", b'"', b"'")


def _in_comment(lead: bytes) -> bool:
    return lead.lstrip()[:1] in (b"#", b"*", b";") or b"//" in lead or b" # " in lead


# --- what is called a password ---

ANCHORS = (b"pass", b"secret", b"pwd", b"psk")

_ASSIGNED = re.compile(
    rb"(?:passw(?:or)?d?|passphrase|pwd|secret|(?P<short>pass|psk)(?=[^a-z]))"
    rb"(?P<tail>[\w.-]{0,32})(?:[\"'`\])]{0,2}[ \t]{0,16}"
    rb"(?:(?P<op>:=|=>|={1,3}|!=|:[ ]?&?[A-Za-z_]{1,16}[ ]?=|:|,)[ \t]{0,16}[brfuBRFU]{0,2}@?(?P<q>[\"'`]{0,1})"
    # <add key="SmtpPassword" value="…">, and the default of a variable of Terraform
    rb"|(?:value[ \t]{0,4}=|\{[^{}]{0,160}?\bdefault[ \t]{0,8}=)[ \t]{0,4}(?P<far>[\"'])"
    rb"|(?P<xml>>))"
    rb"|[ \t]{1,16}(?P<beside>[\"']?)(?=[^\s=:,>]))",  # PASSWORD '…' in SQL, --password …, ENV DB_PASSWORD …
    re.I,
)
_NAMED_BEFORE = re.compile(
    rb"(?:(?:\A|[ \t])--?[\w-]{0,40}|(?:\A|\n)[ \t]*(?:ENV|setenv|#define)[ \t]+\w{0,40})\Z", re.I
)
_BLOCK = re.compile(rb"[|>][+-]?[ \t]*\r?\n[ \t]{1,32}(?P<s>[^\r\n]{1,256})")
_BARE = re.compile(rb"[^\s\"'`<>&;,)}\]]{1,256}")
_REST = re.compile(rb"[^\r\n]{1,256}")
_STARTS = re.compile(rb"[ \t]*(?:(?:export|set|ENV|ARG|-|//|#|--)[ \t]+){0,2}[\w.-]*\Z")
_XML = re.compile(rb"[^<>\r\n]{1,256}(?=</)")


def assigns(data: bytes, at: int) -> bool:
    """Whether something is assigned to the name at ``at``; without that ``find_assigned`` finds nothing there."""
    return _ASSIGNED.match(data, at) is not None


def find_assigned(data: bytes, lower: bytes, anchor: bytes, *, code: bool, config: bool) -> Iterator[tuple[int, int]]:
    """(begin, end) of the literal values of names that hold ``anchor``: one of ANCHORS."""
    at = lower.find(anchor)
    while at >= 0:
        match = _ASSIGNED.match(data, at)
        span = _value(data, match, code, config) if match and _is_name(data, match) else None
        if span is not None:
            yield span
        at = lower.find(anchor, span[1] if span else at + len(anchor))


def _is_name(data: bytes, match: re.Match[bytes]) -> bool:
    """``pass`` and ``psk`` end many words: they count only as a word of their own (``DB_PASS``, ``dbPass``)."""
    if not match["short"]:
        return True
    before = data[match.start() - 1 : match.start()]
    if before.isalpha() and not (before.islower() and match["short"][:1] == b"P"):
        return False
    return not match["tail"].strip(b"_0123456789")


def _value(data: bytes, match: re.Match[bytes], code: bool, config: bool) -> tuple[int, int] | None:
    begin = match.end()
    tail = match["tail"].lower().strip(b"_.-")
    if tail and (match["op"] == b"," or _NOT_ITSELF.search(tail)):
        return None
    if match["beside"] is not None and tail not in (b"", b"key"):
        return None
    if match["far"] or match["beside"]:
        end = _closing(data, begin, match["far"] or match["beside"])
        quoted = data[end : end + 1] in (b'"', b"'") and is_password(data[begin:end], quoted=True, config=False)
        return (begin, end) if quoted else None
    if match["beside"] is not None:
        bare = _BARE.match(data, begin)
        named = _NAMED_BEFORE.search(data, max(0, match.start() - 64), match.start())
        return bare.span() if bare and named and is_password(bare[0], quoted=False, config=False) else None
    if match["xml"]:
        value = _XML.match(data, begin)
        return (begin, value.end()) if value and is_password(value[0].strip(), quoted=True, config=config) else None
    if match["q"]:
        end = _closing(data, begin, match["q"])
        closed = data[end : end + 1] == match["q"]
        return (begin, end) if closed and is_password(data[begin:end], quoted=True, config=config) else None
    if match["op"] == b",":
        return None
    line = data.rfind(b"\n", max(0, match.start() - 80), match.start()) + 1 or max(0, match.start() - 80)
    lead = data[line : match.start()]
    comment = _in_comment(lead)
    field = match["op"] == b"=" and re.search(rb"[;&?\"'][\w .-]*\Z", lead)  # of a string, such as a URL
    if code and not comment and not field:
        return None
    if config and match["op"] == b":" and (block := _BLOCK.match(data, begin)):  # of YAML
        return block.span("s") if is_password(block["s"].rstrip(), quoted=False, config=True) else None
    if config and match["op"] in (b"=", b":") and _STARTS.match(lead):
        rest = _REST.match(data, begin)
        if rest is None:
            return None
        text = re.split(rb"[ \t]+[#;]", rest[0], maxsplit=1)[0].rstrip(b" \t,")
        if is_password(text, quoted=False, config=True) or (
            b" " not in text and is_password(text, quoted=True, config=True)
        ):
            return begin, begin + len(text)
    bare = _BARE.match(data, begin)
    if bare is None or not is_password(bare[0], quoted=False, config=config and bool(field or not comment)):
        return None
    return begin, bare.end()
