"""The bytes of a change set: read below one directory, never through a symlink, and only if they are still the
bytes that were scanned."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from overlayws.beneath import open_directory, split
from overlayws.errors import UntrustedError
from overlayws.source.entry import Entry

_CHUNK = 1 << 20


class ChangedSince(UntrustedError):
    """The bytes below an upperdir or a base are not the ones that were scanned."""


class Contents:
    """The files below ``root`` (an upperdir, or a base's lowerdir). Use as a context manager."""

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._parent: tuple[str, int] | None = None

    def __enter__(self) -> Contents:
        return self

    def __exit__(self, *_: object) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
        os.close(self._root)

    def read(self, path: str, entry: Entry) -> bytes:
        """The content of the file ``path``. Raises ChangedSince unless it has ``entry.digest``."""
        with self._opened(path) as fd:
            chunks = []
            while chunk := os.read(fd, _CHUNK):
                chunks.append(chunk)
        data = b"".join(chunks)
        if entry.digest is not None and hashlib.sha256(data).hexdigest() != entry.digest:
            raise _changed(path)
        return data

    def copy(self, path: str, entry: Entry, out: int) -> None:
        """Write the content of the file ``path`` to the descriptor ``out``; holes stay holes.

        Raises ChangedSince unless what was written has ``entry.digest``.
        """
        digest = hashlib.sha256()
        with self._opened(path) as fd:
            while chunk := os.read(fd, _CHUNK):
                digest.update(chunk)
                _write(out, chunk)
        os.ftruncate(out, os.lseek(out, 0, os.SEEK_CUR))
        if entry.digest is not None and digest.hexdigest() != entry.digest:
            raise _changed(path)

    @contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        parent, name = split(path)
        try:
            if self._parent is None or self._parent[0] != parent:
                below = open_directory(self._root, parent)
                if self._parent is not None:
                    os.close(self._parent[1])
                self._parent = (parent, below)
            # O_NONBLOCK: a FIFO put there meanwhile must not hang the open.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(name, flags, dir_fd=self._parent[1])
        except OSError as error:
            raise _changed(path) from error
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise _changed(path)
            yield fd
        finally:
            os.close(fd)


_ZEROS = bytes(_CHUNK)


def _write(out: int, chunk: bytes) -> None:
    if chunk == _ZEROS[: len(chunk)]:
        os.lseek(out, len(chunk), os.SEEK_CUR)
        return
    view = memoryview(chunk)
    while view:
        view = view[os.write(out, view) :]


def _changed(path: str) -> ChangedSince:
    return ChangedSince(f"{path!r} is not what was reviewed any more", hint="look at the changes again: overlayws diff")
