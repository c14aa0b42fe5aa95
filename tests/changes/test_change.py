"""The change set and its digest, which decisions are bound to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from overlayws.changes.change import Change, ChangeSet, Problem, Rename
from overlayws.source.entry import Entry, Kind

FILE = Entry(Kind.FILE, 0o644, 3, "ab" * 32, None, (("user.note", b"\0\xff"),))
LINK = Entry(Kind.SYMLINK, 0o777, target="b\udcff\n")
DIRECTORY = Entry(Kind.DIRECTORY, 0o755)
CHANGES = (
    Change('a "quoted"\n', None, FILE, ("executable",)),
    Change("b\udcff", FILE, replace(FILE, mode=0o755)),
    Change("d", DIRECTORY, LINK),
    Change("é", FILE, None),
)


def test_the_digest_is_the_same_on_every_machine_and_version() -> None:
    assert ChangeSet(CHANGES).digest == "sha256:39e152b1a3071a8f86bf7e46a600d7fedfe0451a13f4c24f365bafb6e9626372"


def test_flags_renames_problems_and_the_mode_of_a_link_are_not_part_of_the_digest() -> None:
    bare = tuple(replace(change, flags=()) for change in CHANGES)
    other = ChangeSet(bare, (Rename("é", "a", 50),), (Problem("x", "unreadable"),))
    assert other.digest == ChangeSet(CHANGES).digest
    links = (*CHANGES[:2], Change("d", DIRECTORY, replace(LINK, mode=0o700)), CHANGES[3])
    assert ChangeSet(links).digest == ChangeSet(CHANGES).digest


@pytest.mark.parametrize(
    "other",
    [
        replace(FILE, kind=Kind.FIFO),
        replace(FILE, mode=0o600),
        replace(FILE, size=4),
        replace(FILE, digest="ac" * 32),
        replace(FILE, digest=None),
        replace(FILE, target=""),
        replace(FILE, xattrs=()),
        replace(FILE, xattrs=(("user.note", b"\0\xfe"),)),
        replace(FILE, xattrs=(("user.noted", b"\0\xff"),)),
        None,
    ],
    ids=str,
)
def test_anything_else_is(other: Entry | None) -> None:
    for sides in ((FILE, other), (other, FILE)):
        assert ChangeSet((Change("p", *sides),)).digest != ChangeSet((Change("p", FILE, FILE),)).digest
    assert ChangeSet((Change("q", FILE, FILE),)).digest != ChangeSet((Change("p", FILE, FILE),)).digest
    assert ChangeSet((Change("p", None, FILE),)).digest != ChangeSet((Change("p", FILE, None),)).digest


def test_no_name_can_pretend_to_be_two_changes() -> None:
    one = ChangeSet((Change('a",null,null],["b', None, FILE),))
    two = ChangeSet((Change("a", None, None), Change("b", None, FILE)))
    assert one.digest != two.digest


def test_the_status_follows_from_before_and_after() -> None:
    other = replace(FILE, digest="cd" * 32)
    executable = replace(FILE, mode=0o755)
    statuses = {
        "added": (None, FILE),
        "deleted": (FILE, None),
        "modified": (FILE, replace(other, mode=0o755)),
        "mode-changed": (FILE, executable),
        "type-changed": (DIRECTORY, FILE),
    }
    assert {status: Change("p", *sides).status for status, sides in statuses.items()} == {s: s for s in statuses}
    assert Change("p", FILE, replace(FILE, xattrs=())).status == "modified"
