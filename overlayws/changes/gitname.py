"""Names that git takes for its own directory, on any system that a work tree may be copied to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from overlayws.beneath import split
from overlayws.changes.change import Change

# What HFS+ leaves out when it compares names (git's utf8.c, next_hfs_char).
_IGNORED_BY_HFS = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
_SPLIT = re.compile(r"[/\\]")  # NTFS takes a backslash for a separator


def is_git_name(path: str) -> bool:
    """Whether a component of ``path`` is ``.git`` to some file system: any case, with trailing dots or spaces or a
    stream (NTFS), as the short name ``git~1`` (NTFS), or with ignorable characters (HFS+).

    These are the names that git's own verify_path refuses (read-cache.c; CVE-2014-9390, CVE-2019-1352).
    """
    if path.isascii():
        folded = path.lower()
        if ".git" not in folded and "git~1" not in folded:
            return False
    else:
        folded = _IGNORED_BY_HFS.sub("", path).casefold()
    for component in _SPLIT.split(folded):
        name = component.partition(":")[0].rstrip(". ")
        if name in (".git", "git~1"):
            return True
    return False


def repositories(changes: Iterable[Change], is_there: Callable[[str], bool]) -> set[str]:
    """The directories that git would take for a repository once ``changes`` are applied: with ``HEAD``, ``objects``
    and ``refs`` (or ``commondir``), at least one of them from the change set. Whatever runs git in one obeys its
    ``config`` (setup.c, is_git_directory). ``is_there(path)`` tells what the workspace has.
    """
    after = {change.path: change.after for change in changes}

    def has(path: str) -> bool:
        return after[path] is not None if path in after else is_there(path)

    found = set()
    for path in after:
        above, name = split(path)
        prefix = f"{above}/" if above else ""
        if name in ("HEAD", "objects", "refs", "commondir") and above not in found and has(prefix + "HEAD"):
            if has(prefix + "commondir") or (has(prefix + "objects") and has(prefix + "refs")):
                found.add(above)
    return found
