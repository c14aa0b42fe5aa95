"""Remove a whole tree of ours: any depth, any name, modes that the program or overlayfs took away."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from overlayws.beneath import open_directory, split
from overlayws.source.walk import list_directory


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
    """Remove the entry ``name`` of the directory ``parent``, a whole tree if it is one. Raises OSError."""
    try:
        os.unlink(name, dir_fd=parent)
        return
    except FileNotFoundError:
        return
    except IsADirectoryError:
        pass
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        root = os.open(name, flags, dir_fd=parent)
    except PermissionError:
        # Only we can write in the directory above, so the name is still the directory that unlink met.
        os.chmod(name, 0o700, dir_fd=parent)
        root = os.open(name, flags, dir_fd=parent)
    try:
        stack = [("", False)]
        while stack:
            path, emptied = stack.pop()
            if emptied:
                above, last = split(path)
                fd = open_directory(root, above)
                try:
                    os.rmdir(last, dir_fd=fd)
                finally:
                    os.close(fd)
                continue
            if path:
                stack.append((path, True))
            stack.extend((below, False) for below in _empty(root, path))
    finally:
        os.close(root)
    os.rmdir(name, dir_fd=parent)


def _empty(root: int, path: str) -> list[str]:
    """Unlink what is no directory in ``path``; the directories that are left."""
    fd = open_directory(root, path)
    try:
        if stat.S_IMODE(os.fstat(fd).st_mode) & 0o700 != 0o700:
            os.fchmod(fd, 0o700)
        directories = []
        for name, st in list_directory(fd, ""):
            if stat.S_ISDIR(st.st_mode):
                if st.st_mode & 0o700 != 0o700:
                    # Only we can write here, so the name is still the directory that lstat saw.
                    os.chmod(name, 0o700, dir_fd=fd)
                directories.append(f"{path}/{name}" if path else name)
            else:
                os.unlink(name, dir_fd=fd)
        return directories
    finally:
        os.close(fd)
