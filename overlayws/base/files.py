"""copy_files: regular files from one directory descriptor to another, inspected on the way where that is asked for.

The inner loop of every start: each system call here is made once for each file of a workspace.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from overlayws.atomic import write_all
from overlayws.base.contents import Scan
from overlayws.base.fingerprint import settled
from overlayws.base.manifest import BINARY_HEAD, Finding, Stored, pack, signed
from overlayws.beneath import open_directory, open_quietly
from overlayws.filter.content_rules import Action
from overlayws.source.copyfile import copy_file, may_reflink
from overlayws.source.entry import Xattrs

# Up to this size one read and one write cost less than copy_file_range(2), which splices page by page.
_SMALL = 256 << 10
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO put in its place must not block us
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class Copied:
    """What became of the files."""

    rows: list[Stored] = field(default_factory=list)
    hidden: list[tuple[Stored, str]] = field(default_factory=list)  # by their content: (row, rule)
    findings: list[Finding] = field(default_factory=list)
    blocked: list[Finding] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)  # written while they were copied

    def add(self, other: Copied) -> None:
        """Append what became of other files."""
        self.rows += other.rows
        self.hidden += other.hidden
        self.findings += other.findings
        self.blocked += other.blocked
        self.unreadable += other.unreadable
        self.busy += other.busy


def copy_files(
    root: int,
    target: int,
    paths: Sequence[str],
    *,
    clock: int,
    scan: Scan | None = None,
    progress: Callable[[int], None] = lambda n: None,
) -> Copied:
    """Copy the files ``paths`` from below ``root`` to below ``target``, where their directories are.

    ``clock`` is ``now_ns()`` from before the call. A file that is gone is left out. Raises OSError where the target
    cannot be written.
    """
    copier = _Copier(root, target, clock, scan)
    try:
        for number, path in enumerate(paths):
            if number % 256 == 0:
                progress(number)
            copier.copy(path)
    finally:
        copier.close()
    return copier.done


class _Copier:
    def __init__(self, root: int, target: int, clock: int, scan: Scan | None) -> None:
        self.done = Copied()
        self._root, self._target = root, target
        self._clock, self._scan = clock, scan
        self._dev = os.fstat(target).st_dev
        self._umask = _umask()
        self._parent: str | None = None
        self._source = self._made = -1

    def close(self) -> None:
        for fd in (self._source, self._made):
            if fd >= 0:
                os.close(fd)
        self._source = self._made = -1
        self._parent = None

    def copy(self, path: str) -> None:
        parent, _, name = path.rpartition("/")
        try:
            if parent != self._parent:
                self.close()
                self._source = open_directory(self._root, parent)
                self._made = open_directory(self._target, parent)
                self._parent = parent
            fd = open_quietly(name, _READ, self._source)
            try:
                self._file(path, name, fd)
            finally:
                os.close(fd)
        except OSError as error:
            # Gone meanwhile, or something else by now, is not there.
            if error.errno in (errno.EACCES, errno.EPERM):
                self.done.unreadable.append((path, error.strerror or str(error)))
            elif error.errno not in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
                raise

    def _file(self, path: str, name: str, fd: int) -> None:
        st, scan = os.fstat(fd), self._scan
        for attempt in range(3):
            if not stat.S_ISREG(st.st_mode):
                return
            size = st.st_size
            action, rule, given, findings, digest = Action.SHOW, "", None, _NONE, None
            # The set-id and sticky bits stay behind: the copy has another owner, and the layer is mounted nosuid.
            mode, xattrs, data = st.st_mode & 0o777, user_xattrs(fd), None
            if scan is not None and scan.reads(path, size):
                data = _read(fd, size)
                action, rule, given, findings = scan.judge(path, data)
                digest = digest_of_text(data if given is None else given)
            elif scan is not None:
                action, rule, given, findings = scan.judge(path, None)
            elif size <= _SMALL and not self._cloned(st):
                data = _read(fd, size)
            written = action is Action.SHOW or action is Action.REDACT
            if written:
                self._write(name, fd, st, data if given is None else given, xattrs, redacted=given is not None)
            after = os.fstat(fd)
            same = after.st_mtime_ns == st.st_mtime_ns and after.st_ctime_ns == st.st_ctime_ns and after.st_size == size
            if same or attempt == 2:
                break
            if written:
                os.unlink(name, dir_fd=self._made)
            st = after
        if not same:
            self.done.busy.append(path)
        row = (
            path.encode("utf-8", "surrogateescape"), "file", mode, size, None, pack(xattrs) if xattrs else None,
            signed(st.st_dev), signed(st.st_ino), st.st_mtime_ns,
            st.st_ctime_ns if same and settled(st.st_ctime_ns, self._clock) else 0,
            digest, None if given is None else len(given),
        )  # fmt: skip
        if findings:
            self.done.findings += findings
        if written:
            self.done.rows.append(row)
        elif action is Action.HIDE:
            self.done.hidden.append((row, rule))
        else:
            self.done.blocked += findings

    def _cloned(self, st: os.stat_result) -> bool:
        """Whether the bytes go from file to file: shared, or with their holes."""
        return may_reflink(st.st_dev, self._dev) or (st.st_size > 65536 and st.st_blocks * 512 < st.st_size)

    def _write(
        self, name: str, fd: int, st: os.stat_result, data: bytes | None, xattrs: Xattrs, *, redacted: bool
    ) -> None:
        mode = st.st_mode & 0o777
        out = os.open(name, _WRITE, mode, dir_fd=self._made)
        try:
            if data is None or (not redacted and self._cloned(st)):
                copy_file(fd, out, st, self._dev)
            else:
                write_all(out, data)
            for attribute, value in xattrs:
                os.setxattr(out, attribute, value)
            os.utime(out, ns=(st.st_atime_ns, st.st_mtime_ns))
            if mode & self._umask:
                os.fchmod(out, mode)
        finally:
            os.close(out)


_NONE: list[Finding] = []


def digest_of_text(data: bytes) -> str | None:
    """The SHA-256 in hex of a file that is text, else None (see ``manifest.Row``)."""
    return None if data.find(b"\0", 0, BINARY_HEAD) >= 0 else sha256(data).hexdigest()


def _read(fd: int, size: int) -> bytes:
    """All of the file: a read of a regular file is short only at its end, or when it is changed meanwhile."""
    data = os.pread(fd, size, 0) if size else b""
    while len(data) < size and (more := os.pread(fd, size - len(data), len(data))):
        data += more
    return data


def user_xattrs(fd: int | str) -> Xattrs:
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


def _umask() -> int:
    """The process's umask, read without changing it (proc(5)); all bits where it is not told."""
    try:
        with open("/proc/self/status", "rb") as f:
            for line in f:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o777
