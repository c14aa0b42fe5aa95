"""screen: of many small files at once, those that may hold a secret; in the others ``Inspector.inspect`` is sure to
find nothing.

The files are joined by a byte that no secret has in it, so that each search runs over all of them at the speed of C
instead of being called for each. What is searched for are the places from which the detectors of ``content_match.py``
start; a file that has one is looked at by these detectors, as if there had been no screen.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from overlayws.filter.content_assign import ANCHORS, assigns
from overlayws.filter.content_command import COMMANDS, given
from overlayws.filter.content_match import HASH_HEAD, LONGEST_USERINFO
from overlayws.filter.content_runs import runs
from overlayws.filter.literal import Text

# No text, or text in UTF-16: none of these bytes occurs in UTF-8 (RFC 3629).
_NOT_UTF8 = (b"\0", b"\xfe", b"\xff")
_KEY = b"PRIVATE KEY"


def screen(files: Sequence[bytes]) -> set[int]:
    """The indices of those of ``files`` that must be inspected. It does not know what is redacted by its name."""
    data = b"\n".join(files)
    text = Text(data.lower())
    starts = list(accumulate((len(file) + 1 for file in files), initial=0))
    found: set[int] = set()

    def mark(at: int) -> int:
        """Note the file that the byte ``at`` is in; where the next one starts."""
        number = bisect_right(starts, at)
        found.add(number - 1)
        return starts[number]

    def each(following: Callable[[int], int]) -> None:
        at = following(0)
        while at >= 0:
            at = following(mark(at))

    for byte in _NOT_UTF8:
        each(lambda begin, byte=byte: data.find(byte, begin))  # type: ignore[misc]
    for command in COMMANDS:
        each(lambda begin, command=command: _command(data, text, command, begin))  # type: ignore[misc]
    for name in ANCHORS:
        each(lambda begin, name=name: _name(data, text, name, begin))  # type: ignore[misc]
    each(lambda begin: _key(data, text, begin))
    each(lambda begin: _userinfo(data, begin))
    each(lambda begin: _hash(data, begin))
    passed = 0
    for begin, _ in runs(data):
        if begin >= passed:
            passed = mark(begin)
    return found


def _name(data: bytes, text: Text, name: bytes, at: int) -> int:
    at = text.find(name, at)
    while at >= 0:
        if assigns(data, at):
            return at
        at = text.find(name, at + 1)
    return -1


def _command(data: bytes, text: Text, command: bytes, at: int) -> int:
    at = text.find(command, at)
    while at >= 0 and (said := given(data, at, command))[0] is None:
        at = text.find(command, said[1])
    return at


def _key(data: bytes, text: Text, at: int) -> int:
    at = text.find(b"private key", at)
    while at >= 0 and not data.startswith(_KEY, at):
        at = text.find(b"private key", at + 1)
    return at


def _userinfo(data: bytes, at: int) -> int:
    at = data.find(b"@", at)
    while at >= 0 and data.rfind(b"://", max(0, at - LONGEST_USERINFO), at) < 0:
        at = data.find(b"@", at + 1)
    return at


def _hash(data: bytes, at: int) -> int:
    at = data.find(b"$", at)
    while at >= 0 and HASH_HEAD.match(data, at) is None:
        at = data.find(b"$", at + 1)
    return at
