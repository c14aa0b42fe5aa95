"""Hard links between a private copy and its upperdir: a file that has several names in one has them in the other.

The first name of each is held by another one in a directory of our own, so that the next is linked to it wherever it
is: paths may be longer than the system takes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from overlayws.source.remove import remove_tree


class Held:
    """The files with several names that were written, by the inodes that they were read from."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def hold(self, st: os.stat_result, parent: int, name: str) -> None:
        """``name``, which was just written in the directory ``parent``, is the file with the stat ``st``."""
        if st.st_nlink > 1:
            with suppress(OSError):  # a file system without links: each name is a file of its own
                os.link(name, _key(st), src_dir_fd=parent, dst_dir_fd=self._fd, follow_symlinks=False)

    def put(self, st: os.stat_result, parent: int, name: str) -> bool:
        """Make ``name`` another name of what was written of the file with the stat ``st``; False where nothing was."""
        if st.st_nlink > 1:
            with suppress(OSError):  # nothing, or more names than the file system allows
                os.link(_key(st), name, src_dir_fd=self._fd, dst_dir_fd=parent, follow_symlinks=False)
                return True
        return False


@contextmanager
def holding(place: Path) -> Iterator[Held]:
    """A Held whose directory ``place``, on the file system that is written to, is gone at the end. Raises OSError."""
    remove_tree(place)  # of a capture that was killed
    place.mkdir(mode=0o700)
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Held(fd)
    finally:
        os.close(fd)
        remove_tree(place)


def _key(st: os.stat_result) -> str:
    return f"{st.st_dev}-{st.st_ino}"
