"""The stage: new contents, whole and verified, before anything in the workspace changes.

A staged file is a new inode with its final content, mode, owner and attributes; one rename brings it in place. The
file that it replaces keeps its other names (hard links).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

from overlayws.apply.journal import HIDDEN, Ground, Journal, Place
from overlayws.apply.locked import Reach
from overlayws.apply.moves import all_xattrs, at, opened, set_xattrs
from overlayws.apply.record import Node, Values, damaged, node_of
from overlayws.apply.step import Action, Source, Step
from overlayws.atomic import write_all
from overlayws.beneath import same_mount, split
from overlayws.changes.contents import Contents
from overlayws.source.entry import Kind, Xattrs

_CHUNK = 1 << 20
# What a file keeps when its content is replaced, besides owner and mode. File capabilities are not among it:
# they were given to other content.
_KEPT_XATTRS = ("system.posix_acl_access", "security.selinux")


class Places:
    """Chooses a stage for every directory: on the mount of the directory, in the journal where that will do."""

    def __init__(self, journal: Journal, directories: Reach, token: str) -> None:
        self._directories = directories
        self._token = token
        self._chosen: dict[str, int] = {}
        self._mounts = [os.open(journal.stage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        self.places = [Place("", 0)]

    def close(self) -> None:
        while self._mounts:
            os.close(self._mounts.pop())

    def of(self, parent: str) -> int:
        """The number of the stage for names in the directory ``parent``, or in the nearest one that exists."""
        parent = existing(self._directories, parent)
        if parent not in self._chosen:
            fd = self._directories.open(parent)
            fitting = [number for number, mount in enumerate(self._mounts) if same_mount(fd, mount)]
            if not fitting:
                fitting = [len(self._mounts)]
                self._add(fd, parent)
            self._chosen[parent] = fitting[0]
        return self._chosen[parent]

    def _add(self, fd: int, parent: str) -> None:
        # In the root if that is on the same mount: there it is seen, should it ever be left.
        root = self._directories.root
        if same_mount(fd, root) and os.access(".", os.W_OK | os.X_OK, dir_fd=root, effective_ids=True):
            parent = ""
        mtime_ns = os.fstat(self._directories.open(parent)).st_mtime_ns
        self._mounts.append(os.dup(self._directories.open(parent)))
        name = f"{HIDDEN}{self._token}"
        self.places.append(Place(f"{parent}/{name}" if parent else name, mtime_ns))


def existing(directories: Reach, path: str) -> str:
    """``path``, or the nearest directory above it that exists, as it was before anything changed. Raises OSError."""
    nearest, waiting = directories.nearest, []
    if path not in nearest and _opens(directories, path):
        nearest[path] = path
    while path and path not in nearest:
        waiting.append(path)
        path = split(path)[0]
    found = nearest.get(path, "")
    for below in reversed(waiting):  # from the top: below what is missing nothing is looked for
        if found == split(below)[0] and _opens(directories, below):
            found = below
        nearest[below] = found
    return found


def _opens(directories: Reach, path: str) -> bool:
    try:
        directories.open(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return False
    return True


def stage_step(ground: Ground, step: Step, stage: int, slot: int, theirs: Contents) -> Node:
    """Make what a step brings (WRITE, LINK, MAKE_DIRECTORY) in a slot. Raises OSError, ChangedSince."""
    fd, name = ground.stages[stage], str(slot)
    above = os.fstat(ground.directories.open(existing(ground.directories, split(step.path)[0])))
    if step.action is Action.LINK:
        assert step.after is not None
        os.symlink(step.after.target or "", name, dir_fd=fd)
        _give(name, fd, step, above)
        return node_of(os.stat(name, dir_fd=fd, follow_symlinks=False))
    if step.action is Action.MAKE_DIRECTORY:
        os.mkdir(name, 0o700, dir_fd=fd)
        _give(name, fd, step, above)
        _set(name, fd, step.xattrs)
        return node_of(os.stat(name, dir_fd=fd, follow_symlinks=False))
    out = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=fd)
    try:
        digest = _fill(ground.directories, out, step, theirs)
        _own(out, step, above)
        if step.seen is not None and step.seen.kind is Kind.FILE:
            _keep_attributes(ground.directories, out, step.path)
        for key, value in step.xattrs:
            os.setxattr(out, key, value)
        os.fchmod(out, step.mode)
        return node_of(os.fstat(out), digest, step.xattrs)
    finally:
        os.close(out)


def final_mode(ground: Ground, step: Step) -> int:
    """The mode of a directory that is made: below a set-gid directory it is one too, as mkdir(2) does it."""
    above = os.fstat(ground.directories.open(existing(ground.directories, split(step.path)[0])))
    return step.mode | (above.st_mode & stat.S_ISGID)


def _fill(directories: Reach, out: int, step: Step, theirs: Contents) -> str | None:
    assert step.after is not None
    if step.source is Source.THEIRS:
        if step.after.size <= _CHUNK:
            write_all(out, theirs.read(step.path, step.after))
        else:
            theirs.copy(step.path, step.after, out)
        return step.after.digest
    if step.source is Source.MERGED:
        assert step.content is not None
        write_all(out, step.content)
        return hashlib.sha256(step.content).hexdigest()
    parent, name = split(step.path)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(name, flags, dir_fd=directories.open(parent))
    try:
        return copy_data(fd, out)
    finally:
        os.close(fd)


def copy_data(source: int, out: int) -> str:
    """Copy a file's content, holes as holes; returns its SHA-256 in hex. Raises OSError."""
    digest = hashlib.sha256()
    while chunk := os.read(source, _CHUNK):
        digest.update(chunk)
        if chunk.count(0) == len(chunk):
            os.lseek(out, len(chunk), os.SEEK_CUR)
        else:
            write_all(out, chunk)
    os.ftruncate(out, os.lseek(out, 0, os.SEEK_CUR))
    return digest.hexdigest()


def _owner(step: Step, above: os.stat_result) -> tuple[int, int]:
    """What is replaced keeps its owner; what is new belongs to the owner of its directory (root only), its group
    below a set-gid directory to the directory's (everybody). -1 leaves what the kernel gave."""
    if step.seen is not None:
        return step.seen.uid, step.seen.gid
    if os.geteuid() == 0:
        return above.st_uid, above.st_gid
    return -1, above.st_gid if above.st_mode & stat.S_ISGID else -1


def _own(out: int, step: Step, above: os.stat_result) -> None:
    uid, gid = _owner(step, above)
    now = os.fstat(out)
    if (uid, gid) in ((-1, -1), (now.st_uid, now.st_gid)):
        return
    try:
        os.fchown(out, uid, gid)
    except PermissionError:  # not root: the file gets a new owner, its group stays if we are in it
        with suppress(PermissionError):
            os.fchown(out, -1, gid)


def _give(name: str, fd: int, step: Step, above: os.stat_result) -> None:
    uid, gid = _owner(step, above)
    if (uid, gid) != (-1, -1):
        with suppress(PermissionError):
            os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)


def _keep_attributes(directories: Reach, out: int, path: str) -> None:
    parent, name = split(path)
    here = f"/proc/self/fd/{directories.open(parent)}/{name}"  # there is no listxattrat(2) before Linux 6.13
    for key in os.listxattr(here, follow_symlinks=False):
        if key in _KEPT_XATTRS:
            with suppress(PermissionError):
                os.setxattr(out, key, os.getxattr(here, key, follow_symlinks=False))


def _set(name: str, fd: int, xattrs: Xattrs) -> None:
    if xattrs:
        with opened(fd, name) as (_, path):
            for key, value in xattrs:
                os.setxattr(path, key, value)


def make_directory(stage: int, slot: str, node: Node) -> None:
    """A directory that was removed, made again in the stage: owner, attributes and mode. Raises OSError."""
    if at(stage, slot) is not None:  # an earlier try was interrupted
        os.rmdir(slot, dir_fd=stage)
    os.mkdir(slot, 0o700, dir_fd=stage)
    with opened(stage, slot) as (_, path):
        with suppress(PermissionError):
            os.chown(path, node.uid, node.gid)
        _set_all(path, node.xattrs)
        os.chmod(path, node.mode)


def copy_node(source: int, name: str, target: int, to: str, digest: str | None = None) -> str | None:
    """Copy a file or symlink with owner, mode, mtime and attributes between two directories of our own; returns
    the digest of a file. Raises OSError, JournalError where the content is not ``digest``."""
    st = os.stat(name, dir_fd=source, follow_symlinks=False)
    times = (st.st_atime_ns, st.st_mtime_ns)
    if stat.S_ISLNK(st.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), to, dir_fd=target)
        with suppress(PermissionError):
            os.chown(to, st.st_uid, st.st_gid, dir_fd=target, follow_symlinks=False)
        os.utime(to, ns=times, dir_fd=target, follow_symlinks=False)
        return None
    with opened(source, name) as (_, path):
        fd = _readable(path, st)
        out = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            found = copy_data(fd, out)
            if digest is not None and found != digest:
                raise damaged(Path(to), "a kept original is not what was kept")
            with suppress(PermissionError):
                os.fchown(out, st.st_uid, st.st_gid)
            _set_all(out, all_xattrs(path))
            os.fchmod(out, stat.S_IMODE(st.st_mode))
            os.utime(out, ns=times)
        finally:
            os.close(out)
            os.close(fd)
    return found


def _readable(path: str, st: os.stat_result) -> int:
    """Open a file by its /proc/self/fd path, also one that its owner may not read (mode 0200)."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        os.chmod(path, stat.S_IMODE(st.st_mode) | 0o400)
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.chmod(path, stat.S_IMODE(st.st_mode))


def _set_all(path: str | int, values: Values) -> None:
    for value in values:
        try:
            set_xattrs(path, (value,))
        except OSError:
            # Attributes of the kernel and of security modules are set where we may.
            if value[0].startswith("user."):
                raise
