"""Remove a whole tree of ours: any depth, any name, modes that the program or overlayfs took away."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

_TRIES = 10  # while somebody else removes parts of the tree too, as a daemon does that looks after its own sockets
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(top: Path) -> None:
    """Remove ``top`` and all below it; nothing there is fine. Follows no symlink below ``top``'s parent.

    No recursion (a program can nest thousands of levels) and no path that is longer than a name. Raises OSError.
    """
    try:
        parent = os.open(top.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        remove_below(parent, top.name)
    finally:
        os.close(parent)


def remove_below(parent: int, name: str) -> None:
    """Remove the entry ``name`` of the directory ``parent``, a whole tree if it is one. Raises OSError.

    What somebody else removes, or makes, meanwhile is no error, unless they go on with it.
    """
    for left in reversed(range(_TRIES)):
        try:
            return _remove(parent, name)
        except OSError as error:
            if not left or error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise


def _remove(parent: int, name: str) -> None:
    """One descriptor is open, down by name and up by "..", so that a level costs the same at any depth."""
    try:
        os.unlink(name, dir_fd=parent)
        return
    except FileNotFoundError:
        return
    except IsADirectoryError:
        pass
    fd = _open(name, parent)
    try:
        waiting = [_empty(fd)]  # of each level: the directories still to remove
        above: list[tuple[int, int]] = []
        while True:
            if waiting[-1]:
                here = os.fstat(fd)
                below = _open(waiting[-1][-1], fd)
                above.append((here.st_dev, here.st_ino))
                os.close(fd)
                fd = below
                waiting.append(_empty(fd))
                continue
            waiting.pop()
            if not waiting:
                break
            up = os.open("..", _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = up
            here = os.fstat(fd)
            if (here.st_dev, here.st_ino) != above.pop():
                raise OSError(errno.ESTALE, "a directory was moved while it was removed", waiting[-1][-1])
            os.rmdir(waiting[-1].pop(), dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)


def _open(name: str, parent: int) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        # Only we can write in the directory above, so the name is still the directory that was met.
        os.chmod(name, 0o700, dir_fd=parent)
        return os.open(name, _DIRECTORY, dir_fd=parent)


def _empty(fd: int) -> list[str]:
    """Unlink what is no directory in ``fd``; the directories that are left."""
    if stat.S_IMODE(os.fstat(fd).st_mode) & 0o700 != 0o700:
        os.fchmod(fd, 0o700)
    directories = []
    with os.scandir(fd) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            else:
                with suppress(FileNotFoundError):
                    os.unlink(entry.name, dir_fd=fd)
    return directories
