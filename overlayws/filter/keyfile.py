"""Whether a file holds a private key, a core dump …: for names that say only that it may.

A file is read through a callback, at most ``LIMIT`` bytes of it. What is larger, cannot be read or is not
understood counts as a secret wherever the name alone made it likely.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Read = Callable[[int], bytes]  # at most that many bytes from the beginning of the file; may raise OSError

LIMIT = 4 << 20

# Armor of PEM (RFC 7468), OpenSSH, SSH2 (RFC 4716), OpenPGP (RFC 9580), PuTTY and age; compared in upper case.
_MARKS = (b"PRIVATE KEY", b"PRIVATE-LINES:", b"SECRET KEY", b"AGE-SECRET-KEY-", b"AGE-PLUGIN-")
_LABEL = re.compile(rb"-----BEGIN ([^\r\n-]{1,64})-----")
_PUBLIC_LABELS = frozenset(
    (
        b"CERTIFICATE",
        b"TRUSTED CERTIFICATE",
        b"X509 CERTIFICATE",
        b"X509 CRL",
        b"CERTIFICATE REQUEST",
        b"NEW CERTIFICATE REQUEST",
        b"ATTRIBUTE CERTIFICATE",
        b"PUBLIC KEY",
        b"RSA PUBLIC KEY",
        b"SSH2 PUBLIC KEY",
        b"DH PARAMETERS",
        b"X9.42 DH PARAMETERS",
        b"EC PARAMETERS",
        b"PKCS7",
        b"CMS",
        b"PGP PUBLIC KEY BLOCK",
        b"PGP SIGNATURE",
    )
)
# pkcs-5 and pkcs-12PbeIds: the encryption that an EncryptedPrivateKeyInfo (RFC 5958) names at its beginning.
_PASSWORD_BASED = (bytes.fromhex("2a864886f70d0105"), bytes.fromhex("2a864886f70d010c01"))
# Packets of a public keyring (RFC 9580, section 5): signature, marker, public (sub)key, trust, user, padding.
_PUBLIC_PACKETS = frozenset((2, 6, 10, 12, 13, 14, 17, 21))


def unless_public(read: Read) -> bool:
    """True unless the file is empty, or certificates, public keys or parameters and nothing else (``*.pem``)."""
    data = read(LIMIT + 1)
    if data.startswith(b"PK\x03\x04"):  # *.key is also a presentation
        return False
    if len(data) > LIMIT or _marked(data):
        return True
    labels = _LABEL.findall(data)
    if labels:
        return not _PUBLIC_LABELS.issuperset(labels)
    return bool(data.strip()) and not _der_public(data)


def if_private(read: Read) -> bool:
    """True if the file holds a private key, or is too large to tell (``*.crt``, ``*.asc``, ``*.age``)."""
    data = read(LIMIT + 1)
    return len(data) > LIMIT or _marked(data) or _der_private(data)


def unless_public_keyring(read: Read) -> bool:
    """True unless the file is an OpenPGP keyring of public keys and nothing else (``*.gpg``)."""
    data = read(LIMIT + 1)
    if data.lstrip().startswith(b"-----BEGIN "):
        return len(data) > LIMIT or _marked(data) or not _PUBLIC_LABELS.issuperset(_LABEL.findall(data))
    return len(data) > LIMIT or not _public_packets(data)


def if_core_dump(read: Read) -> bool:
    """True for an ELF file of type ET_CORE (elf(5))."""
    head = read(18)
    order = "big" if head[5:6] == b"\x02" else "little"
    return head.startswith(b"\x7fELF") and int.from_bytes(head[16:18], order) == 4  # type: ignore[arg-type]


def _marked(data: bytes) -> bool:
    upper = data.upper()
    if b"\0" in upper:
        upper += upper.replace(b"\0", b"")  # UTF-16
    return any(mark in upper for mark in _MARKS)


def _der_body(data: bytes) -> bytes:
    """What is in the outermost SEQUENCE of DER (X.690), cut after 64 bytes; nothing if there is none."""
    if len(data) < 2 or data[0] != 0x30:
        return b""
    begin = 2 + (data[1] & 0x7F if data[1] & 0x80 else 0)
    return data[begin : begin + 64]


def _der_private(data: bytes) -> bool:
    """PKCS#1, PKCS#8 and SEC 1 keys begin with a version, and so does PKCS#12; a certificate does not."""
    body = _der_body(data)
    return body[:2] == b"\x02\x01" or any(oid in body for oid in _PASSWORD_BASED)


def _der_public(data: bytes) -> bool:
    """A certificate, request, list or public key begins with a SEQUENCE in the SEQUENCE."""
    return _der_body(data)[:1] == b"\x30" and not _der_private(data)


def _public_packets(data: bytes) -> bool:
    at = 0
    while at < len(data):
        tag = data[at]
        if not tag & 0x80:
            return False
        new = bool(tag & 0x40)
        if (tag & 0x3F if new else tag >> 2 & 0x0F) not in _PUBLIC_PACKETS:
            return False
        length, at = _length(data, at + 1, None if new else tag & 0x03)
        if length < 0:
            return False
        at += length
    return at == len(data) and at > 0


def _length(data: bytes, at: int, kind: int | None) -> tuple[int, int]:
    """(length of a packet's body, where it begins); -1 for a partial or endless one. ``kind`` is of the old format."""
    first = data[at] if at < len(data) else 255
    if kind is None:
        if first < 192:
            return first, at + 1
        if first < 224:
            return ((first - 192) << 8) + int.from_bytes(data[at + 1 : at + 2]) + 192, at + 2
        return (int.from_bytes(data[at + 1 : at + 5]), at + 5) if first == 255 else (-1, at)
    if kind == 3:
        return -1, at
    size = 1 << kind
    return int.from_bytes(data[at : at + size]), at + size
