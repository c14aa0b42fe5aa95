"""Which files of a private copy nobody touched, told by ctime, which a program cannot set back (inode(7)).

Size and mtime are no evidence: both can be restored after an edit. Equal ctimes are, if two conditions hold that
``trustworthy`` finds out by trying: the clock of the file system moved on between the record and the program's start
(two changes within one tick have one ctime), and a write through a shared mapping sets the ctime (not on tmpfs).
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

_ROW = struct.Struct("<QQqqq")  # inode, inode of the lower file, size, mtime_ns, ctime_ns

Stamps = dict[int, tuple[int, int, int, int]]


def stamp(st: os.stat_result, lower_ino: int) -> tuple[int, int, int, int, int]:
    """The row of one file that is a copy of the lower file ``lower_ino``."""
    return st.st_ino, lower_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns


def pack(rows: Iterable[tuple[int, int, int, int, int]]) -> bytes:
    """The rows as bytes, in the order given."""
    return b"".join(_ROW.pack(*row) for row in rows)


def unpack(data: bytes) -> Stamps:
    """What ``pack`` made, by inode. Raises struct.error for bytes that it did not make."""
    return {ino: (lower, size, mtime, ctime) for ino, lower, size, mtime, ctime in _ROW.iter_unpack(data)}


def untouched(stamps: Stamps, st: os.stat_result, lower_ino: int) -> bool:
    """Whether the file is still the copy of ``lower_ino`` that was recorded: content, mode and attributes."""
    return stamps.get(st.st_ino) == (lower_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)


def trustworthy(directory: Path, newest_ns: int) -> bool:
    """Wait until a change made from now on has a ctime after ``newest_ns``; whether ctime tells of every change.

    One tick of the kernel's clock, up to 10 ms. False means: compare contents instead.
    """
    with tempfile.TemporaryFile(dir=directory) as f:
        fd = f.fileno()
        os.write(fd, b"x" * mmap.PAGESIZE)
        with mmap.mmap(fd, mmap.PAGESIZE) as mapping:
            # Read first: on tmpfs that alone makes the page writable, and the write then goes unnoticed.
            if mapping[0] != ord("x") or not _tick(fd, newest_ns):
                return False
            before = os.fstat(fd).st_ctime_ns
            with tempfile.TemporaryFile(dir=directory) as clock:
                if not _tick(clock.fileno(), before):
                    return False
            mapping[0] = 0
            mapping.flush()
            return os.fstat(fd).st_ctime_ns > before


def _tick(fd: int, earlier_ns: int) -> bool:
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        os.utime(fd)
        if os.fstat(fd).st_ctime_ns > earlier_ns:
            return True
        time.sleep(0.0005)
    return False
