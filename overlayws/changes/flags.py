"""What a reviewer must know about a change, as short names (the table is in docs/changes.md).

Flags are advice to whoever looks; they are not part of the digest. They are made during the scan, while the bytes
are at hand, so that a command that only reads a change set needs neither base nor upperdir for them.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from dataclasses import dataclass

from overlayws.base.manifest import Manifest
from overlayws.changes.autorun import is_run_on_its_own
from overlayws.changes.confusable import mixes
from overlayws.changes.gitname import is_git_name
from overlayws.changes.invisible import hides
from overlayws.source.entry import Entry, Kind

LARGE = 1 << 20  # bytes
_FILE, _DIRECTORY = Kind.FILE, Kind.DIRECTORY  # looking up a member of an Enum is slow, and this runs for every change


@dataclass(frozen=True, slots=True)
class Content:
    """What the bytes of a change say, before and after."""

    binary: bool = False  # either side, by git's rule: a NUL in the first 8000 bytes
    shebang: bool = False  # a first line #!… that was not there before
    invisible: bool = False  # an added line with bidirectional or invisible characters
    mixed: bool = False  # an added line with a word of Latin letters and letters that look like them
    secret: bool = False  # a secret, or a placeholder, that was not there before


NO_CONTENT = Content()


class HiddenPaths:
    """The hidden paths of a manifest, loaded when first asked for, once for any number of questions."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._sorted: list[bytes] | None = None
        self._guarded: list[bytes] | None = None

    def opened(self, path: str, before: int, after: int) -> bool:
        """Whether the directory ``path``, whose mode was ``before``, is open to more than its owner with ``after``, and
        something below it is hidden from the program or shown redacted: its own mode may be all that guards it."""
        if not after & ~before & 0o077:
            return False
        if self._guarded is None:
            hidden = {h.path for h in self._manifest.hidden_below("")}
            self._guarded = sorted(map(os.fsencode, hidden | self._manifest.redacted()))
        return _holds_below(self._guarded, os.fsencode(path))

    def touched(self, path: str, *, below: bool) -> bool:
        """Whether a hidden path is ``path``, above it, or (if ``below``) below it."""
        hidden = self._sorted
        if hidden is None:
            hidden = self._sorted = sorted(os.fsencode(h.path) for h in self._manifest.hidden_below(""))
        if not hidden:
            return False
        name = os.fsencode(path)
        end = len(name)
        while end > 0:
            if _holds(hidden, name[:end]):
                return True
            end = name.rfind(b"/", 0, end)
        return below and _holds_below(hidden, name)


def _holds_below(items: list[bytes], name: bytes) -> bool:
    at = bisect_left(items, name + b"/")
    return at < len(items) and items[at].startswith(name + b"/")


def _holds(items: list[bytes], item: bytes) -> bool:
    at = bisect_left(items, item)
    return at < len(items) and items[at] == item


def flags(
    path: str, before: Entry | None, after: Entry | None, hidden: HiddenPaths, content: Content
) -> tuple[str, ...]:
    """The flags of one change, in the order of docs/changes.md."""
    found = []
    if after is None:
        kind = None
        mode = 0
    else:
        kind = after.kind
        mode = after.mode
        if kind is _FILE:
            if content.shebang or (mode & 0o111 and not (before and before.kind is _FILE and before.mode & 0o111)):
                found.append("executable")
        elif kind is Kind.SYMLINK and leads_outside(path, after.target or ""):
            found.append("symlink-outside")
        if mode & 0o7000:
            found.append("setuid")
    directory = before is not None and before.kind is _DIRECTORY
    opened = directory and kind is _DIRECTORY and hidden.opened(path, before.mode if before else 0, mode)
    if opened or hidden.touched(path, below=directory and kind is not _DIRECTORY):
        found.append("hidden-original")
    if content.binary:
        found.append("binary")
    if after is not None:
        if after.size > LARGE:
            found.append("large")
        if content.secret:
            found.append("secret")
        plain = path.isascii() and path.isprintable()
        if content.invisible or not plain and hides(path):
            found.append("invisible-text")
        if content.mixed or not plain and mixes(path):
            found.append("confusable")
        if kind is not _DIRECTORY:
            if is_run_on_its_own(path):
                found.append("auto-executed")
            if kind is not _FILE and after.kind.special:
                found.append("special")
    if is_git_name(path):
        found.append("git")
    return tuple(found)


def leads_outside(path: str, target: str) -> bool:
    """Whether the symlink ``path`` with ``target`` may lead out of the workspace, judged by the text alone.

    Absolute targets do. So does a '..' after a name, since what that name links to is not known here.
    """
    if target.startswith("/"):
        return True
    components = [c for c in target.split("/") if c not in ("", ".")]
    up = 0
    while up < len(components) and components[up] == "..":
        up += 1
    return up > path.count("/") or ".." in components[up:]
