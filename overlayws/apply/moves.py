"""The few changes that apply makes to a directory, each of which loses nothing, whatever else happens to the name.

renameat2(2) where the file system has it. Where not (EINVAL: NFS, some FUSE), a swap first moves the original away
under a name of its own in the stage (``SLOT~``) and then puts the new file in place: for a moment nothing is there,
but a file that somebody else put there is never replaced, as rename(2) would.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from overlayws import beneath
from overlayws.apply.record import Node, Values

UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)


def aside(slot: str) -> str:
    """The name in the stage of an original that is on its way to ``slot``."""
    return slot + "~"


def at(parent: int, name: str) -> os.stat_result | None:
    """lstat(2) of a name, or None. Raises OSError other than ENOENT."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def move(from_dir: int, from_name: str, to_dir: int, to_name: str) -> None:
    """Rename without replacing. Raises FileExistsError where the new name exists, OSError."""
    try:
        beneath.move(from_dir, from_name, to_dir, to_name)
        return
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    st = os.stat(from_name, dir_fd=from_dir, follow_symlinks=False)
    if not stat.S_ISDIR(st.st_mode):
        try:
            os.link(from_name, to_name, src_dir_fd=from_dir, dst_dir_fd=to_dir, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        else:
            os.unlink(from_name, dir_fd=from_dir)
            return
    if at(to_dir, to_name) is not None:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), to_name)
    os.rename(from_name, to_name, src_dir_fd=from_dir, dst_dir_fd=to_dir)


def swap(stage: int, slot: str, parent: int, name: str) -> None:
    """What is in the slot comes to ``name``, and what was there into the slot. Raises OSError."""
    try:
        beneath.exchange(stage, slot, parent, name)
        return
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    os.rename(name, aside(slot), src_dir_fd=parent, dst_dir_fd=stage)
    move(stage, slot, parent, name)
    os.rename(aside(slot), slot, src_dir_fd=stage, dst_dir_fd=stage)


@contextmanager
def opened(parent: int, name: str) -> Iterator[tuple[int, str]]:
    """A descriptor of what is at a name, whatever its mode, and a path that names it and nothing else.

    O_PATH descriptors take no fchmod(2) and no fsetxattr(2); their entry in /proc/self/fd does (open(2)).
    """
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        yield fd, f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def xattr(path: str | int, name: str) -> bytes | None:
    """The value of an extended attribute, or None where it is not set."""
    try:
        return os.getxattr(path, name)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return None
        raise


def all_xattrs(path: str | int) -> Values:
    """Every extended attribute that this process may read."""
    found: list[tuple[str, bytes | None]] = []
    with suppress(OSError):
        for name in sorted(os.listxattr(path)):
            with suppress(OSError):
                found.append((name, os.getxattr(path, name)))
    return tuple(found)


def set_xattrs(path: str | int, values: Values) -> None:
    """Set or (None) remove attributes; one that is gone already is no error. Raises OSError."""
    for name, value in values:
        if value is not None:
            os.setxattr(path, name, value)
        elif xattr(path, name) is not None:
            os.removexattr(path, name)


def set_attributes(path: str, now: int, wanted: Node) -> None:
    """Mode and attributes of an inode, by its /proc/self/fd path; ``now`` is its mode. Raises OSError."""
    # user.* attributes can only be set while the file is writable (xattr(7)).
    if not now & 0o200 and now != wanted.mode:
        os.chmod(path, wanted.mode)
        now = wanted.mode
    set_xattrs(path, wanted.xattrs)
    if now != wanted.mode:
        os.chmod(path, wanted.mode)
