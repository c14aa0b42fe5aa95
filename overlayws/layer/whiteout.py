"""The only code that knows overlay marks: whiteouts, opaque directories, origin, and the xattrs behind them.

The format is the kernel's (Documentation/filesystems/overlayfs.rst: "whiteouts and opaque directories", "Nesting
overlayfs mounts"), under the prefix that the session's own backend writes. Marks under any other prefix were set by
the program and are plain data.

==============================  ==================================================================================
a deleted name                  a character device 0:0; where mknod(2) of one is refused (``copy`` only), an empty
                                regular file with PREFIXwhiteout in a directory with PREFIXopaque=x
a directory that hides lower    PREFIXopaque=y
an overlay xattr of the         escaped: PREFIXoverlay.NAME stands for PREFIXNAME
program's own
a device that the program made  (``copy``, and what gVisor kept in memory) an empty regular file with PREFIXspecial:
                                "char-device MAJOR:MINOR" or "block-device MAJOR:MINOR"; its mode is the device's,
                                with u+rw. FIFOs and sockets are FIFOs and sockets, as in the kernel's upperdirs
==============================  ==================================================================================

The program cannot write a mark: a mounted overlay and ``copy`` alike store its PREFIX* attributes escaped.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from overlayws.source.entry import Kind, Xattrs, kind_of

USER_PREFIX = "user.overlay."
TRUSTED_PREFIX = "trusted.overlay."

_FH_VERSION, _FH_MAGIC, _FH_HEADER = 0, 0xFB, 21  # struct ovl_fb of fs/overlayfs/overlayfs.h
_FH_BIG_ENDIAN, _FH_ANY_ENDIAN, _FH_PATH_UPPER = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Origin:
    """The file handle (name_to_handle_at(2)) of the lower inode that an entry was copied up from."""

    type: int
    handle: bytes


@dataclass(frozen=True, slots=True)
class Marks:
    """Reads the marks of one upperdir. ``prefix`` is the ``XATTR_PREFIX`` of the backend that wrote it.

    Entries are named by a descriptor of their directory and a name; nothing is followed. Methods raise OSError
    where the kernel does; what cannot be read for want of permission carries no mark, since a mark is only ever
    on an inode that its owner can read.
    """

    prefix: str

    def is_whiteout(self, st: os.stat_result, dir_fd: int, name: str) -> bool:
        """Whether the entry is the deletion of ``name``. ``st`` is its lstat."""
        if stat.S_ISCHR(st.st_mode):
            return st.st_rdev == 0
        if not self._may_carry_mark(st) or get(dir_fd, name, self.prefix + "whiteout") is None:
            return False
        # As the kernel: the xattr form counts only in a directory that announces it.
        return get(dir_fd, None, self.prefix + "opaque") == b"x"

    def is_opaque(self, dir_fd: int) -> bool:
        """Whether the directory hides everything that the lowerdir has at its path."""
        return get(dir_fd, None, self.prefix + "opaque") == b"y"

    def special(self, st: os.stat_result, dir_fd: int, name: str) -> Kind | None:
        """The kind of special file (FIFO, socket, device) that the entry is or stands for, or None.

        Ask ``is_whiteout`` first: a 0:0 device is a device here.
        """
        kind = kind_of(st.st_mode)
        if kind.special:
            return kind
        if not stat.S_ISREG(st.st_mode) or st.st_size:
            return None
        value = get(dir_fd, name, self.prefix + "special")
        if value is None:
            return None
        return Kind.BLOCK_DEVICE if value.startswith(b"block-device") else Kind.CHAR_DEVICE

    def agent_xattrs(self, raw: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> Xattrs:
        """The program's own ``user.*`` attributes: marks dropped, escaped names as the program set them, sorted."""
        pairs = raw.items() if isinstance(raw, Mapping) else raw
        found = []
        for name, value in pairs:
            if name.startswith(self.prefix):
                inner = name.removeprefix(self.prefix)
                if not inner.startswith("overlay."):
                    continue
                name = self.prefix + inner.removeprefix("overlay.")
            if name.startswith("user."):
                found.append((name, value))
        return tuple(sorted(found))

    def escaped(self, name: str) -> str:
        """The name under which the upperdir holds the program's attribute ``name``."""
        return f"{self.prefix}overlay.{name.removeprefix(self.prefix)}" if name.startswith(self.prefix) else name

    def origin(self, dir_fd: int, name: str) -> Origin | None:
        """Where the entry was copied up from, or None: not known (``user.overlay.`` never says)."""
        return parse_origin(get(dir_fd, name, self.prefix + "origin") or b"")

    def _may_carry_mark(self, st: os.stat_result) -> bool:
        # Only ``copy`` writes marks on files, always empty ones of one link; and it writes user.overlay. alone.
        return self.prefix == USER_PREFIX and stat.S_ISREG(st.st_mode) and st.st_size == 0


def parse_origin(value: bytes) -> Origin | None:
    """The handle in an ``origin`` attribute: version, magic, length, flags, type, file system uuid, handle."""
    if len(value) < _FH_HEADER or (value[0], value[1]) != (_FH_VERSION, _FH_MAGIC) or value[2] != len(value):
        return None
    flags = value[3]
    if flags & _FH_PATH_UPPER:
        return None
    native = bool(flags & _FH_BIG_ENDIAN) == (sys.byteorder == "big")
    if not native and not flags & _FH_ANY_ENDIAN:
        return None
    return Origin(value[4], value[_FH_HEADER:])


_ABSENT = frozenset({errno.ENODATA, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM})


def get(dir_fd: int, name: str | None, attribute: str) -> bytes | None:
    """One extended attribute of ``name`` in a directory (None: of the directory), or None. No symlink is followed."""
    try:
        if name is None:
            return os.getxattr(dir_fd, attribute)
        # There is no getxattrat(2) before Linux 6.13; the magic link gives the same without a path race.
        return os.getxattr(f"/proc/self/fd/{dir_fd}/{name}", attribute, follow_symlinks=False)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise
