"""Room: what the changes of a session may take; and whether a file system that held it is left (bounded.py)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

IMAGE = "upper.img"  # beside an upperdir


@dataclass(frozen=True, slots=True)
class Room:
    """Of a disk. ``files``: directories and whiteouts included, a file with several names once."""

    size: int  # bytes of blocks that contents, directories and attributes take
    files: int


def is_left(upperdir: Path) -> bool:
    """Whether the plain upperdir is not the last state of it."""
    return os.path.lexists(upperdir.with_name(IMAGE))


def size_shown(size: int) -> str:
    """``512 MiB``: in the largest unit that leaves a whole number."""
    for unit, name in ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size:,} bytes"
