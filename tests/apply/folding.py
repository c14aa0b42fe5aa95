"""A file system that folds names as APFS and NTFS do (case, composed and decomposed letters) and keeps their spelling.

``python3 folding.py BACKING MOUNT [case|letters]`` serves the directory BACKING, with ``case`` or ``letters`` folding
only those; it ends when MOUNT is unmounted. It cannot exchange two names (libfuse 2 refuses the flags of renameat2(2)).
fusepy and the standard library only.
"""

from __future__ import annotations

import errno
import os
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

from fuse import FUSE, FuseOSError, Operations


class Folding(Operations):  # type: ignore[misc]
    use_ns = True

    def __init__(self, backing: str, only: str = "") -> None:
        self.backing, self.only = backing, only

    def _folded(self, name: str) -> str:
        name = name if self.only == "case" else unicodedata.normalize("NFC", name)
        return name if self.only == "letters" else unicodedata.normalize("NFC", name.casefold())

    def _real(self, path: str) -> str:
        """Where ``path`` is in the backing directory: under the spelling that is there, or as it is given."""
        at = self.backing
        for name in path.strip("/").split("/") if path != "/" else ():
            if not os.path.lexists(os.path.join(at, name)) and os.path.isdir(at):
                name = next((there for there in os.listdir(at) if self._folded(there) == self._folded(name)), name)
            at = os.path.join(at, name)
        return at

    def __call__(self, op: str, path: str, *arguments: Any) -> Any:
        try:
            if op in ("rename", "link"):
                return getattr(self, op)(path, *arguments)
            return getattr(self, op)(path if op == "symlink" else self._real(path), *arguments)
        except OSError as error:
            raise FuseOSError(error.errno) from None

    def init(self, path: str) -> None:
        pass

    def destroy(self, path: str) -> None:
        pass

    def getattr(self, path: str, fh: Any = None) -> dict[str, int]:
        st = os.lstat(path)
        times = {f"st_{name}": getattr(st, f"st_{name}_ns") for name in ("atime", "mtime", "ctime")}
        names = ("mode", "nlink", "uid", "gid", "size", "ino", "blocks")
        return times | {f"st_{name}": getattr(st, f"st_{name}") for name in names}

    def readdir(self, path: str, fh: Any) -> Iterator[tuple[str, dict[str, int], int]]:
        for name in (".", "..", *os.listdir(path)):
            yield name, self.getattr(os.path.join(path, name)), 0

    def readlink(self, path: str) -> str:
        return os.readlink(path)

    def open(self, path: str, flags: int) -> int:
        return os.open(path, flags & ~os.O_NOFOLLOW)

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        os.fsync(fh)

    def flush(self, path: str, fh: int) -> None:
        pass

    def truncate(self, path: str, length: int, fh: Any = None) -> None:
        os.truncate(path, length)

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def symlink(self, path: str, target: str) -> None:
        os.symlink(target, self._new(path))

    def link(self, path: str, source: str) -> None:
        os.link(self._real(source), self._new(path), follow_symlinks=False)

    def rename(self, old: str, new: str) -> None:
        one, other = self._real(old), self._real(new)
        if one == other:  # another spelling of the same name
            other = os.path.join(os.path.dirname(other), os.path.basename(new))
        os.rename(one, other)

    def _new(self, path: str) -> str:
        real = self._real(path)
        if os.path.lexists(real):
            raise OSError(errno.EEXIST, path)
        return real

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(path, mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(path, uid, gid, follow_symlinks=False)

    def utimens(self, path: str, times: tuple[int, int]) -> None:
        os.utime(path, ns=times, follow_symlinks=False)

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(path)
        names = ("bavail", "bfree", "blocks", "bsize", "favail", "ffree", "files", "flag", "frsize", "namemax")
        return {f"f_{name}": getattr(found, f"f_{name}") for name in names}

    def listxattr(self, path: str) -> list[str]:
        return os.listxattr(path, follow_symlinks=False)

    def getxattr(self, path: str, name: str, position: int = 0) -> bytes:
        return os.getxattr(path, name, follow_symlinks=False)

    def setxattr(self, path: str, name: str, value: bytes, options: int, position: int = 0) -> None:
        os.setxattr(path, name, value, options, follow_symlinks=False)

    def removexattr(self, path: str, name: str) -> None:
        os.removexattr(path, name, follow_symlinks=False)


if __name__ == "__main__":
    # Nothing is cached: the kernel would tell spellings apart.
    FUSE(Folding(sys.argv[1], *sys.argv[3:]), sys.argv[2], foreground=True, nothreads=True, use_ino=True,
         hard_remove=True, attr_timeout=0, entry_timeout=0, negative_timeout=0, default_permissions=True)  # fmt: skip
