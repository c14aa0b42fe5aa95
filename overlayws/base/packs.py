"""Packs: git's objects, written as they come, not compressed (gitformat-pack(5)).

``git add`` of many small files takes some 0.2 ms for each, of which most is spent beside its bytes; an object that is
only stored is a hash, a checksum and a write.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha1
from pathlib import Path

from overlayws.atomic import write_all

TREE, BLOB, COMMIT = (2, b"tree"), (3, b"blob"), (1, b"commit")
Type = tuple[int, bytes]

_LIMIT = 8 << 20  # bytes of a pack; several packs, so that a changed file costs one of them
_BLOCK = 65_535  # bytes that a stored block of deflate holds at most (RFC 1951, 3.2.4)
_PIECE = 16 * _BLOCK


class Packs:
    """Packs below ``directory``, which exists. ``finish`` writes what is left. Raises OSError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: set[bytes] = set()
        self._entries: list[tuple[bytes, int, bytes]] = []  # name, CRC-32, entry
        self._size = 0

    def add(self, kind: Type, data: bytes) -> bytes:
        """The name (SHA-1) of the object, which is written if it was not yet."""
        name = sha1(b"%s %d\0" % (kind[1], len(data)) + data).digest()
        if name not in self._known:
            self._known.add(name)
            entry = _header(kind, len(data)) + b"".join(_stored([data], len(data)))
            self._entries.append((name, zlib.crc32(entry), entry))
            self._size += len(entry)
            if self._size >= _LIMIT:
                self.finish()
        return name

    def add_file(self, fd: int, size: int) -> bytes:
        """As ``add``, for the file open at ``fd`` of that size. Raises OSError too where it is shorter."""
        if size <= _LIMIT:
            return self.add(BLOB, b"".join(_pieces(fd, size)))
        named, crc, at = sha1(b"blob %d\0" % size), 0, self._directory / f"tmp_{os.getpid()}"
        out = os.open(at, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        try:
            summed = sha1(head := _pack_header(1))
            write_all(out, head)
            write_all(out, entry := _header(BLOB, size))
            crc = zlib.crc32(entry)
            summed.update(entry)
            for piece in _stored(_told(_pieces(fd, size), named.update), size):
                crc = zlib.crc32(piece, crc)
                summed.update(piece)
                write_all(out, piece)
            write_all(out, summed.digest())
        finally:
            os.close(out)
        name = named.digest()
        if name in self._known:
            os.unlink(at)
        else:
            self._known.add(name)
            os.rename(at, self._path(summed.hexdigest(), "pack"))
            self._index([(name, crc, len(head))], summed.digest())
        return name

    def finish(self) -> None:
        """Write a pack of what was added since the last one; none if that is nothing."""
        if not self._entries:
            return
        pieces = [_pack_header(len(self._entries))]
        found, at = [], len(pieces[0])
        for name, crc, entry in self._entries:
            found.append((name, crc, at))
            pieces.append(entry)
            at += len(entry)
        data = b"".join(pieces)
        summed = sha1(data)
        _write(self._path(summed.hexdigest(), "pack"), data + summed.digest())
        self._index(found, summed.digest())
        self._entries, self._size = [], 0

    def _index(self, found: list[tuple[bytes, int, int]], summed: bytes) -> None:
        """Version 2: the names, sorted, how many of them begin with which byte; checksums, places in the pack."""
        found.sort()
        counts = [0] * 256
        for name, _, _ in found:
            counts[name[0]] += 1
        total = 0
        parts = [b"\xfftOc", (2).to_bytes(4)]
        for count in counts:
            total += count
            parts.append(total.to_bytes(4))
        parts += [name for name, _, _ in found]
        parts += [crc.to_bytes(4) for _, crc, _ in found]
        parts += [at.to_bytes(4) for _, _, at in found]
        data = b"".join(parts) + summed
        _write(self._path(summed.hex(), "idx"), data + sha1(data).digest())

    def _path(self, name: str, suffix: str) -> Path:
        return self._directory / f"pack-{name}.{suffix}"


def _pack_header(objects: int) -> bytes:
    return b"PACK" + (2).to_bytes(4) + objects.to_bytes(4)


def _header(kind: Type, size: int) -> bytes:
    """Kind and size: four bits of it, then seven a byte, the lowest first."""
    byte, size = kind[0] << 4 | size & 15, size >> 4
    out = bytearray()
    while size:
        out.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    out.append(byte)
    return bytes(out)


def _stored(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """``pieces``, of ``size`` bytes together and each but the last one a multiple of _BLOCK, as zlib (RFC 1950) has
    them without compression."""
    yield b"\x78\x01"
    summed, left = 1, size
    for piece in pieces:
        summed = zlib.adler32(piece, summed)
        for at in range(0, len(piece), _BLOCK):
            length = min(_BLOCK, len(piece) - at)
            left -= length
            yield b"%c%b%b" % (left == 0, length.to_bytes(2, "little"), (length ^ 0xFFFF).to_bytes(2, "little"))
            yield piece if length == len(piece) else piece[at : at + length]
    if not size:
        yield b"\x01\0\0\xff\xff"
    yield summed.to_bytes(4)


def _pieces(fd: int, size: int) -> Iterator[bytes]:
    at = 0
    while at < size:
        wanted = min(_PIECE, size - at)
        data = os.pread(fd, wanted, at)
        while len(data) < wanted:
            more = os.pread(fd, wanted - len(data), at + len(data))
            if not more:
                raise OSError("a file of the base became shorter")
            data += more
        at += len(data)
        yield data


def _told(pieces: Iterable[bytes], tell: Callable[[bytes], object]) -> Iterator[bytes]:
    for piece in pieces:
        tell(piece)
        yield piece


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o444)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)
