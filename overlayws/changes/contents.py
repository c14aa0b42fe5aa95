"""The bytes of a change set: read below one directory, never through a symlink, and only if they are still the
bytes that were scanned."""

from __future__ import annotations

import hashlib
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from overlayws.atomic import write_all
from overlayws.beneath import split
from overlayws.changes.lower import lower_of
from overlayws.changes.opening import Parents, Unlocked, open_file
from overlayws.errors import UntrustedError
from overlayws.layer.mount import Layer
from overlayws.source.copyfile import copy_file
from overlayws.source.entry import Entry

_CHUNK = 1 << 20


class ChangedSince(UntrustedError):
    """The bytes below an upperdir or a base are not the ones that were scanned."""


class Contents(ABC):
    """The bytes of one side of a change set. Use as a context manager."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Give back what was opened."""

    @abstractmethod
    def chunks(self, path: str, entry: Entry) -> Iterator[bytes]:
        """The content of the file ``path``, at most 1 MiB at a time and ``entry.size`` bytes in all.

        Raises UntrustedError at the end unless all of it has ``entry.digest``: use nothing before that.
        """

    def keeps(self, entry: Entry) -> bool:
        """Whether the content of ``entry`` is at hand whatever happens to the files."""
        return False

    def read(self, path: str, entry: Entry) -> bytes:
        """The content of the file ``path``. Raises UntrustedError unless it has ``entry.digest``."""
        return b"".join(self.chunks(path, entry))

    def copy(self, path: str, entry: Entry, out: int) -> None:
        """Write the content of the file ``path`` to the descriptor ``out``; holes stay holes.

        Raises UntrustedError unless what was written has ``entry.digest``.
        """
        for chunk in self.chunks(path, entry):
            _write(out, chunk)
        os.ftruncate(out, os.lseek(out, 0, os.SEEK_CUR))


class TreeContents(Contents):
    """The files below ``root`` (a base's lowerdir, or an upperdir that is being captured)."""

    def __init__(self, root: Path) -> None:
        self._unlocked = Unlocked()
        self._root, _ = self._unlocked.open(os.fspath(root.absolute()), -1)
        self._parents = Parents(self._root)

    def close(self) -> None:
        self._parents.close()
        os.close(self._root)
        self._unlocked.restore()

    def chunks(self, path: str, entry: Entry) -> Iterator[bytes]:
        """As ``Contents.chunks``, raising ChangedSince; an entry without a digest gives what is there."""
        digest = hashlib.sha256()
        length = 0
        with self._opened(path) as fd:
            # One byte more than expected tells a file that grew, without a buffer of a whole chunk for a small one.
            while chunk := os.read(fd, min(_CHUNK, entry.size + 1 - length) if entry.digest else _CHUNK):
                length += len(chunk)
                if entry.digest is not None and length > entry.size:
                    raise _changed(path)
                digest.update(chunk)
                yield chunk
        if entry.digest is not None and digest.hexdigest() != entry.digest:
            raise _changed(path)

    def clone(self, path: str, out: int) -> None:
        """Copy the file ``path`` to the empty file ``out`` unread: blocks shared or copied, holes kept.

        Raises OSError, ChangedSince.
        """
        with self._opened(path) as fd:
            copy_file(fd, out, os.fstat(fd), os.fstat(out).st_dev)

    def _open(self, path: str) -> int:
        parent, name = split(path)
        return open_file(name, self._parents.fd(parent))

    @contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        try:
            fd = self._open(path)
        except OSError as error:
            raise _changed(path) from error
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise _changed(path)
            yield fd
        finally:
            os.close(fd)


class LiveContents(TreeContents):
    """The files of a live base: as they were ``kept`` when the changes were captured (not closed here), else as the
    workspace has them."""

    def __init__(self, layer: Layer, kept: Contents) -> None:
        self._lower = lower_of(layer)
        self._kept = kept

    def close(self) -> None:
        self._lower.__exit__()

    def chunks(self, path: str, entry: Entry) -> Iterator[bytes]:
        return self._kept.chunks(path, entry) if self._kept.keeps(entry) else super().chunks(path, entry)

    def _open(self, path: str) -> int:
        return self._lower.file(path)


_ZEROS = bytes(_CHUNK)


def _write(out: int, chunk: bytes) -> None:
    if chunk == _ZEROS[: len(chunk)]:
        os.lseek(out, len(chunk), os.SEEK_CUR)
        return
    write_all(out, chunk)


def _changed(path: str) -> ChangedSince:
    return ChangedSince(f"{path!r} is not what was reviewed any more", hint="look at the changes again: overlayws diff")
