"""A file with a new ext4 in it that has room for exactly so many bytes and files, its own needs not counted.

The file has all its blocks from the beginning (fallocate(2)): what is written in it cannot fail for want of space
outside, which a program would only be told by losing data. mke2fs(8), mke2fs.conf(5), ext4(5).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

from overlayws.layer.room import Room

UPPER, WORK = "upper", "work"
_LINKS, _BALLAST = "links", "ballast"
BLOCK, _INODE = 4096, 256
_JOURNAL, _LEAST = 4 << 20, 4096  # the smallest that there is; and the blocks of a file system that can have one
_INODES_A_GROUP = _BLOCKS_A_GROUP = 8 * BLOCK  # a bitmap is one block
# Named one by one: what mke2fs.conf adds may be unknown to the kernel.
_FEATURES = (
    "none,has_journal,extent,flex_bg,dir_index,filetype,ext_attr,sparse_super,large_file,huge_file,dir_nlink,"
    "extra_isize,metadata_csum,64bit"
)
_CONFIGURATION = b"[defaults]\n[fs_types]\next4 = {\n}\n"
_PROGRAMS = ("/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4")
_FITRIM = 0xC0185879
_SETFLAGS, _NOCOW = 0x40086602, 0x00800000  # FS_IOC_SETFLAGS, FS_NOCOW_FL (linux/fs.h)

_libc = ctypes.CDLL(None, use_errno=True)


class NoImage(Exception):
    """Why there can be none: a few words."""


def make(path: Path, room: Room) -> None:
    """Make the file ``path``, which is not there, for ``room`` and somewhat more (see ``bound``). Raises NoImage."""
    program = next((name for name in _PROGRAMS if os.access(name, os.X_OK)), None)
    if program is None:
        raise NoImage("mkfs.ext4 is not installed (apt-get install e2fsprogs)")
    inodes = room.files + 64
    blocks = room.size // BLOCK + inodes * _INODE // BLOCK + _JOURNAL // BLOCK
    groups = max(blocks // _BLOCKS_A_GROUP, inodes // _INODES_A_GROUP) + 1
    # Of each: its bitmaps, its descriptor and copies of it; and the fiftieth part that ext4 keeps for itself, of which
    # it says nothing before it is mounted. What is too much is taken away again.
    blocks = max(blocks + groups * 16 + min(blocks // 40, 4096) + 512 + slack(room) // BLOCK, _LEAST)
    a_group = min(_BLOCKS_A_GROUP, -(-blocks // groups // 8) * 8)
    size = blocks * BLOCK
    about = os.statvfs(path.parent)
    if about.f_bavail * about.f_frsize < size:
        raise NoImage(f"less than that is free at {path.parent}")
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with suppress(OSError):  # btrfs: a block that is written anew must not need a new place outside
                fcntl.ioctl(fd, _SETFLAGS, struct.pack("=i", _NOCOW))
            os.ftruncate(fd, size)
            _format(program, fd, inodes, a_group)
            # Not os.posix_fallocate, which writes where the file system cannot do it.
            if _libc.fallocate(fd, 0, ctypes.c_long(0), ctypes.c_long(size)):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        finally:
            os.close(fd)
    except OSError as error:
        raise NoImage(f"no file of {size >> 20:,} MiB at {path.parent}: {error.strerror or error}") from error


def slack(room: Room) -> int:
    """Bytes by which the same files may take more than they did, laid out anew by other directories and extents."""
    return min(room.size // 64, 256 << 20) + 64 * BLOCK


def _format(program: str, fd: int, inodes: int, a_group: int) -> None:
    words = [
        program, "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-I", str(_INODE), "-N", str(inodes), "-g", str(a_group),
        "-m", "0", "-J", f"size={_JOURNAL >> 20}", "-O", _FEATURES, "-E", "lazy_itable_init=1,lazy_journal_init=1",
        f"/proc/self/fd/{fd}",
    ]  # fmt: skip
    configuration = os.memfd_create("mke2fs.conf")
    try:
        os.write(configuration, _CONFIGURATION)
        env = {"MKE2FS_CONFIG": f"/proc/self/fd/{configuration}", "LC_ALL": "C"}
        done = subprocess.run(
            words, env=env, pass_fds=(fd, configuration), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    finally:
        os.close(configuration)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"]
        raise NoImage(f"mkfs.ext4: {said[-1]}")


def prepare(top: int) -> None:
    """Make the directories of a new one, that is mounted at the descriptor ``top``. Raises OSError."""
    os.rmdir("lost+found", dir_fd=top)
    for name in (UPPER, WORK):
        os.mkdir(name, 0o700, dir_fd=top)
    os.mkdir(f"{WORK}/work", 0o700, dir_fd=top)  # overlayfs's own: it would cost the program a file


def inside(top: int, name: str) -> Path:
    """``name`` ("" for itself) at the descriptor ``top`` of ours, for every process that may look at this one."""
    return Path(f"/proc/{os.getpid()}/fd/{top}", name)


def links(top: int) -> Path:
    """A name that is free."""
    return inside(top, _LINKS)


def free(top: int) -> Room:
    """What can still be written."""
    about = os.statvfs(top)
    return Room(about.f_bavail * about.f_frsize, about.f_favail)


def bound(top: int, most: Room) -> None:
    """Take away what is free beyond ``most``. Raises OSError."""
    os.mkdir(_BALLAST, 0o700, dir_fd=top)
    kept = os.open(_BALLAST, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=top)
    try:
        # The names first, which take blocks. A file for each inode, since nothing else uses one up.
        for number in range(free(top).files - most.files - 1):
            os.close(os.open(str(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=kept))
        fd = os.open("blocks", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=kept)
        try:
            size = 0
            while (more := -((most.size - free(top).size) // BLOCK) * BLOCK) > 0:
                if _libc.fallocate(fd, 0, ctypes.c_long(size), ctypes.c_long(more)):
                    number = ctypes.get_errno()
                    if number == errno.ENOSPC:  # all of it, and what tells where it is
                        break
                    raise OSError(number, os.strerror(number))
                size += more
        finally:
            os.close(fd)
    finally:
        os.close(kept)


def trim(top: int) -> None:
    """Give back outside what is free in it: there is nothing to be written any more. Where that cannot be, nothing."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=top)
    try:
        fcntl.ioctl(fd, _FITRIM, struct.pack("=QQQ", 0, (1 << 64) - 1, 0))
    except OSError:
        pass
    finally:
        os.close(fd)
