"""Paths below a root, never through a symlink and never out of the root.

openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS does it in one system call; where
the kernel (or gVisor) has none, one ``openat(O_NOFOLLOW | O_DIRECTORY)`` a component does the same. A path that
was checked is used only through the descriptor that the check returned.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Self

_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_SYS_OPENAT2 = 437  # the same number on every architecture (openat2(2) is younger than the common table)

# Of a path that was there: it is gone, or a component of it is something else by now.
GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_RESOLVE = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS
_have_openat2 = True


def open_directory(root: int, path: str) -> int:
    """A descriptor of the directory ``path`` below the descriptor ``root`` ('' is the root itself).

    Raises OSError: ELOOP or ENOTDIR where a component is a symlink or no directory, ENOENT where it is
    missing, EXDEV where the path leaves the root. ValueError for a path that is not plain (see ``plain``).
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
    if not path:
        return open_quietly(".", flags, root)
    return open_beneath(root, path, flags)


def open_beneath(root: int, path: str, flags: int) -> int:
    """open(2) of ``path`` below the descriptor ``root`` for reading, without a new access time where that is allowed.

    ``flags`` hold O_NOFOLLOW. Raises as ``open_directory``.
    """
    global _have_openat2
    plain(path)
    name = os.fsencode(path)
    if _have_openat2 and len(name) < 4096:
        number = 0
        for quiet in (os.O_NOATIME, 0):  # see open_quietly
            how, size = _how(flags | quiet)
            fd: int = _syscall(_SYS_OPENAT2, root, name, how, size)
            if fd >= 0:
                return fd
            number = ctypes.get_errno()
            if number != errno.EPERM:
                break
        # EPERM is what an old seccomp profile answers for a call it does not know.
        if number not in (errno.ENOSYS, errno.EPERM, errno.EAGAIN):
            raise OSError(number, os.strerror(number), path)
        if number != errno.EAGAIN:
            _have_openat2 = False
    return _walk_down(root, path, flags)


@functools.cache  # a few combinations, and building one costs as much as the call
def _how(flags: int) -> tuple[object, int]:
    how = _OpenHow(flags, 0, _RESOLVE)
    return ctypes.byref(how), ctypes.sizeof(how)


def _walk_down(root: int, path: str, flags: int) -> int:
    *parents, last = path.split("/")
    fd = os.dup(root)
    try:
        for component in parents:
            below = open_quietly(component, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, fd)
            os.close(fd)
            fd = below
        return open_quietly(last, flags, fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(fd)


def open_quietly(name: str, flags: int, parent: int | None) -> int:
    """open(2) of ``name`` in the directory ``parent`` (None: the current one), for reading, without a new access
    time where that is allowed: O_NOATIME is refused for another owner's file. Raises OSError."""
    try:
        return os.open(name, flags | os.O_NOATIME, dir_fd=parent)
    except PermissionError:
        return os.open(name, flags, dir_fd=parent)


def split(path: str) -> tuple[str, str]:
    """(parent, name); the parent of a top-level name is ''."""
    parent, _, name = path.rpartition("/")
    return parent, name


def directories_above(paths: Iterable[str]) -> set[str]:
    """Every directory above one of ``paths``, without the root."""
    found: set[str] = set()
    for path in paths:
        while (path := split(path)[0]) and path not in found:
            found.add(path)
    return found


_NOT_NAMES = frozenset(("", ".", ".."))


def plain(path: str) -> str:
    """``path`` itself, if each component is a name: not empty, '.', '..', no NUL, at most 255 bytes.

    Raises ValueError otherwise.
    """
    components = path.split("/")
    bad = not _NOT_NAMES.isdisjoint(components) or "\0" in path
    if not bad and len(path) > 63:  # a character has at most four bytes
        bad = any(len(os.fsencode(component)) > 255 for component in components)
    if bad:
        raise ValueError(f"not a plain relative path: {path!r}")
    return path


_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
# renameat2(2) by number where the C library has no wrapper (musl before 1.2.6).
_SYS_RENAMEAT2 = {
    "x86_64": 316,
    "aarch64": 276,
    "riscv64": 276,
    "i686": 353,
    "armv7l": 382,
    "ppc64le": 357,
    "s390x": 347,
}


def exchange(from_dir: int, from_name: str, to_dir: int, to_name: str) -> None:
    """Swap two names in one step (renameat2(2), RENAME_EXCHANGE); both exist before and after.

    Raises OSError: EINVAL or ENOSYS where the file system cannot, EXDEV between mounts, ENOENT.
    """
    _renameat2(from_dir, from_name, to_dir, to_name, _RENAME_EXCHANGE)


def move(from_dir: int, from_name: str, to_dir: int, to_name: str) -> None:
    """Rename without replacing (renameat2(2), RENAME_NOREPLACE).

    Raises OSError: EEXIST where the new name exists, EINVAL or ENOSYS where the file system cannot.
    """
    _renameat2(from_dir, from_name, to_dir, to_name, _RENAME_NOREPLACE)


def same_mount(one: int, other: int) -> bool:
    """Whether rename(2) between two open directories is possible; nothing is written.

    The kernel compares the mounts before it looks at the names, and refuses '.' as a new name with EEXIST: so
    a rename onto '.' tells the two apart. Equal device numbers exclude btrfs subvolumes, which answer EXDEV later.
    """
    if os.fstat(one).st_dev != os.fstat(other).st_dev:
        return False
    try:
        _renameat2(one, "x", other, ".", _RENAME_NOREPLACE)
    except OSError as error:
        return error.errno != errno.EXDEV
    return True


def syncfs(fd: int) -> None:
    """Make the whole file system of ``fd`` durable (syncfs(2)): one call for any number of files. Raises OSError."""
    if _libc.syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _renameat2(from_dir: int, from_name: str, to_dir: int, to_name: str, flags: int) -> None:
    old, new = os.fsencode(from_name), os.fsencode(to_name)
    if hasattr(_libc, "renameat2"):
        failed = _libc.renameat2(from_dir, old, to_dir, new, flags)
    else:
        number = _SYS_RENAMEAT2.get(os.uname().machine)
        if number is None:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), from_name, None, to_name)
        failed = _syscall(number, from_dir, old, to_dir, new, flags)
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), from_name, None, to_name)


class Directories:
    """Descriptors of directories below a root, the last ones used kept open. Use as a context manager.

    A descriptor is valid until the next call of ``open``; '' is the root itself. At most ``limit`` are open, and
    at most half of what the process may have open.
    """

    def __init__(self, root: Path, limit: int = 500) -> None:
        self.root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._limit = max(1, min(limit, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
        self._open: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.forget()
        os.close(self.root)

    def open(self, path: str) -> int:
        """A descriptor of the directory ``path``. Raises as ``open_directory``."""
        if not path:
            return self.root
        fd = self._open.pop(path, -1)
        if fd < 0:
            fd = self._reach(path)
            if len(self._open) >= self._limit:
                os.close(self._open.pop(next(iter(self._open))))
        self._open[path] = fd
        return fd

    def _reach(self, path: str) -> int:
        return open_directory(self.root, path)

    def forget(self) -> None:
        """Close every descriptor but the root's: after this a path is looked up anew."""
        while self._open:
            os.close(self._open.popitem()[1])
