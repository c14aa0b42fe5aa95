"""The files of a base, opened by their paths: of a frozen one, or of the workspace with a mask over it."""

from __future__ import annotations

import errno
import os
import stat
from typing import Protocol

from overlayws.beneath import Directories, open_directory, open_quietly, split
from overlayws.changes.opening import FILE, Parents
from overlayws.layer.mount import Layer


class Lower(Protocol):
    """What the program was given. Use as a context manager. ``live``: others may write it."""

    live: bool

    def __enter__(self) -> Lower: ...

    def __exit__(self, *_: object) -> None: ...

    def file(self, path: str) -> int:
        """A descriptor of the file ``path``, which is the caller's. Raises OSError."""

    def directory(self, path: str) -> int:
        """A descriptor of the directory ``path`` (as handles of copied-up files mean it), valid until the next call.
        Raises OSError."""


def lower_of(layer: Layer) -> Lower:
    """The base of a layer. Raises OSError where it cannot be opened."""
    return Live(layer) if layer.below else Frozen(layer)


class Frozen:
    """A base of our own, a sanitized copy."""

    live = False

    def __init__(self, layer: Layer) -> None:
        self._root = os.open(layer.lowerdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._parents = Parents(self._root)

    def __enter__(self) -> Frozen:
        return self

    def __exit__(self, *_: object) -> None:
        self._parents.close()
        os.close(self._root)

    def file(self, path: str) -> int:
        return self._parents.file(path)

    def directory(self, path: str) -> int:
        return self._parents.fd(path)


class Live:
    """The workspace itself: only read, without a new access time, and never given a permission. A file of the mask
    comes first, and what the mask hides is not there."""

    live = True

    def __init__(self, layer: Layer) -> None:
        mask, workspace = layer.below
        self._workspace = Directories(workspace)
        try:
            self._mask = os.open(mask, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except BaseException:
            self._workspace.__exit__()
            raise

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._mask)
        self._workspace.__exit__()

    def file(self, path: str) -> int:
        parts = path.split("/")
        fd = os.dup(self._mask)
        try:
            for number, name in enumerate(parts):
                try:
                    st = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    break  # nothing of the mask is here
                last = number == len(parts) - 1
                if stat.S_ISREG(st.st_mode) and last:
                    return os.open(name, FILE, dir_fd=fd)
                if not stat.S_ISDIR(st.st_mode) or last:
                    raise FileNotFoundError(errno.ENOENT, "hidden from the program")
                below = open_directory(fd, name)
                os.close(fd)
                fd = below
        finally:
            os.close(fd)
        above, name = split(path)
        return open_quietly(name, FILE, self._workspace.open(above))

    def directory(self, path: str) -> int:
        return self._workspace.open(path)
