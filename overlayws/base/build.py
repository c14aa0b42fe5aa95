"""build_base: the sanitized lowerdir, a frozen copy of what the filter shows, and its manifest.

The workspace is only read, with O_NOATIME where the kernel lets us (open(2): the owner, or CAP_FOWNER). Files are
reflinked or copied, never hard-linked: an edit in place on either side must not reach the other.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from overlayws.base.manifest import Recorded, write_manifest
from overlayws.base.survey import Survey, survey
from overlayws.beneath import open_directory, split
from overlayws.errors import UnableError
from overlayws.filter.match import Filter
from overlayws.source.copyfile import copy_file
from overlayws.source.entry import Entry, Kind, Stamp, Xattrs, kind_of

Progress = Callable[[str, int, int], None]  # what is being done, how many are done, of how many (0: not known)


class UnreadableError(UnableError):
    """The workspace holds what we may not read, and no rule hides it."""


@dataclass(frozen=True, slots=True)
class Base:
    """A sanitized copy and what is known of it."""

    lowerdir: Path
    manifest: Path
    warnings: tuple[str, ...] = ()


def build_base(
    workspace: Path, directory: Path, rules: Filter, progress: Progress = lambda what, done, total: None
) -> Base:
    """Copy what ``rules`` show of ``workspace`` to ``directory/lower`` and write ``directory/manifest.db``.

    ``directory`` exists and is empty. Raises UnreadableError naming every path that cannot be read, UnableError
    where the copy cannot be written (no space).
    """
    base = Base(directory / "lower", directory / "manifest.db")
    root = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        seen = 0

        def count(n: int) -> None:
            nonlocal seen
            seen += n
            progress("reading the workspace", seen, 0)

        found = survey(root, workspace, rules, count)
        if found.unreadable:
            raise _unreadable(found.unreadable)
        base.lowerdir.mkdir()
        target = os.open(base.lowerdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            copier = _Copier(root, target)
            recorded = copier.copy(found, progress)
            os.fchmod(target, stat.S_IMODE(os.fstat(root).st_mode) & 0o777 | 0o700)
        finally:
            os.close(target)
        if copier.unreadable:
            raise _unreadable(copier.unreadable)
        recorded.sort(key=lambda r: os.fsencode(r.path))
        write_manifest(base.manifest, recorded, found.hidden, found.skipped)
    except OSError as error:
        raise UnableError(
            f"cannot copy the workspace to {directory}: {error.strerror or error}",
            hint="free some space, hide large files (--hide PATTERN), or set OVERLAYWS_HOME to another disk"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "set OVERLAYWS_HOME to a directory that you can write",
        ) from error
    finally:
        os.close(root)
    return Base(base.lowerdir, base.manifest, (*rules.warnings, *_warnings(found), *copier.warnings))


class _Copier:
    """Copies what a survey found from one directory descriptor to another."""

    def __init__(self, root: int, target: int) -> None:
        self._root = root
        self._target = target
        self._dev = os.fstat(target).st_dev
        self._noatime = os.O_NOATIME
        self.unreadable: list[tuple[str, str]] = []
        self.warnings: list[str] = []

    def copy(self, found: Survey, progress: Progress) -> list[Recorded]:
        recorded: list[Recorded] = []
        directories: list[tuple[str, int, os.stat_result]] = []
        parent, source, target = "", os.dup(self._root), os.dup(self._target)
        try:
            for number, (path, st) in enumerate(found.visible):
                if number % 256 == 0:
                    progress("copying", number, len(found.visible))
                above, name = split(path)
                if above != parent:
                    os.close(source)
                    os.close(target)
                    source = target = -1
                    source = open_directory(self._root, above)
                    target = open_directory(self._target, above)
                    parent = above
                try:
                    one = self._one(path, name, st, source, target)
                except OSError as error:
                    if error.errno not in (errno.EACCES, errno.EPERM, errno.ENOENT):
                        raise
                    if error.errno != errno.ENOENT:  # gone meanwhile is not there
                        self.unreadable.append((path, error.strerror or str(error)))
                    continue
                recorded.append(one)
                if one.entry.kind is Kind.DIRECTORY:
                    directories.append((path, one.entry.mode, st))
        finally:
            for fd in (source, target):
                if fd >= 0:
                    os.close(fd)
        for path, mode, st in reversed(directories):  # children first: making them changes the mtime
            fd = open_directory(self._target, path)
            try:
                os.utime(fd, ns=(st.st_atime_ns, st.st_mtime_ns))
                os.fchmod(fd, mode)
            finally:
                os.close(fd)
        return recorded

    def _one(self, path: str, name: str, st: os.stat_result, source: int, target: int) -> Recorded:
        kind = kind_of(st.st_mode)
        if kind is Kind.SYMLINK:
            link = os.readlink(name, dir_fd=source)
            os.symlink(link, name, dir_fd=target)
            os.utime(name, ns=(st.st_atime_ns, st.st_mtime_ns), dir_fd=target, follow_symlinks=False)
            return Recorded(path, Entry(kind, 0o777, target=link), Stamp.of(st))
        # The set-id and sticky bits stay behind: the copy has another owner, and the layer is mounted nosuid.
        mode = stat.S_IMODE(st.st_mode) & 0o777
        if kind is Kind.DIRECTORY:
            os.mkdir(name, 0o700, dir_fd=target)
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
            try:
                xattrs = _user_xattrs(fd)
            finally:
                os.close(fd)
            if xattrs:
                made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)
                try:
                    _set_xattrs(made, xattrs)
                finally:
                    os.close(made)
            return Recorded(path, Entry(kind, mode, xattrs=xattrs), Stamp.of(st))
        return self._file(path, name, mode, source, target)

    def _file(self, path: str, name: str, mode: int, source: int, target: int) -> Recorded:
        fd = self._open(name, source)
        try:
            st = os.fstat(fd)
            if not stat.S_ISREG(st.st_mode):
                raise OSError(errno.ENOENT, "replaced while it was copied")
            for _ in range(3):
                out = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600,
                              dir_fd=target)  # fmt: skip
                try:
                    copy_file(fd, out, st, self._dev)
                    xattrs = _user_xattrs(fd)
                    if xattrs:
                        _set_xattrs(out, xattrs)
                    os.utime(out, ns=(st.st_atime_ns, st.st_mtime_ns))
                    os.fchmod(out, mode)
                finally:
                    os.close(out)
                after = os.fstat(fd)
                if (after.st_mtime_ns, after.st_size) == (st.st_mtime_ns, st.st_size):
                    break
                st = after
            else:
                self.warnings.append(f"{path!r} was being written while it was copied")
        finally:
            os.close(fd)
        return Recorded(path, Entry(Kind.FILE, mode, st.st_size, xattrs=xattrs), Stamp.of(st))

    def _open(self, name: str, parent: int) -> int:
        # O_NONBLOCK: what was a file a moment ago may be a FIFO now.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            return os.open(name, flags | self._noatime, dir_fd=parent)
        except PermissionError:
            # O_NOATIME is refused for another owner's file: the file itself may still be readable.
            return os.open(name, flags, dir_fd=parent)


def _user_xattrs(fd: int) -> Xattrs:
    """The ``user.*`` attributes but overlayfs's own: in a lowerdir they would be marks (overlayfs.rst)."""
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return ()
        raise
    if not names:
        return ()
    wanted = sorted(n for n in names if n.startswith("user.") and not n.startswith("user.overlay."))
    return tuple((name, os.getxattr(fd, name)) for name in wanted)


def _set_xattrs(fd: int, xattrs: Xattrs) -> None:
    for name, value in xattrs:
        os.setxattr(fd, name, value)


def _unreadable(paths: list[tuple[str, str]]) -> UnreadableError:
    names = ", ".join(repr(path or ".") for path, _ in paths)
    return UnreadableError(
        f"cannot read {len(paths)} of the workspace's paths ({paths[0][1]}): {names}",
        hint="make them readable, or keep them from the program: --hide PATTERN",
    )


def _warnings(found: Survey) -> list[str]:
    said = []
    if found.skipped:
        kinds = ", ".join(f"{path!r} ({kind.value})" for path, kind in found.skipped[:5])
        said.append(f"not copied, because they are no files: {_and_more(kinds, len(found.skipped))}")
    if found.leaving:
        links = ", ".join(repr(path) for path in found.leaving[:5])
        said.append(f"links that point outside the workspace dangle inside: {_and_more(links, len(found.leaving))}")
    return said


def _and_more(names: str, total: int) -> str:
    return f"{names} and {total - 5} more" if total > 5 else names
