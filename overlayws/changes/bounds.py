"""How much a program may make a scan read and remember. What is beyond is a problem: told, and not applied."""

from __future__ import annotations

import errno
import os

from overlayws.source.entry import Xattrs

WHOLE = 1 << 20  # bytes; a larger file is streamed and never held
LARGEST = 16 << 30  # bytes; a sparse file of a terabyte takes no disk, but its hash would take an hour
_HOLES = 16 << 30  # bytes of holes hashed in one scan: a minute
# Directories can be nested so that their paths come to gigabytes: 1,500 levels of names of 250 bytes are 280 MB.
_DEEPEST, _LONGEST, _NAMES = 2000, 1 << 16, 128 << 20  # levels; characters of one path, and of all with attributes
_ROW = 64  # what a change counts besides its path: so a million changes are remembered, in about 800 bytes each


def too_large(why: str) -> OSError:
    """The error for a file that is not read."""
    return OSError(errno.EFBIG, f"larger than a change may be ({why})")


class Bounds:
    """What is left to one scan."""

    def __init__(self) -> None:
        self._holes = _HOLES
        self._names = _NAMES

    def size(self, st: os.stat_result) -> int:
        """The size of the file with the stat ``st``. Raises OSError where its holes are more than what is left: a
        hundred sparse files of 16 GiB are made in a moment, and to hash them takes an hour."""
        size = st.st_size
        if size > WHOLE:
            hole = max(0, size - st.st_blocks * 512)
            if hole > self._holes:
                raise too_large(f"{size} bytes, {hole} of them holes; in all files at most {_HOLES}")
            self._holes -= hole
        return size

    def too_deep(self, levels: int, path: str) -> bool:
        """Whether a directory is not looked into."""
        return levels > _DEEPEST or len(path) > _LONGEST

    @property
    def full(self) -> bool:
        """Whether something was not remembered."""
        return self._names < 0

    def remembers(self, path: str, xattrs: Xattrs = ()) -> bool:
        """Whether there is room for one more change, and what it holds besides its path."""
        self._names -= len(path) + _ROW + sum(len(name) + len(value) for name, value in xattrs)
        return self._names >= 0
