"""Make one file, link or special file in a directory, whole: content, attributes, times, mode."""

from __future__ import annotations

import os
import stat
from contextlib import nullcontext, suppress

from overlayws.layer.whiteout import Marks
from overlayws.source.copyfile import copy_file
from overlayws.source.entry import ACCESS_LISTS, Kind, Xattrs, kind_of


def put_file(source: int, st: os.stat_result, parent: int, name: str, xattrs: Xattrs) -> os.stat_result:
    """A copy of the open file ``source`` at a new name; its stat. Raises OSError."""
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
    try:
        copy_file(source, fd, st, os.fstat(fd).st_dev)
        put_xattrs(fd, xattrs)
        os.utime(fd, ns=(st.st_atime_ns, st.st_mtime_ns))
        os.fchmod(fd, stat.S_IMODE(st.st_mode))  # the last: it may take our own permission to do the rest
        return os.fstat(fd)
    finally:
        os.close(fd)


def put_symlink(target: str, st: os.stat_result, parent: int, name: str) -> None:
    """A symlink at a new name. Raises OSError."""
    os.symlink(target, name, dir_fd=parent)
    os.utime(name, ns=(st.st_atime_ns, st.st_mtime_ns), dir_fd=parent, follow_symlinks=False)


def put_xattrs(fd: int, xattrs: Xattrs) -> None:
    """Set attributes; an access list, which sets the mode too, if it can be. Raises OSError."""
    for name, value in xattrs:
        with suppress(OSError) if name in ACCESS_LISTS else nullcontext():
            os.setxattr(fd, name, value)


def put_directory_xattrs(fd: int, xattrs: Xattrs) -> None:
    """As ``put_xattrs``, of a directory that is still written in: its mode is 0700 again. Raises OSError."""
    put_xattrs(fd, xattrs)
    if any(name in ACCESS_LISTS for name, _ in xattrs):
        os.fchmod(fd, 0o700)


def put_marked(parent: int, name: str, attribute: str, value: bytes, mode: int) -> None:
    """An empty regular file at a new name that carries one mark. Raises OSError."""
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
    try:
        os.setxattr(fd, attribute, value)
        os.fchmod(fd, mode & 0o777 | 0o600)  # a mark must stay readable
    finally:
        os.close(fd)


def put_special(st: os.stat_result, parent: int, name: str, marks: Marks) -> None:
    """What an upperdir holds for a special file: a FIFO or socket itself, a device as a mark (see whiteout.py).

    A device cannot be made without privilege; a 0:0 one can, but would be a deletion. Raises OSError.
    """
    kind = kind_of(st.st_mode)
    if kind in (Kind.FIFO, Kind.SOCKET):
        os.mknod(name, stat.S_IFMT(st.st_mode) | 0o600, dir_fd=parent)
        os.chmod(name, stat.S_IMODE(st.st_mode), dir_fd=parent)  # just made by us in a directory of ours
        return
    value = f"{kind.value} {os.major(st.st_rdev)}:{os.minor(st.st_rdev)}".encode()
    put_marked(parent, name, marks.prefix + "special", value, stat.S_IMODE(st.st_mode))
