"""The screen of many files at once: whatever inspection would find in one of them, it must not pass."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlayws.filter import content_screen
from overlayws.filter.content_screen import screen
from overlayws.filter.contents import CLEAN, Inspector
from tests.filter.planted import decoys, ordinary, planted

INSPECTOR = Inspector()
NAMES = ("f.py", "f.toml", "f.txt", "f", "f.sh", "f.ini")  # code, settings, neither


def passed_but_found(files: list[bytes]) -> list[bytes]:
    """The files that the screen passes and inspection, under some name, does not."""
    suspects = screen(files)
    return [
        data
        for number, data in enumerate(files)
        if number not in suspects and any(INSPECTOR.inspect(name, data) != CLEAN for name in NAMES)
    ]


def test_every_planted_secret_is_looked_at_whatever_stands_beside_it() -> None:
    files = [one.content for one in planted()] + [one.content for one in decoys()]
    files += [data for _, data in ordinary(300)]
    assert passed_but_found(files) == []
    for seed in range(5):
        random.Random(seed).shuffle(files)
        batches = [files[at : at + 7] for at in range(0, len(files), 7)]
        assert [data for batch in batches for data in passed_but_found(batch)] == []


def test_each_secret_alone_is_looked_at() -> None:
    assert [one.kind for one in planted() if passed_but_found([one.content])] == []


PIECES = [
    b"password", b"PassWord", b"passphrase", b"secret", b"SECRET_key", b"pwd", b"login", b"token", b"api_key",
    b" = ", b"=", b": ", b" := ", b"=>", b",", b"\"", b"'", b" ", b"\t", b"\n", b"//", b"#", b">", b"</",
    b"hunter2!x", b"Tr0ub4dor&3", b"correct horse battery staple", b"${VAR}", b"changeme",
    b"://", b"https://", b"user:", b"@", b"host/", b"{SHA}", b"$1$", b"$2b$12$", b"$6$rounds=5000$",
    b"$argon2id$v=19$", b"m=65536,t=3,p=4$", b"Wm9sWw8hbK3gTqXvN2uYdQ", b"a" * 22, b"PRIVATE KEY",
    b"-----BEGIN RSA PRIVATE KEY-----", b"-----END RSA PRIVATE KEY-----", b"MIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn",
    b"PuTTY-User-Key-File-3: ", b"Private-Lines: 4", b"AKIA" + b"QZ7XPLM4N2RT5WVB",
    b"ghp_" + b"a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8", b"Authorization: Bearer ",
    b"\0", b"\xff\xfe", b"\xfe\xff", b"p\0a\0s\0s\0w\0o\0r\0d\0=\0", b"\xe9", b"\r\n", b".", b"[", b"]", b"_",
]  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=12).map(b"".join), max_size=6))
def test_no_file_made_of_pieces_of_secrets_is_passed_that_inspection_would_not_pass(files: list[bytes]) -> None:
    assert passed_but_found(files) == []


def test_a_secret_made_by_joining_two_files_accuses_neither_and_hides_neither() -> None:
    files = [b'password = "', b'hunter2!x9Q"', b"x = 1\n"]
    assert 2 not in screen(files) and passed_but_found(files) == []


def test_ordinary_files_are_passed_so_that_the_screen_is_worth_it() -> None:
    files = [b"value = compute(argument, other) + 1  # number 7\n" * 100] * 50
    assert screen(files) == set()
    assert screen([*files, b'password = "hunter2!x9Q"\n', *files]) == {50}


@pytest.mark.parametrize("detector", ["_name", "_key", "_userinfo", "_hash"])
def test_each_search_is_needed(detector: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this file tests with can tell when one of them is missing."""
    short_lines = b"-----BEGIN RSA PRIVATE KEY-----\n" + b"MIIEpAIBAAKCAQEA\n" * 4 + b"-----END RSA PRIVATE KEY-----\n"
    short_parts = b"deploy:$1$" + b"Xk2pQz7W$Wm9sWw8.hbK3gTqXvN2uYd\n"
    files = [*(one.content for one in planted()), short_lines, short_parts]
    monkeypatch.setattr(content_screen, detector, lambda *_: -1)
    assert any(passed_but_found([data]) for data in files)


def test_the_search_for_runs_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_screen, "runs", lambda data: iter(()))
    assert any(passed_but_found([one.content]) for one in planted())
