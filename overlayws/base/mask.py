"""Mask: the layer between a program's own files and the user's workspace, for ``--base live``.

A hidden path is a whiteout there (a 0:0 device, which mknod(2) makes for anybody since Linux 5.8; overlayfs.rst), a
redacted file is there with its placeholders. The directories on the way are the topmost lowerdir's, so what overlayfs
shows of them is what the mask says: they get the original's mode, owner, times and attributes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from overlayws.atomic import write_all
from overlayws.base.files import user_xattrs
from overlayws.beneath import exchange, open_beneath, open_directory, split
from overlayws.errors import UnableError
from overlayws.source.entry import ACCESS_LISTS, Xattrs
from overlayws.source.remove import remove_below

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Mask:
    """The mask in ``directory`` (made if it is missing) of the workspace behind the descriptor ``root``.

    Use as a context manager: on leaving, the directories get their modes and times. Raises UnableError where it
    cannot be written.
    """

    def __init__(self, directory: Path, root: int) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._root = root
        self._mask = os.open(directory, _DIRECTORY)
        self._touched: dict[str, None] = {"": None}
        self._made: tuple[int, str] | None = None  # descriptor of the directory, and the name, of a whiteout

    def __enter__(self) -> Mask:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            if self._made is not None:
                os.close(self._made[0])
            os.close(self._mask)

    def hide(self, path: str) -> bool:
        """Hide ``path`` and all below it. False where something above it is hidden already, or is gone."""
        above, name = split(path)
        fd = self._directory(above)
        if fd is None:
            return False
        try:
            return self._whiteout(fd, name)
        finally:
            os.close(fd)

    def hide_at_top(self, names: Iterable[str]) -> None:
        """As ``hide`` for each of ``names``, which have no slash."""
        for name in names:
            self._whiteout(self._mask, name)

    def _whiteout(self, fd: int, name: str) -> bool:
        try:
            self._make(fd, name)
        except FileExistsError:
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISCHR(st.st_mode):
                return False
            self._replace(fd, name, st)
        except OSError as error:
            raise UnableError(
                f"cannot make a whiteout in the state directory: {error.strerror}", hint="use --base copy"
            ) from error
        return True

    def _make(self, fd: int, name: str) -> None:
        """A whiteout: another name of the last one, as overlayfs makes its own, for a new inode takes longer.

        Raises OSError.
        """
        if self._made is not None:
            try:
                os.link(self._made[1], name, src_dir_fd=self._made[0], dst_dir_fd=fd, follow_symlinks=False)
                return
            except FileExistsError:
                raise
            except OSError:  # too many names (EMLINK), or removed with what was above it
                os.close(self._made[0])
                self._made = None
        os.mknod(name, stat.S_IFCHR, 0, dir_fd=fd)
        self._made = os.dup(fd), name

    def show(self, path: str, data: bytes, st: os.stat_result) -> Xattrs:
        """Show ``data`` in the place of the file ``path``, whose stat is ``st``; the attributes that it has."""
        above, name = split(path)
        fd = self._directory(above)
        if fd is None:
            return ()
        try:
            xattrs = self._xattrs(path)
            out = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd)
            try:
                write_all(out, data)
                for attribute, value in xattrs:
                    os.setxattr(out, attribute, value)
                _own(out, st)
                os.fchmod(out, st.st_mode & 0o777)
                os.utime(out, ns=(st.st_atime_ns, st.st_mtime_ns))
            finally:
                os.close(out)
        finally:
            os.close(fd)
        return xattrs

    def _xattrs(self, path: str) -> Xattrs:
        given = open_beneath(self._root, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return user_xattrs(given)
        finally:
            os.close(given)

    def _replace(self, fd: int, name: str, st: os.stat_result) -> None:
        """A whiteout in the place of a directory or file of the mask: what was hidden below is hidden with it."""
        temporary = f".overlayws-{os.getpid()}"
        os.mknod(temporary, stat.S_IFCHR, 0, dir_fd=fd)
        exchange(fd, temporary, fd, name)
        remove_below(fd, temporary)

    def _directory(self, path: str) -> int | None:
        """A descriptor of the mask's directory ``path``, made if need be; None where the mask hides it."""
        try:
            return self._open(path)
        except FileNotFoundError:
            pass
        except NotADirectoryError:
            return None
        at = ""
        fd = os.dup(self._mask)
        try:
            for name in path.split("/"):
                parent, at = at, f"{at}/{name}" if at else name
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=fd)
                    self._touched[parent] = self._touched[at] = None
                try:
                    below = os.open(name, _DIRECTORY, dir_fd=fd)
                except OSError as error:
                    if error.errno in (errno.ENOTDIR, errno.ELOOP):
                        return None
                    raise
                os.close(fd)
                fd = below
            return os.dup(fd)
        finally:
            os.close(fd)

    def _open(self, path: str) -> int:
        fd = open_directory(self._mask, path)
        self._touched[path] = None
        if os.fstat(fd).st_mode & 0o300 != 0o300:
            os.fchmod(fd, 0o700)
        return fd

    def _finish(self) -> None:
        for path in sorted(self._touched, key=lambda path: -path.count("/") - bool(path)):
            try:
                made, given = open_directory(self._mask, path), open_directory(self._root, path)
            except OSError:
                continue  # gone from the workspace meanwhile: nothing is shown of it
            try:
                copy_attributes(given, made)
            finally:
                os.close(made)
                os.close(given)


def copy_attributes(given: int, made: int) -> None:
    """Give the directory ``made`` the owner, mode, times, ``user.*`` attributes and ACLs of the directory ``given``.

    Never overlayfs's own attributes: in a lowerdir they would be marks. The set-id and sticky bits stay, as they do
    in the workspace. An owner or an ACL that we may not give is left out. Raises OSError.
    """
    st = os.fstat(given)
    _own(made, st)
    for name, value in {**dict(user_xattrs(given)), **_acls(given)}.items():
        try:
            os.setxattr(made, name, value)
        except OSError:
            if name not in ACCESS_LISTS:
                raise
    os.fchmod(made, stat.S_IMODE(st.st_mode))
    os.utime(made, ns=(st.st_atime_ns, st.st_mtime_ns))


def _own(fd: int, st: os.stat_result) -> None:
    with suppress(PermissionError):
        os.fchown(fd, st.st_uid, st.st_gid)


def _acls(fd: int) -> Mapping[str, bytes]:
    found = {}
    for name in ACCESS_LISTS:
        with suppress(OSError):
            found[name] = os.getxattr(fd, name)
    return found
