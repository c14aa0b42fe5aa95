"""What the program gets as its standard streams: never a descriptor of a file of the caller's.

Whoever holds a descriptor can open what is behind it again, with other rights: ``echo x > /proc/self/fd/0`` writes to
the file that was given for reading, and a log that was opened for appending can be read and emptied (proc(5)). No
mount namespace stands in between. So files, directories and disks are relayed through pipes; pipes, sockets and
terminals, which have nothing but what passes through them, are handed on.
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from overlayws.atomic import write_all

_CHUNK = 1 << 16
_PATIENCE = 10.0  # seconds for what is left in a pipe, once every process of the run is gone


@contextmanager
def relayed(streams: list[int]) -> Iterator[Relays]:
    """Stand-ins for ``streams`` (standard input, output and error; negative ones are left). Leaving the context
    brings over what is still in the pipes."""
    relays = Relays(streams)
    try:
        yield relays
    finally:
        relays.finish()


class Relays:
    """``streams`` are to be given to the child; call ``begin`` once it has them."""

    def __init__(self, streams: list[int]) -> None:
        self.streams = list(streams)
        self._theirs: list[int] = []  # the child's ends, closed here once it has them
        self._jobs: list[tuple[int, int]] = []  # (from, to)
        self._threads: list[threading.Thread] = []
        source, out, err = streams
        if _is_file(source):
            read_end, write_end = _pipe()
            self.streams[0] = read_end
            self._theirs.append(read_end)
            self._jobs.append((source, write_end))
        if _is_file(out):
            self._output(1, out)
        if _is_file(err):
            if _is_file(out) and os.path.sameopenfile(out, err):
                self.streams[2] = self.streams[1]  # 2>&1: one pipe keeps the order
            else:
                self._output(2, err)

    def _output(self, number: int, real: int) -> None:
        read_end, write_end = _pipe()
        self.streams[number] = write_end
        self._theirs.append(write_end)
        self._jobs.append((read_end, real))

    def begin(self) -> None:
        """Start to relay; the child has its ends."""
        for fd in self._theirs:
            os.close(fd)
        self._theirs = []
        for source, target in self._jobs:
            mine = source if source > 2 else target  # the end of the pipe that is ours
            thread = threading.Thread(target=_relay, args=(source, target, mine), daemon=True)
            thread.start()
            # Input ends with the file, or when nobody reads it any more: only output is waited for.
            if target <= 2:
                self._threads.append(thread)

    def finish(self) -> None:
        """Wait until all output has come over."""
        for fd in self._theirs:  # the child was not started
            os.close(fd)
        for thread in self._threads:
            thread.join(_PATIENCE)


def _is_file(fd: int) -> bool:
    if fd < 0:
        return False
    mode = os.fstat(fd).st_mode
    return not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode))


def _pipe() -> tuple[int, int]:
    ends = []
    for fd in os.pipe():  # above the standard streams, whose numbers may be free
        ends.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))
        os.close(fd)
    return ends[0], ends[1]


def _relay(source: int, target: int, mine: int) -> None:
    try:
        while chunk := os.read(source, _CHUNK):
            write_all(target, chunk)
    except OSError:
        pass  # nobody reads any more, or there is no room: closing our end tells the program
    finally:
        os.close(mine)
