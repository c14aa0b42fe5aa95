"""Copier: regular files from one directory descriptor to another, inspected on the way where that is asked for.

The inner loop of every start: each system call here is made once for each file of a workspace.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from itertools import groupby

from overlayws.atomic import write_all
from overlayws.base.contents import SHOWN, Said, Scan
from overlayws.base.fingerprint import settled
from overlayws.base.manifest import BINARY_HEAD, Finding, Stored, pack, signed
from overlayws.beneath import GONE, open_directory, open_quietly
from overlayws.filter.content_rules import Action
from overlayws.source.copyfile import copy_file, may_reflink
from overlayws.source.entry import Xattrs

# Up to this size one read and one write cost less than copy_file_range(2), which splices page by page.
_SMALL = 256 << 10
# Files of up to _BATCHED bytes are read, looked at and written together, until that many, or that many bytes, are read.
_BATCHED = 64 << 10
_BATCH_FILES, _BATCH_BYTES = 64, 256 << 10
_REGULAR = stat.S_IFREG >> 12
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

    def rest(self) -> Copied | None:
        """All but the rows; None where that is nothing."""
        rest = replace(self, rows=[])
        return None if rest == Copied() else rest


@cache
def _keep_what_is_freed() -> None:
    """Until a larger block was freed once, glibc gives blocks of 128 KiB and more back to the kernel (mallopt(3),
    M_MMAP_THRESHOLD): the page faults of the next one cost as much as looking at what is in it."""
    bytes(32 * _BATCH_BYTES)


class Copier:
    """Copies files from below ``root`` to below ``target``, where their directories are.

    ``clock`` is ``now_ns()`` from before; it and ``scan`` may be changed between two calls.
    """

    def __init__(self, root: int, target: int, *, clock: int, scan: Scan | None = None) -> None:
        _keep_what_is_freed()
        self.done = Copied()
        self._root, self._target = root, target
        self.clock, self.scan = clock, scan
        self._dev = os.fstat(target).st_dev
        self._umask = _umask()
        self._source = self._made = -1  # the directory, there and here
        self._batch: list[tuple[str, int, os.stat_result, bytes, Xattrs]] = []

    def copy(self, files: Mapping[str, os.stat_result | None]) -> Copied:
        """Copy ``files`` (path, and lstat where that is known); what became of them. One that is gone is left out.

        Raises OSError where the target cannot be written.
        """
        self.done = Copied()
        for parent, paths in groupby(files, key=lambda path: path.rpartition("/")[0]):
            start = len(parent) + 1 if parent else 0
            self._directory(parent, [(path[start:], files[path]) for path in paths])
        return self.done

    def _directory(self, parent: str, files: Sequence[tuple[str, os.stat_result | None]]) -> None:
        prefix = f"{parent}/" if parent else ""
        try:
            self._source = open_directory(self._root, parent)
            self._made = open_directory(self._target, parent)
            self._copy(prefix, files)
        except OSError as error:
            if self._made >= 0:
                raise
            for name, _ in files:
                self._missed(prefix + name, error)
        finally:
            for fd in (self._source, self._made, *(read[1] for read in self._batch)):
                if fd >= 0:
                    os.close(fd)
            self._source = self._made = -1
            self._batch.clear()

    def _copy(self, prefix: str, files: Sequence[tuple[str, os.stat_result | None]]) -> None:
        held, source, batch = 0, self._source, self._batch
        for name, st in files:
            try:
                fd = open_quietly(name, _READ, source)
            except OSError as error:
                self._missed(prefix + name, error)
                continue
            held += self._take(prefix, name, fd, st)
            if held > _BATCH_BYTES or len(batch) == _BATCH_FILES:
                self._write_batch(prefix)
                held = 0
        self._write_batch(prefix)

    def _missed(self, path: str, error: OSError) -> None:
        # Gone meanwhile, or something else by now, is not there.
        if error.errno in (errno.EACCES, errno.EPERM):
            self.done.unreadable.append((path, error.strerror or str(error)))
        elif error.errno not in (*GONE, errno.ENXIO):
            raise error

    def _take(self, prefix: str, name: str, fd: int, st: os.stat_result | None) -> int:
        """Read a small file into the batch, copy any other one at once. Closes ``fd``, or has the batch hold it where
        blocks may be shared. The bytes that are held for it."""
        try:
            if st is None:
                st = os.fstat(fd)
            size = st.st_size
            if size <= _BATCHED and st.st_mode >> 12 == _REGULAR:
                try:
                    xattrs, data = user_xattrs(fd), os.pread(fd, size, 0) if size else b""
                    if len(data) < size:
                        data = _read(fd, size)
                except OSError:  # no file by now, or one that cannot be read: the second look tells
                    self._file(prefix + name, name, fd)
                    return 0
                if _one(st, os.fstat(fd)):  # as surveyed, so also before it was read
                    if may_reflink(st.st_dev, self._dev):
                        self._batch.append((name, fd, st, data, xattrs))
                        fd = -1
                    else:
                        self._batch.append((name, -1, st, data, xattrs))
                    return size
            self._file(prefix + name, name, fd)
            return 0
        finally:
            if fd >= 0:
                os.close(fd)

    def _write_batch(self, prefix: str) -> None:
        scan, clock, batch = self.scan, self.clock, self._batch
        write, note = self._write, self.done.rows.append
        clean = scan.clean(prefix, [(read[0], read[3]) for read in batch]) if scan and batch else None
        for number, (name, fd, st, data, xattrs) in enumerate(batch):
            path, digest = prefix + name, None
            if clean is not None:
                if not clean[number]:
                    self._judged(path, name, fd, st, data, xattrs)
                    continue
                digest = sha256(data).hexdigest()  # it is text, or it would not be clean
            write(name, fd, st, data, xattrs)
            if fd >= 0 and not _same(st, os.fstat(fd)):
                os.unlink(name, dir_fd=self._made)
                self._file(path, name, fd)
                continue
            ino, ctime = st.st_ino, st.st_ctime_ns
            note((
                path.encode("utf-8", "surrogateescape"), "file", st.st_mode & 0o777, st.st_size, None,
                pack(xattrs) if xattrs else None, signed(st.st_dev), ino if ino < 1 << 63 else signed(ino),
                st.st_mtime_ns, ctime if settled(ctime, clock) else 0, digest, None,
            ))  # fmt: skip
        held = [read[1] for read in batch if read[1] >= 0]
        batch.clear()
        for fd in held:
            os.close(fd)

    def _judged(self, path: str, name: str, fd: int, st: os.stat_result, data: bytes, xattrs: Xattrs) -> None:
        if fd >= 0:
            self._file(path, name, fd)
            return
        assert self.scan is not None
        said = self.scan.judge(path, data)
        self._show(name, -1, st, data, xattrs, said)
        self._record(path, st, data, xattrs, said, same=True)

    def _file(self, path: str, name: str, fd: int) -> None:
        st, scan = os.fstat(fd), self.scan
        for attempt in range(3):
            if not stat.S_ISREG(st.st_mode):
                return
            size, xattrs, data = st.st_size, user_xattrs(fd), None
            if scan.reads(path, size) if scan is not None else size <= _SMALL and not self._cloned(st):
                data = _read(fd, size)
            said = SHOWN if scan is None else scan.judge(path, data)
            # What changes all the time is not shared: the bytes that were judged are written.
            written = self._show(name, fd if attempt < 2 else -1, st, data, xattrs, said)
            after = os.fstat(fd)
            same = _same(st, after)
            if same or attempt == 2:
                break
            if written:
                os.unlink(name, dir_fd=self._made)
            st = after
        if not same:
            self.done.busy.append(path)
        self._record(path, st, data, xattrs, said, same=same)

    def _show(self, name: str, fd: int, st: os.stat_result, data: bytes | None, xattrs: Xattrs, said: Said) -> bool:
        """Write what the program is shown of the file, if anything; whether that is so."""
        action, _, given, _ = said
        if action is Action.REDACT:
            self._write(name, -1, st, given, xattrs)
        elif action is Action.SHOW:
            self._write(name, fd, st, data, xattrs)
        return action is Action.SHOW or action is Action.REDACT

    def _record(
        self, path: str, st: os.stat_result, data: bytes | None, xattrs: Xattrs, said: Said, *, same: bool
    ) -> None:
        action, rule, given, findings = said
        shown = data if given is None else given
        row = (
            path.encode("utf-8", "surrogateescape"), "file", st.st_mode & 0o777, st.st_size, None, pack(xattrs),
            signed(st.st_dev), signed(st.st_ino), st.st_mtime_ns,
            st.st_ctime_ns if same and settled(st.st_ctime_ns, self.clock) else 0,
            digest_of_text(shown) if self.scan is not None and shown is not None else None,
            None if given is None else len(given),
        )  # fmt: skip
        self.done.findings += findings
        if action is Action.HIDE:
            self.done.hidden.append((row, rule))
        elif action is Action.BLOCK:
            self.done.blocked += findings
        else:
            self.done.rows.append(row)

    def _cloned(self, st: os.stat_result) -> bool:
        """Whether the bytes go from file to file: shared, or with their holes."""
        return may_reflink(st.st_dev, self._dev) or (st.st_size > _BATCHED and st.st_blocks * 512 < st.st_size)

    def _write(self, name: str, fd: int, st: os.stat_result, data: bytes | None, xattrs: Xattrs) -> None:
        """Make a file of ``data``, or of the bytes of ``fd`` where these may be shared or are not in ``data``."""
        # The set-id and sticky bits stay behind: the copy has another owner, and the layer is mounted nosuid.
        mode = st.st_mode & 0o777
        out = os.open(name, _WRITE, mode, dir_fd=self._made)
        try:
            if data is None or (fd >= 0 and self._cloned(st)):
                copy_file(fd, out, st, self._dev)
            elif data and (written := os.write(out, data)) < len(data):
                write_all(out, data[written:])
            for attribute, value in xattrs:
                os.setxattr(out, attribute, value)
            os.utime(out, ns=(st.st_atime_ns, st.st_mtime_ns))
            if mode & self._umask:
                os.fchmod(out, mode)
        finally:
            os.close(out)


def _same(st: os.stat_result, after: os.stat_result) -> bool:
    return after.st_ctime_ns == st.st_ctime_ns and after.st_mtime_ns == st.st_mtime_ns and after.st_size == st.st_size


def _one(st: os.stat_result, after: os.stat_result) -> bool:
    """Whether it is the same file, and still as it was."""
    # The mode too: a file that was surveyed in the tick of its last change can be changed again with the same ctime.
    return (
        after.st_ctime_ns == st.st_ctime_ns
        and after.st_mtime_ns == st.st_mtime_ns
        and after.st_size == st.st_size
        and after.st_ino == st.st_ino
        and after.st_dev == st.st_dev
        and after.st_mode == st.st_mode
    )


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
