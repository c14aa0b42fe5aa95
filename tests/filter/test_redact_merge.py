"""An edited redacted file gets its secrets back at their own lines, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlayws.filter.contents import ContentPolicy, Inspector
from overlayws.filter.redact import placeholders
from overlayws.filter.redact_merge import merge_redacted, stray
from tests.filter.planted import BASE62, Fakes

SECRET = Fakes(1).draw(BASE62, 24).encode()
OTHER = Fakes(2).draw(BASE62, 30).encode()
INSPECTOR = Inspector(ContentPolicy(key=b"k" * 32))
ORIGINAL = b"registry=https://a/\n//a/:_authToken=" + SECRET + b"\n[b]\n//b/:_authToken=" + OTHER + b"\nx=1\n"


def redacted(original: bytes, path: str = ".npmrc") -> bytes:
    data = INSPECTOR.inspect(path, original).data
    assert data is not None
    return data


BASE = redacted(ORIGINAL)
LINE_A, LINE_B = BASE.split(b"\n")[1], BASE.split(b"\n")[3]


def test_an_unchanged_file_is_the_original() -> None:
    assert merge_redacted(ORIGINAL, BASE, BASE) == ORIGINAL


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"x=1\n", b"x=2\n"),
        (b"x=1\n", b"x=1\ny=2"),
        (b"registry=https://a/\n", b""),
        (b"registry=https://a/\n", b"registry=https://a/\nfund=false\n"),
        (LINE_A + b"\n", LINE_A + b"\nadded=1\n"),
        (LINE_A + b"\n", b"added=1\n" + LINE_A + b"\n"),
        (LINE_A + b"\n", b""),
        (LINE_B, b"//b/:_authToken=another"),
    ],
)
def test_an_edit_beside_a_secret_keeps_it(old: bytes, new: bytes) -> None:
    assert BASE.count(old) == 1
    in_original = old.replace(LINE_A, ORIGINAL.split(b"\n")[1]).replace(LINE_B, ORIGINAL.split(b"\n")[3])
    instead = new.replace(LINE_A, ORIGINAL.split(b"\n")[1])
    assert merge_redacted(ORIGINAL, BASE, BASE.replace(old, new)) == ORIGINAL.replace(in_original, instead)


def test_a_copied_placeholder_stays_literal_and_is_stray() -> None:
    theirs = BASE + b"echo " + LINE_A + b"\n"
    merged = merge_redacted(ORIGINAL, BASE, theirs)
    assert merged is not None
    assert merged == ORIGINAL + b"echo " + LINE_A + b"\n"
    assert merged.count(SECRET) == 1
    assert [line for line, _ in stray(BASE, theirs)] == [6]


def test_a_doubled_line_gives_the_secret_once_at_most() -> None:
    for theirs in (BASE.replace(LINE_A, LINE_A + b"\n" + LINE_A), BASE + LINE_A, LINE_A + b"\n" + BASE):
        merged = merge_redacted(ORIGINAL, BASE, theirs)
        assert merged is None or merged.count(SECRET) == 1
        assert stray(BASE, theirs)


def test_a_placeholder_moved_to_another_section_is_not_the_secret() -> None:
    theirs = b"registry=https://a/\n[b]\n" + LINE_B + b"\n" + LINE_A + b"\nx=1\n"
    merged = merge_redacted(ORIGINAL, BASE, theirs)
    assert merged is None or SECRET not in merged
    assert [line for line, _ in stray(BASE, theirs)] == [4]


def test_a_line_that_is_edited_around_its_placeholder_is_for_a_person_to_decide() -> None:
    theirs = BASE.replace(b"//a/:_authToken", b"//evil/:_authToken")
    assert merge_redacted(ORIGINAL, BASE, theirs) is None
    assert [line for line, _ in stray(BASE, theirs)] == [2]


def test_a_section_that_is_renamed_above_a_secret_is_for_a_person_to_decide() -> None:
    original = b"[good]\nurl=x\npassword = " + SECRET + b"\n"
    base = redacted(original, ".pypirc")
    assert merge_redacted(original, base, base.replace(b"[good]", b"[evil]")) is None
    kept = merge_redacted(original, base, base.replace(b"url=x", b"url=y"))
    assert kept == original.replace(b"url=x", b"url=y")


def test_a_host_that_is_changed_above_a_json_secret_is_for_a_person_to_decide() -> None:
    original = b'{\n  "auths": {\n    "https://a/": {\n      "auth": "' + SECRET + b'"\n    }\n  }\n}\n'
    base = redacted(original, ".docker/config.json")
    assert merge_redacted(original, base, base.replace(b"https://a/", b"https://evil/")) is None


def test_a_comma_or_an_indentation_is_no_edit_of_the_secret() -> None:
    original = b'{\n"auths": {\n"https://a/": {\n"auth": "' + SECRET + b'"\n}\n}\n}\n'
    base = redacted(original, ".docker/config.json")
    line = base.split(b"\n")[3]
    theirs = base.replace(line, line + b',\n"email": "x"')
    assert merge_redacted(original, base, theirs) == original.replace(SECRET + b'"', SECRET + b'",\n"email": "x"')


def test_line_ends_changed_all_through_keep_the_secrets() -> None:
    theirs = BASE.replace(b"\n", b"\r\n")
    assert merge_redacted(ORIGINAL, BASE, theirs) == ORIGINAL.replace(b"\n", b"\r\n")


def test_several_secrets_in_one_line_come_back_together() -> None:
    original = b"http://u:" + SECRET + b"@a/ http://u:" + OTHER + b"@b/\nend\n"
    base = redacted(original, "a.md")
    assert len(placeholders(base)) == 2
    assert merge_redacted(original, base, base + b"more\n") == original + b"more\n"


def test_utf_16_keeps_its_encoding() -> None:
    original = ("\ufeffpassword = '" + SECRET.decode() + "'\r\nlast line of a text\r\n").encode("utf-16-le")
    base = redacted(original, "a.ps1")
    extra = "more\r\n".encode("utf-16-le")
    assert merge_redacted(original, base, base + extra) == original + extra


def test_what_is_not_the_original_redacted_is_for_a_person_to_decide() -> None:
    theirs = BASE + b"y=1\n"
    assert merge_redacted(ORIGINAL + b"z=1\n", BASE, theirs) is None
    assert merge_redacted(ORIGINAL.replace(b"x=1", b"x=3"), BASE, theirs) is None


def test_a_users_edit_is_merged_in_redacted_form() -> None:
    """What apply does when the workspace's file changed meanwhile: redact it again, merge, give the secrets back."""
    from overlayws.apply.merge3 import merge3

    ours = ORIGINAL.replace(b"registry=https://a/", b"registry=https://mirror/")
    theirs = BASE + b"fund=false\n"
    again = redacted(ours)
    merged = merge3(BASE, again, theirs)
    assert merged.content is not None and merged.conflicts == 0
    assert merge_redacted(ours, again, merged.content) == ours + b"fund=false\n"


def test_a_new_file_with_a_placeholder_is_stray() -> None:
    assert [line for line, _ in stray(None, b"a\n" + LINE_A)] == [2]
    assert stray(BASE, BASE) == []
    assert stray(None, b"nothing") == []


def test_many_lines_take_little_time() -> None:
    import time

    original = b"".join(b"u%d=http://u:%s%d@h/\n" % (n, SECRET, n) for n in range(20_000))
    base = redacted(original, "a.txt")
    lines = base.split(b"\n")
    theirs = b"\n".join([*lines[10_000:], *lines[:10_000]])
    begin = time.process_time()
    merge_redacted(original, base, theirs)
    merge_redacted(original, base, b"\n" * 100_000)
    assert time.process_time() - begin < 20


LINES = st.lists(st.sampled_from([*BASE.split(b"\n"), b"new", b"", b"[c]", b"  " + LINE_A, LINE_A + b","]), max_size=12)


@settings(max_examples=300, deadline=None)
@given(LINES)
def test_no_edit_gives_a_secret_more_often_or_behind_another_key(lines: list[bytes]) -> None:
    theirs = b"\n".join(lines)
    merged = merge_redacted(ORIGINAL, BASE, theirs)
    if merged is None:
        return
    for secret, key in ((SECRET, b"//a/:_authToken="), (OTHER, b"//b/:_authToken=")):
        assert merged.count(secret) <= 1
        for line in merged.split(b"\n"):
            if secret in line:
                assert line.strip(b" ,") == key + secret
    restored = merged.count(SECRET) + merged.count(OTHER)
    assert len(placeholders(theirs)) == restored + len(stray(BASE, theirs))


def test_a_line_that_is_doubled_where_all_around_it_changed_is_for_a_person_to_decide() -> None:
    original = b"one\npassword = " + SECRET + b"\ntwo\n"
    base = redacted(original, "a.ini")
    line = base.split(b"\n")[1]
    assert merge_redacted(original, base, b"1\n" + line + b"\n" + line + b"\n2\n") is None
    assert merge_redacted(original, base, b"1\n" + line + b"\n2\n") == b"1\npassword = " + SECRET + b"\n2\n"
