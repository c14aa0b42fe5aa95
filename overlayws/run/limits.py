"""How much a run may take: memory, processors, processes. Each sandbox enforces them in its own way, or says not."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass

from overlayws.errors import UsageError

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)([bkmgt]?)(?:i?b)?\Z", re.IGNORECASE)
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_LEAST_MEMORY = 16 << 20  # below, a container does not even start
_MOST = 1 << 60
_LEAST_PIDS, _MOST_PIDS = 8, 1 << 22  # a sandbox's own few; PID_MAX_LIMIT of the kernel


@dataclass(frozen=True, slots=True)
class Limits:
    """Zero means: what the sandbox does by default."""

    memory: int = 0  # bytes, swap included
    cpus: float = 0.0  # processors
    pids: int = 0  # processes and threads

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

    def or_else(self, default: Limits) -> Limits:
        """These, and the ``default``'s where they say nothing."""
        return Limits(self.memory or default.memory, self.cpus or default.cpus, self.pids or default.pids)

    def __bool__(self) -> bool:
        return bool(self.memory or self.cpus or self.pids)


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
