"""What is never applied, or only when its class is admitted: judged by names and kinds, before the workspace is
looked at. Every class has an id (``Conflict.reason``)."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from overlayws.apply.step import Conflict
from overlayws.base.manifest import Manifest
from overlayws.beneath import plain, split
from overlayws.changes.change import Change
from overlayws.errors import UntrustedError
from overlayws.source.entry import Kind

ADMISSIBLE = frozenset({"symlink-outside"})  # classes that may be admitted by name; all others never are

# Code points that HFS+ leaves out when it compares names (git's utf8.c, next_hfs_char).
_HFS_IGNORED = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
# NTFS: the short name, trailing dots and spaces, and a stream after a colon (git's path.c, is_ntfs_dotgit).
_NTFS_GIT = re.compile(r"(\.git|git~1)[ .]*(:.*)?", re.DOTALL)


def check_path(path: str) -> str:
    """``path`` itself, if it is plain component by component. Raises UntrustedError."""
    try:
        return plain(path)
    except ValueError as error:
        raise UntrustedError(
            f"the change set is damaged: {error}", hint="discard it and run the program again"
        ) from None


def is_git(path: str) -> bool:
    """Whether a component is `.git` in any spelling that git protects against on any system."""
    folded = _HFS_IGNORED.sub("", path).casefold()
    return "git" in folded and any(_NTFS_GIT.fullmatch(component) for component in re.split(r"[/\\]", folded))


def is_in(path: str, directories: set[str]) -> bool:
    """Whether ``path`` is one of ``directories`` or lies below one."""
    return bool(directories) and any(not d or path == d or path.startswith(f"{d}/") for d in directories)


def leads_outside(path: str, target: str) -> bool:
    """Whether the symlink ``path`` -> ``target`` is absolute or may leave the root.

    Leading '..' count exactly, since the parents of ``path`` are real directories. A '..' after a name could
    pass through another symlink (a -> b/c, a/../..), so that is taken as leading outside too.
    """
    if not target or target.startswith("/"):
        return True
    depth = path.count("/")
    named = False
    for component in target.split("/"):
        if component == "..":
            depth -= 1
            if named or depth < 0:
                return True
        elif component not in ("", "."):
            named = True
    return False


def fold(path: str) -> str:
    """The key under which a folding file system (HFS+, APFS, NTFS, FAT, casefold ext4) would find a path."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def twins(
    changes: Iterable[Change], folds: Callable[[str], bool], one: Callable[[Sequence[str]], bool] = lambda paths: False
) -> set[str]:
    """The paths that will be one path where the file system folds names; also a deleted one with one that is added: to
    delete it would delete both. ``folds(directory)`` tells whether it does, ``one(paths)`` whether two of them are one
    already: it may fold letters and no case. Both are asked only where there are any."""
    groups: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        groups[fold(change.path)].append(change)
    return {
        change.path
        for group in groups.values()
        if len(group) > 1
        and any(c.after is not None for c in group)
        and (folds(split(group[0].path)[0]) or one([c.path for c in group]))
        for change in group
    }


def refused(change: Change, manifest: Manifest, allow: frozenset[str]) -> Conflict | None:
    """Why a change is refused, or None. Raises UntrustedError for a path that is not plain."""
    path, after = check_path(change.path), change.after
    if is_git(path):
        return Conflict(path, "git", "a repository's own files are never applied")
    if after is not None and after.kind.special:
        return Conflict(path, "special", f"a {after.kind.value} is never applied")
    hidden = manifest.hidden(path)
    if hidden is not None:
        return Conflict(path, "hidden-original", f"{hidden.path!r} was hidden from the program")
    if after is None:
        return None
    if after.kind is not Kind.DIRECTORY and manifest.hidden_below(path):
        return Conflict(path, "hidden-original", "the directory in its place holds hidden files")
    if after.kind is Kind.SYMLINK:
        target = after.target or ""
        if "\0" in target or len(os.fsencode(target)) > 4095:
            return Conflict(path, "special", "a symlink with a target that cannot be")
        if leads_outside(path, target) and "symlink-outside" not in allow:
            return Conflict(path, "symlink-outside", f"a symlink to {target!r}, outside of the workspace")
    return None
