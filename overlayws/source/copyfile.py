"""Copy one file's bytes between descriptors: shared blocks where the file system has them, holes kept."""

from __future__ import annotations

import errno
import fcntl
import os

_FICLONE = 0x40049409  # ioctl_ficlone(2)
_CANNOT = {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM}

# Pairs of devices between which a reflink was refused: asked once, not once a file.
_no_reflink: set[tuple[int, int]] = set()


def may_reflink(source_dev: int, target_dev: int) -> bool:
    """False once a reflink between these two devices was refused."""
    return (source_dev, target_dev) not in _no_reflink


def copy_file(source: int, target: int, st: os.stat_result, target_dev: int) -> None:
    """Copy the regular file open at ``source`` (whose fstat is ``st``) into the empty file open at ``target``.

    Reflink, else copy_file_range(2), else read and write. Raises OSError.
    """
    if st.st_size == 0:
        return
    pair = (st.st_dev, target_dev)
    if pair not in _no_reflink:
        try:
            fcntl.ioctl(target, _FICLONE, source)
            return
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            _no_reflink.add(pair)
    if st.st_blocks * 512 < st.st_size:
        _copy_data_ranges(source, target, st.st_size)
    else:
        _copy_range(source, target, 0, st.st_size)


def _copy_data_ranges(source: int, target: int, size: int) -> None:
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                break
            raise
        end = os.lseek(source, at, os.SEEK_HOLE)
        _copy_range(source, target, at, end - at)
        at = end
    os.ftruncate(target, size)


def _copy_range(source: int, target: int, at: int, length: int) -> None:
    end = at + length
    while at < end:
        try:
            copied = os.copy_file_range(source, target, end - at, at, at)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            copied = os.pwrite(target, os.pread(source, min(end - at, 1 << 20), at), at)
        if copied == 0:  # the file became shorter under us
            return
        at += copied
