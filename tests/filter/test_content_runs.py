"""The runs of token bytes are those that a regular expression finds, only sooner."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from overlayws.filter.content_runs import RUN, runs

WORD = re.compile(rb"[A-Za-z0-9_+/-]{%d,}" % RUN)
PIECES = st.sampled_from([b"a" * 19, b"Z9_+/-", b"7", b"x" * 40, b" ", b"\0", b"=", b".", b"\n", b"\xff", b"ghp_"])


@given(st.lists(PIECES | st.binary(max_size=3), max_size=9).map(b"".join))
@example(b"1" * RUN)
@example(b"1" * (RUN - 1) + b" " + b"2" * (RUN - 1))
@example(b"\0" + b"a" * RUN + b"1\0" + b"3" * RUN)
def test_runs_are_the_long_words_with_a_digit_or_the_head_of_a_token(data: bytes) -> None:
    words = [match.span() for match in WORD.finditer(data)]
    found = list(runs(data))
    assert set(found) <= set(words)
    assert {span for span in words if re.search(rb"[0-9]|ghp_", data[slice(*span)])} <= set(found)
    assert found == sorted(found)
