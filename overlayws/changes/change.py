"""Change, Rename, ChangeSet: all differences between base and merged, and their identity."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from json.encoder import encode_basestring_ascii as _string

from overlayws.source.entry import Entry, Kind

_LONG = 400  # characters of a path in a message
_NAMES = 3  # attributes that are named; names may have any byte but NUL
_SYMLINK = Kind.SYMLINK  # a name of its own: looking up a member of an Enum costs as much as a line here


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs. ``before is None`` is an addition, ``after is None`` a deletion, different kinds
    a type change."""

    path: str  # relative, surrogateescape
    before: Entry | None
    after: Entry | None
    flags: tuple[str, ...] = ()  # what a reviewer must know; names as in docs/changes.md; not part of the digest

    @property
    def status(self) -> str:
        """added, deleted, type-changed, modified or mode-changed (renamed is a pair: see Rename)."""
        if self.before is None:
            return "added"
        if self.after is None:
            return "deleted"
        if self.before.kind is not self.after.kind:
            return "type-changed"
        if self.before.mode == self.after.mode:
            return "modified"
        same = (self.before.digest, self.before.target, self.before.xattrs) == (
            self.after.digest,
            self.after.target,
            self.after.xattrs,
        )
        return "mode-changed" if same else "modified"

    @property
    def kind(self) -> Kind:
        """What is at the path now; for a deletion, what was."""
        entry = self.after or self.before
        if entry is None:
            raise ValueError(f"a change of nothing: {self.path!r}")
        return entry.kind


def unsaid(before: Entry | None, after: Entry | None) -> str | None:
    """What a patch says nothing of: ``mode 0600 -> 0644`` where that is more than the execute bit, and the names of
    extended attributes that came, went or changed."""
    if after is None or after.kind is _SYMLINK:
        return None
    same = before is not None and before.kind is after.kind
    said = []
    if before is not None and same and before.mode ^ after.mode not in (0, 0o111):
        said.append(f"mode {before.mode:04o} -> {after.mode:04o}")
    given = before.xattrs if before is not None and same else ()
    if given != after.xattrs:
        names = sorted({name for name, _ in {*given} ^ {*after.xattrs}})
        more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
        said.append("attributes " + ", ".join(map(_string, names[:_NAMES])) + more)
    return ", ".join(said) or None


@dataclass(frozen=True, slots=True)
class Rename:
    """A deleted and an added file that are one file moved. Presentation: the change set keeps both changes."""

    old: str
    new: str
    similarity: int  # percent, as git counts it; 100 is the same content


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """What could not be captured, and why."""

    path: str  # relative, surrogateescape; '' is the workspace's own directory
    why: str

    def __str__(self) -> str:
        path = self.path or "."
        if len(path) > _LONG:
            path = f"{path[: _LONG // 2]}[…]{path[-_LONG // 2 :]}"
        return f"{path!r}: {self.why}"


@dataclass(frozen=True)
class ChangeSet:
    """All differences, sorted by the bytes of the path (so a directory comes before what is in it).

    Directories are changes of their own where they appear, vanish or change their mode.
    ``problems`` names what could not be captured; a change set with problems is incomplete and is not applied. A file
    that is there and could not be read is a change all the same: ``after`` has its size and no digest. ``links`` has
    the names that are one file for the program, where one of them is a change; apply makes a file of each.
    ``access_lists`` names what the program gave one (acl(5)): they are never applied, and no change by themselves.
    """

    changes: tuple[Change, ...]
    renames: tuple[Rename, ...] = ()
    problems: tuple[Problem, ...] = ()
    links: tuple[tuple[str, ...], ...] = ()
    access_lists: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """``sha256:…`` over a canonical encoding of every change; renames and links are not part of it."""
        return "sha256:" + hashlib.sha256(canonical(self.changes)).hexdigest()


def canonical(changes: Iterable[Change]) -> bytes:
    """A JSON array of [path, before, after], one a line, with no other white space. ASCII, surrogates escaped: the
    same bytes on every locale.

    A change to this encoding changes every digest: decisions that people made would be lost.
    """
    # Written out, because json.dumps of the nested lists takes three times as long.
    rows = [f"[{_string(c.path)},{_encode(c.before)},{_encode(c.after)}]" for c in changes]
    return ("[" + ",\n".join(rows) + "]").encode("ascii")


def _encode(entry: Entry | None) -> str:
    """[kind, mode, size, digest, target, xattrs], or null."""
    if entry is None:
        return "null"
    kind = entry.kind
    xattrs = ",".join([f'[{_string(name)},"{value.hex()}"]' for name, value in entry.xattrs]) if entry.xattrs else ""
    digest = "null" if entry.digest is None else f'"{entry.digest}"'
    target = "null" if entry.target is None else _string(entry.target)
    # The mode of a symlink says nothing (symlink(7)), and file systems differ in what they report.
    mode = 0 if kind is _SYMLINK else entry.mode
    return f'["{kind._value_}",{mode},{entry.size},{digest},{target},[{xattrs}]]'
