# ruff: noqa: E501 -- tables of texts
"""Placeholders, and the files that are redacted by their name."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import pytest

from overlayws.filter.content_rules import Action
from overlayws.filter.contents import ContentPolicy, Inspector
from overlayws.filter.redact import by_lines, placeholder, placeholders, replaced
from overlayws.filter.redact_formats import REDACTORS, redactable
from tests.filter.planted import BASE62, Fakes

KEY = b"k" * 32
INSPECTOR = Inspector(ContentPolicy(key=KEY, env=True))
SECRET = Fakes(1).draw(BASE62, 24)
PLAIN = re.compile(rb"[A-Za-z0-9-]+\Z")


def shown(path: str, text: str) -> str:
    inspection = INSPECTOR.inspect(path, text.encode())
    if inspection.action is Action.SHOW:
        return text
    assert inspection.data is not None, inspection
    return inspection.data.decode()


def test_equal_secrets_have_equal_placeholders_in_one_session_only() -> None:
    one, two = placeholder(b"a", KEY), placeholder(b"a", KEY)
    assert one == two and PLAIN.match(one)
    assert placeholder(b"b", KEY) != one
    assert placeholder(b"a", b"j" * 32) != one
    text = f'password = "{SECRET}"\npassword2 = "{SECRET}"\n'.encode()
    numbers = [number for _, number in placeholders(INSPECTOR.inspect("a.py", text).data or b"")]
    assert len(numbers) == 2 and len(set(numbers)) == 1


def test_a_placeholder_does_not_tell_the_length() -> None:
    assert len({len(placeholder(b"x" * n, KEY)) for n in (1, 8, 500)}) == 1


def test_default_policies_have_keys_of_their_own() -> None:
    assert ContentPolicy().key != ContentPolicy().key


def test_a_span_is_cut_at_line_ends_and_blanks() -> None:
    data = b"x\r\n  one \r\n\r\n\ttwo\nthree"
    parts = [data[a:b] for a, b in by_lines(data, 1, len(data))]
    assert parts == [b"one", b"two", b"three"]


def test_replacing_nothing_changes_nothing() -> None:
    assert replaced(b"a\xff\r\n", b"a\xff\r\n", [], KEY) == b"a\xff\r\n"


def test_placeholders_are_listed_with_their_lines() -> None:
    mark = placeholder(b"a", KEY).decode()
    number = mark.rpartition("-")[2]
    assert placeholders(f"one\n{mark} {mark}\n\nx={mark}".encode()) == [(2, number), (2, number), (4, number)]
    assert placeholders(f"one and some more\ntext {mark}\n".encode("utf-16-be")) == [(2, number)]
    assert placeholders(b"overlayws-redacted-0123 overlayws-redacted-XYZ") == []


CASES = {
    ".npmrc": (
        f"registry=https://r.example.org/\n//r.example.org/:_authToken={SECRET}\n_auth = \"{SECRET}\"\n"
        f"always-auth=true\n; //old/:_password={SECRET}\nproxy=http://me:{SECRET}@proxy:3128\n",
        "registry=https://r.example.org/\n//r.example.org/:_authToken=#\n_auth = \"#\"\n"
        "always-auth=true\n; //old/:_password=#\nproxy=http://me:#@proxy:3128\n",
    ),
    "home/.pypirc": (
        f"[distutils]\nindex-servers =\n    pypi\n    own\n\n[own]\nrepository: https://u:{SECRET}@own/\n"
        f"username: __token__\npassword: {SECRET}\n  goes on {SECRET}\n",
        "[distutils]\nindex-servers =\n    pypi\n    own\n\n[own]\nrepository: https://u:#@own/\n"
        "username: __token__\npassword: #\n  #\n",
    ),
    "pip.conf": (
        f"[global]\nindex-url = https://{SECRET}@own/simple\nextra-index-url =\n    https://u:pw@b/simple\ntimeout = 3\n",
        "[global]\nindex-url = https://#@own/simple\nextra-index-url =\n    https://u:#@b/simple\ntimeout = 3\n",
    ),
    ".netrc": (
        f"machine a login me password {SECRET}\n\nmachine b\n\tlogin x\n\tpassword \"{SECRET} y\"\ndefault login a password b\n",
        "machine a login me password #\n\nmachine b\n\tlogin x\n\tpassword \"#\"\ndefault login a password #\n",
    ),
    ".env": (
        f"# settings\nexport A={SECRET}\nB='two\nlines'\nC=\nD=\"x # y\" # note\n#OLD={SECRET}\nPORT=80\n",
        "# settings\nexport A=#\nB='#\n#'\nC=\nD=\"#\" # note\n#OLD=#\nPORT=#\n",
    ),
    ".docker/config.json": (
        json.dumps({"auths": {"https://r/": {"auth": SECRET, "email": "a@b"}, "q": {"identitytoken": SECRET}},
                    "HttpHeaders": {"X-Key": SECRET}, "credsStore": "pass"}, indent=2),  # fmt: skip
        json.dumps({"auths": {"https://r/": {"auth": "#", "email": "a@b"}, "q": {"identitytoken": "#"}},
                    "HttpHeaders": {"X-Key": "#"}, "credsStore": "pass"}, indent=2),  # fmt: skip
    ),
    "kubeconfig": (
        "apiVersion: v1\nkind: Config\nclusters:\n- cluster:\n    server: https://k:6443\n    certificate-authority-data: QUFB\n"
        f"  name: prod\nusers:\n- name: me\n  user:\n    client-key-data: {SECRET}\n    token: \"{SECRET}\"\n"
        f"    exec:\n      command: aws\n      args:\n      - eks\n      env:\n      - name: KEY\n        value: {SECRET}\n",
        "apiVersion: v1\nkind: Config\nclusters:\n- cluster:\n    server: https://k:6443\n    certificate-authority-data: QUFB\n"
        "  name: prod\nusers:\n- name: me\n  user:\n    client-key-data: #\n    token: \"#\"\n"
        "    exec:\n      command: aws\n      args:\n      - eks\n      env:\n      - name: KEY\n        value: #\n",
    ),
    ".m2/settings.xml": (
        '<?xml version="1.0"?>\n<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0">\n <servers><server><id>own</id>'
        f"<username>me</username><password>{SECRET}&amp;x</password>\n<configuration><httpHeaders><property><name>T</name>"
        f"<value>{SECRET}</value></property></httpHeaders></configuration></server></servers>\n</settings>\n",
        '<?xml version="1.0"?>\n<settings xmlns="http://maven.apache.org/SETTINGS/1.0.0">\n <servers><server><id>own</id>'
        "<username>me</username><password>#</password>\n<configuration><httpHeaders><property><name>T</name>"
        "<value>#</value></property></httpHeaders></configuration></server></servers>\n</settings>\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("path", CASES)
def test_a_file_is_shown_with_only_its_secrets_replaced(path: str) -> None:
    before, after = CASES[path]
    result = shown(path, before)
    assert SECRET not in result
    assert re.sub("overlayws-redacted-[0-9a-f]{16}", "#", result) == after


@pytest.mark.parametrize("path", [p for p in CASES if "json" not in p])
def test_windows_line_ends_stay(path: str) -> None:
    before, after = CASES[path]
    result = INSPECTOR.inspect(path, before.replace("\n", "\r\n").encode()).data
    assert result is not None
    assert re.sub(b"overlayws-redacted-[0-9a-f]{16}", b"#", result) == after.replace("\n", "\r\n").encode()


def test_what_was_redacted_is_still_read_by_what_reads_it() -> None:
    json.loads(shown(".docker/config.json", CASES[".docker/config.json"][0]))
    ET.fromstring(shown(".m2/settings.xml", CASES[".m2/settings.xml"][0]))


def test_an_entry_that_is_commented_out_loses_its_secret_too() -> None:
    assert "abc" not in shown(".npmrc", "; _auth=abc\nfund=false\n")
    assert "abc" not in shown(".pypirc", "[own]\n# password: abc\nusername = x\n")


def test_variables_stay_since_their_values_are_elsewhere() -> None:
    text = "//r/:_authToken=${NPM_TOKEN}\nproxy=http://me:${PW}@proxy:3128\n"
    assert shown(".npmrc", text) == text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (".npmrc", "=x\n"),
        (".npmrc", "a=b\0\n"),
        (".pypirc", "no entry here\n"),
        (".netrc", "machine a login b passwd c\n"),
        (".netrc", "macdef init\ncd /\n\n"),
        (".netrc", "machine a password\n"),
        (".netrc", 'machine a password "open\n'),
        (".env", "not an assignment\n"),
        (".env", "A='open\n"),
        (".docker/config.json", "{'auths': 1}"),
        (".docker/config.json", "[" * 100_000),
        ("kubeconfig", "users:\n- name: a\n  user: {token: abc}\n"),
        ("kubeconfig", "users:\n- name: a\n  user:\n    token: |\n      abc\n"),
        ("kubeconfig", "users:\n- name: a\n  user: &a\n"),
        ("kubeconfig", "a\n"),
        (".m2/settings.xml", "<settings><a></settings>"),
        (".m2/settings.xml", '<!DOCTYPE settings [<!ENTITY p "x">]><settings><password>&p;</password></settings>'),
        (".m2/settings.xml", "<settings><password><![CDATA[x]]></password></settings>"),
        (".m2/settings.xml", "<settings><!-- <password>x</password> --></settings>"),
        (".m2/settings.xml", "<settings><password>x<b/>y</password></settings>"),
    ],
)
def test_a_file_that_is_not_understood_is_hidden(path: str, text: str) -> None:
    inspection = INSPECTOR.inspect(path, text.encode())
    assert inspection.action is Action.HIDE
    assert [f.rule for f in inspection.findings] == ["not-understood"]


@pytest.mark.parametrize("path", CASES)
def test_utf_16_is_not_understood_by_the_redactors(path: str) -> None:
    assert INSPECTOR.inspect(path, CASES[path][0].encode("utf-16")).action is Action.HIDE


def test_another_programs_settings_xml_is_an_ordinary_file() -> None:
    text = '<!DOCTYPE properties SYSTEM "x">\n<properties><entry key="a">b</entry><value>c</value></properties>\n'
    assert shown("app/settings.xml", text) == text


def test_names_of_redactors() -> None:
    names = {
        ".npmrc": "npmrc",
        "a/b/.NPMRC": "npmrc",
        ".pypirc": "pypirc",
        "pip.conf": "pip",
        "_netrc": "netrc",
        ".kube/config": "kubeconfig",
        "x/prod.kubeconfig": "kubeconfig",
        ".docker/config.json": "docker-config",
        ".m2/settings.xml": "maven-settings",
        ".env": "env",
        ".env.local": "env",
    }
    assert {name: redactable(name) for name in names} == names
    assert set(names.values()) == set(REDACTORS)
    for other in (".npmrc~", ".npmrc.bak", "config.json", "config", ".env.example", "docker/config.json", "id_rsa"):
        assert redactable(other) is None


def test_env_files_are_redacted_only_on_request() -> None:
    assert Inspector(ContentPolicy(env=True)).redacts(".env")
    assert not Inspector().redacts(".env")
    assert Inspector().redacts("a/.npmrc")
