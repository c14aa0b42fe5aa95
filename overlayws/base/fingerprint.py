"""Whether a workspace is still what a base was made of, told by stamps: no content is read.

A stamp tells of every change but one: a file that is written twice within one tick of the file system's clock has the
same stamp both times (git's documentation calls it racy, Documentation/technical/racy-git.txt). So a file whose ctime
is not clearly older than the moment we read it gets no usable stamp: its ctime is recorded as 0.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import time
from collections.abc import Callable, Iterable
from operator import attrgetter, itemgetter
from pathlib import Path

from overlayws.base.manifest import Stored, signed
from overlayws.base.survey import Survey

# Inode times come from the kernel's coarse clock: one tick is at most 10 ms (CONFIG_HZ=100).
TICK_NS = 10_000_000
# File systems with times in seconds (ext3, HFS+), or in two of them (FAT).
LONGEST_TICK_NS = 2_000_000_000


def now_ns() -> int:
    """The clock that inode times are taken from, in nanoseconds (clock_gettime(2), CLOCK_REALTIME_COARSE)."""
    return time.clock_gettime_ns(5)  # the time module has no name for it


def settled(ctime_ns: int, now: int) -> bool:
    """Whether a change made at ``now`` or later is sure to give another ctime than ``ctime_ns``."""
    return ctime_ns + (TICK_NS if ctime_ns % 1_000_000_000 else LONGEST_TICK_NS) <= now


def wait_until_settled(newest_ns: int) -> None:
    """Sleep at most two ticks, until a file written at ``newest_ns`` is settled; not for one from the future."""
    if newest_ns % 1_000_000_000:
        missing = newest_ns + TICK_NS - now_ns()
        if 0 < missing <= 2 * TICK_NS:
            time.sleep((missing + TICK_NS) / 1e9)


_Stamp = tuple[int, int, int, int, int]
_stamp: Callable[[os.stat_result], _Stamp] = attrgetter("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")


def of_survey(found: Survey, root_mode: int) -> str:
    """The fingerprint of all that a base of this survey depends on."""
    return _digest(found, root_mode, [path for path, _ in found.visible], [_stamp(st) for _, st in found.visible])


def of_rows(found: Survey, root_mode: int, rows: dict[bytes, Stored]) -> str:
    """The fingerprint that the next survey must have for a base of ``rows`` (by path) to be what it would make."""
    paths, stamps = [], []
    for path, _ in found.visible:
        row = rows.get(path.encode("utf-8", "surrogateescape"))
        if row is not None:
            paths.append(path)
            stamps.append((row[6] & _U64, row[7] & _U64, row[3], row[8], row[9]))
    return _digest(found, root_mode, paths, stamps)


def as_surveyed(stats: Iterable[os.stat_result], rows: Iterable[Stored]) -> bool:
    """Whether all files are still what their stats, in any order, said, and their stamps can be used."""
    seen, stored = list(map(_stamp, stats)), list(map(_stored, rows))
    return seen == stored or sorted(seen) == sorted(stored)


_stored: Callable[[Stored], _Stamp] = itemgetter(6, 7, 3, 8, 9)  # of numbers above 2**63 not the same as _stamp's
_U64 = (1 << 64) - 1


def _digest(found: Survey, root_mode: int, paths: list[str], stamps: list[_Stamp]) -> str:
    digest = hashlib.sha256(b"%o" % (root_mode & 0o777))
    digest.update("\0".join(paths).encode("utf-8", "surrogateescape"))
    # Version 2 has no references, so equal numbers are equal bytes. Another Python may write others: it copies anew.
    digest.update(marshal.dumps(stamps, 2))
    for h in found.hidden:
        digest.update(b"\0hidden %b\0%b\0%b" % (os.fsencode(h.path), h.kind.value.encode(), os.fsencode(h.rule)))
    for path, kind in found.skipped:
        digest.update(b"\0skipped %b\0%b" % (os.fsencode(path), kind.value.encode()))
    for path in found.leaving:
        digest.update(b"\0leaving %b" % os.fsencode(path))
    return digest.hexdigest()


def unchanged(row: Stored, st: os.stat_result) -> bool:
    """Whether the inode is still the one, with the content, mode and attributes, that ``row`` tells of."""
    return (
        row[8] == st.st_mtime_ns
        and row[9] == st.st_ctime_ns
        and row[3] == st.st_size
        and row[7] == signed(st.st_ino)
        and row[6] == signed(st.st_dev)
    )


def boot() -> str:
    """Names this boot of the machine. After a power loss the bytes of files that were never flushed are not there
    although their names are, so a base is used again only in the boot that it was made in."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
