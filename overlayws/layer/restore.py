"""Drop single changes from a layer that nobody has mounted: the upperdir then shows the base's entry again.

A restored path becomes a copy of what the lowerdir has there (a no-op copy-up, which ``scan`` does not report), so
that it also comes back from below a whiteout or in an opaque directory without its siblings.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from overlayws.beneath import open_directory, split
from overlayws.layer.mount import Layer
from overlayws.layer.whiteout import Marks
from overlayws.source.copyfile import copy_file
from overlayws.source.remove import remove_below

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def restore(layer: Layer, marks: Marks, paths: Iterable[str]) -> None:
    """Make the layer show the base's entry (or nothing, where the base has none) at each of ``paths``.

    A directory is restored by itself: name what is below it too. The private copy of the ``copy`` backend is
    restored likewise. Raises OSError.
    """
    ordered = sorted(paths, key=os.fsencode)
    lower = os.open(layer.lowerdir, _DIRECTORY)
    try:
        for root, opaque in ((layer.upperdir, _Opaque(marks)), (layer.merged, _NoLower())):
            if any(os.scandir(root)):
                _restore(lower, root, ordered, opaque)
    finally:
        os.close(lower)


class _Opaque:
    """Whether a directory of an upperdir hides the lowerdir, and how to make it so."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks

    def hides(self, fd: int) -> bool:
        return self._marks.is_opaque(fd)

    def make(self, fd: int) -> None:
        os.setxattr(fd, self._marks.prefix + "opaque", b"y")


class _NoLower:
    """A private copy: no lowerdir shows through anywhere."""

    def hides(self, fd: int) -> bool:
        return True

    def make(self, fd: int) -> None:
        pass


def _restore(lower: int, root: Path, paths: list[str], opaque: _Opaque | _NoLower) -> None:
    top = os.open(root, _DIRECTORY)
    try:
        # What goes away goes first and deepest first; then the rest, parents before children.
        for path in reversed(paths):
            if _lstat(lower, path) is None:
                _remove(top, path)
        for path in paths:
            st = _lstat(lower, path)
            if st is not None:
                _put_back(lower, top, path, st, opaque)
    finally:
        os.close(top)


def _lstat(root: int, path: str) -> os.stat_result | None:
    parent, name = split(path)
    try:
        fd = open_directory(root, parent)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    finally:
        os.close(fd)


def _remove(top: int, path: str) -> None:
    parent, name = split(path)
    try:
        fd = open_directory(top, parent)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return
        raise
    try:
        remove_below(fd, name)
    finally:
        os.close(fd)


def _put_back(lower: int, top: int, path: str, st: os.stat_result, opaque: _Opaque | _NoLower) -> None:
    parent, name = split(path)
    fd = _open_parents(lower, top, parent, opaque)
    if fd is None:
        return  # nothing of the upperdir is above the path: the lowerdir shows through already
    try:
        source = open_directory(lower, parent)
        try:
            if stat.S_ISDIR(st.st_mode):
                _put_directory(source, fd, name, st, opaque)
            else:
                remove_below(fd, name)
                _copy(source, fd, name, st)
        finally:
            os.close(source)
    finally:
        os.close(fd)


def _open_parents(lower: int, top: int, parent: str, opaque: _Opaque | _NoLower) -> int | None:
    """The upper directory ``parent``; what hides it (a whiteout, a file) is replaced by an opaque directory."""
    fd, source = os.dup(top), os.dup(lower)
    try:
        hidden = opaque.hides(fd)
        for component in parent.split("/") if parent else ():
            st = _stat(component, fd)
            if st is None and not hidden:
                os.close(fd)
                fd = -1
                return None
            if st is None or not stat.S_ISDIR(st.st_mode):
                _put_directory(source, fd, component, os.stat(component, dir_fd=source), opaque)
            below = os.open(component, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
            below = os.open(component, _DIRECTORY, dir_fd=source)
            os.close(source)
            source = below
            hidden = hidden or opaque.hides(fd)
        kept, fd = fd, -1
        return kept
    finally:
        os.close(source)
        if fd >= 0:
            os.close(fd)


def _stat(name: str, parent: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _put_directory(source: int, target: int, name: str, st: os.stat_result, opaque: _Opaque | _NoLower) -> None:
    there = _stat(name, target)
    made = there is None or not stat.S_ISDIR(there.st_mode)
    if made:
        remove_below(target, name)
        os.mkdir(name, 0o700, dir_fd=target)
    fd = os.open(name, _DIRECTORY, dir_fd=target)
    try:
        if made:
            opaque.make(fd)
        _copy_xattrs(source, name, fd)
        os.fchmod(fd, stat.S_IMODE(st.st_mode))
    finally:
        os.close(fd)


def _copy(source: int, target: int, name: str, st: os.stat_result) -> None:
    times = (st.st_atime_ns, st.st_mtime_ns)
    if stat.S_ISLNK(st.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)
        return
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        out = os.open(name, flags, 0o600, dir_fd=target)
        try:
            copy_file(fd, out, st, os.fstat(out).st_dev)
            _copy_xattrs(source, name, out)
            os.utime(out, ns=times)
            os.fchmod(out, stat.S_IMODE(st.st_mode))
        finally:
            os.close(out)
    finally:
        os.close(fd)


def _copy_xattrs(source: int, name: str, target: int) -> None:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        wanted = {n: os.getxattr(fd, n) for n in os.listxattr(fd) if n.startswith("user.")}
    finally:
        os.close(fd)
    for stale in os.listxattr(target):
        if stale.startswith("user.") and not stale.startswith("user.overlay.") and stale not in wanted:
            os.removexattr(target, stale)
    for attribute, value in wanted.items():
        os.setxattr(target, attribute, value)
