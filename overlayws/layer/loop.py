"""A file system in a file, mounted where nobody sees it: a loop device, and a mount that only a descriptor leads to.

Both are gone with their last user, whatever is killed: the device is cleared by the kernel (LO_FLAGS_AUTOCLEAR), and a
mount of fsmount(2) that was attached nowhere ends with its descriptor. Needs root. loop(4), fsopen(2), flock(2).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_GET_FREE, _CONFIGURE, _GET_STATUS = 0x4C82, 0x4C0A, 0x4C05  # LOOP_CTL_GET_FREE, LOOP_CONFIGURE, LOOP_GET_STATUS64
_INFO = "=QQQQQIIII64s64s32sQQ"  # struct loop_info64 (linux/loop.h)
_AUTOCLEAR = 4  # LO_FLAGS_AUTOCLEAR
_BLOCK = 4096
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432  # the same on every architecture
_SET_FLAG, _SET_STRING, _CREATE, _CLOEXEC = 0, 1, 6, 1
_NOSUID, _NODEV, _NOATIME = 2, 4, 0x10  # MOUNT_ATTR_*
# An error ends the journal, and then the file system can only be read: what was lost is no silent loss. And nothing of
# a new file system is written before it is used.
_OPTIONS = (("data", "ordered"), ("data_err", "abort"), ("errors", "remount-ro"), ("noinit_itable", None))
_TRIES = 100  # for a device that somebody else takes between asking and taking

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


@contextmanager
def mounted(image: Path, patience: float = 0.0) -> Iterator[int]:
    """A descriptor (O_PATH) of the top of the ext4 in ``image``, mounted ``nosuid,nodev``.

    One device at a time has the file: its kernel would not know of another one's writes. So where a mount is just
    ending, it is waited for, ``patience`` seconds; after that its own device is mounted once more, which is the same
    file system. Raises OSError: EBUSY where neither can be had, ELOOP and EINVAL where ``image`` is no file of ours.
    """
    device = _device(image, patience)
    try:
        name = os.readlink(f"/proc/self/fd/{device}")
        top = _mounted(name)
    finally:
        os.close(device)  # the mount has it by now
    try:
        yield top
    finally:
        os.close(top)


def _device(image: Path, patience: float) -> int:
    file = os.open(image, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        st = os.fstat(file)
        if not stat.S_ISREG(st.st_mode) or st.st_uid != os.geteuid():
            raise OSError(errno.EINVAL, "no file of ours")
        deadline = time.monotonic() + patience
        while True:
            try:
                # The device keeps this very description of the open file, and with it the lock, until it is cleared.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return _configured(file)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    break
            time.sleep(0.02)
        return _that_has(st)
    finally:
        os.close(file)


def _configured(file: int) -> int:
    """A free device with the open ``file`` in it."""
    info = struct.pack(_INFO, 0, 0, 0, 0, 0, 0, 0, 0, _AUTOCLEAR, b"", b"", b"", 0, 0)
    config = struct.pack("=II", file, _BLOCK) + info + bytes(64)  # struct loop_config
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            number = fcntl.ioctl(control, _GET_FREE)
            device = os.open(f"/dev/loop{number}", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _CONFIGURE, config)
                return device
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:
                    raise
        raise OSError(errno.EBUSY, "no free loop device")
    finally:
        os.close(control)


def _that_has(st: os.stat_result) -> int:
    """The device that has the file with the stat ``st`` already: a mount of it is kept by somebody else."""
    for name in os.listdir("/sys/block"):
        if name.startswith("loop") and os.path.exists(f"/sys/block/{name}/loop/backing_file"):
            with suppress(OSError):
                device = os.open(f"/dev/{name}", os.O_RDWR | os.O_CLOEXEC)
                try:
                    found = struct.unpack(_INFO, fcntl.ioctl(device, _GET_STATUS, bytes(struct.calcsize(_INFO))))
                except OSError:
                    os.close(device)
                    continue
                number = found[0]  # huge_encode_dev of linux/kdev_t.h
                where = os.makedev((number >> 8) & 0xFFF, (number & 0xFF) | ((number >> 12) & 0xFFF00))
                if (where, found[1]) == (st.st_dev, st.st_ino):
                    return device
                os.close(device)
    raise OSError(errno.EBUSY, "still in use")


def _mounted(device: str) -> int:
    fs = _syscall(_SYS_FSOPEN, b"ext4", _CLOEXEC)
    if fs < 0:
        raise _failed()
    try:
        _config(fs, _SET_STRING, "source", os.fsencode(device))
        for name, value in _OPTIONS:
            _config(fs, _SET_FLAG if value is None else _SET_STRING, name, value and value.encode())
        _config(fs, _CREATE, None, None)
        top = int(_syscall(_SYS_FSMOUNT, fs, _CLOEXEC, _NOSUID | _NODEV | _NOATIME))
        if top < 0:
            raise _failed()
        return top
    finally:
        os.close(fs)


def _config(fs: int, command: int, key: str | None, value: bytes | str | None) -> None:
    if _syscall(_SYS_FSCONFIG, fs, command, None if key is None else key.encode(), value, 0):
        raise _failed()


def _failed() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
