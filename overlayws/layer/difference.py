"""difference: what a private copy has other than its lowerdir, as an upperdir (format: whiteout.py)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from overlayws.layer.cursor import Cursor, kept_xattrs, opened
from overlayws.layer.held import Held, holding
from overlayws.layer.mount import Layer, MountError, shown
from overlayws.layer.node import put_directory_xattrs, put_file, put_marked, put_special, put_symlink
from overlayws.layer.stamps import Stamps, untouched
from overlayws.layer.whiteout import Marks
from overlayws.source.entry import Xattrs

_CHUNK = 1 << 20


@dataclass(slots=True)
class _Frame:
    """A directory of the private copy that is being read. It is made in the upperdir when something in it is."""

    name: str
    st: os.stat_result  # with the mode that the program gave it
    xattrs: Xattrs
    opaque: bool  # it is where the lowerdir has no directory but something else
    lower: frozenset[str] | None  # the names in the lowerdir's; None: there is no such directory
    names: Iterator[str]


def difference(layer: Layer, stamps: Stamps, marks: Marks, upperdir: Path) -> None:
    """Write the difference between ``layer.merged`` and ``layer.lowerdir`` into the empty directory ``upperdir``.

    A file that ``stamps`` says nobody touched is not read. What differs in its times alone is no difference.
    Raises MountError naming the path that could not be captured.
    """
    with (
        Cursor(layer.lowerdir) as lower,
        Cursor(layer.merged) as merged,
        Cursor(upperdir) as upper,
        holding(layer.workdir / "links") as held,
    ):
        comparison = _Comparison(lower, merged, upper, stamps, marks, held)
        try:
            comparison.run()
        except OSError as error:
            path = Path(layer.merged, comparison.at())
            raise MountError(f"cannot capture {shown(path)}: {error.strerror or error}") from error


class _Comparison:
    def __init__(self, lower: Cursor, merged: Cursor, upper: Cursor, stamps: Stamps, marks: Marks, held: Held) -> None:
        self._lower, self._merged, self._upper = lower, merged, upper
        self._stamps, self._marks, self._held = stamps, marks, held
        self._frames: list[_Frame] = []
        self._name = ""
        self._can_mknod = True

    def at(self) -> str:
        """The path that is being looked at, for messages; its end if it is very long."""
        path = "/".join([*(frame.name for frame in self._frames[1:]), self._name])
        return path if len(path) < 1000 else "..." + path[-1000:]

    def run(self) -> None:
        root = self._merged.root
        self._enter("", root, self._lower.root, has_lower=True, opaque=False)
        put_directory_xattrs(self._upper.fd, self._frames[0].xattrs)
        while True:
            frame = self._frames[-1]
            self._name = next(frame.names, "")
            if self._name:
                self._one(frame, self._name)
                continue
            if len(self._frames) == 1:
                break
            if self._upper.depth == len(self._frames) - 1:
                self._upper.up(stat.S_IMODE(frame.st.st_mode), frame.st.st_mtime_ns)
            self._frames.pop()
            self._merged.up()
            if frame.lower is not None:
                self._lower.up()
        os.utime(self._upper.fd, ns=(root.st_atime_ns, root.st_mtime_ns))
        os.fchmod(self._upper.fd, stat.S_IMODE(root.st_mode))

    def _enter(
        self, name: str, st: os.stat_result, below: os.stat_result | None, *, has_lower: bool, opaque: bool
    ) -> None:
        lower = frozenset(self._lower.names()) if has_lower else None
        names = self._merged.names()
        self._name = ""
        raw = kept_xattrs(self._merged.fd)
        xattrs = tuple((self._marks.escaped(n), value) for n, value in raw)
        self._frames.append(_Frame(name, st, xattrs, opaque, lower, iter(names)))
        if lower is None or below is None:
            self._make()
            return
        if stat.S_IMODE(st.st_mode) != stat.S_IMODE(below.st_mode) or raw != kept_xattrs(self._lower.fd):
            self._make()
        gone = lower.difference(names)
        if gone:
            self._make()
            if gone == lower and name:
                os.setxattr(self._upper.fd, self._marks.prefix + "opaque", b"y")
            else:
                for deleted in sorted(gone, key=os.fsencode):
                    self._whiteout(deleted)

    def _make(self) -> None:
        """Make the directory that is being read, and those above it, in the upperdir."""
        while self._upper.depth < len(self._frames) - 1:
            frame = self._frames[self._upper.depth + 1]
            os.mkdir(frame.name, 0o700, dir_fd=self._upper.fd)
            self._upper.down(frame.name)
            put_directory_xattrs(self._upper.fd, frame.xattrs)
            if frame.opaque:
                os.setxattr(self._upper.fd, self._marks.prefix + "opaque", b"y")

    def _whiteout(self, name: str) -> None:
        if self._can_mknod:
            try:
                os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=self._upper.fd)
                return
            except PermissionError:  # an old kernel, a seccomp profile, or an upperdir on another overlay
                self._can_mknod = False
        put_marked(self._upper.fd, name, self._marks.prefix + "whiteout", b"", 0o600)
        os.setxattr(self._upper.fd, self._marks.prefix + "opaque", b"x")

    def _one(self, frame: _Frame, name: str) -> None:
        st = self._merged.lstat(name)
        below = self._lower.lstat(name) if frame.lower is not None and name in frame.lower else None
        if stat.S_ISDIR(st.st_mode):
            st = self._merged.down(name)
            if has_lower := below is not None and stat.S_ISDIR(below.st_mode):
                below = self._lower.down(name)
            self._enter(name, st, below, has_lower=has_lower, opaque=below is not None and not has_lower)
        elif stat.S_ISREG(st.st_mode):
            # What the program linked is there under every name, as a copy-up has it.
            if below is None or not stat.S_ISREG(below.st_mode) or st.st_nlink > 1:
                self._file(name)
            elif not untouched(self._stamps, st, below.st_ino) and not self._same(name, st, below):
                self._file(name)
        elif stat.S_ISLNK(st.st_mode):
            target = os.readlink(name, dir_fd=self._merged.fd)
            if below is None or not stat.S_ISLNK(below.st_mode) or target != self._lower_target(name):
                self._make()
                put_symlink(target, st, self._upper.fd, name)
        else:
            self._make()
            put_special(st, self._upper.fd, name, self._marks)

    def _lower_target(self, name: str) -> str:
        return os.readlink(name, dir_fd=self._lower.fd)

    def _file(self, name: str) -> None:
        self._make()
        with opened(self._merged.fd, name) as (fd, st):
            if self._held.put(st, self._upper.fd, name):
                return
            xattrs = tuple((self._marks.escaped(n), value) for n, value in kept_xattrs(fd))
            put_file(fd, st, self._upper.fd, name, xattrs)
            self._held.hold(st, self._upper.fd, name)

    def _same(self, name: str, st: os.stat_result, below: os.stat_result) -> bool:
        if (st.st_size, stat.S_IMODE(st.st_mode)) != (below.st_size, stat.S_IMODE(below.st_mode)):
            return False
        with opened(self._merged.fd, name) as (ours, _), opened(self._lower.fd, name) as (theirs, _):
            return kept_xattrs(ours) == kept_xattrs(theirs) and _same_bytes(ours, theirs)


def _same_bytes(one: int, other: int) -> bool:
    at = 0
    while True:
        chunk = os.pread(one, _CHUNK, at)
        if chunk != os.pread(other, _CHUNK, at):
            return False
        if not chunk:
            return True
        at += len(chunk)
