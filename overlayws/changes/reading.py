"""Read a file once: its digest, and what a reviewer must know about its bytes."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from hashlib import sha256

from overlayws.changes.flags import Content
from overlayws.changes.invisible import adds_invisible, invisible

_WHOLE = 1 << 20  # bytes; a larger file is streamed and never held
_CHUNK = 1 << 20
_LARGEST = 16 << 30  # bytes; a sparse file of a terabyte takes no disk, but its hash would take an hour
_HEAD = 8000  # git's buffer_is_binary looks at as many bytes


class TooLarge(OSError):
    """A file is larger than a change may be."""


@dataclass(frozen=True, slots=True)
class Read:
    """A file as it was read."""

    size: int
    digest: str
    data: bytes  # all of a small file; of a large one, the first 8000 bytes
    whole: bool
    invisible: bool = False  # of a large file: somewhere in it is an invisible character


def read(fd: int, size: int) -> bytes | None:
    """The ``size`` bytes of a small file, or None for one that must be streamed. Raises OSError."""
    if size > _WHOLE:
        if size > _LARGEST:
            raise TooLarge(errno.EFBIG, f"larger than a change may be ({size} bytes; at most {_LARGEST})")
        return None
    data = os.read(fd, size + 1)
    if len(data) != size:
        raise OSError(errno.EIO, "changed while it was read")
    return data


def small(data: bytes) -> Read:
    return Read(len(data), sha256(data).hexdigest(), data, True)


def streamed(fd: int, size: int) -> Read:
    """A large file, read from where the descriptor is. Raises OSError."""
    digest = sha256()
    head = b""
    tail = b""
    length = 0
    found = False
    while chunk := os.read(fd, _CHUNK):
        head = head or chunk[:_HEAD]
        digest.update(chunk)
        length += len(chunk)
        if not found and not chunk.isascii():
            # A character may lie across two chunks; the first chunk's byte order mark is no finding.
            found = invisible(tail + chunk) if length == len(chunk) else invisible(b"." + tail + chunk)
        tail = chunk[-4:]
    if length != size:
        raise OSError(errno.EIO, "changed while it was read")
    return Read(length, digest.hexdigest(), head, False, found)


def compared(before: Read | None, after: Read | None) -> Content:
    """What the bytes of a change say. Large files are not compared line by line: any invisible character counts."""
    binary = (before is not None and before.data.find(b"\0", 0, _HEAD) >= 0) or (
        after is not None and after.data.find(b"\0", 0, _HEAD) >= 0
    )
    if after is None:
        return Content(binary=binary)
    shebang = after.data.startswith(b"#!") and (before is None or _first_line(before.data) != _first_line(after.data))
    hidden = False
    if not binary:
        if not after.whole:
            hidden = after.invisible
        elif not after.data.isascii():
            hidden = adds_invisible(before.data if before is not None and before.whole else b"", after.data)
    return Content(binary, shebang, hidden)


def _first_line(data: bytes) -> bytes:
    return data.partition(b"\n")[0]
