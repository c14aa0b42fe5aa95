"""scan: what the program changed, from upperdir, lowerdir and manifest alone; no mount is needed.

The upperdir is hostile input: its entries are opened by descriptor and name, nothing is followed, and only the marks
of the session's own backend count (``layer/whiteout.py``). What a copy-up leaves of an unchanged file (a file that
was touched, or opened for writing) is no change, because content, mode and attributes decide, not times.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from overlayws.base.manifest import Manifest
from overlayws.beneath import split
from overlayws.changes.change import Change, ChangeSet
from overlayws.changes.flags import NO_CONTENT, Content, HiddenPaths, flags
from overlayws.changes.opening import Parents, Unlocked, open_file
from overlayws.changes.reading import Read, compared, read, small, streamed
from overlayws.changes.rename import exact
from overlayws.errors import UntrustedError
from overlayws.layer.mount import Layer
from overlayws.layer.whiteout import TRUSTED_PREFIX, Marks, Origin
from overlayws.source.entry import Entry, Kind, Xattrs, kind_of

_OPEN_FRAMES = 64  # directories kept open; above that, a parent is opened again through '..'


def scan(layer: Layer, manifest: Manifest, xattr_prefix: str, *, own_git: bool) -> ChangeSet:
    """All differences between the base and the merged view of ``layer``, which nobody uses meanwhile.

    ``xattr_prefix`` is the ``XATTR_PREFIX`` of the backend that wrote the upperdir. ``own_git`` says that the
    top-level ``.git`` is the program's own repository: it is not looked at. Any other ``.git`` directory is one
    change and is not entered. What cannot be read is in ``ChangeSet.problems``.

    The mode of the workspace's own directory is never a change. Raises OSError where the layer's directories
    cannot be opened, ManifestError for a damaged manifest, UntrustedError if the upperdir changes meanwhile.
    """
    unlocked = Unlocked()
    lower = os.open(layer.lowerdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        upper = unlocked.open(os.fspath(layer.upperdir.absolute()), -1)
        scanning = _Scan(upper, lower, manifest, Marks(xattr_prefix), own_git, unlocked)
        try:
            return scanning.run()
        finally:
            scanning.close()
    finally:
        unlocked.restore()
        os.close(lower)


@dataclass(slots=True)
class _Frame:
    """A directory of the upperdir that is being scanned."""

    fd: int  # -1 while it is closed
    prefix: str  # path and '/', or ''
    mark: int  # of Unlocked
    known: bool  # the base has a directory here
    cut: bool  # an opaque directory here or above: nothing of the base shows through
    below: list[str]  # directories still to enter
    identity: tuple[int, int]


class _Scan:
    def __init__(
        self, upper: int, lower: int, manifest: Manifest, marks: Marks, own_git: bool, unlocked: Unlocked
    ) -> None:
        self._stack: list[_Frame] = []
        self._upper = upper
        self._lower = Parents(lower)
        self._manifest = manifest
        self._marks = marks
        self._own_git = own_git
        self._unlocked = unlocked
        self._hidden = HiddenPaths(manifest)
        self._changes: list[Change] = []
        self._problems: list[str] = []
        self._gone: list[str] = []  # base directories that the merged view shows nothing of, but for self._kept
        self._kept: set[str] = set()  # what the upperdir has below an opaque directory
        self._origins: dict[str, Origin] = {}

    def run(self) -> ChangeSet:
        self._enter(self._upper, "", known=True, cut=self._marks.is_opaque(self._upper))
        if self._stack[0].cut:
            self._gone.append("")
        while self._stack:
            frame = self._stack[-1]
            if frame.below:
                self._directory(frame, frame.below.pop())
            else:
                self._leave()
        for top in self._gone:
            for recorded in self._manifest.below(top):
                if recorded.path not in self._kept:
                    self._deleted(recorded.path, recorded.entry)
        self._changes.sort(key=lambda change: os.fsencode(change.path))
        changes = tuple(self._changes)
        renames = exact(changes, self._origins, self._lower)
        return ChangeSet(changes, renames, tuple(sorted(self._problems)))

    def close(self) -> None:
        for frame in self._stack:
            if frame.fd >= 0:
                os.close(frame.fd)
        self._lower.close()

    def _enter(self, fd: int, path: str, *, known: bool, cut: bool) -> None:
        """Look at all entries of a directory; the directories among them wait in its frame."""
        st = os.fstat(fd)
        prefix = f"{path}/" if path else ""
        frame = _Frame(fd, prefix, self._unlocked.mark(), known, cut, [], (st.st_dev, st.st_ino))
        self._stack.append(frame)
        if len(self._stack) > _OPEN_FRAMES:
            above = self._stack[-1 - _OPEN_FRAMES]
            os.close(above.fd)
            above.fd = -1
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    self._entry(frame, entry)
        except OSError as error:
            self._problem(path, error)

    def _leave(self) -> None:
        frame = self._stack[-1]
        if len(self._stack) > 1 and self._stack[-2].fd < 0:
            above = self._stack[-2]
            above.fd = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=frame.fd)
            st = os.fstat(above.fd)
            if (st.st_dev, st.st_ino) != above.identity:
                raise UntrustedError(
                    "the upperdir changed while it was read", hint="wait until nothing of the session runs any more"
                )
        self._stack.pop()
        os.close(frame.fd)
        # What was unlocked to open this directory was marked in its parent's time.
        self._unlocked.restore(self._stack[-1].mark if self._stack else 0)

    def _entry(self, frame: _Frame, entry: os.DirEntry[str]) -> None:
        name = entry.name
        path = frame.prefix + name
        if self._own_git and path == ".git":
            return
        try:
            if entry.is_dir(follow_symlinks=False):
                frame.below.append(name)
            elif entry.is_file(follow_symlinks=False):
                self._file(frame, name, path)
            else:
                self._other(frame, entry, path)
        except OSError as error:
            self._problem(path, error)

    def _before(self, frame: _Frame, path: str) -> Entry | None:
        """What the base has where the upperdir has ``path``."""
        if not frame.known:
            return None
        before = self._manifest.entry(path)
        if frame.cut:
            self._kept.add(path)
        elif before is not None and before.kind is Kind.DIRECTORY:
            self._gone.append(path)
        return before

    def _directory(self, frame: _Frame, name: str) -> None:
        path = frame.prefix + name
        try:
            st = os.stat(name, dir_fd=frame.fd, follow_symlinks=False)
            mode = stat.S_IMODE(st.st_mode)
            before = self._manifest.entry(path) if frame.known else None
            if frame.cut and frame.known:
                self._kept.add(path)
            if name.lower() == ".git":
                self._change(path, before, Entry(Kind.DIRECTORY, mode))
                return
            fd = self._unlocked.open(name, frame.fd)
        except OSError as error:
            self._problem(path, error)
            return
        try:
            known = before is not None and before.kind is Kind.DIRECTORY
            cut = frame.cut or self._marks.is_opaque(fd)
            if cut and known and not frame.cut:
                self._gone.append(path)
            after = Entry(Kind.DIRECTORY, mode, xattrs=self._xattrs(fd))
            if after != before:
                self._change(path, self._digested(path, before), after)
        except OSError as error:
            self._problem(path, error)
            known, cut = False, True
        self._enter(fd, path, known=known, cut=cut)

    def _other(self, frame: _Frame, entry: os.DirEntry[str], path: str) -> None:
        """A symlink, a whiteout, or a special file."""
        if entry.is_symlink():
            before = self._before(frame, path)
            after = Entry(Kind.SYMLINK, 0o777, target=os.readlink(entry.name, dir_fd=frame.fd))
            if before is None or before.kind is not Kind.SYMLINK or before.target != after.target:
                self._change(path, self._digested(path, before), after)
            return
        st = os.stat(entry.name, dir_fd=frame.fd, follow_symlinks=False)
        if self._marks.is_whiteout(st, frame.fd, entry.name):
            self._whiteout(frame, path)
            return
        before = self._digested(path, self._before(frame, path))
        self._change(path, before, Entry(kind_of(st.st_mode), stat.S_IMODE(st.st_mode)))

    def _whiteout(self, frame: _Frame, path: str) -> None:
        # Below an opaque directory, and where the base has nothing, a whiteout says nothing.
        if frame.known and not frame.cut and (before := self._before(frame, path)) is not None:
            self._deleted(path, before)

    def _file(self, frame: _Frame, name: str, path: str) -> None:
        fd = open_file(name, frame.fd)
        try:
            st = os.fstat(fd)
            mode, size = stat.S_IMODE(st.st_mode), st.st_size
            if not stat.S_ISREG(st.st_mode):
                raise OSError(errno.EIO, "changed while it was read")
            if not size:  # only an empty file may stand for something else
                if self._marks.is_whiteout(st, frame.fd, name):
                    self._whiteout(frame, path)
                    return
                if (kind := self._marks.special(st, frame.fd, name)) is not None:
                    self._change(path, self._digested(path, self._before(frame, path)), Entry(kind, mode))
                    return
            before = self._before(frame, path)
            xattrs = self._xattrs(fd)
            data = read(fd, size)
            was: Read | None = None
            now: Read | None = None
            if before is not None and before.kind is Kind.FILE:
                same = before.mode == mode and before.xattrs == xattrs
                if data is not None and before.digest is None and before.size == size:
                    original = self._lower_data(path, before)
                    if original == data and same:
                        return
                    was = small(original)
                    now = was if original == data else small(data)
                else:
                    now = streamed(fd, size) if data is None else small(data)
                    if same and before.digest == now.digest:
                        return
                    was = self._lower_read(path, before)
                    if same and was.digest == now.digest:
                        return
                before = _with_digest(before, was)
            else:
                now = streamed(fd, size) if data is None else small(data)
                before = self._digested(path, before)
                if before is None and self._marks.prefix == TRUSTED_PREFIX:
                    origin = self._marks.origin(frame.fd, name)
                    if origin is not None:
                        self._origins[path] = origin
            after = Entry(Kind.FILE, mode, size, now.digest, None, xattrs)
            self._change(path, before, after, compared(was, now))
        finally:
            os.close(fd)

    def _deleted(self, path: str, before: Entry) -> None:
        try:
            if before.kind is Kind.FILE:
                was = self._lower_read(path, before)
                self._change(path, _with_digest(before, was), None, compared(was, None))
            else:
                self._change(path, before, None)
        except OSError as error:
            self._problem(path, error)

    def _digested(self, path: str, before: Entry | None) -> Entry | None:
        """``before`` with its digest, if it is a file."""
        if before is None or before.kind is not Kind.FILE or before.digest is not None:
            return before
        return _with_digest(before, self._lower_read(path, before))

    def _lower_read(self, path: str, entry: Entry) -> Read:
        fd = self._lower_open(path)
        try:
            size = os.fstat(fd).st_size
            _check_base(size == entry.size)
            data = read(fd, size)
            found = streamed(fd, size) if data is None else small(data)
            _check_base(entry.digest in (None, found.digest))
            return found
        finally:
            os.close(fd)

    def _lower_data(self, path: str, entry: Entry) -> bytes:
        fd = self._lower_open(path)
        try:
            data = os.read(fd, entry.size + 1)
            _check_base(len(data) == entry.size)
            return data
        finally:
            os.close(fd)

    def _lower_open(self, path: str) -> int:
        parent, name = split(path)
        try:
            return open_file(name, self._lower.fd(parent))
        except OSError as error:
            raise OSError(error.errno, f"cannot read it in the base: {error.strerror}") from error

    def _xattrs(self, fd: int) -> Xattrs:
        try:
            names = os.listxattr(fd)
        except OSError as error:
            if error.errno == errno.ENOTSUP:
                return ()
            raise
        wanted = [name for name in names if name.startswith("user.")]
        if not wanted:
            return ()
        return self._marks.agent_xattrs((name, os.getxattr(fd, name)) for name in wanted)

    def _change(self, path: str, before: Entry | None, after: Entry | None, content: Content = NO_CONTENT) -> None:
        self._changes.append(Change(path, before, after, flags(path, before, after, self._hidden, content)))

    def _problem(self, path: str, error: OSError) -> None:
        self._problems.append(f"{path or '.'!r}: {error.strerror or error}")


def _with_digest(entry: Entry, content: Read) -> Entry:
    return Entry(entry.kind, entry.mode, entry.size, content.digest, entry.target, entry.xattrs)


def _check_base(good: bool) -> None:
    if not good:
        raise OSError(errno.EIO, "the base is damaged here: not what its manifest says")
