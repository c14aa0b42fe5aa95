"""Whether a value that stands where a secret would stand is one: not a placeholder, an expression or a test vector."""

from __future__ import annotations

import math
import re
from collections import Counter

# What people write in place of a secret; compared in lower case, separators and digits at the ends removed.
_STAND_INS = frozenset(
    "admin anonymous authtoken bar basic bearer change changeit changeme default demo dummy empty example "
    "examplekey fake false foo foobar guest hidden input insert invalid key localhost mock mypass mypassword "
    "mysecret mytoken newpassword nil none null off oldpassword on optional pass passphrase passwd password "
    "placeholder postgres private prompt pwd qwerty redacted replace replaceme required root sample secret "
    "secretkey secretpassword secrettoken somepassword somesecret sometoken string test testing testkey testpass "
    "testpassword testsecret testtoken text tobedone todo token topsecret true undefined unset user username "
    "value wrong wrongpassword xxx your yourpassword yoursecret yourtoken".split()
)
_MARKERS = re.compile(
    rb"(?i)example|placeholder|change.{0,2}me|replace.{0,2}(?:me|this|with)|your[-_ .]|[-_ ](?:here|goes)\b|dummy|"
    rb"overlayws-redacted-|redacted|x{4}|\*{3}|\.{3}|not[-_]?a[-_]?(?:real|secret|valid)|insert[-_ ]|todo"
)
_TEMPLATE = re.compile(
    rb"\$\{|\$\(|\$[A-Za-z_]|\{\{|\}\}|<%|%>|#\{|@@|%\(|\{[A-Za-z_.]{0,40}\}|^%[A-Za-z_]+%$|^<.{0,80}>$|^\[.{0,80}\]$"
)
_SEGMENTS = re.compile(rb"[^A-Za-z0-9+=]+")
_SEQUENCES = (b"0123456789", b"abcdefghij", b"ABCDEFGHIJ", b"1234567890", b"9876543210", b"qwertyuiop", b"fedcba98")
_DIGIT = re.compile(rb"[0-9]")
_LETTER = re.compile(rb"[A-Za-z]")
_SYMBOL = re.compile(rb"[!@#$%^&*?+=~\x80-\xff]")
_HEX = re.compile(rb"[0-9a-fA-F]+\Z")
_CODE = re.compile(rb"[()\[\]{}<>|\\]|^[A-Za-z_][\w]*(?:\.|::|->)[A-Za-z_]|^0x[0-9a-fA-F]+$|^[0-9.,]+$")
_WORDS = re.compile(rb"[A-Za-z]{2,20}(?:[-_ ./:][A-Za-z]{1,20}){1,12}[-_.:]?[0-9]{0,3}\Z")
_PATH = re.compile(rb"(?:[a-z]{2,8}:/)?[~.]{0,2}/[\w.@/-]*\Z|https?:")


def is_stand_in(value: bytes) -> bool:
    """Whether the value says of itself that it is none: ``changeme``, ``${VAR}``, ``<your-token>``, ``****``."""
    if len(set(value)) <= 3 or _TEMPLATE.search(value) or _MARKERS.search(value):
        return True
    plain = re.sub(rb"[^a-z]+", b"", value.lower())
    return plain.decode("ascii") in _STAND_INS and not _SYMBOL.search(value[1:-1])


def entropy(value: bytes) -> float:
    """Shannon entropy of the bytes of ``value``, in bits per byte."""
    total = len(value)
    return -sum(n / total * math.log2(n / total) for n in Counter(value).values())


def is_random(value: bytes) -> bool:
    """Whether a value looks drawn at random: 12 letters and digits in a row, mixed, that are no sequence."""
    if is_stand_in(value) or _PATH.match(value):
        return False
    for part in _SEGMENTS.split(value):
        if len(part) < 12 or not _DIGIT.search(part) or not _LETTER.search(part):
            continue
        if any(s in part for s in _SEQUENCES) or _WORDS.match(part):
            continue
        bits = entropy(part)
        # 16 random hex digits have 3.2 bits on average, 20 random base62 digits 4.0 (both with little spread).
        if bits >= (2.5 if _HEX.match(part) else 3.2) and _turns(part) >= 3:
            return True
    return False


def _turns(part: bytes) -> int:
    """How often letters and digits follow one another: ``sha512sum`` turns twice, a random token all the time."""
    digits = [48 <= code <= 57 for code in part]
    return sum(a != b for a, b in zip(digits, digits[1:], strict=False))


def is_password(value: bytes, *, quoted: bool, config: bool) -> bool:
    """Whether the literal value of something called a password is one.

    ``config`` is for files that hold settings, where a word alone may be the password; in programs and prose it is
    a name, a type or a label.
    """
    if not 6 <= len(value) <= 256 or is_stand_in(value) or _PATH.match(value):
        return False
    letter, digit, symbol = _LETTER.search(value), _DIGIT.search(value), _SYMBOL.search(value)
    if b" " in value.strip():
        words = value.split()
        return config and len(words) >= 4 and all(w.isalpha() and w.islower() for w in words) and not symbol
    if not quoted and _CODE.search(value):
        return False
    if quoted and _CODE.search(value) and not (digit and symbol):
        return False
    if _WORDS.match(value):
        return False
    if letter and (digit or symbol):
        return bool(digit or len(value) >= 8) and not _identifier(value)
    if config and len(value) >= 8:
        return bool(letter) or (bool(digit) and len(set(value)) >= 5 and not any(s in value for s in _SEQUENCES))
    return False


def _identifier(value: bytes) -> bool:
    """``password2``, ``utf8`` and ``SHA256_CTX`` are names; ``hunter2`` looks the same but for its length."""
    plain = re.sub(rb"[0-9_]+\Z", b"", value.lower())
    return plain.decode("latin-1") in _STAND_INS or bool(
        re.match(rb"(?:sha|md|utf|aes|rsa|base|pbkdf)[-_]?[0-9]", value.lower())
    )
