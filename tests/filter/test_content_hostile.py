"""Files made to keep the scan busy, or to talk it out of finding something. Times are generous: the machine is shared,
and a quadratic pattern takes minutes on these sizes."""

from __future__ import annotations

import time

import pytest

from overlayws.filter.content_rules import SHAPES
from overlayws.filter.contents import Inspector
from tests.filter.planted import TOKENS, Fakes

MIB = 1 << 20
INSPECTOR = Inspector()
TOKEN = TOKENS["github-classic"][1](Fakes(1))


def seconds(path: str, data: bytes) -> float:
    """Processor time of one inspection."""
    begin = time.process_time()
    INSPECTOR.inspect(path, data)
    return time.process_time() - begin


@pytest.mark.parametrize("unit", [b"a", b"a1", b"Aa0_", b"a ", b"=", b"\n", b"\0", b"\xff", b"- ", b"://", b'"', b"\\"])
def test_one_line_of_ten_megabytes_takes_seconds_at_most(unit: bytes) -> None:
    data = unit * (10 * MIB // len(unit))
    assert seconds("a.txt", data) < 20


BAIT = [
    *(head.encode() for shape in SHAPES for head in shape.heads.split()),
    *(head.encode() + b"A1" * 9 for shape in SHAPES for head in shape.heads.split()),
    b'password="',
    b"password=",
    b"passwordsecretpwd",
    b"secret: '",
    b"://a:",
    b"://",
    b"@",
    b"://x@",
    b"a:b@",
    b"-----BEGIN RSA PRIVATE KEY-----",
    b"-----BEGIN RSA PRIVATE KEY-----\n" + b"A" * 64 + b"\n",
    b"-----BEGIN ",
    b"PRIVATE KEY",
    b"Authorization: Bearer ",
    b"login a password ",
    b"login ",
    b"$2y$10$",
    b"$6$rounds=",
    b"$argon2id$v=1$",
    b":{SHA}",
    b"eyJhbGciOiJIUzI1NiJ9.",
    b"eyJhbGciOiJIUzI1NiJ9",
    b'token = "a1',
    b"MIIEvgIBADANBgkqhkiG9w0BAQEFAASC",
    b"api_key" * 6 + b"=",
    b"cGFzc3dvcmQ9",
    b"${",
    b"{a",
    b"<!--",
    b"hooks.slack.com/services/T",
    b"curl ",
    b"curl -u a:",
    b"sshpass -p ",
    b"identified by ",
    b"to-securestring 'abcdefgh1'",
    b"pass",
    b"pass=",
    b"password {",
    b"password { default",
    b"password: |\n ",
    b"--password ",
    b"login a\npassword ",
    b"--token ",
]


@pytest.mark.parametrize("bait", BAIT, ids=lambda b: b[:24].decode().replace("\n", " "))
def test_time_grows_with_the_length_of_a_repeated_bait_and_not_with_its_square(bait: bytes) -> None:
    for joint in (b"", b"\n"):
        data = (bait + joint) * (MIB // (4 * len(bait + joint)))
        assert seconds("a.txt", data) < 5


def test_of_many_tokens_in_one_word_none_is_shown() -> None:
    said = INSPECTOR.inspect("a.txt", b"before " + TOKEN.encode() * 5000 + b" after")
    assert said.data is not None and TOKEN.encode()[4:] not in said.data
    assert said.data.startswith(b"before ") and said.data.endswith(b" after") and len(said.findings) < 200


@pytest.mark.parametrize("name", [".npmrc", ".pypirc", ".netrc", "kubeconfig", ".docker/config.json", "settings.xml"])
@pytest.mark.parametrize("unit", [b"a=b\n", b"[", b'{"a":', b"<a>", b"- ", b" ", b'"', b"machine a ", b"a: b\n", b"\\"])
def test_redactors_take_linear_time(name: str, unit: bytes) -> None:
    assert seconds(name, unit * (MIB // len(unit))) < 20


@pytest.mark.parametrize(
    "comment", ["gitleaks:allow", "pragma: allowlist secret", "nosec", "noqa: S105", "trufflehog:ignore"]
)
def test_a_comment_does_not_turn_a_rule_off(comment: str) -> None:
    assert INSPECTOR.inspect("a.py", f'T = "{TOKEN}"  # {comment}\n'.encode()).findings


@pytest.mark.parametrize(
    "around",
    [
        "\0{}\0",
        "\xff{}\xff",
        "\x1b[8m{}\x1b[0m",
        "\u202e{}\u202c",
        "\r{}\r",
        "'{}'",
        "x={}",
        "a" * 500 + " {}",
        "/{}/",
        "{}\0" * 2,
    ],
)
def test_what_is_around_a_token_does_not_hide_it(around: str) -> None:
    assert INSPECTOR.inspect("a.txt", around.replace("{}", TOKEN).encode("latin-1", "ignore")).findings


def test_a_fake_before_a_real_token_does_not_hide_it() -> None:
    fake = "ghp_" + "x" * 36
    assert len(INSPECTOR.inspect("a.txt", f"{fake} {TOKEN} {fake}{TOKEN}".encode()).findings) >= 1
    shown = INSPECTOR.inspect("a.txt", f"{fake} {TOKEN}".encode()).data
    assert shown is not None and TOKEN.encode() not in shown


def test_placeholder_words_beside_a_token_do_not_hide_it() -> None:
    for text in (f"example {TOKEN}", f"{TOKEN} # EXAMPLE", f"changeme: {TOKEN}", f"<your-token>{TOKEN}"):
        assert INSPECTOR.inspect("a.txt", text.encode()).findings


def test_a_secret_may_be_longer_than_a_line_and_a_name_may_be_anything() -> None:
    name = "a\nb\udcff/" + "x" * 300 + ".PY"
    assert INSPECTOR.inspect(name, TOKEN.encode()).findings
    assert INSPECTOR.inspect("", b"").findings == ()
