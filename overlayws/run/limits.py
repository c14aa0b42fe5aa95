"""How much a run may take: memory, processors, processes, disk. Each sandbox enforces it in its way, or says not."""

from __future__ import annotations

import math
import os
import re
from dataclasses import astuple, dataclass

from overlayws.errors import UsageError
from overlayws.layer.room import Room

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)([bkmgt]?)(?:i?b)?\Z", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_LEAST_MEMORY = 16 << 20  # below, a container does not even start
_LEAST_DISK, _LEAST_FILES = 1 << 20, 16
_BYTES_A_FILE = 4096  # a block: what a file takes at least on most file systems
_MOST = 1 << 60
_LEAST_PIDS, _MOST_PIDS = 8, 1 << 22  # a sandbox's own few; PID_MAX_LIMIT of the kernel


@dataclass(frozen=True, slots=True)
class Limits:
    """Zero means: what the sandbox does by default."""

    memory: int = 0  # bytes, swap included
    cpus: float = 0.0  # processors
    pids: int = 0  # processes and threads
    disk: int = 0  # bytes of disk that the changes of the session take
    inodes: int = 0  # files and directories that they are; zero with ``disk``: see ``files``

    @property
    def room(self) -> Room | None:
        """What the changes of a session may take, or None."""
        return Room(self.disk, self.files) if self.disk else None

    @property
    def files(self) -> int:
        """How many files and directories the changes may be, where ``disk`` is limited."""
        return self.inodes or max(1024, self.disk // _BYTES_A_FILE)

    def check(self) -> None:
        """Raises UsageError for a value that this machine cannot enforce."""
        if self.memory and not _LEAST_MEMORY <= self.memory <= _MOST:
            raise UsageError(f"--memory {self.memory} is out of range", hint="at least 16m, such as 512m or 2g")
        if self.cpus and not (math.isfinite(self.cpus) and 0.01 <= self.cpus <= available()):
            raise UsageError(
                f"--cpus {self.cpus:g} is out of range", hint=f"from 0.01 to {available()}: this machine has no more"
            )
        if self.pids and not _LEAST_PIDS <= self.pids <= _MOST_PIDS:
            raise UsageError(f"--pids {self.pids} is out of range", hint=f"from {_LEAST_PIDS} to {_MOST_PIDS}")
        if self.disk and not _LEAST_DISK <= self.disk <= _MOST:
            raise UsageError(f"--disk {self.disk} is out of range", hint="at least 1m, such as 512m or 2g")
        if self.inodes and not (self.disk and _LEAST_FILES <= self.inodes <= _MOST):
            raise UsageError(
                f"--disk with {self.inodes} files is out of range", hint=f"at least {_LEAST_FILES}: --disk 1g,50000"
            )

    def or_else(self, default: Limits) -> Limits:
        """These, and the ``default``'s where they say nothing."""
        own, other = astuple(self), astuple(default)
        return Limits(*(mine or theirs for mine, theirs in zip(own, other, strict=True)))

    def __bool__(self) -> bool:
        return any(astuple(self))


def default() -> Limits:
    """What a container gets where nothing else is said: 2 GiB, two processors, 100 processes."""
    return Limits(2 << 30, float(min(2, available())), 100)


def available() -> int:
    """The processors of this machine."""
    return os.cpu_count() or 1


def parse_size(text: str) -> int:
    """Bytes of ``512m``, ``2g``, ``1.5GiB`` (units of 1024). Raises UsageError."""
    found = _SIZE.match(text.strip())
    if found is None:
        raise UsageError(f"{text!r} is no size", hint="a number and a unit: 512m, 2g")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def parse_disk(text: str) -> tuple[int, int]:
    """(bytes, files) of ``2g`` or ``2g,50000``; 0 files where none are said. Raises UsageError."""
    size, comma, files = text.partition(",")
    if comma and not re.fullmatch("[0-9]{1,15}", files.strip()):
        raise UsageError(f"{files!r} is no number of files", hint="a size, a comma and a number: 2g,50000")
    if comma and int(files) == 0:
        raise UsageError("--disk with 0 files is out of range", hint=f"at least {_LEAST_FILES}: --disk 1g,50000")
    return parse_size(size), int(files) if comma else 0
