"""``--disk`` where a file system of its own holds the limit (layer/bounded.py): was it full?

The program was told by ENOSPC, and may have said so or not, and removed what it could not finish. So it is looked at
while the command runs, too; a look is one statfs(2).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from overlayws.layer.room import Room, size_shown

_INTERVAL = 0.02  # seconds between two looks
_LITTLE = 4  # blocks that are as good as none: a write of several may find no room in them


@contextmanager
def beside(look: Callable[[threading.Event], None]) -> Iterator[None]:
    """``look`` in another thread while the context is open; at its end the event is set, and ``look`` waited for."""
    over = threading.Event()
    thread = threading.Thread(target=look, args=(over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Gauge:
    """How full the file system at ``space`` was when it was fullest; its limit is ``room``."""

    def __init__(self, space: Path, room: Room) -> None:
        self._space, self._room = space, room
        self._full = ""
        self.others: Callable[[], Iterable[int]] = lambda: ()  # nobody is asked: as disk.Watch

    @contextmanager
    def watching(self, end: Callable[[], None]) -> Iterator[None]:
        """Look at it from another thread while the context is open. Nothing is ended."""

        def look(over: threading.Event) -> None:
            while not over.wait(_INTERVAL):
                self._look()

        with beside(look):
            yield

    def conclude(self, code: int) -> str:
        """What must be said now that nothing of the run is left; or ""."""
        self._look()
        return self._full and f"the disk limit of {self._full} was reached: there was no space left for the command"

    def _look(self) -> None:
        try:
            about = os.statvfs(self._space)
        except OSError:
            return
        if about.f_bavail < _LITTLE:
            self._full = size_shown(self._room.size)
        elif about.f_favail == 0 and not self._full:
            self._full = f"{self._room.files:,} files"
