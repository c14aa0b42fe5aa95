"""Searching by the C library is searching as bytes do."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from overlayws.filter.literal import Text

LETTERS = st.binary(max_size=40) | st.lists(st.sampled_from([b"a", b"b", b"ab", b"\0", b"\1", b"\xff"])).map(b"".join)
WORDS = st.lists(st.sampled_from([b"a", b"b", b"\xff"]), min_size=1, max_size=5).map(b"".join)


@settings(deadline=None)
@given(LETTERS, WORDS, st.integers(0, 60))
def test_a_word_is_found_where_bytes_find_it(data: bytes, word: bytes, at: int) -> None:
    assert Text(data).find(word, at) == data.find(word, at)


def test_what_is_behind_the_end_is_not_looked_at() -> None:
    data = b"x" * 100
    assert Text(data).find(b"x", 99) == 99
    assert [Text(data).find(b"x", at) for at in (100, 101, 4096)] == [-1, -1, -1]
    assert Text(b"").find(b"x") == -1


def test_a_nul_ends_nothing() -> None:
    assert Text(b"\0\0secret\0secret").find(b"secret", 3) == 9
    assert Text(b"secret\0").find(b"secre\0"[:5], 1) == -1
