"""Walk a tree by directory descriptors: nothing followed, any depth, any name, every error told."""

from __future__ import annotations

import os
from collections.abc import Iterator

from overlayws.beneath import open_directory


def list_directory(root: int, path: str) -> list[tuple[str, os.stat_result]]:
    """(name, lstat) of everything in the directory ``path`` below the descriptor ``root``, sorted by bytes.

    A name that vanishes meanwhile is left out. Raises OSError where the directory cannot be read.
    """
    fd = open_directory(root, path)
    try:
        names = os.listdir(fd)
        names.sort(key=None if "".join(names).isascii() else os.fsencode)
        try:
            return [(name, os.stat(name, dir_fd=fd, follow_symlinks=False)) for name in names]
        except FileNotFoundError:
            return _those_left(fd, names)
    finally:
        os.close(fd)


def _those_left(fd: int, names: list[str]) -> list[tuple[str, os.stat_result]]:
    found = []
    for name in names:
        try:
            found.append((name, os.stat(name, dir_fd=fd, follow_symlinks=False)))
        except FileNotFoundError:
            continue
    return found


def walk(root: int, top: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """(path, lstat) of everything below ``top``, a directory before what is in it. Raises OSError."""
    import stat

    stack = [top]
    while stack:
        parent = stack.pop()
        for name, st in list_directory(root, parent):
            path = f"{parent}/{name}" if parent else name
            yield path, st
            if stat.S_ISDIR(st.st_mode):
                stack.append(path)
