"""How much disk is below a directory that a program writes to meanwhile: it may move, lock or replace what is there.

Nothing is followed or changed. One descriptor is open, down by name and up by "..": a level costs the same at any
depth, and a program that nests thousands does not make the count slow.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from overlayws.beneath import open_beneath, open_quietly

BLOCK = 512  # of st_blocks: stat(2)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LONG = 400  # characters of a path in a message
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)  # or something else by now


@dataclass(frozen=True, slots=True)
class Usage:
    """What is below a directory. Every inode counts once, as far as counting went on."""

    size: int = 0  # bytes of disk: a hole takes none
    files: int = 0  # directories and whiteouts included
    longest: int = 0  # of the regular files, in bytes
    closed: str = ""  # a directory that we may not read (the end of its path, if that is very long), or ""


def usage(top: Path, most: Usage | None = None) -> Usage:
    """Count what is below ``top``, which may change meanwhile; not on when there is more than ``most``. Raises OSError.

    Seen twice or not at all is what is moved just then: the next look tells.
    """
    root = open_quietly(os.fspath(top), _DIRECTORY, None)
    try:
        return _Count(root, most).count()
    finally:
        os.close(root)


@dataclass(slots=True)
class _Level:
    """A directory between the top and the one that is being read."""

    name: str
    inode: tuple[int, int]
    waiting: list[str] = field(default_factory=list)  # the directories in it that were not read


class _Count:
    def __init__(self, root: int, most: Usage | None) -> None:
        self._root, self._most = root, most
        self._size = self._files = self._longest = 0
        self._seen: set[tuple[int, int]] = set()
        self._levels = [_Level("", _inode(root))]

    def count(self) -> Usage:
        fd = os.dup(self._root)
        try:
            go_on = self._read(fd)
            while go_on and self._levels:
                if waiting := self._levels[-1].waiting:
                    name = waiting.pop()
                    try:
                        below = open_quietly(name, _DIRECTORY, fd)
                    except OSError as error:
                        if error.errno not in _GONE:
                            return self._so_far(self._path(name))
                        continue
                    os.close(fd)
                    fd = below
                    self._levels.append(_Level(name, _inode(fd)))
                    go_on = self._read(fd)
                    continue
                self._levels.pop()
                if self._levels:
                    above = self._up(fd)
                    os.close(fd)
                    fd = above
            return self._so_far()
        except PermissionError:  # a directory that may be read and not searched
            return self._so_far(self._path() or ".")
        finally:
            os.close(fd)

    def _read(self, fd: int) -> bool:
        """Count what is in the last level's directory; whether to go on."""
        with os.scandir(fd) as entries:
            for entry in entries:
                try:
                    st = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if (st.st_dev, st.st_ino) in self._seen:
                    continue
                self._seen.add((st.st_dev, st.st_ino))
                self._files += 1
                self._size += st.st_blocks * BLOCK
                if stat.S_ISREG(st.st_mode):
                    self._longest = max(self._longest, st.st_size)
                elif stat.S_ISDIR(st.st_mode):
                    self._levels[-1].waiting.append(entry.name)
                if self._most is not None and (self._size > self._most.size or self._files > self._most.files):
                    return False
        return True

    def _up(self, fd: int) -> int:
        """A descriptor of the last level's directory, from ``fd`` in it; of one above, where what is in between was
        moved away."""
        with suppress(OSError):
            above = open_quietly("..", _DIRECTORY, fd)
            if _inode(above) == self._levels[-1].inode:
                return above
            os.close(above)
        while len(self._levels) > 1:
            with suppress(OSError):
                above = open_beneath(self._root, self._path(), _DIRECTORY)
                if _inode(above) == self._levels[-1].inode:
                    return above
                os.close(above)
            self._levels.pop()
        return os.dup(self._root)

    def _path(self, *last: str) -> str:
        return "/".join([*(level.name for level in self._levels[1:]), *last])

    def _so_far(self, closed: str = "") -> Usage:
        closed = closed if len(closed) < _LONG else f"...{closed[-_LONG:]}"
        return Usage(self._size, self._files, self._longest, closed)


def _inode(fd: int) -> tuple[int, int]:
    st = os.fstat(fd)
    return st.st_dev, st.st_ino
