"""What a file holds: real keys and certificates, made by openssl where it is there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from overlayws.filter import keyfile
from overlayws.filter.keyfile import LIMIT, Read

CERTIFICATE = b"subject=x\n-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY = b"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"


def reading(data: bytes) -> Read:
    return lambda limit: data[:limit]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" \n",
        CERTIFICATE,
        CERTIFICATE * 300,
        b"-----BEGIN PUBLIC KEY-----\nMII\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN DH PARAMETERS-----\nMII\n-----END DH PARAMETERS-----\n",
        b"PK\x03\x04 a presentation",
    ],
)
def test_public_things_stay_visible(data: bytes) -> None:
    assert not keyfile.unless_public(reading(data))
    assert not keyfile.if_private(reading(data))


PRIVATE = [
    KEY,
    CERTIFICATE + KEY,
    b"-----BEGIN RSA PRIVATE KEY-----\n",
    b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
    b"-----begin openssh private key-----\n",
    b"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n",
    b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n",
    b"# public key: age1\nAGE-SECRET-KEY-1QQ\n",
    CERTIFICATE + KEY.decode().encode("utf-16"),
    KEY.decode().encode("utf-16-be"),
    CERTIFICATE * (LIMIT // len(CERTIFICATE) + 1) + KEY,  # behind what is read
    bytes.fromhex("3082025c02010002"),  # PKCS#1
    bytes.fromhex("30770201010420"),  # SEC 1
    bytes.fromhex("30819b3057") + bytes.fromhex("06092a864886f70d01050d"),  # PKCS#8, encrypted
]


@pytest.mark.parametrize("data", PRIVATE)
@pytest.mark.parametrize("decide", [keyfile.unless_public, keyfile.if_private])
def test_private_keys_are_hidden(data: bytes, decide: Callable[[Read], bool]) -> None:
    assert decide(reading(data))


@pytest.mark.parametrize(
    "data", [b"3a5f9c0011", b"-----BEGIN SOMETHING-----\n", b"\0\1\2", CERTIFICATE + b"-----BEGIN X-----"]
)
def test_what_is_not_understood_is_hidden_where_the_name_is_that_of_a_key(data: bytes) -> None:
    assert keyfile.unless_public(reading(data))
    assert not keyfile.if_private(reading(data))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_what_openssl_writes(tmp_path: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:1024", "-nodes", "-keyout", "key", "-out", "cert", "-subj", "/CN=x")
    openssl("x509", "-in", "cert", "-outform", "DER", "-out", "cert.der")
    openssl("pkey", "-in", "key", "-outform", "DER", "-out", "key.der")
    openssl("rsa", "-in", "key", "-traditional", "-outform", "DER", "-out", "rsa.der")
    openssl("pkcs8", "-topk8", "-in", "key", "-passout", "pass:x", "-outform", "DER", "-out", "encrypted.der")
    openssl(
        "pkcs8",
        "-topk8",
        "-v1",
        "PBE-SHA1-3DES",
        "-in",
        "key",
        "-passout",
        "pass:x",
        "-outform",
        "DER",
        "-out",
        "old.der",
    )
    openssl("pkey", "-in", "key", "-pubout", "-outform", "DER", "-out", "public.der")
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-outform", "DER", "-out", "ec.der")
    openssl("pkcs12", "-export", "-in", "cert", "-inkey", "key", "-passout", "pass:x", "-out", "bundle.der")
    for name in ("cert", "cert.der", "public.der"):
        data = (tmp_path / name).read_bytes()
        assert not keyfile.unless_public(reading(data)) and not keyfile.if_private(reading(data)), name
    for name in ("key", "key.der", "rsa.der", "encrypted.der", "old.der", "ec.der", "bundle.der"):
        data = (tmp_path / name).read_bytes()
        assert keyfile.unless_public(reading(data)) and keyfile.if_private(reading(data)), name


def packet(tag: int, body: bytes, *, old: bool = False) -> bytes:
    if old:
        return bytes([0x80 | tag << 2 | 1]) + len(body).to_bytes(2) + body
    size = len(body)
    head = bytes([size]) if size < 192 else bytes([192 + (size - 192 >> 8), (size - 192) & 255])
    return bytes([0xC0 | tag]) + head + body


@pytest.mark.parametrize("old", [False, True])
def test_a_keyring_of_public_keys_stays_visible(old: bool) -> None:
    public = packet(6, b"k" * 300, old=old) + packet(13, b"me", old=old) + packet(2, b"s" * 80, old=old)
    assert not keyfile.unless_public_keyring(reading(public + packet(14, b"k" * 191, old=old)))
    assert keyfile.unless_public_keyring(reading(public + packet(5, b"k" * 300, old=old)))  # a secret key behind it
    assert keyfile.unless_public_keyring(reading(public + b"x"))
    assert keyfile.unless_public_keyring(reading(public[:-1]))
    assert keyfile.unless_public_keyring(reading(packet(1, b"to me", old=old) + packet(18, b"x", old=old)))


@pytest.mark.parametrize(
    ("data", "hidden"),
    [
        (b"", True),
        (b"\xc6\xff\xff\xff\xff\xff", True),
        (b"\x9b" + b"x" * 9, True),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n", False),
        (b"-----BEGIN PGP MESSAGE-----\n", True),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n-----BEGIN PGP PRIVATE KEY BLOCK-----\n", True),
    ],
)
def test_other_keyrings(data: bytes, hidden: bool) -> None:
    assert keyfile.unless_public_keyring(reading(data)) is hidden


@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
def test_what_gpg_writes(tmp_path: Path) -> None:
    def gpg(*arguments: str) -> bytes:
        command = ["gpg", "--homedir", str(tmp_path), "--batch", "--passphrase", "", "--pinentry-mode", "loopback"]
        return subprocess.run([*command, *arguments], check=True, capture_output=True).stdout

    tmp_path.chmod(0o700)
    try:
        gpg("--quick-gen-key", "me <me@example.org>", "ed25519", "sign", "never")
        assert not keyfile.unless_public_keyring(reading(gpg("--export")))
        assert not keyfile.if_private(reading(gpg("--armor", "--export")))
        assert keyfile.unless_public_keyring(reading(gpg("--export-secret-keys")))
        assert keyfile.if_private(reading(gpg("--armor", "--export-secret-keys")))
    finally:
        subprocess.run(["gpgconf", "--homedir", str(tmp_path), "--kill", "all"], check=False)


def test_a_core_dump_is_known_by_its_type() -> None:
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    assert keyfile.if_core_dump(reading(head + b"\x04\x00"))
    assert keyfile.if_core_dump(reading(b"\x7fELF\x02\x02\x01" + bytes(9) + b"\x00\x04"))
    assert not keyfile.if_core_dump(reading(head + b"\x03\x00"))  # a shared library
    assert not keyfile.if_core_dump(reading(b"export * from './core'\n"))
    assert not keyfile.if_core_dump(reading(b""))
