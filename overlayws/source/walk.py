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
    found = []
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                try:
                    found.append((entry.name, entry.stat(follow_symlinks=False)))
                except FileNotFoundError:
                    continue
    finally:
        os.close(fd)
    if all(name.isascii() for name, _ in found):
        found.sort()  # names are unique, so nothing but names is compared
    else:
        found.sort(key=lambda item: os.fsencode(item[0]))
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
