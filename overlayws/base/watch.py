"""Watch: what happens in the directories of a tree, by inotify(7)."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

# linux/inotify.h
_ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x04, 0x08, 0x40, 0x80, 0x100, 0x200
_OVERFLOW, _IGNORED, _IS_DIRECTORY = 0x4000, 0x8000, 0x40000000
_APPEARED, _GONE = _CREATE | _MOVED_TO, _DELETE | _MOVED_FROM
_WANTED = _ATTRIB | _CLOSE_WRITE | _APPEARED | _GONE
_HEAD = struct.Struct("iIII")  # struct inotify_event, without the name
_BUFFER = 4096  # some hundred events at most, between two looks at the clock

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to ``path``. ``appeared``, ``gone``: by creation, removal or rename; ``move`` is not 0 and the
    same for both names of a rename. ``lost``: some events are missing."""

    path: str
    appeared: bool = False
    directory: bool = False
    lost: bool = False
    gone: bool = field(default=False, compare=False)
    move: int = field(default=0, compare=False)


class Watch:
    """Use as a context manager. Raises OSError where inotify cannot be had."""

    def __init__(self) -> None:
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._paths: dict[int, str] = {}
        self.full = False  # no further directory can be watched: fs.inotify.max_user_watches

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def add(self, path: str, directory: int) -> None:
        """Watch the names in the directory behind the descriptor ``directory``, which is at ``path``."""
        if self.full:
            return
        number = _libc.inotify_add_watch(self._fd, b"/proc/self/fd/%d" % directory, _WANTED)
        if number >= 0:
            self._paths[number] = path
        elif ctypes.get_errno() == errno.ENOSPC:
            self.full = True

    def events(self, wake: int) -> Iterator[Event]:
        """What happens, until the descriptor ``wake`` can be read; what happened before that is told too, as far as
        that is done in two seconds (somebody may write all the time)."""
        deadline = None
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(wake, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if wake in ready:
                deadline = deadline or time.monotonic() + 2
                if time.monotonic() > deadline:
                    return
            try:
                data = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                if wake in ready:
                    return
                continue
            yield from self._parsed(data)

    def _parsed(self, data: bytes) -> Iterator[Event]:
        at = 0
        while at < len(data):
            number, mask, cookie, length = _HEAD.unpack_from(data, at)
            name = data[at + _HEAD.size : at + _HEAD.size + length].rstrip(b"\0")
            at += _HEAD.size + length
            if mask & _OVERFLOW:
                yield Event("", lost=True)
            elif mask & _IGNORED:
                self._paths.pop(number, None)
            elif name and (above := self._paths.get(number)) is not None:
                path = os.fsdecode(os.path.join(os.fsencode(above), name))
                directory = bool(mask & _IS_DIRECTORY)
                yield Event(path, bool(mask & _APPEARED), directory, gone=bool(mask & _GONE), move=cookie)
