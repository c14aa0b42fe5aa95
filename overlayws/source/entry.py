"""What is at one path: kind, mode, size, content digest, link target, extended attributes."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """The kind of a directory entry, by lstat(2)."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"
    SOCKET = "socket"
    CHAR_DEVICE = "char-device"
    BLOCK_DEVICE = "block-device"

    @property
    def special(self) -> bool:
        """True for what is never copied, shown or applied: FIFOs, sockets and devices."""
        return self not in (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK)


_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
    stat.S_IFCHR: Kind.CHAR_DEVICE,
    stat.S_IFBLK: Kind.BLOCK_DEVICE,
}


def kind_of(mode: int) -> Kind:
    """The kind that an ``st_mode`` says."""
    return _KINDS[stat.S_IFMT(mode)]


Xattrs = tuple[tuple[str, bytes], ...]

ACCESS_LISTS = ("system.posix_acl_access", "system.posix_acl_default")  # acl(5), as attributes


@dataclass(frozen=True, slots=True)
class Entry:
    """What is at one path. Owner and times are not part of it: they are never a change."""

    kind: Kind
    mode: int  # permission bits, set-id and sticky bits: st_mode & 0o7777; 0o777 for a symlink
    size: int = 0  # bytes; files only, else 0
    digest: str | None = None  # SHA-256 of a file's content in hex; None where it was not computed
    target: str | None = None  # of a symlink, surrogateescape
    xattrs: Xattrs = ()  # user.* only, sorted by name


@dataclass(frozen=True, slots=True)
class Stamp:
    """The identity of an inode's content at one moment: equal stamps mean that nobody touched the file.

    ctime is the part that a program cannot set back (inode(7)).
    """

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, st: os.stat_result) -> Stamp:
        return cls(st.st_dev, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns)
