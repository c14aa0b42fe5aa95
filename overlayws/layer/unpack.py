"""unpack: a tape (tape.py) into an empty directory, as an upperdir. What is read is hostile.

A member is made in a directory that the same tape made, by a name that was not there: O_EXCL and its like, below
descriptors, nothing followed. So no path leads out, no member replaces another, and none is below what is no directory.

Only the standard library and this layer's own words: it is also executed inside the sandbox (run/inside.py).
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from overlayws.beneath import open_directory
from overlayws.layer.cursor import Cursor
from overlayws.layer.tape import OPAQUE, End, Forged, Member, Reader
from overlayws.layer.whiteout import Marks

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 10_000  # levels; a scan looks at 2,000
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Most:
    """What one tape may bring."""

    members: int
    content: int  # bytes, holes not counted


@dataclass(slots=True)
class Unpacked:
    """What came. ``unsaved``: paths whose content or attributes are not what they were, the first few."""

    end: End | None = None  # None: the tape is not over yet
    members: int = 0
    content: int = 0
    unsaved: list[str] = field(default_factory=list)

    def missed(self, path: str) -> None:
        if len(self.unsaved) < _SHOWN and path not in self.unsaved:
            self.unsaved.append(path)


def unpack(tape: Reader, top: Path, marks: Marks, most: Most, *, owner: int | None = None) -> Unpacked:
    """Make what the next tape holds in ``top``, an empty directory; ``owner`` gets all of it, uid and gid.

    Raises Forged, Truncated (what there is stays), OSError where it cannot be written.
    """
    found = Unpacked()
    with Cursor(top) as cursor:
        unpacking = _Unpacking(tape, cursor, marks, top, owner, found)
        while isinstance(member := tape.next(), Member):
            found.members += 1
            found.content += member.stored
            if found.members > most.members:
                raise Forged(f"more than {most.members} files")
            if found.content > most.content:
                raise Forged(f"more than {most.content} bytes")
            unpacking.make(member)
        unpacking.finish()
        found.end = member
    return found


class _Unpacking:
    def __init__(
        self, tape: Reader, cursor: Cursor, marks: Marks, top: Path, owner: int | None, found: Unpacked
    ) -> None:
        self._tape, self._cursor, self._marks = tape, cursor, marks
        self._top, self._owner, self._found = top, owner, found
        self._here: list[bytes] = []  # the directory that the cursor is in
        self._open: list[Member] = []  # the directories from the top to it, to get mode and time when left

    def make(self, member: Member) -> None:
        """One entry; its content is read from the tape."""
        if not self._open:
            if member.path or member.kind != "directory":
                raise Forged("a tape that does not begin with its top")
            self._enter(member)
            return
        *parents, name = member.path.split(b"/")
        if not name:
            raise Forged("a second top")
        while len(self._here) > len(parents) or self._here != parents[: len(self._here)]:
            self._leave()
        if self._here != parents:
            raise Forged(f"{_shown(member.path)} is in no directory of its tape")
        try:
            self._entry(member, os.fsdecode(name))
        except FileExistsError:
            raise Forged(f"{_shown(member.path)} comes twice") from None

    def finish(self) -> None:
        """The tape is over: every directory gets its mode."""
        if not self._open:
            raise Forged("a tape without a top")
        while self._here:
            self._leave()
        (top,) = self._open
        os.utime(self._cursor.fd, ns=(top.mtime_ns, top.mtime_ns))
        os.fchmod(self._cursor.fd, top.mode)

    def _enter(self, member: Member) -> None:
        if len(self._open) > _DEEPEST:
            raise Forged(f"more than {_DEEPEST} directories in one another")
        if self._owner is not None:
            os.fchown(self._cursor.fd, self._owner, self._owner)
        self._xattrs(self._cursor.fd, member)
        self._open.append(member)

    def _leave(self) -> None:
        left = self._open.pop()
        self._here.pop()
        self._cursor.up(left.mode, left.mtime_ns)

    def _entry(self, member: Member, name: str) -> None:
        parent = self._cursor.fd
        if member.kind == "directory":
            os.mkdir(name, 0o700, dir_fd=parent)
            self._cursor.down(name)
            self._here.append(os.fsencode(name))
            self._enter(member)
        elif member.kind == "file":
            self._file(member, name)
        elif member.kind == "link":
            self._link(member, name)
        elif member.kind == "symlink":
            os.symlink(member.target, os.fsencode(name), dir_fd=parent)
            if self._owner is not None:
                os.chown(name, self._owner, self._owner, dir_fd=parent, follow_symlinks=False)
            os.utime(name, ns=(member.mtime_ns, member.mtime_ns), dir_fd=parent, follow_symlinks=False)
        elif member.kind == "whiteout":
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
        elif member.kind == "device":
            fd = os.open(name, _NEW, 0o600, dir_fd=parent)
            try:
                os.setxattr(fd, self._marks.prefix + "special", member.target)
                os.utime(fd, ns=(member.mtime_ns, member.mtime_ns))
                os.fchmod(fd, member.mode & 0o777 | 0o600)
            finally:
                os.close(fd)
        else:
            kind = stat.S_IFIFO if member.kind == "fifo" else stat.S_IFSOCK
            os.mknod(name, kind | 0o600, dir_fd=parent)
            if self._owner is not None:
                os.chown(name, self._owner, self._owner, dir_fd=parent, follow_symlinks=False)
            os.utime(name, ns=(member.mtime_ns, member.mtime_ns), dir_fd=parent, follow_symlinks=False)
            os.chmod(name, member.mode, dir_fd=parent)  # just made by us in a directory of ours

    def _file(self, member: Member, name: str) -> None:
        fd = os.open(name, _NEW, 0o600, dir_fd=self._cursor.fd)
        try:
            if self._owner is not None:
                os.fchown(fd, self._owner, self._owner)
            if member.unsaved:
                self._found.missed(_shown(member.path))
            self._content(fd, member)
            self._xattrs(fd, member)
            os.utime(fd, ns=(member.mtime_ns, member.mtime_ns))
            os.fchmod(fd, member.mode)
        finally:
            os.close(fd)

    def _content(self, fd: int, member: Member) -> None:
        pieces = list(member.segments) if member.segments is not None else [(0, member.size)]
        pieces.reverse()
        at, left = pieces.pop() if pieces else (0, 0)
        for data in self._tape.content():
            view = memoryview(data)
            while view:
                if not left:
                    at, left = pieces.pop()
                written = os.pwrite(fd, view[:left], at)
                at, left, view = at + written, left - written, view[written:]
        if member.segments is not None:
            try:
                os.ftruncate(fd, member.size)
            except OSError as error:
                if error.errno not in (errno.EFBIG, errno.EINVAL):
                    raise
                self._found.missed(_shown(member.path))  # larger than this file system's files

    def _link(self, member: Member, name: str) -> None:
        above, _, first = member.target.rpartition(b"/")
        fd = os.open(self._top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            source = open_directory(fd, os.fsdecode(above))
        except OSError as error:
            raise Forged(f"{_shown(member.path)} is a link to nothing: {error.strerror}") from None
        finally:
            os.close(fd)
        try:
            met = os.stat(first, dir_fd=source, follow_symlinks=False)
            if not stat.S_ISREG(met.st_mode):
                raise Forged(f"{_shown(member.path)} is a link to no file")
            os.link(first, os.fsencode(name), src_dir_fd=source, dst_dir_fd=self._cursor.fd, follow_symlinks=False)
        except FileNotFoundError:
            raise Forged(f"{_shown(member.path)} is a link to nothing") from None
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            self._found.missed(_shown(member.path))  # more names than this file system gives a file
        finally:
            os.close(source)

    def _xattrs(self, fd: int, member: Member) -> None:
        for name, value in member.xattrs:
            own = self._marks.prefix + "opaque" if name == OPAQUE else self._marks.escaped(name)
            try:
                os.setxattr(fd, own, value)
            except OSError:
                if name == OPAQUE:
                    raise
                self._found.missed(_shown(member.path))  # larger than this file system's attributes


def _shown(path: bytes) -> str:
    return repr(os.fsdecode(path[:200]))[:200]
