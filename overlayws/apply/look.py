"""The workspace as it is now, only read: through directory descriptors, never through a symlink."""

from __future__ import annotations

import array
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from overlayws.apply.locked import READING, Log, Reach
from overlayws.apply.refuse import fold
from overlayws.apply.step import Seen
from overlayws.beneath import open_quietly, split
from overlayws.errors import UnableError, UsageError
from overlayws.source.entry import Xattrs

_CHUNK = 1 << 20
_NO_XATTRS = (errno.ENOTSUP, errno.EPERM)
_GETFLAGS = 0x80086601  # FS_IOC_GETFLAGS, linux/fs.h
_CASEFOLD = 0x40000000  # FS_CASEFOLD_FL

# What can stand in the way of a path: class id -> words.
BARRED = {
    "parent-symlink": "a directory above it is a symlink in the workspace",
    "parent-not-a-directory": "what should be a directory above it is none in the workspace",
    "parent-unreadable": "a directory above it cannot be opened",
}


class Barred(Exception):
    """A parent directory cannot be entered; ``reason`` is a key of BARRED."""

    def __init__(self, reason: str, ancestor: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.ancestor = ancestor  # the path that is in the way


class Look:
    """The workspace, opened for reading. Use as a context manager. Raises UsageError, UnableError on opening.

    Directories that must be opened for it (see ``locked``) are written down in the directory ``journal``, which is
    gone in the end; without one they are not opened.
    """

    def __init__(self, workspace: Path, journal: Path | None = None) -> None:
        self._journal = journal
        self._name = workspace.absolute().name
        try:
            self._directories = Reach(workspace, Log(journal, workspace) if journal else None, READING)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UsageError(f"no workspace at {workspace}: {error.strerror}", hint="give an existing one") from error
        except OSError as error:
            raise UnableError(f"cannot open workspace {workspace}: {error.strerror}", hint="check its mode") from error
        st = os.fstat(self._directories.root)
        self.root = (st.st_dev, st.st_ino)
        self._barred: dict[str, Barred | None] = {}
        self._folds: dict[str, bool] = {}
        self._spelled: set[str] = set()

    def __enter__(self) -> Look:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._journal is not None and self._directories.log and self._directories.log.opened:
                self._directories.close_opened()
                self._journal.rmdir()
        finally:
            self._directories.__exit__()

    def parent(self, path: str) -> int | None:
        """A descriptor of the directory that ``path`` is in, or None where it does not exist. Raises Barred."""
        parent = split(path)[0]
        if parent in self._barred:
            barred = self._barred[parent]
            if barred is not None:
                raise barred
            return None
        try:
            return self._directories.open(parent)
        except OSError as error:
            if error.errno == errno.ENOENT:
                self._barred[parent] = None
                return None
            barred = self._barred[parent] = self._why(parent, error)
            raise barred from None

    def seen(self, path: str) -> Seen | None:
        """What is at ``path``, or None. Raises Barred."""
        fd = self.parent(path)
        if fd is None:
            return None
        try:
            st = os.stat(split(path)[1], dir_fd=fd, follow_symlinks=False)
            return Seen.of(st, self._directories.true_mode(path, st))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Barred("parent-unreadable", split(path)[0]) from error

    def exists(self, path: str) -> bool:
        """Whether anything is at ``path``."""
        try:
            return self.seen(path) is not None
        except Barred:
            return False

    def names(self, path: str) -> list[str]:
        """The names in the directory ``path``. Raises UnableError."""
        try:
            return os.listdir(self._directories.open(path))
        except OSError as error:
            raise UnableError(f"cannot list {path!r}: {error.strerror}", hint="check its mode") from error

    def target(self, path: str) -> str:
        """The target of the symlink ``path``; '' where it is none any more."""
        try:
            return os.readlink(split(path)[1], dir_fd=self._parent(path))
        except OSError:
            return ""

    def read(self, path: str, limit: int) -> bytes | None:
        """The content of the file ``path``, or None where it is larger than ``limit`` bytes. Raises UnableError."""
        fd = self._file(path)
        try:
            if os.fstat(fd).st_size > limit:
                return None
            chunks = []
            while chunk := os.read(fd, _CHUNK):
                chunks.append(chunk)
            return b"".join(chunks)
        finally:
            os.close(fd)

    def digest(self, path: str) -> str:
        """The SHA-256 of the file ``path`` in hex. Raises UnableError."""
        found = hashlib.sha256()
        fd = self._file(path)
        try:
            while chunk := os.read(fd, _CHUNK):
                found.update(chunk)
        finally:
            os.close(fd)
        return found.hexdigest()

    def xattrs(self, path: str, *, directory: bool = False) -> Xattrs:
        """The ``user.*`` attributes of a file or directory, sorted; () where the file system has none."""
        fd = os.dup(self._directories.open(path)) if directory else self._file(path)
        try:
            names = sorted(name for name in os.listxattr(fd) if name.startswith("user."))
            return tuple((name, os.getxattr(fd, name)) for name in names)
        except OSError as error:
            if error.errno in _NO_XATTRS:
                return ()
            raise UnableError(f"cannot read attributes of {path!r}: {error.strerror}") from error
        finally:
            os.close(fd)

    def has_name(self, path: str) -> bool:
        """Whether the last component of an existing ``path`` is listed exactly so: a folding file system finds
        a name under other spellings too."""
        return split(path)[1] in os.listdir(self._parent(path))

    def exactly(self, path: str) -> bool:
        """Whether each component of the existing ``path`` is listed exactly so; lists every directory above it."""
        while path:
            if not self.has_name(path):
                return False
            path = split(path)[0]
        return True

    def spelled(self, path: str) -> bool:
        """As ``exactly``, of a directory, looking only where names fold."""
        while path:
            parent = split(path)[0]
            if path in self._spelled:
                return True
            if self.folds(parent) and not self.has_name(path):
                return False
            self._spelled.add(path)
            path = parent
        return True

    def one(self, paths: Sequence[str]) -> bool:
        """Whether two of ``paths``, spelled differently, are one: what is found at the second is not listed under its
        name. A hard link is."""
        found: dict[tuple[int, int], str] = {}
        with suppress(Barred):
            for path in paths:
                if (seen := self.seen(path)) is None:
                    continue
                other = found.setdefault((seen.stamp.dev, seen.stamp.ino), path)
                if other != path and not (self.exactly(path) and self.exactly(other)):
                    return True
        return False

    def folds(self, path: str) -> bool:
        """Whether the directory ``path`` (or, where it does not exist, the one above it) finds names in another
        case: told by the file system's flag, by a name that is there, or by what it is called itself."""
        if path not in self._folds:
            self._folds[path] = self._finds_other_case(path)
        return self._folds[path]

    def _finds_other_case(self, path: str) -> bool:
        try:
            fd = self._directories.open(path)
        except OSError:
            return self.folds(split(path)[0])
        if _folds(fd):
            return True
        found = _finds_swapped(fd, os.listdir(fd))
        if found is not None:
            return found
        with suppress(OSError):
            above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
            try:
                if os.fstat(above).st_dev == os.fstat(fd).st_dev:
                    found = _finds_swapped(above, [split(path)[1] or self._name])
            finally:
                os.close(above)
        return found if found is not None else bool(path) and self.folds(split(path)[0])

    def _file(self, path: str) -> int:
        try:
            # O_NONBLOCK: a FIFO put there meanwhile must not hang the open.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = open_quietly(split(path)[1], flags, self._parent(path))
        except OSError as error:
            raise UnableError(f"cannot read {path!r}: {error.strerror}", hint="check its mode and owner") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise UnableError(f"{path!r} changes while it is looked at", hint="apply again when nothing writes to it")
        return fd

    def _parent(self, path: str) -> int:
        try:
            fd = self.parent(path)
        except Barred:
            fd = None
        if fd is None:
            raise UnableError(f"{path!r} changes while it is looked at", hint="apply again when nothing writes to it")
        return fd

    def _why(self, parent: str, error: OSError) -> Barred:
        parts = parent.split("/")
        for n in range(1, len(parts) + 1):
            ancestor = "/".join(parts[:n])
            with suppress(OSError):
                above = self._directories.open("/".join(parts[: n - 1]))
                mode = os.stat(parts[n - 1], dir_fd=above, follow_symlinks=False).st_mode
                if stat.S_ISLNK(mode):
                    return Barred("parent-symlink", ancestor)
                if not stat.S_ISDIR(mode):
                    return Barred("parent-not-a-directory", ancestor)
        return Barred("parent-unreadable", parent)


def _folds(fd: int) -> bool:
    flags = array.array("l", [0])
    try:
        fcntl.ioctl(fd, _GETFLAGS, flags)
    except OSError:
        return False
    return bool(flags[0] & _CASEFOLD)


def _finds_swapped(fd: int, names: list[str]) -> bool | None:
    """Whether a directory finds one of the ``names`` that are in it in another case; None where none can tell."""
    listed = set(names)
    for name in names:
        swapped = name.swapcase()
        if swapped in listed or fold(swapped) != fold(name) or swapped == name:
            continue
        try:
            one = os.stat(name, dir_fd=fd, follow_symlinks=False)
            other = os.stat(swapped, dir_fd=fd, follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(one, other)
    return None
