"""replica: an upperdir copied to another file system as it is, every mark included, by root.

Contents with their holes, whiteouts and devices, hard links, owners, modes, times, and all attributes: the overlay's
own, the program's, access lists and capabilities. What is read is the program's: nothing of it is followed, and a
directory, a link or a level costs the same wherever it is.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from overlayws.layer.cursor import Cursor, opened
from overlayws.source.copyfile import copy_file
from overlayws.source.entry import Xattrs
from overlayws.source.remove import remove_tree

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class _Level:
    st: os.stat_result
    xattrs: Xattrs
    names: Iterator[str]


def replicate(source: Path, target: Path, links: Path) -> None:
    """Make the empty directory ``target`` what ``source`` is. ``links``: a name on the file system of ``target``, where
    first names are kept until all is copied; nothing is left there. Raises OSError, which names the path."""
    remove_tree(links)  # of a copy that was killed
    links.mkdir(mode=0o700)
    held = os.open(links, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with Cursor(source) as reading, Cursor(target) as writing:
            _Copying(reading, writing, held).run()
    finally:
        os.close(held)
        remove_tree(links)


class _Copying:
    def __init__(self, source: Cursor, target: Cursor, held: int) -> None:
        self._source, self._target, self._held = source, target, held
        self._dev = os.fstat(target.fd).st_dev
        self._linked: set[int] = set()  # inodes of which the first name is held
        self._levels: list[_Level] = []

    def run(self) -> None:
        self._enter(self._source.root)
        while True:
            level = self._levels[-1]
            name = next(level.names, None)
            if name is None:
                self._levels.pop()
                self._finish(level)
                if not self._levels:
                    return
                self._source.up()
                self._target.up()
                continue
            try:
                self._one(name)
            except OSError as error:
                raise OSError(error.errno, error.strerror, name) from error

    def _enter(self, st: os.stat_result) -> None:
        self._levels.append(_Level(st, _xattrs(self._source.fd), iter(self._source.names())))

    def _finish(self, level: _Level) -> None:
        """At the end of a directory: a default access list would be given to all that is made in it."""
        fd, st = self._target.fd, level.st
        os.fchown(fd, st.st_uid, st.st_gid)
        _put(fd, level.xattrs)
        os.fchmod(fd, stat.S_IMODE(st.st_mode))
        os.utime(fd, ns=(st.st_atime_ns, st.st_mtime_ns))

    def _one(self, name: str) -> None:
        st = self._source.lstat(name)
        if stat.S_ISDIR(st.st_mode):
            os.mkdir(name, 0o700, dir_fd=self._target.fd)
            self._enter(self._source.down(name))
            self._target.down(name)
            return
        if st.st_ino in self._linked:
            self._link(st.st_ino, name)
            return
        if stat.S_ISREG(st.st_mode):
            self._file(name)
        else:
            self._other(name, st)
        if st.st_nlink > 1:
            os.link(name, str(st.st_ino), src_dir_fd=self._target.fd, dst_dir_fd=self._held, follow_symlinks=False)
            self._linked.add(st.st_ino)

    def _link(self, ino: int, name: str) -> None:
        """One more name. The last that a file may have is the one that we held it by."""
        try:
            os.link(str(ino), name, src_dir_fd=self._held, dst_dir_fd=self._target.fd, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            os.rename(str(ino), name, src_dir_fd=self._held, dst_dir_fd=self._target.fd)
            self._linked.discard(ino)  # the next one is a file of its own: more than this file system has

    def _file(self, name: str) -> None:
        with opened(self._source.fd, name) as (source, st):
            fd = os.open(name, _NEW, 0o600, dir_fd=self._target.fd)
            try:
                copy_file(source, fd, st, self._dev)
                os.fchown(fd, st.st_uid, st.st_gid)  # before the capabilities, which it takes away
                _put(fd, _xattrs(source))
                os.fchmod(fd, stat.S_IMODE(st.st_mode))
                os.utime(fd, ns=(st.st_atime_ns, st.st_mtime_ns))
            finally:
                os.close(fd)

    def _other(self, name: str, st: os.stat_result) -> None:
        parent = self._target.fd
        if stat.S_ISLNK(st.st_mode):
            os.symlink(os.readlink(os.fsencode(name), dir_fd=self._source.fd), os.fsencode(name), dir_fd=parent)
        else:
            os.mknod(name, stat.S_IFMT(st.st_mode) | 0o600, st.st_rdev, dir_fd=parent)
        os.chown(name, st.st_uid, st.st_gid, dir_fd=parent, follow_symlinks=False)
        _put(f"/proc/self/fd/{parent}/{name}", _xattrs(f"/proc/self/fd/{self._source.fd}/{name}"))
        if not stat.S_ISLNK(st.st_mode):
            os.chmod(name, stat.S_IMODE(st.st_mode), dir_fd=parent)  # just made by us in a directory of ours
        os.utime(name, ns=(st.st_atime_ns, st.st_mtime_ns), dir_fd=parent, follow_symlinks=False)


def _xattrs(where: int | str) -> Xattrs:
    """Every attribute of a descriptor, or of a path whose last component is not followed."""
    if isinstance(where, int):
        return tuple((name, os.getxattr(where, name)) for name in os.listxattr(where))
    names = os.listxattr(where, follow_symlinks=False)
    return tuple((name, os.getxattr(where, name, follow_symlinks=False)) for name in names)


def _put(where: int | str, xattrs: Xattrs) -> None:
    for name, value in xattrs:
        if isinstance(where, int):
            os.setxattr(where, name, value)
        else:
            os.setxattr(where, name, value, follow_symlinks=False)
