"""Paths below a root, never through a symlink and never out of the root.

openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS does it in one system call; where
the kernel (or gVisor) has none, one ``openat(O_NOFOLLOW | O_DIRECTORY)`` a component does the same. A path that
was checked is used only through the descriptor that the check returned.
"""

from __future__ import annotations

import ctypes
import errno
import os

_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_SYS_OPENAT2 = 437  # the same number on every architecture (openat2(2) is younger than the common table)

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
    global _have_openat2
    if not path:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    plain(path)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
    name = os.fsencode(path)
    if _have_openat2 and len(name) < 4096:
        how = _OpenHow(flags, 0, _RESOLVE)
        fd: int = _syscall(_SYS_OPENAT2, root, name, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        # EPERM is what an old seccomp profile answers for a call it does not know.
        if number not in (errno.ENOSYS, errno.EPERM, errno.EAGAIN):
            raise OSError(number, os.strerror(number), path)
        if number != errno.EAGAIN:
            _have_openat2 = False
    return _walk_down(root, path, flags)


def _walk_down(root: int, path: str, flags: int) -> int:
    fd = os.dup(root)
    for component in path.split("/"):
        try:
            below = os.open(component, flags, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def split(path: str) -> tuple[str, str]:
    """(parent, name); the parent of a top-level name is ''."""
    parent, _, name = path.rpartition("/")
    return parent, name


def plain(path: str) -> str:
    """``path`` itself, if each component is a name: not empty, '.', '..', no NUL, at most 255 bytes.

    Raises ValueError otherwise.
    """
    for component in path.split("/"):
        if component in ("", ".", "..") or "\0" in component or len(os.fsencode(component)) > 255:
            raise ValueError(f"not a plain relative path: {path!r}")
    return path
