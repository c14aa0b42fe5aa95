"""A patch in git's format, section by section. Where a hunk ends is decided by its line counts, never by how a line
begins: a line of a file may look like any header."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_KEYS = (
    b"index ", b"old mode ", b"new mode ", b"new file mode ", b"deleted file mode ", b"similarity index ",
    b"rename from ", b"rename to ", b"--- ", b"+++ ",
)  # fmt: skip
_ESCAPED = re.compile(rb'\\([0-7]{3}|[abfnrtv"\\])')
_LETTERS = {
    b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v", b'"': b'"', b"\\": b"\\",
}  # fmt: skip


class NotAPatch(ValueError):
    """The bytes are no patch in git's format."""


@dataclass(slots=True)
class PatchHunk:
    """Lines as they stand, with their first character and without the end of line."""

    header: bytes
    old_start: int
    old_count: int
    new_start: int
    new_count: int
    lines: list[bytes] = field(default_factory=list)

    def counts(self) -> tuple[int, int]:
        """(added, removed) lines."""
        return sum(line[:1] == b"+" for line in self.lines), sum(line[:1] == b"-" for line in self.lines)


@dataclass(slots=True)
class Section:
    """What a patch says of one file."""

    header: list[bytes]  # from ``diff --git`` to the line before the first hunk
    hunks: list[PatchHunk] = field(default_factory=list)
    binary: bool = False  # a binary patch, whose data is left out here
    notes: list[str] = field(default_factory=list)  # ours, for eyes

    def said(self, key: bytes) -> bytes | None:
        """What stands after ``key`` and a space in a line of the header."""
        for line in self.header[1:]:
            if line.startswith(key + b" "):
                return line[len(key) + 1 :]
        return None

    def counts(self) -> tuple[int, int]:
        """(added, removed) lines."""
        pairs = [hunk.counts() for hunk in self.hunks]
        return sum(added for added, _ in pairs), sum(removed for _, removed in pairs)


def sections(patch: bytes) -> Iterator[Section]:
    """The sections of ``patch``. Raises NotAPatch."""
    lines = _lines(patch)
    line = next(lines, None)
    while line is not None:
        if not line.startswith(b"diff --git "):
            raise NotAPatch(f"a line outside of any file: {line[:80]!r}")
        section = Section([line])
        line = next(lines, None)
        while line is not None and not line.startswith(b"diff --git "):
            if line.startswith(b"@@ "):
                hunk, line = _hunk(line, lines)
                section.hunks.append(hunk)
            elif section.binary:
                line = next(lines, None)
            elif section.hunks:
                raise NotAPatch(f"a line after the hunks: {line[:80]!r}")
            else:
                section.binary = line == b"GIT binary patch"
                if not section.binary:
                    if not line.startswith(_KEYS):
                        raise NotAPatch(f"not a line of a header: {line[:80]!r}")
                    section.header.append(line)
                line = next(lines, None)
        yield section


def names(section: Section) -> tuple[bytes | None, bytes | None]:
    """(old, new) path of a section; None for a side that is not there. Raises NotAPatch where it says two things."""
    old, new = section.said(b"---"), section.said(b"+++")
    moved = [section.said(key) for key in (b"rename from", b"rename to")]
    if (moved[0] is None) != (moved[1] is None):
        raise NotAPatch(f"half of a rename: {section.header[0][:80]!r}")
    if old is None or new is None:  # no hunks: the two names of the first line are the same, but for a rename
        if section.hunks:
            raise NotAPatch(f"hunks of no file: {section.header[0][:80]!r}")
        both = section.header[0][len(b"diff --git ") :]
        half = len(both) // 2
        old, new = both[:half], both[half + 1 :]
        if moved[0] is not None and moved[1] is not None:
            old, new = (_prefixed(name, side) for name, side in zip(moved, (b"a/", b"b/"), strict=True) if name)
        elif _path(old, b"a/") != _path(new, b"b/"):
            raise NotAPatch(f"two names where one should be: {both[:80]!r}")
    # A name with white space is followed by a tab, for programs that expect a time there.
    found = [_path(name.removesuffix(b"\t"), side) for name, side in zip((old, new), (b"a/", b"b/"), strict=True)]
    for side, key in enumerate((b"new file mode", b"deleted file mode")):
        said, name = moved[side], found[side]
        if section.hunks and ((section.said(key) is None) != (name is not None) or said and unquoted(said) != name):
            raise NotAPatch(f"two things are said of {name!r}"[:200])
        if section.said(key) is not None:
            found[side] = None
    return found[0], found[1]


def _path(name: bytes, prefix: bytes) -> bytes | None:
    if name == b"/dev/null":
        return None
    path = unquoted(name)
    if not path.startswith(prefix):
        raise NotAPatch(f"not a name after {prefix!r}: {name[:80]!r}")
    return path[2:]


def _prefixed(name: bytes, prefix: bytes) -> bytes:
    return b'"' + prefix + name[1:] if name.startswith(b'"') else prefix + name


def _lines(patch: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(patch):
        end = patch.find(b"\n", start)
        if end < 0:
            raise NotAPatch("the last line has no end")
        yield patch[start:end]
        start = end + 1


def _hunk(header: bytes, lines: Iterator[bytes]) -> tuple[PatchHunk, bytes | None]:
    """The hunk and the line after it."""
    match = _HUNK.match(header)
    if match is None:
        raise NotAPatch(f"not a hunk: {header[:80]!r}")
    old_start, new_start = int(match[1]), int(match[3])
    old, new = (1 if match[n] is None else int(match[n]) for n in (2, 4))
    hunk = PatchHunk(header, old_start, old, new_start, new)
    line: bytes | None
    for line in lines:
        mark = line[:1]
        if mark == b"\\":
            hunk.lines.append(line)
            continue
        if not old and not new:
            return hunk, line
        old -= mark in (b" ", b"-")
        new -= mark in (b" ", b"+")
        if mark not in (b" ", b"-", b"+") or old < 0 or new < 0:
            raise NotAPatch(f"not a line of a hunk: {line[:80]!r}")
        hunk.lines.append(line)
    if old or new:
        raise NotAPatch(f"a hunk is cut short: {header[:80]!r}")
    return hunk, None


def unquoted(name: bytes) -> bytes:
    """A name as git writes it in a header (git-config(1), core.quotePath), as it is."""
    if not name.startswith(b'"'):
        return name
    if len(name) < 2 or not name.endswith(b'"'):
        raise NotAPatch(f"a name without its end: {name!r}")
    return _ESCAPED.sub(lambda m: _LETTERS.get(m[1]) or bytes([int(m[1], 8)]), name[1:-1])
