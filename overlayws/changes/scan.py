"""scan: what the program changed, from upperdir, lowerdir and manifest alone; no mount is needed.

The upperdir is hostile input: its entries are opened by descriptor and name, nothing is followed, and only the marks
of the session's own backend count (``layer/whiteout.py``). What a copy-up leaves of an unchanged file (a file that
was touched, or opened for writing) is no change, because content, mode and attributes decide, not times.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from overlayws.base.manifest import Manifest, Row, entry_of
from overlayws.changes.acls import AccessLists
from overlayws.changes.bounds import Bounds
from overlayws.changes.change import Change, ChangeSet, Problem
from overlayws.changes.flags import NO_CONTENT, Content, HiddenPaths, flags
from overlayws.changes.frame import Frame
from overlayws.changes.links import Links
from overlayws.changes.lower import Lower, lower_of
from overlayws.changes.opening import Unlocked, open_file, xattr_names
from overlayws.changes.reading import Read, Resized, compared, read, stands_alone
from overlayws.changes.rename import exact
from overlayws.changes.secret import Secrets
from overlayws.errors import UntrustedError
from overlayws.layer.mount import Layer
from overlayws.layer.whiteout import Marks, Origin
from overlayws.source.entry import Entry, Kind, Xattrs, kind_of

_FILE, _FILE_ROW, _DIRECTORY_ROW = Kind.FILE, Kind.FILE.value, Kind.DIRECTORY.value  # as the manifest's rows have them
_OPEN_FRAMES = 64  # directories kept open; above that, a parent is opened again through '..'
# Sibling directories opened together, so that one query of the manifest serves them all; only near the top, to keep
# few descriptors open, and no more once that many entries wait.
_AHEAD, _AHEAD_DEPTH, _AHEAD_ENTRIES = 24, 8, 1000

Keep = Callable[[str, bytes], None]
"""What the scan hands digest and content of every small file that changed, while it has them in memory; of a live base
also of what was before."""


def scan(
    layer: Layer,
    manifest: Manifest,
    xattr_prefix: str,
    *,
    own_git: bool,
    keep: Keep | None = None,
    secrets: Secrets | None = None,
) -> ChangeSet:
    """All differences between the base and the merged view of ``layer``, which nobody uses meanwhile.

    ``xattr_prefix`` is the ``XATTR_PREFIX`` of the backend that wrote the upperdir. ``own_git`` says that the
    top-level ``.git`` is the program's own repository: it is not looked at. Any other ``.git`` directory is one
    change and is not entered. What cannot be read is in ``ChangeSet.problems``. ``keep`` gets the contents of the
    changed files of at most ``reading.WHOLE`` bytes, and of a live base what they were before. ``secrets`` makes the
    flag ``secret``; without it none is looked for, which takes as long as all the rest.

    The mode of the workspace's own directory is never a change. Raises OSError where the layer's directories
    cannot be opened, ManifestError for a damaged manifest, UntrustedError if the upperdir changes meanwhile.
    """
    unlocked = Unlocked()
    try:
        with lower_of(layer) as lower:
            upper, _ = unlocked.open(os.fspath(layer.upperdir.absolute()), -1)
            scanning = _Scan(upper, lower, manifest, Marks(xattr_prefix), own_git, unlocked, keep, secrets)
            try:
                return scanning.run()
            finally:
                scanning.close()
    finally:
        unlocked.restore()


class _Scan:
    def __init__(
        self,
        upper: int,
        lower: Lower,
        manifest: Manifest,
        marks: Marks,
        own_git: bool,
        unlocked: Unlocked,
        keep: Keep | None,
        secrets: Secrets | None,
    ) -> None:
        self._stack: list[Frame] = []
        self._upper = upper
        self._lower = lower
        self._manifest = manifest
        self._marks = marks
        self._own_git = own_git
        self._unlocked = unlocked
        self._hidden = HiddenPaths(manifest)
        self._changes: list[Change] = []
        self._keep = keep
        self._secrets = secrets
        self._bounds = Bounds()
        self._links = Links(self._bounds)
        self._lists = AccessLists(self._bounds, lower)
        self._problems: list[Problem] = []
        self._gone: list[str] = []  # base directories that the merged view shows nothing of, but for self._kept
        self._kept: set[str] = set()  # what the upperdir has below an opaque directory
        self._origins: dict[str, Origin] = {}

    def run(self) -> ChangeSet:
        st = os.fstat(self._upper)
        cut = self._marks.is_opaque(self._upper)
        if cut:
            self._gone.append("")
        top = Frame(self._upper, "", True, cut, (st.st_dev, st.st_ino), self._listed(self._upper, ""))
        self._look_up([top])
        self._enter(top)
        while self._stack:
            frame = self._stack[-1]
            if frame.ready:
                self._enter(frame.ready.pop())
            elif frame.below:
                self._open_next(frame)
            else:
                self._leave()
        for gone in dict.fromkeys(self._gone):
            for recorded in self._manifest.below(gone):
                if recorded.path not in self._kept:
                    self._deleted(recorded.path, recorded.entry)
        self._changes.sort(key=lambda change: change.path.encode("utf-8", "surrogateescape"))
        changes = tuple(self._changes)
        if self._bounds.full:
            self._problems.append(Problem("", f"more changes than can be captured: {len(changes)} are"))
        renames = exact(changes, self._origins, self._lower)
        return ChangeSet(changes, renames, tuple(sorted(self._problems)), self._links.groups(changes),
                         tuple(sorted(self._lists.paths, key=os.fsencode)))  # fmt: skip

    def close(self) -> None:
        for frame in self._stack:
            for opened in (frame, *frame.ready):
                if opened.fd >= 0:
                    os.close(opened.fd)

    def _open_next(self, frame: Frame) -> None:
        """Open some of the directories of ``frame`` and look up what the base has in them."""
        ahead = _AHEAD if len(self._stack) <= _AHEAD_DEPTH else 1
        entries = 0
        while frame.below and len(frame.ready) < ahead and entries < _AHEAD_ENTRIES:
            opened = self._directory(frame, frame.below.pop())
            if opened is not None:
                frame.ready.append(opened)
                entries += len(opened.entries)
        self._look_up(frame.ready)
        frame.ready.reverse()

    def _listed(self, fd: int, path: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(fd) as scanned:
                return list(scanned)
        except OSError as error:
            self._problem(path, error)
            return []

    def _look_up(self, frames: list[Frame]) -> None:
        paths = [frame.prefix + entry.name for frame in frames if frame.known for entry in frame.entries]
        if paths:
            base = self._manifest.rows(paths)
            for frame in frames:
                frame.base = base

    def _enter(self, frame: Frame) -> None:
        """Look at all entries of a directory; the directories among them wait in its frame."""
        frame.mark = self._unlocked.mark()
        self._stack.append(frame)
        if len(self._stack) > _OPEN_FRAMES:
            above = self._stack[-1 - _OPEN_FRAMES]
            os.close(above.fd)
            above.fd = -1
        entries, frame.entries = frame.entries, []
        if self._bounds.too_deep(len(self._stack), frame.prefix):
            self._problems.append(
                Problem(frame.prefix[:-1], "nested more deeply than a change may be: not looked into")
            )
            return
        for entry in entries:
            try:
                self._entry(frame, entry)
            except OSError as error:
                self._uncaptured(frame, entry.name, error)

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
        # What was unlocked to open this directory and its siblings was marked in its parent's time.
        if not self._stack or not self._stack[-1].ready:
            self._unlocked.restore(self._stack[-1].mark if self._stack else 0)

    def _entry(self, frame: Frame, entry: os.DirEntry[str]) -> None:
        name = entry.name
        path = frame.prefix + name
        if self._own_git and path == ".git":
            return
        if entry.is_dir(follow_symlinks=False):
            if name.lower() == ".git":
                mode = stat.S_IMODE(os.stat(name, dir_fd=frame.fd, follow_symlinks=False).st_mode)
                self._change(path, self._before(frame, path), Entry(Kind.DIRECTORY, mode))
            else:
                frame.below.append(name)
        elif entry.is_file(follow_symlinks=False):
            self._file(frame, name, path)
        else:
            self._other(frame, entry, path)

    def _before(self, frame: Frame, path: str) -> Entry | None:
        """What the base has where the upperdir has ``path``."""
        row = self._row(frame, path)
        return None if row is None else entry_of(row)

    def _row(self, frame: Frame, path: str) -> Row | None:
        row = frame.base.get(path)
        if row is not None:
            if frame.cut:
                self._kept.add(path)
            elif row[1] == _DIRECTORY_ROW:
                self._gone.append(path)
        return row

    def _directory(self, frame: Frame, name: str) -> Frame | None:
        """Open a directory, not yet entered, and say what changed about itself; None where it cannot be opened."""
        path = frame.prefix + name
        row = frame.base.get(path)
        if row is not None and frame.cut:
            self._kept.add(path)
        try:
            fd, st = self._unlocked.open(name, frame.fd)
        except OSError as error:
            self._problem(path, error)
            return None
        try:
            before = None if row is None else entry_of(row)
            known, cut = before is not None and before.kind is Kind.DIRECTORY, True
            try:
                names = xattr_names(fd)
                cut = frame.cut or (bool(names) and self._marks.is_opaque(fd))
                if cut and known and not frame.cut:
                    self._gone.append(path)
                mode, xattrs = self._own(path, fd, stat.S_IMODE(st.st_mode), names)
                after = Entry(Kind.DIRECTORY, mode, xattrs=xattrs)
                if after != before:
                    self._change(path, self._digested(path, before), after)
            except OSError as error:
                self._problem(path, error)
            return Frame(fd, path + "/", known, cut, (st.st_dev, st.st_ino), self._listed(fd, path))
        except BaseException:
            os.close(fd)
            raise

    def _other(self, frame: Frame, entry: os.DirEntry[str], path: str) -> None:
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

    def _whiteout(self, frame: Frame, path: str) -> None:
        # A whiteout of what the base does not have says nothing.
        if (before := self._before(frame, path)) is not None:
            self._deleted(path, before)

    def _file(self, frame: Frame, name: str, path: str) -> None:
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
            self._links.add(path, st)
            row = self._row(frame, path)
            names = xattr_names(fd)
            mode, xattrs = self._own(path, fd, mode, names)
            now = read(fd, self._bounds.size(st))
        finally:
            os.close(fd)
        was: Read | None = None
        given: Callable[[], Read] | None = None
        before: Entry | None = None
        if row is None:
            # An origin names a lower inode: a file that was renamed has one, a new file has no mark at all.
            if names and (origin := self._marks.origin(frame.fd, name)) is not None:
                self._origins[path] = origin
        elif row[1] == _FILE_ROW:
            _, _, old_mode, old_size, _, packed, digest = row
            given = partial(self._lower_read, path, old_size, digest)
            same = old_mode == mode and old_size == size
            if packed or xattrs:
                same = same and entry_of(row).xattrs == xattrs
            if same and digest is not None and digest == now.digest:
                return
            if digest is None or not stands_alone(now):
                was = self._lower_read(path, old_size, digest)
                if same and was.same(now):
                    return
                digest = was.digest
            before = entry_of(row, digest)
        else:
            before = entry_of(row)
        if self._keep is not None and now.whole:
            self._keep(now.digest, now.data)
        after = Entry(_FILE, mode, size, now.digest, None, xattrs)
        content = compared(path, was, now)
        if self._secrets is not None and self._secrets.brought(path, now, was, given):
            content = replace(content, secret=True)
        self._change(path, before, after, content)

    def _deleted(self, path: str, before: Entry) -> None:
        try:
            if before.kind is Kind.FILE and before.digest is None:
                was = self._lower_read(path, before.size, before.digest)
                self._change(path, replace(before, digest=was.digest), None, compared(path, was, None))
            else:
                self._change(path, before, None)
        except OSError as error:
            self._problem(path, error)

    def _digested(self, path: str, before: Entry | None) -> Entry | None:
        """``before`` with its digest, if it is a file."""
        if before is None or before.kind is not Kind.FILE or before.digest is not None:
            return before
        return replace(before, digest=self._lower_read(path, before.size, None).digest)

    def _lower_read(self, path: str, size: int, digest: str | None) -> Read:
        try:
            fd = self._lower.file(path)
        except OSError as error:
            raise OSError(error.errno, f"cannot read it in the base: {error.strerror}") from error
        try:
            found = read(fd, size)
        except Resized:
            raise _damaged() from None
        finally:
            os.close(fd)
        if digest is not None and digest != found.digest:
            raise _damaged()
        if self._keep is not None and self._lower.live and found.whole:
            self._keep(found.digest, found.data)
        return found

    def _own(self, path: str, fd: int, mode: int, names: list[str]) -> tuple[int, Xattrs]:
        if not names:
            return mode, ()
        xattrs = self._marks.agent_xattrs([(n, os.getxattr(fd, n)) for n in names if n.startswith("user.")])
        return self._lists.mode(path, fd, mode, names), xattrs

    def _change(self, path: str, before: Entry | None, after: Entry | None, content: Content = NO_CONTENT) -> None:
        if self._bounds.remembers(path, after.xattrs if after is not None else ()):
            said = flags(path, before, after, self._hidden, content)
            if self._manifest.drifted(path):
                said = (*said, "drift")
            self._changes.append(Change(path, before, after, said))

    def _problem(self, path: str, error: OSError) -> None:
        self._problems.append(Problem(path, error.strerror or str(error)))

    def _uncaptured(self, frame: Frame, name: str, error: OSError) -> None:
        """What is there and cannot be read: a problem, and a change without a digest, so that it can be discarded."""
        path = frame.prefix + name
        self._problem(path, error)
        with suppress(OSError):
            st = os.stat(name, dir_fd=frame.fd, follow_symlinks=False)
            kind = kind_of(st.st_mode)
            after = Entry(kind, stat.S_IMODE(st.st_mode), st.st_size if kind is _FILE else 0)
            self._change(path, self._before(frame, path), after)


def _damaged() -> OSError:
    return OSError(errno.EIO, "the base is damaged here: not what its manifest says")
