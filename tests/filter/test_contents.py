"""The content scan: what is found, what is not, and what is done about it."""

from __future__ import annotations

import base64
import pickle
import random

import pytest

from overlayws.errors import UsageError
from overlayws.filter.content_rules import RULES, WARN, Action
from overlayws.filter.contents import ContentPolicy, Inspection, Inspector
from tests.filter.planted import BASE62, HEX, TOKENS, Decoy, Fakes, Planted, decoys, planted

PLANTED = planted()
# Not found, and documented as such: a literal in three parts, and a password of four characters.
KNOWN_MISSES = {"split literal", "short password"}
FOUND = [p for p in PLANTED if p.kind not in KNOWN_MISSES]
KEY = b"k" * 32


@pytest.fixture(scope="module")
def inspector() -> Inspector:
    return Inspector(ContentPolicy(key=KEY))


def rules(inspection: Inspection) -> set[str]:
    return {finding.rule for finding in inspection.findings}


@pytest.mark.parametrize("one", FOUND, ids=lambda p: p.kind)
def test_a_planted_secret_is_found_and_not_shown(inspector: Inspector, one: Planted) -> None:
    inspection = inspector.inspect(one.path, one.content)
    assert rules(inspection) & set(one.rules)
    assert inspection.action in (Action.REDACT, Action.HIDE)
    if inspection.action is Action.REDACT:
        assert inspection.data is not None
        assert one.value not in inspection.data
        assert inspection.data.count(b"\n") == one.content.count(b"\n")
    assert one.value not in repr(inspection.findings).encode()


@pytest.mark.parametrize("one", decoys(), ids=lambda d: d.kind)
def test_a_decoy_is_shown_as_it_is(inspector: Inspector, one: Decoy) -> None:
    assert inspector.inspect(one.path, one.content) == Inspection(Action.SHOW)


@pytest.mark.parametrize("kind", TOKENS)
def test_a_broken_token_is_no_token(inspector: Inspector, kind: str) -> None:
    value = TOKENS[kind][1](Fakes(3))
    assert inspector.inspect("a.md", f"see {value} there".encode()).findings
    assert not inspector.inspect("a.md", f"see {value[:15]}#{value[15:]} there".encode()).findings
    assert not inspector.inspect("a.md", f"see {value[:15]} there".encode()).findings


@pytest.mark.parametrize("kind", TOKENS)
def test_any_token_of_a_kind_is_found(inspector: Inspector, kind: str) -> None:
    rule, make = TOKENS[kind]
    for seed in range(40):
        value = make(Fakes(seed))
        assert rule in rules(inspector.inspect("notes.txt", f"x\n{value}\n".encode())), seed


@pytest.mark.parametrize(
    "text",
    [
        "password = hunter",
        'password = "Enter your password"',
        'token = "token_for_the_test"',
        'secret_name = "prod-db-2f8a9c1d7e4b"',
        'api_token = "configurationversion2026"',
        'password = "reset-my-login-2"',
        ":AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw7",
        'api_key = "your-api-key-1234567890"',
        "DB_PASSWORD=%DB_PASSWORD%",
        'checksum_token_sha256 = "9f86d081884c7d659a2feaa0c55ad015"',
        "Authorization: Bearer <token>",
        "Authorization: Bearer ${TOKEN_FROM_THE_VAULT_2}",
        "machine example.com login me password $PASSWORD",
        "https://user:${PASSWORD}@host/",
        "https://{user}:{password}@host/",
        "git@github.com:user/repository-with-a-long-name-2.git",
        "$2y$10$ is how a bcrypt hash begins",
        "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----",
        "services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
        "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
    ],
)
def test_near_misses_of_the_rules_by_name_and_place(inspector: Inspector, text: str) -> None:
    assert not inspector.inspect("notes.py", text.encode()).findings


def test_every_rule_is_hit_by_a_test(inspector: Inspector) -> None:
    fakes = Fakes(5)
    hits = set().union(*(rules(inspector.inspect(p.path, p.content)) for p in PLANTED))
    webhook = f"https://discord.com/api/webhooks/{fakes.draw('123456789', 18)}/{fakes.draw(BASE62, 68)}"
    hits |= rules(inspector.inspect("a.txt", webhook.encode()))
    hits |= rules(inspector.inspect(".npmrc", b"//host/:_authToken=abc\n"))
    hits |= rules(inspector.inspect(".npmrc", b"a line that is no entry\n\0"))
    hits |= rules(Inspector(ContentPolicy(largest=10)).inspect("a.txt", b"x" * 11))
    assert hits == set(RULES)


def test_a_slack_or_discord_path_needs_its_host(inspector: Inspector) -> None:
    fakes = Fakes(6)
    path = f"/services/T{fakes.draw(HEX, 8).upper()}/B{fakes.draw(HEX, 8).upper()}/{fakes.draw(BASE62, 24)}"
    assert rules(inspector.inspect("a.txt", f"https://hooks.slack.com{path}".encode())) == {"slack-webhook"}
    assert not inspector.inspect("a.txt", f"https://example.com{path}".encode()).findings


def test_findings_name_the_line(inspector: Inspector) -> None:
    token = TOKENS["npm"][1](Fakes(1))
    inspection = inspector.inspect("a.txt", f"one\ntwo\n{token}\nfour\n{token}\n".encode())
    assert [(f.rule, f.line, f.action) for f in inspection.findings] == [
        ("npm-token", 3, Action.REDACT),
        ("npm-token", 5, Action.REDACT),
    ]


def test_all_but_the_secret_stays_byte_for_byte(inspector: Inspector) -> None:
    token = TOKENS["npm"][1](Fakes(1)).encode()
    data = b"\xef\xbb\xbfa\r\n\xff\xfe\x80 k=" + token + b";\r\rb\n\tend"
    shown = inspector.inspect("a.txt", data).data
    assert shown is not None
    before, after = data.split(token)
    assert shown.startswith(before) and shown.endswith(after)
    assert len(shown) == len(before) + len(after) + len("overlayws-redacted-") + 16


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-16"])
def test_a_redacted_utf_16_file_is_still_utf_16(inspector: Inspector, codec: str) -> None:
    token = TOKENS["gitlab"][1](Fakes(1))
    text = f"ключ и 鍵\r\nkey is {token} and more ordinary text around it, enough to tell what it is\r\n" * 3
    shown = inspector.inspect("a.ps1", text.encode(codec)).data
    assert shown is not None
    decoded = shown.decode(codec)
    assert token not in decoded
    assert decoded.startswith("ключ и 鍵\r\nkey is overlayws-redacted-")
    assert decoded.endswith(text.rpartition(token)[2])


def test_text_of_other_scripts_in_utf_16_is_read(inspector: Inspector) -> None:
    token = TOKENS["npm"][1](Fakes(1))
    data = ("\ufeff" + "日本語のテキスト" * 50 + token).encode("utf-16-le")
    assert rules(inspector.inspect("a.txt", data)) == {"npm-token"}


def test_letters_of_another_script_are_not_taken_for_their_low_bytes(inspector: Inspector) -> None:
    token = TOKENS["npm"][1](Fakes(1))
    other = "".join(chr(0x100 + ord(c)) for c in token)
    assert not inspector.inspect("a.txt", ("\ufeff" + "text " * 20 + other).encode("utf-16-le")).findings


def test_base64_is_decoded_once_and_not_twice(inspector: Inspector) -> None:
    token = TOKENS["npm"][1](Fakes(1)).encode()
    once = base64.b64encode(b"the token is " + token)
    twice = base64.b64encode(once)
    assert rules(inspector.inspect("a.txt", once)) == {"npm-token"}
    urlsafe = base64.urlsafe_b64encode(b"the token of a program >>?>>?~~~ is " + token)
    assert b"-" in urlsafe or b"_" in urlsafe
    assert rules(inspector.inspect("a.txt", urlsafe)) == {"npm-token"}
    assert not inspector.inspect("a.txt", twice).findings


def test_a_binary_file_is_hidden_rather_than_changed(inspector: Inspector) -> None:
    token = TOKENS["npm"][1](Fakes(1)).encode()
    assert inspector.inspect("a.bin", b"\x7fELF\0\0\x01" * 20 + token + b"\0").action is Action.HIDE


def test_a_private_key_keeps_its_lines_and_its_armor(inspector: Inspector) -> None:
    text = Fakes(1).armored("OPENSSH PRIVATE KEY")
    shown = inspector.inspect("a.yml", f"key: |\n{text}rest: 1\n".encode()).data
    assert shown is not None
    lines = shown.decode().split("\n")
    assert lines[1] == text.split("\n")[0] and lines[-3] == text.split("\n")[-2]
    assert len(lines) == len(text.split("\n")) + 2
    assert all(line.startswith("overlayws-redacted-") for line in lines[2:-3])


def test_an_action_can_be_overridden_by_rule() -> None:
    token = TOKENS["npm"][1](Fakes(1)).encode()
    for action, outcome in [
        (WARN, Action.SHOW),
        (Action.HIDE, Action.HIDE),
        (Action.BLOCK, Action.BLOCK),
        (Action.REDACT, Action.REDACT),
    ]:
        inspection = Inspector(ContentPolicy((("npm-token", action),))).inspect("a.txt", token)
        assert inspection.action is outcome
        assert [f.action for f in inspection.findings] == [action]
        assert (inspection.data is None) == (outcome is not Action.REDACT)
    assert Inspector(ContentPolicy((("npm-token", Action.SHOW),))).inspect("a.txt", token).findings == ()


def test_the_strongest_action_decides() -> None:
    fakes = Fakes(1)
    data = f"{TOKENS['npm'][1](fakes)}\n{TOKENS['gitlab'][1](fakes)}\n".encode()
    inspection = Inspector(ContentPolicy((("gitlab-token", Action.HIDE),))).inspect("a.txt", data)
    assert inspection.action is Action.HIDE and inspection.data is None
    warned = Inspector(ContentPolicy((("gitlab-token", WARN),))).inspect("a.txt", data)
    assert warned.action is Action.REDACT and warned.data is not None
    assert data.split(b"\n")[1] in warned.data


def test_an_unknown_rule_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="no content rule is called 'npm'"):
        ContentPolicy((("npm", Action.HIDE),))


def test_a_key_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        ContentPolicy(key=b"short")
    assert "key" not in repr(ContentPolicy())


def test_an_inspector_survives_pickling() -> None:
    one = Inspector(ContentPolicy(key=KEY, largest=1000))
    two = pickle.loads(pickle.dumps(one))
    data = TOKENS["npm"][1](Fakes(1)).encode()
    assert two.inspect("a", data) == one.inspect("a", data)
    assert two.largest == 1000


def test_what_is_too_large_says_so_and_a_file_redacted_by_name_is_hidden() -> None:
    one = Inspector(ContentPolicy(largest=100))
    large = one.inspect("a.txt", b"x" * 101)
    assert (large.action, large.findings[0].rule, large.findings[0].line) == (Action.SHOW, "not-inspected", 0)
    assert one.inspect(".npmrc", b"a=b\n" * 100).action is Action.HIDE


@pytest.mark.parametrize("place", ["begin", "middle", "end"])
def test_a_secret_is_found_wherever_it_is_in_a_file_of_the_largest_size(inspector: Inspector, place: str) -> None:
    token = TOKENS["github-classic"][1](Fakes(1)).encode()
    room = inspector.largest - len(token) - 2
    at = {"begin": 0, "middle": room // 2, "end": room}[place]
    filler = (b"word " * (room // 5 + 1))[:room]
    data = filler[:at] + b" " + token + b" " + filler[at:]
    assert len(data) == inspector.largest
    assert rules(inspector.inspect("a.txt", data)) == {"github-token"}


def test_random_bytes_never_raise(inspector: Inspector) -> None:
    choose = random.Random(7)
    pieces = [
        b'password="',
        b"://",
        b"@",
        b"eyJ",
        b"\0",
        b"\n",
        b"-----BEGIN RSA PRIVATE KEY-----",
        b"ghp_",
        b"\\",
        b"'",
    ]
    pieces += [b"$2y$10$", b"a" * 30, b"7", b"\xff\xfe", b"Authorization: Basic ", b"overlayws-redacted-", b"=", b": "]
    for name in ("a.py", ".npmrc", "pip.conf", ".netrc", "kubeconfig", ".docker/config.json", "settings.xml", "x.env"):
        for _ in range(150):
            inspector.inspect(name, b"".join(choose.choice(pieces) for _ in range(choose.randrange(40))))


@pytest.mark.parametrize("head", ["AKIA", "ghp_", "glpat-", "npm_", "hf_"])
def test_a_token_without_a_digit_is_found(inspector: Inspector, head: str) -> None:
    """One key of AWS in 30 has none."""
    letters = (
        "QWERTZUIOPASDFGH" if head == "AKIA" else "qWeRtZuIoPaSdFgHjKlYxCvBnMqWeRtZuIoPaS"[: 20 if "-" in head else 36]
    )
    assert inspector.inspect("a.txt", f"key {head}{letters} end".encode()).findings


def test_a_short_head_counts_only_at_the_beginning_of_a_word(inspector: Inspector) -> None:
    digits = Fakes(1).draw(HEX, 32)
    assert rules(inspector.inspect("a.txt", f"SK{digits}".encode())) == {"twilio-key"}
    assert not inspector.inspect("a.txt", f"TASK{digits}".encode()).findings


def test_a_key_in_a_json_string_with_escapes_is_read(inspector: Inspector) -> None:
    data = b'{"auths": {"r": {"\\u0061uth": "s3cret-value"}}}'
    assert inspector.inspect(".docker/config.json", data).action is Action.REDACT
    assert b"s3cret" not in (inspector.inspect(".docker/config.json", data).data or b"")
