"""Names that git takes for its own directory, on any system that a work tree may be copied to."""

from __future__ import annotations

import re

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
