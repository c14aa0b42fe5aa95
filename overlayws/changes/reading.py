"""Read a file once: its digest, and what a reviewer must know about its bytes."""

from __future__ import annotations

import errno
import os
from hashlib import sha256

from overlayws.base.manifest import BINARY_HEAD
from overlayws.changes.bounds import LARGEST, WHOLE, too_large
from overlayws.changes.confusable import adds_mixed
from overlayws.changes.flags import NO_CONTENT, Content
from overlayws.changes.invisible import adds_invisible, invisible
from overlayws.changes.textual import taken_for_binary, text_in_disguise

SCANNED = 16 << 20  # bytes; a larger file is not searched for secrets, as at the start
_CHUNK = 1 << 20


class Resized(OSError):
    """A file has not the size that it should have."""


class Read:
    """A file as it was read: a small one whole, of a large one the digest and the first 8000 bytes."""

    __slots__ = ("_digest", "data", "invisible", "text", "whole")

    def __init__(
        self, data: bytes, whole: bool = True, digest: str = "", invisible: bool = False, text: bytes | None = None
    ) -> None:
        self.data = data
        self.text = data if whole else text  # all of a file of at most SCANNED bytes
        self.whole = whole
        self.invisible = invisible  # of a large file: somewhere in it is an invisible character
        self._digest = digest

    @property
    def digest(self) -> str:
        """The SHA-256 in hex; of a small file it is counted when first asked for."""
        if not self._digest:
            self._digest = sha256(self.data).hexdigest()
        return self._digest

    def same(self, other: Read) -> bool:
        """Whether the content is equal, given that the size is."""
        return self.data == other.data and (self.whole or self._digest == other._digest)


def read(fd: int, size: int) -> Read:
    """The file of ``size`` bytes behind ``fd``. Raises OSError; Resized if it has another size."""
    if size > WHOLE:
        return _streamed(fd, size)
    data = os.read(fd, size + 1)
    if len(data) != size:
        raise Resized(errno.EIO, "changed while it was read")
    return Read(data)


def _streamed(fd: int, size: int) -> Read:
    if size > LARGEST:
        raise too_large(f"{size} bytes; at most {LARGEST}")
    digest = sha256()
    chunks: list[bytes] = []
    head = b""
    tail = b""
    length = 0
    found = False
    while chunk := os.read(fd, _CHUNK):
        head = head or chunk[:BINARY_HEAD]
        digest.update(chunk)
        length += len(chunk)
        if size <= SCANNED:
            chunks.append(chunk)
        if not found and not chunk.isascii():
            # A character may lie across two chunks; only the file's own byte order mark is no finding.
            found = invisible(chunk) if length == len(chunk) else invisible(b"." + tail + chunk)
        tail = chunk[-4:]
    if length != size:
        raise Resized(errno.EIO, "changed while it was read")
    return Read(head, False, digest.hexdigest(), found, b"".join(chunks) if size <= SCANNED else None)


def stands_alone(after: Read) -> bool:
    """Whether ``compared`` says the same of ``after`` beside any text, so that the text need not be read."""
    return after.whole and after.data.isascii() and not after.data.startswith(b"#!")


def compared(path: str, before: Read | None, after: Read | None) -> Content:
    """What the bytes of a change say. Large files are not compared line by line: any invisible character counts, and so
    does a text that passes for binary (``textual.py``)."""
    old = b"" if before is None else before.data
    new = b"" if after is None else after.data
    binary = new.find(b"\0", 0, BINARY_HEAD) >= 0 or old.find(b"\0", 0, BINARY_HEAD) >= 0
    shebang = new.startswith(b"#!") and _first_line(old) != _first_line(new)
    hidden = mixed = False
    if after is not None and binary:
        hidden = taken_for_binary(new) and text_in_disguise(path, new)
    elif after is not None:
        if not after.whole:
            hidden = after.invisible
        elif not new.isascii():
            known = old if before is not None and before.whole else b""
            hidden, mixed = adds_invisible(known, new), adds_mixed(known, new)
    if binary or shebang or hidden or mixed:
        return Content(binary, shebang, hidden, mixed)
    return NO_CONTENT


def _first_line(data: bytes) -> bytes:
    return data.partition(b"\n")[0]
