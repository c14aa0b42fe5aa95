"""An upperdir as a tar stream: one member's header as bytes and back. The reader takes every byte for hostile.

POSIX.1-2001 pax interchange format, a strict subset: each member is an extended header ("x") and a ustar header, so
that nothing depends on the lengths of ustar's fields. A whiteout is a character device 0:0, an opaque directory has
``SCHILY.xattr.trusted.overlay.opaque``, a file with holes is in GNU's sparse format 1.0: GNU tar can extract the
members. A tape is ended by a global header ("g") that says how many members there were and, as a keyed hash of all that
is before it, that its writer knew a word that the program inside never could: an end that is missing, early, or
written by somebody else is no end.

Only the standard library: it is also executed inside the sandbox (run/inside.py).
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

BLOCK = 512
_MAGIC = b"ustar\00000"
_TYPES = {
    "file": b"0", "link": b"1", "symlink": b"2", "whiteout": b"3", "directory": b"5", "fifo": b"6", "socket": b"6",
    "device": b"0",
}  # fmt: skip
_CHUNK = 1 << 20
_MOST_HEADER = 1 << 20  # bytes of one extended header: a path, a target, attributes
_MOST_SEGMENTS = 1 << 16
_MOST_SIZE = (1 << 63) - 1
_MOST_OCTAL = 1 << 33  # what does not fit into a header of ustar
_XATTR = b"SCHILY.xattr."
_OWN = b"OVERLAYWS."
_DEVICE = re.compile(rb"(char|block)-device [0-9]{1,10}:[0-9]{1,10}")
OPAQUE = "trusted.overlay.opaque"
ENDS = ("ready", "import", "checkpoint", "final", "torn")


class Forged(Exception):
    """The stream is not what our own writer writes."""


class Truncated(Exception):
    """The stream ends before its end mark."""


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of an upperdir. ``path`` is relative, b"" the top itself; of a file ``size`` bytes follow, or those of
    its ``segments`` (offset, length) where it has holes."""

    path: bytes
    kind: str  # a key of _TYPES; "link" is a further name of the file ``target``, met before
    # ("device" is one that the program made: never one here, but an empty file with ``target`` to say so: whiteout.py)
    mode: int = 0  # 0o7777
    mtime_ns: int = 0
    size: int = 0
    target: bytes = b""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    segments: tuple[tuple[int, int], ...] | None = None  # None: no holes
    unsaved: bool = False  # the writer could not read its content

    @property
    def stored(self) -> int:
        """How many bytes of content follow."""
        return self.size if self.segments is None else sum(length for _, length in self.segments)


@dataclass(frozen=True, slots=True)
class End:
    """The end mark of a tape. ``free``: bytes that were left of the memory at its fullest."""

    kind: str  # one of ENDS
    members: int
    free: int


class Writer:
    """Writes tapes to ``write``. ``key`` is shared with the reader alone."""

    def __init__(self, write: Callable[[bytes], object], key: bytes) -> None:
        self._write, self._key = write, key
        self._number = 0
        self._begin()

    def _begin(self) -> None:
        self._mac = _mac(self._key, self._number)
        self._members = 0

    def raw(self, data: bytes) -> None:
        """Bytes as they are: the content of the member that was written last."""
        self._mac.update(data)
        self._write(data)

    def member(self, member: Member) -> None:
        """The headers of ``member``; exactly ``member.stored`` bytes of ``raw`` and then ``pad`` must follow."""
        self._members += 1
        self.raw(_headers(member))

    def pad(self, stored: int) -> None:
        """Fill the last block of a content of ``stored`` bytes."""
        self.raw(bytes(-stored % BLOCK))

    def end(self, kind: str, free: int = 0) -> None:
        """The end mark; what follows is the next tape."""
        said = f"{kind} {self._members} {free}"
        self._mac.update(said.encode("ascii"))
        records = _record(_OWN + b"end", said.encode("ascii")) + _record(_OWN + b"mac", self._mac.hexdigest().encode())
        self._write(_ustar(b"g", len(records)) + _padded(records) + bytes(2 * BLOCK))
        self._number += 1
        self._begin()


class Reader:
    """Reads tapes from ``exactly(n)``, which returns n bytes or raises Truncated."""

    def __init__(self, exactly: Callable[[int], bytes], key: bytes) -> None:
        self._exactly, self._key = exactly, key
        self._number = 0
        self._begin()

    def _begin(self) -> None:
        self._mac = _mac(self._key, self._number)
        self._members = 0
        self._left = self._pad = 0  # of the last member's content, and after it

    def _take(self, number: int) -> bytes:
        data = self._exactly(number)
        self._mac.update(data)
        return data

    def next(self) -> Member | End:
        """The next member, of whose content (see ``content``) is passed over what is not read, or the end.

        Raises Forged, Truncated.
        """
        for _ in self.content():
            pass
        head = self._exactly(BLOCK)  # of an end mark nothing belongs to what is hashed
        kind, size, _ = _parse_ustar(head)
        if head != _ustar(kind, size):
            raise Forged("a header that is not plain")
        if kind == b"g":
            return self._end(size)
        if kind != b"x":
            raise Forged("a member without an extended header")
        self._mac.update(head)
        records = _parse_records(self._take_padded(size))
        about = self._take(BLOCK)
        self._members += 1
        return self._member(records, about)

    def content(self) -> Iterator[bytes]:
        """What is left of the last member's content, in pieces. Raises Truncated, Forged."""
        while self._left:
            data = self._take(min(self._left, _CHUNK))
            self._left -= len(data)
            yield data
        pad, self._pad = self._pad, 0
        if self._take(pad).strip(b"\0"):
            raise Forged("padding that is not empty")

    def _take_padded(self, size: int) -> bytes:
        if not 0 < size <= _MOST_HEADER:
            raise Forged(f"a header of {size} bytes")
        data = self._take(size + -size % BLOCK)
        if data[size:].strip(b"\0"):
            raise Forged("padding that is not empty")
        return data[:size]

    def _member(self, records: dict[bytes, bytes], about: bytes) -> Member:
        letter, stored, mode = _parse_ustar(about)
        path = _path(records.pop(b"path", b""))
        kind = next((name for name, code in _TYPES.items() if code == letter), "")
        if records.pop(_OWN + b"kind", b"") == b"socket" and kind == "fifo":
            kind = "socket"
        device = records.pop(_OWN + b"device", b"")
        if device and kind == "file" and _DEVICE.fullmatch(device):
            kind = "device"
        elif not kind or device:
            raise Forged(f"a member of type {letter!r}")
        if (kind == "whiteout") != (about[329:345] == b"0000000\0" * 2):
            raise Forged("a device")
        unsaved = records.pop(_OWN + b"unsaved", b"") == b"1"
        mtime_ns = _nanoseconds(records.pop(b"mtime", b"0"))
        target = records.pop(b"linkpath", b"")
        if bool(target) != (kind in ("link", "symlink")) or b"\0" in target:
            raise Forged("an impossible target")
        target = _path(target) if kind == "link" else target
        stored = _number(records.pop(b"size")) if b"size" in records else stored
        segments, size = None, stored
        if b"GNU.sparse.major" in records:
            if (records.pop(b"GNU.sparse.major"), records.pop(b"GNU.sparse.minor", b"")) != (b"1", b"0"):
                raise Forged("another sparse format")
            records.pop(b"GNU.sparse.name", b"")
            size = _number(records.pop(b"GNU.sparse.realsize", b""))
            segments = self._map(size, stored)
        if size and kind != "file":
            raise Forged(f"a {kind} with a content")
        xattrs = tuple(_xattr(key, records.pop(key), kind) for key in sorted(records) if key.startswith(_XATTR))
        if records:
            raise Forged(f"an unknown record {sorted(records)[0]!r}")
        member = Member(path, kind, mode, mtime_ns, size, target, xattrs, segments, unsaved)
        self._left = member.stored
        self._pad = -self._left % BLOCK
        return replace(member, target=device) if device else member

    def _map(self, size: int, stored: int) -> tuple[tuple[int, int], ...]:
        """The sparse map before the content: a count, then offset and length of each segment, one number a line."""
        data = bytearray(self._take(BLOCK))
        count = _number(bytes(data.split(b"\n", 1)[0]))
        if count > _MOST_SEGMENTS:
            raise Forged(f"a file of {count} segments")
        met = data.count(b"\n")
        while met < 1 + 2 * count:
            if len(data) > _MOST_SEGMENTS * 64:
                raise Forged("a sparse map without an end")
            more = self._take(BLOCK)
            met += more.count(b"\n")
            data += more
        lines = bytes(data).split(b"\n")
        if data.rstrip(b"\0").count(b"\n") != 1 + 2 * count or lines[-1].strip(b"\0"):
            raise Forged("a sparse map that is not plain")
        numbers = [_number(line) for line in lines[1:-1]]
        segments = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        if segments[-1:] == ((size, 0),):
            segments = segments[:-1]
        at = 0
        for offset, length in segments:
            if offset < at or not length or offset + length > size:
                raise Forged("segments that overlap, or lie outside of their file")
            at = offset + length
        if sum(length for _, length in segments) + len(data) != stored:
            raise Forged("a sparse file that is not of its size")
        return segments

    def _end(self, size: int) -> End:
        if not 0 < size <= BLOCK:
            raise Forged("an end mark that is too long")
        data = self._exactly(BLOCK)
        if data[size:].strip(b"\0"):
            raise Forged("padding that is not empty")
        records = _parse_records(data[:size])
        try:
            said = records.pop(_OWN + b"end")
            mac = records.pop(_OWN + b"mac")
            kind, members, free = said.decode("ascii").split(" ")
        except (KeyError, ValueError):
            raise Forged("an end mark that says nothing") from None
        self._mac.update(said)
        if not hmac.compare_digest(self._mac.hexdigest().encode(), mac) or records:
            raise Forged("an end mark that is not ours")
        if kind not in ENDS or _number(members.encode()) != self._members:
            raise Forged("an end mark that does not fit")
        if self._exactly(2 * BLOCK).strip(b"\0"):
            raise Forged("something after the end mark")
        found = End(kind, self._members, _number(free.encode()))
        self._number += 1
        self._begin()
        return found


def _sparse_map(segments: tuple[tuple[int, int], ...], size: int) -> bytes:
    """What precedes the content of a file with holes, whole blocks; an empty segment says that it ends with one."""
    if not segments or sum(segments[-1]) < size:
        segments = (*segments, (size, 0))
    numbers = [len(segments), *(number for segment in segments for number in segment)]
    return _padded(b"".join(b"%d\n" % number for number in numbers))


def _mac(key: bytes, number: int) -> hashlib.blake2b:
    return hashlib.blake2b(b"%d " % number, key=key, digest_size=32)


def _headers(member: Member) -> bytes:
    stored = member.stored
    records = _record(b"path", member.path or b".") + _record(b"mtime", b"%d.%09d" % divmod(member.mtime_ns, 10**9))
    content = b""
    if member.kind == "device":
        records += _record(_OWN + b"device", member.target)
    elif member.target:
        records += _record(b"linkpath", member.target)
    if member.segments is not None:
        content = _sparse_map(member.segments, member.size)
        stored += len(content)
        for name, value in ((b"major", b"1"), (b"minor", b"0"), (b"name", member.path)):
            records += _record(b"GNU.sparse." + name, value)
        records += _record(b"GNU.sparse.realsize", b"%d" % member.size)
    if stored >= _MOST_OCTAL:
        records += _record(b"size", b"%d" % stored)
    if member.kind == "socket":
        records += _record(_OWN + b"kind", b"socket")
    if member.unsaved:
        records += _record(_OWN + b"unsaved", b"1")
    for attribute, value in member.xattrs:
        escaped = attribute.encode(errors="surrogateescape").replace(b"%", b"%25").replace(b"=", b"%3D")
        records += _record(_XATTR + escaped, value)
    if len(records) > _MOST_HEADER:
        raise OSError(errno.ENAMETOOLONG, "a path or attributes that are too long")
    size = stored if stored < _MOST_OCTAL else 0
    about = _ustar(_TYPES[member.kind], size, member.mode, device=member.kind == "whiteout")
    return _ustar(b"x", len(records)) + _padded(records) + about + content


def _record(key: bytes, value: bytes) -> bytes:
    """The length (counting itself), a space, the key, "=", the value, a newline."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) != len(str(rest)):
        length += 1
    return b"%d %s=%s\n" % (length, key, value)


def _ustar(kind: bytes, size: int, mode: int = 0o600, *, device: bool = False) -> bytes:
    numbers = b"0000000\0" * 2 if device else bytes(16)
    head = b"entry".ljust(100, b"\0") + b"%07o\0" % mode + b"0000000\0" * 2 + b"%011o\0" % size + b"%011o\0" % 0
    tail = kind + bytes(100) + _MAGIC + bytes(64) + numbers
    block = (head + b" " * 8 + tail).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _parse_ustar(block: bytes) -> tuple[bytes, int, int]:
    """(type, size, mode) of a header block."""
    if block[257:265] != _MAGIC:
        raise Forged("no tar header")
    if block[154:156] != b"\0 " or _octal(block[148:154]) != sum(block) - sum(block[148:156]) + 8 * 32:
        raise Forged("a header with another checksum")
    return block[156:157], _octal(block[124:136]), _octal(block[100:108]) & 0o7777


def _octal(field: bytes) -> int:
    digits = field.rstrip(b"\0 ")
    if not digits or digits.strip(b"01234567"):
        raise Forged("a number that is none")
    return int(digits, 8)


def _number(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19 or int(text) > _MOST_SIZE:
        raise Forged("a number that is none")
    return int(text)


def _nanoseconds(text: bytes) -> int:
    whole, _, part = text.partition(b".")
    sign = -1 if whole.startswith(b"-") else 1
    seconds = _number(whole.removeprefix(b"-"))
    if seconds > 1 << 40 or len(part) > 9 or (part and not part.isdigit()):
        raise Forged("a time that is none")
    return sign * seconds * 10**9 + int(part.ljust(9, b"0") or b"0")


def _parse_records(data: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        digits, space, _ = data[at : at + 9].partition(b" ")
        if not space:
            raise Forged("a record without a length")
        length = _number(digits)
        record = data[at + len(digits) + 1 : at + length]
        key, equals, value = record[:-1].partition(b"=")
        if not equals or record[-1:] != b"\n" or at + length > len(data) or key in found:
            raise Forged("a record that is none")
        found[key] = value
        at += length
    return found


def _path(path: bytes) -> bytes:
    """A path of plain names, b"" for the top."""
    if path == b".":
        return b""
    if b"\0" in path or any(name in (b"", b".", b"..") or len(name) > 255 for name in path.split(b"/")):
        raise Forged(f"a path that is not plain: {path[:200]!r}")
    return path


def _xattr(key: bytes, value: bytes, kind: str) -> tuple[str, bytes]:
    name = key.removeprefix(_XATTR).replace(b"%3D", b"=").replace(b"%25", b"%").decode(errors="surrogateescape")
    opaque = (name, value, kind) == (OPAQUE, b"y", "directory")
    if (not name.startswith("user.") and not opaque) or "\0" in name or len(value) > 1 << 16:
        raise Forged(f"an attribute {name!r}")
    return name, value


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)
