"""``--disk``: how much of the disk the changes of a session may take.

No kernel interface that an ordinary user may use limits a directory, so it is looked at while the command runs, and the
run is ended when there is too much. What a look between two writes cannot prevent, RLIMIT_FSIZE does: no file gets
longer than the whole limit. Both hold in every sandbox.

Everything that is counted belongs to the program, which may move it, lock it or replace it meanwhile: nothing is
followed or changed, and what cannot be counted ends the run as well.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from overlayws.beneath import open_beneath, open_quietly
from overlayws.errors import NotStartedError
from overlayws.layer.mount import Mount
from overlayws.run.held import held
from overlayws.run.limits import Limits, size_shown

_BLOCK = 512  # of st_blocks: stat(2)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV)  # or something else by now
_SHORTEST, _LONGEST = 0.02, 0.5  # seconds between two looks
_RATE = 1 << 30  # bytes a second that are expected at most: what is left of the limit decides when to look again
_SHARE = 4  # of the time that a look took: at most a fifth of a processor is spent on it


@dataclass(frozen=True, slots=True)
class Usage:
    """What is below a directory. Every inode counts once, as far as counting went on."""

    size: int = 0  # bytes of disk: a hole takes none
    files: int = 0  # directories and whiteouts included
    longest: int = 0  # of the regular files, in bytes
    closed: str = ""  # a directory that we may not read, or ""


def usage(top: Path, most: Usage | None = None) -> Usage:
    """Count what is below ``top``, which may change meanwhile; not on when there is more than ``most``. Raises OSError.

    Seen twice or not at all is what is moved just then: the next look tells.
    """
    size = files = longest = 0
    closed = ""
    seen: set[tuple[int, int]] = set()
    root = open_quietly(os.fspath(top), _DIRECTORY, None)
    try:
        todo = [""]
        while todo and not closed:
            path = todo.pop()
            try:
                fd = open_beneath(root, path, _DIRECTORY) if path else os.dup(root)
            except OSError as error:
                if error.errno not in _GONE:
                    closed = path
                continue
            try:
                with os.scandir(fd) as entries:
                    for entry in entries:
                        try:
                            st = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
                        if (st.st_dev, st.st_ino) in seen:
                            continue
                        seen.add((st.st_dev, st.st_ino))
                        files += 1
                        size += st.st_blocks * _BLOCK
                        if stat.S_ISREG(st.st_mode):
                            longest = max(longest, st.st_size)
                        elif stat.S_ISDIR(st.st_mode):
                            todo.append(f"{path}/{entry.name}" if path else entry.name)
                        if most is not None and (size > most.size or files > most.files):
                            return Usage(size, files, longest)
            except PermissionError:  # a directory that may be read and not searched
                closed = path or "."
            finally:
                os.close(fd)
    finally:
        os.close(root)
    return Usage(size, files, longest, closed)


def _free(place: Path) -> int:
    about = os.statvfs(place)
    return about.f_bfree * about.f_frsize


class Watch:
    """The limit of one run. ``reached``: what was, or ""."""

    def __init__(self, mount: Mount, limits: Limits) -> None:
        """Raises NotStartedError where there is no room from the beginning."""
        self._limits = limits
        # Of the backend copy there is no upperdir meanwhile: what it copied is counted, and taken off.
        self._top = mount.merged if mount.layer is None else mount.layer.upperdir
        self._before = usage(self._top) if mount.layer is None else Usage()
        self._most = Usage(self._before.size + limits.disk, self._before.files + limits.files)
        self._free = _free(self._top)
        self.others: Callable[[], Iterable[int]] = lambda: ()  # the processes of the run that are no descendants
        self.reached = self._told(self._looked())
        if self.reached:
            raise NotStartedError(
                f"{self.reached} before the command ran",
                hint="overlayws discard SESSION PATH drops some changes; or start a session with a larger --disk",
            )

    @contextmanager
    def watching(self, end: Callable[[], None]) -> Iterator[None]:
        """Look at it from another thread while the context is open; ``end`` is called once, when there is too much."""
        over = threading.Event()

        def look() -> None:
            while True:
                began = time.monotonic()
                found = self._looked()
                if told := self._told(found):
                    self.reached = told
                    end()
                    return
                took = time.monotonic() - began
                room = (self._most.size - found.size) / _RATE
                if over.wait(max(_SHORTEST, _SHARE * took, min(_LONGEST, room))):
                    return

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def conclude(self, code: int) -> str:
        """What must be said now that nothing of the run is left, which ended with ``code``; or ""."""
        if self.reached and code == 128 + signal.SIGKILL:
            return f"{self.reached}: the command was ended"
        found = self._looked()
        if self._told(found) or self.reached or found.longest < self._limits.disk:
            return self._told(found) or self.reached
        return f"{self._size()}: no file may be longer"

    def _looked(self) -> Usage:
        try:
            found = usage(self._top, self._most)
            # Files without a name: looked for only where the file system lost more than what is seen explains.
            if self._free - _free(self._top) > found.size + self._limits.disk:
                found = replace(found, size=found.size + held(self.others()))
            return found
        except OSError:
            return Usage(closed=".")

    def _told(self, found: Usage) -> str:
        if found.closed:
            return f"the disk limit cannot be watched (no permission to read {found.closed!r})"
        if found.files > self._most.files:
            return f"the disk limit of {self._limits.files:,} files was reached"
        return self._size() if found.size > self._most.size else ""

    def _size(self) -> str:
        return f"the disk limit of {size_shown(self._limits.disk)} was reached"
