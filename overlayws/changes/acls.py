"""Access lists (acl(5)) that a program gave to files and directories: told, never applied.

An access list can open a file to users that its mode says nothing of, and means nothing on another machine. While there
is one, the group's bits of the mode are its mask, the most that any of its entries gives: without it they are what the
list gives the file's own group.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Sequence

from overlayws.changes.bounds import Bounds
from overlayws.changes.escape import quoted_path
from overlayws.changes.lower import Lower
from overlayws.source.entry import ACCESS_LISTS

_TOLD = 5
_GROUP_OBJ = 4
_NONE = (errno.ENODATA, errno.ENOTSUP)


class AccessLists:
    """The paths with an access list that the base does not have there."""

    def __init__(self, bounds: Bounds, lower: Lower) -> None:
        self._bounds, self._lower = bounds, lower
        self.paths: list[str] = []

    def mode(self, path: str, fd: int, mode: int, names: Sequence[str]) -> int:
        """The mode of an open file or directory of the upperdir without its access list, if ``names`` (of all its
        attributes) have one that the base has not. Raises OSError."""
        lists = {name: os.getxattr(fd, name) for name in ACCESS_LISTS if name in names}
        if all(value == self._given(path, name) for name, value in lists.items()):
            return mode
        if self._bounds.remembers(path):
            self.paths.append(path)
        return _without(mode, lists.get(ACCESS_LISTS[0], b""))

    def _given(self, path: str, name: str) -> bytes | None:
        """What a copy-up has brought along."""
        try:
            below = self._lower.file(path)
        except OSError:  # nothing is there, or a directory: that of a live base brings its list along as well
            return self._of_directory(path, name)
        try:
            return _get(below, name)
        finally:
            os.close(below)

    def _of_directory(self, path: str, name: str) -> bytes | None:
        try:
            return _get(self._lower.directory(path), name)
        except OSError:
            return None


def _get(fd: int, name: str) -> bytes | None:
    try:
        return os.getxattr(fd, name)
    except OSError as error:
        if error.errno in _NONE:
            return None
        raise


def _without(mode: int, value: bytes) -> int:
    """Of a list: version, then entries of tag, permissions, id (linux/posix_acl_xattr.h)."""
    for tag, permissions, _ in struct.iter_unpack("<HHI", value[4:]):
        if tag == _GROUP_OBJ:
            return mode & ~0o070 | (mode & int(permissions) << 3)
    return mode


def told(paths: Sequence[str]) -> str:
    """The first of ``paths``, escaped, and how many more there are."""
    more = len(paths) - _TOLD
    return ", ".join(map(quoted_path, paths[:_TOLD])) + (f" and {more} more" if more > 0 else "")
