"""Cursor: walk a tree by one descriptor, down by name and up by "..", at any depth and of any owner's modes.

A stack of descriptors would end at RLIMIT_NOFILE, a stack of paths at PATH_MAX. Going up is checked against the
inode that we came from, so that a directory moved by somebody else meanwhile cannot lead out of the tree.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from overlayws.source.entry import ACCESS_LISTS, Xattrs

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Cursor:
    """A place in the tree below ``root``. Use as a context manager: on leaving, no descriptor is left.

    A directory that its owner may not read or search gets those permissions while the cursor is in it.
    ``root`` is the stat of the top, with the mode that it had. Raises OSError.
    """

    def __init__(self, root: Path) -> None:
        # Of this directory: the mode to restore, or None. Of those above: also (device, inode) to come back to.
        self.fd, self.root, self._restore = _open_directory(None, os.fspath(root))
        self._above: list[tuple[int, int, int | None]] = []

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            while self._above:
                self.up()
            if self._restore is not None:
                os.fchmod(self.fd, self._restore)
        except OSError:
            pass  # an error is on its way already: the modes that can be restored are
        finally:
            os.close(self.fd)

    @property
    def depth(self) -> int:
        """How many directories below the root."""
        return len(self._above)

    def down(self, name: str) -> os.stat_result:
        """Into the directory ``name``; its stat, with the mode that it had. Raises OSError (ENOTDIR for a symlink)."""
        here = os.fstat(self.fd)
        below, st, restore = _open_directory(self.fd, name)
        self._above.append((here.st_dev, here.st_ino, self._restore))
        os.close(self.fd)
        self.fd, self._restore = below, restore
        return st

    def up(self, finish: int | None = None, mtime_ns: int | None = None) -> None:
        """Out of the directory, restoring its mode or, if given, leaving it with mode ``finish`` and ``mtime_ns``."""
        above = os.open("..", _DIRECTORY, dir_fd=self.fd)
        try:
            dev, ino, restore = self._above.pop()
            st = os.fstat(above)
            if (st.st_dev, st.st_ino) != (dev, ino):
                raise OSError(errno.ESTALE, "a directory was moved while it was read")
            if mtime_ns is not None:
                os.utime(self.fd, ns=(mtime_ns, mtime_ns))
            mode = self._restore if finish is None else finish
            if mode is not None:
                os.fchmod(self.fd, mode)
        except BaseException:
            os.close(above)
            raise
        os.close(self.fd)
        self.fd, self._restore = above, restore

    def names(self) -> list[str]:
        """The names in the directory, sorted by their bytes."""
        return sorted(os.listdir(self.fd), key=os.fsencode)

    def lstat(self, name: str) -> os.stat_result:
        """What ``name`` is; nothing is followed. Raises OSError."""
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)


def _open_directory(parent: int | None, name: str) -> tuple[int, os.stat_result, int | None]:
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
        st = os.fstat(fd)
        # Root may do without; asking for the bits is then a change that nobody needs.
        if st.st_mode & 0o500 == 0o500 or os.geteuid() == 0:
            return fd, st, None
        os.close(fd)
    except PermissionError:
        pass
    with _opened_up(parent, name, stat.S_IFDIR, 0o700) as (link, st):
        fd = os.open(link, _DIRECTORY & ~os.O_NOFOLLOW)
        # Left as it is by the context below; the caller restores it when leaving.
    os.fchmod(fd, stat.S_IMODE(st.st_mode) | 0o700)
    return fd, st, stat.S_IMODE(st.st_mode)


@contextmanager
def _opened_up(parent: int | None, name: str, kind: int, bits: int) -> Iterator[tuple[str, os.stat_result]]:
    """(path of the inode, stat) of something whose owner lacks permissions, which it has inside the context."""
    pin = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        st = os.fstat(pin)
        if stat.S_IFMT(st.st_mode) != kind:
            raise OSError(errno.ESTALE, "replaced while it was read", name)
        link = f"/proc/self/fd/{pin}"  # this inode, whatever the name is by now
        os.chmod(link, stat.S_IMODE(st.st_mode) | bits)
        try:
            yield link, st
        finally:
            os.chmod(link, stat.S_IMODE(st.st_mode))
    finally:
        os.close(pin)


@contextmanager
def opened(parent: int, name: str) -> Iterator[tuple[int, os.stat_result]]:
    """(descriptor for reading, stat) of a regular file, also of one that its owner may not read.

    Raises OSError: ESTALE where it is no regular file (any more).
    """
    # O_NONBLOCK: opening a FIFO must not wait for a writer.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags | os.O_NOFOLLOW, dir_fd=parent)
    except PermissionError:
        with _opened_up(parent, name, stat.S_IFREG, 0o400) as (link, st):
            fd = os.open(link, flags)
            try:
                yield fd, st
            finally:
                os.close(fd)
        return
    try:
        st = os.fstat(fd)
        if not stat.S_ISREG(st.st_mode):
            raise OSError(errno.ESTALE, "replaced while it was read", name)
        yield fd, st
    finally:
        os.close(fd)


def kept_xattrs(fd: int) -> Xattrs:
    """The ``user.*`` attributes and the access lists of an open file or directory, sorted; none where the file system
    has none."""
    try:
        names = os.listxattr(fd)
        return tuple((name, os.getxattr(fd, name)) for name in sorted(names) if _is_kept(name))
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return ()
        raise


def _is_kept(name: str) -> bool:
    return name.startswith("user.") or name in ACCESS_LISTS
