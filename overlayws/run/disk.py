"""``--disk``: how much of the disk the changes of a session may take.

As root the upperdir is on a file system of that size (layer/bounded.py), and only whether it was full is to be said
(gauge.py). No kernel interface that an ordinary user may use limits a directory: there it is looked at while the
command runs, and the run is ended when there is too much. What a look between two writes cannot prevent, RLIMIT_FSIZE
does: no file gets longer than the whole limit. Both hold in every sandbox.

Everything that is counted belongs to the program (usage.py, held.py). What cannot be counted ends the run as well.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from overlayws.errors import NotStartedError
from overlayws.layer.mount import Mount
from overlayws.layer.room import size_shown
from overlayws.run.gauge import Gauge, beside
from overlayws.run.held import held
from overlayws.run.limits import Limits
from overlayws.run.usage import Usage, usage

_SHORTEST, _LONGEST = 0.02, 0.5  # seconds between two looks
_RATE = 1 << 30  # bytes a second that are expected at most: what is left of the limit decides when to look again
_SHARE = 4  # of the time that a look took: at most a fifth of a processor is spent on it
_HIDING = 3  # looks in a row: descriptors are on their way from one honest process to another for a moment only


def _free(place: Path) -> int:
    about = os.statvfs(place)
    return about.f_bfree * about.f_frsize


def limiting(mount: Mount, limits: Limits, *, in_memory: bool) -> tuple[Gauge | Watch | None, str, tuple[str, ...]]:
    """(what is to look at the run, "enforced" or "watched" or "" for no limit, what must be said of that).

    Raises NotStartedError where there is no room from the beginning.
    """
    if limits.room is None:
        return None, "", ()
    if mount.space is not None:
        return Gauge(mount.space, limits.room), "enforced", ()
    if in_memory:  # which is of that size (memory.py)
        counted = Watch(mount, limits, ends=False)
        if not limits.inodes:
            return counted, "enforced", ()
        said = "the files are counted before and after the command: changes are in the sandbox's memory"
        return counted, "watched", (f"--disk is enforced for the size, not for the number of files: {said}",)
    return Watch(mount, limits), "watched", (f"--disk is watched, not enforced: {mount.unbounded}",)


class Watch:
    """The limit of one run. ``reached``: what was, or ""."""

    def __init__(self, mount: Mount, limits: Limits, *, ends: bool = True) -> None:
        """``ends``: a run is looked at, and ended. Else only what is there before it and after it is: where what is
        written takes memory meanwhile, to end the run at the moment of saving would lose all of it.

        Raises NotStartedError where there is no room from the beginning.
        """
        self._limits, self._ends = limits, ends
        # Of the backend copy there is no upperdir meanwhile: what it copied is counted, and taken off.
        self._top = mount.merged if mount.layer is None else mount.layer.upperdir
        self._before = usage(self._top) if mount.layer is None else Usage()
        self._most = Usage(self._before.size + limits.disk, self._before.files + limits.files)
        self._free = _free(self._top)
        self._first: Usage | None = None
        self._hiding = 0  # looks in a row
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
        if not self._ends:
            yield
            return

        def look(over: threading.Event) -> None:
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

        with beside(look):
            yield

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
            self._first = self._first or found
            # Files without a name: looked for only where the file system lost more than what is seen explains.
            lost = self._free - _free(self._top) - (found.size - self._first.size)
            if self._ends and lost > self._limits.disk:
                unnamed = held(self.others())
                found = replace(found, size=found.size + unnamed.size)
                # Others take room on the file system too: only who hides something is suspected.
                self._hiding = self._hiding + 1 if unnamed.hidden and lost - unnamed.size > self._limits.disk else 0
            return found
        except OSError:
            return Usage(closed=".")

    def _told(self, found: Usage) -> str:
        if self._hiding >= _HIDING:
            return "the disk limit cannot be watched (a process hides which files it has open)"
        if found.closed:
            return f"the disk limit cannot be watched (no permission to read {found.closed!r})"
        if found.files > self._most.files:
            return f"the disk limit of {self._limits.files:,} files was reached"
        return self._size() if found.size > self._most.size else ""

    def _size(self) -> str:
        return f"the disk limit of {size_shown(self._limits.disk)} was reached"
