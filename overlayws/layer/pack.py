"""pack: an upperdir onto a tape (tape.py), also one that a program is writing to meanwhile.

Only the standard library and this layer's own words: it is also executed inside the sandbox (run/inside.py).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from overlayws.layer.cursor import Cursor, kept_xattrs, opened
from overlayws.layer.tape import OPAQUE, Member, Writer
from overlayws.layer.whiteout import Marks, get
from overlayws.source.entry import Xattrs, kind_of

_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)
_SEGMENTS = 10_000  # of a file with more holes than this, the holes are content
LARGEST = 16 << 30  # bytes: a larger file is no change in any case (changes/bounds.py), and is not read
_HOLES = 64 << 30  # bytes that are read in one packing to find out that they are holes
_GONE = (errno.ENOENT, errno.ESTALE, errno.ENOTDIR, errno.ELOOP)


class Moved(Exception):
    """A directory was moved while it was read: what was packed is no picture of any moment."""


@dataclass(slots=True)
class _Packing:
    marks: Marks
    to: Writer
    links: dict[tuple[int, int], bytes] = field(default_factory=dict)  # (device, inode) -> the first name
    holes: int = _HOLES


def pack(upperdir: Path, marks: Marks, to: Writer, *, alive: bool = False) -> None:
    """Write every member of ``upperdir``, parents first; the caller ends the tape.

    ``alive``: a program is writing there. Then what vanishes is left out, and of a file that is written to come as many
    bytes as it had, old ones or new ones. Raises OSError; Moved, only where something is ``alive``.
    """
    packing = _Packing(marks, to)
    with Cursor(upperdir) as cursor:
        _directory(packing, cursor, b"", cursor.root)
        frames: list[tuple[bytes, Iterator[str]]] = [(b"", iter(cursor.names()))]
        while frames:
            above, names = frames[-1]
            name = next(names, None)
            if name is None:
                frames.pop()
                if frames:
                    _up(cursor, alive)
                continue
            path = above + b"/" + os.fsencode(name) if above else os.fsencode(name)
            try:
                st = cursor.lstat(name)
                if stat.S_ISDIR(st.st_mode):
                    st = cursor.down(name)
                    _directory(packing, cursor, path, st)
                    frames.append((path, iter(cursor.names())))
                else:
                    _entry(packing, cursor, name, path, st)
            except OSError as error:
                if not alive or error.errno not in _GONE:
                    raise


def _up(cursor: Cursor, alive: bool) -> None:
    try:
        cursor.up()
    except OSError as error:
        if not alive:
            raise
        raise Moved(os.strerror(error.errno or 0)) from error


def _directory(packing: _Packing, cursor: Cursor, path: bytes, st: os.stat_result) -> None:
    xattrs = _xattrs(packing, cursor.fd)
    if path and packing.marks.is_opaque(cursor.fd):
        xattrs = (*xattrs, (OPAQUE, b"y"))
    packing.to.member(Member(path, "directory", stat.S_IMODE(st.st_mode), st.st_mtime_ns, xattrs=xattrs))


def _entry(packing: _Packing, cursor: Cursor, name: str, path: bytes, st: os.stat_result) -> None:
    mode, to = stat.S_IMODE(st.st_mode), packing.to
    if packing.marks.is_whiteout(st, cursor.fd, name):
        to.member(Member(path, "whiteout"))
    elif stat.S_ISLNK(st.st_mode):
        target = os.fsencode(os.readlink(name, dir_fd=cursor.fd))
        to.member(Member(path, "symlink", mode, st.st_mtime_ns, target=target))
    elif stat.S_ISFIFO(st.st_mode) or stat.S_ISSOCK(st.st_mode):
        to.member(Member(path, "fifo" if stat.S_ISFIFO(st.st_mode) else "socket", mode, st.st_mtime_ns))
    elif not stat.S_ISREG(st.st_mode):
        said = f"{kind_of(st.st_mode).value} {os.major(st.st_rdev)}:{os.minor(st.st_rdev)}"
        to.member(Member(path, "device", mode, st.st_mtime_ns, target=said.encode()))
    else:
        with opened(cursor.fd, name) as (fd, st):
            first = packing.links.get((st.st_dev, st.st_ino)) if st.st_nlink > 1 else None
            if first is not None:
                to.member(Member(path, "link", target=first))
                return
            # By the descriptor: inside the sandbox our own /proc is covered, and Marks.special goes by it.
            device = get(fd, None, packing.marks.prefix + "special") if not st.st_size else None
            if device is not None:
                to.member(Member(path, "device", mode, st.st_mtime_ns, target=device))
                return
            _file(packing, fd, path, st)
            if st.st_nlink > 1:
                packing.links[st.st_dev, st.st_ino] = path


def _xattrs(packing: _Packing, fd: int) -> Xattrs:
    """The program's own. gVisor has no access lists, so nothing is lost that a program there could have set."""
    return tuple(pair for pair in packing.marks.agent_xattrs(kept_xattrs(fd)) if pair[0].startswith("user."))


def _file(packing: _Packing, fd: int, path: bytes, st: os.stat_result) -> None:
    to, size = packing.to, st.st_size
    xattrs = _xattrs(packing, fd)
    segments: tuple[tuple[int, int], ...] | None = None
    unsaved = size > LARGEST
    if unsaved:
        segments = ()
    elif size > _CHUNK:
        segments, holes = _segments(fd, size, packing.holes)
        unsaved = holes > packing.holes
        packing.holes -= min(holes, packing.holes)
    mode = stat.S_IMODE(st.st_mode)
    member = Member(path, "file", mode, st.st_mtime_ns, size, xattrs=xattrs, segments=segments, unsaved=unsaved)
    to.member(member)
    for offset, length in ((0, size),) if segments is None else segments:
        _content(to, fd, offset, length)
    to.pad(member.stored)


def _content(to: Writer, fd: int, offset: int, length: int) -> None:
    with suppress(OSError):  # not supported by every file system
        os.posix_fadvise(fd, offset, length, os.POSIX_FADV_SEQUENTIAL)
    while length:
        data = os.pread(fd, min(length, _CHUNK), offset)
        if not data:  # it shrank meanwhile; so many bytes were announced
            data = _ZEROS[: min(length, _CHUNK)]
        to.raw(data)
        offset += len(data)
        length -= len(data)


def _segments(fd: int, size: int, most: int) -> tuple[tuple[tuple[int, int], ...] | None, int]:
    """(what of a file is no hole, None for all of it; bytes of holes). Looking ends where there are more than ``most``.

    By reading: gVisor's memory knows no SEEK_DATA, and counts holes as blocks.
    """
    found: list[tuple[int, int]] = []
    holes = 0
    for offset in range(0, size, _CHUNK):
        data = os.pread(fd, min(_CHUNK, size - offset), offset)
        if data == _ZEROS[: len(data)]:
            holes += min(_CHUNK, size - offset)
            if holes > most:
                return (), holes
        elif found and sum(found[-1]) == offset:
            found[-1] = (found[-1][0], found[-1][1] + len(data))
        else:
            found.append((offset, len(data)))
    return (tuple(found) if holes and len(found) <= _SEGMENTS else None), holes
