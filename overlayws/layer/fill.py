"""fill: what lowerdir and upperdir show together, as a private copy in an empty directory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from overlayws.layer.cursor import Cursor, kept_xattrs, opened
from overlayws.layer.held import Held, holding
from overlayws.layer.mount import Layer
from overlayws.layer.node import put_directory_xattrs, put_file, put_symlink
from overlayws.layer.stamps import stamp
from overlayws.layer.whiteout import Marks
from overlayws.source.entry import ACCESS_LISTS, Xattrs

Row = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Frame:
    """A directory that is being filled, and which layers have it."""

    names: Iterator[str]
    lower: frozenset[str] | None  # the names there; None: the lowerdir has no such directory, or it is hidden
    upper: frozenset[str] | None
    st: os.stat_result


def fill(layer: Layer, marks: Marks) -> list[Row]:
    """Copy the layer into ``layer.merged``, which is empty; the stamps of what came from the lowerdir.

    Devices in the upperdir are left out: they are refused later in any case. Raises OSError.
    """
    with (
        Cursor(layer.lowerdir) as lower,
        Cursor(layer.upperdir) as upper,
        Cursor(layer.merged) as merged,
        holding(layer.workdir / "links") as held,
    ):
        return _Filling(lower, upper, merged, marks, held).fill()


class _Filling:
    def __init__(self, lower: Cursor, upper: Cursor, merged: Cursor, marks: Marks, held: Held) -> None:
        self._lower, self._upper, self._merged, self._marks, self._held = lower, upper, merged, marks, held
        self._frames: list[_Frame] = []
        self._rows: list[Row] = []

    def fill(self) -> list[Row]:
        root = self._upper.root
        self._enter(root, has_lower=True, has_upper=True)
        while True:
            frame = self._frames[-1]
            name = next(frame.names, None)
            if name is not None:
                self._one(frame, name)
                continue
            self._frames.pop()
            if not self._frames:
                break
            if frame.lower is not None:
                self._lower.up()
            if frame.upper is not None:
                self._upper.up()
            self._merged.up(stat.S_IMODE(frame.st.st_mode), frame.st.st_mtime_ns)
        os.utime(self._merged.fd, ns=(root.st_atime_ns, root.st_mtime_ns))
        os.fchmod(self._merged.fd, stat.S_IMODE(root.st_mode))
        return self._rows

    def _enter(self, st: os.stat_result, *, has_lower: bool, has_upper: bool) -> None:
        lower = frozenset(self._lower.names()) if has_lower else None
        upper = frozenset(self._upper.names()) if has_upper else None
        if upper is not None:
            xattrs = self._own(kept_xattrs(self._upper.fd))
        else:
            xattrs = kept_xattrs(self._lower.fd)
        put_directory_xattrs(self._merged.fd, xattrs)
        names = sorted((lower or frozenset()) | (upper or frozenset()), key=os.fsencode)
        self._frames.append(_Frame(iter(names), lower, upper, st))

    def _one(self, frame: _Frame, name: str) -> None:
        in_lower = frame.lower is not None and name in frame.lower
        if frame.upper is None or name not in frame.upper:
            st = self._lower.lstat(name)
            if stat.S_ISDIR(st.st_mode):
                self._down(self._lower.down(name), name, has_lower=True, has_upper=False)
            else:
                self._copy(self._lower, st, name, from_lower=True)
            return
        st = self._upper.lstat(name)
        if self._marks.is_whiteout(st, self._upper.fd, name):
            return
        if not stat.S_ISDIR(st.st_mode):
            self._copy(self._upper, st, name, from_lower=False)
            return
        st = self._upper.down(name)
        in_lower = in_lower and not self._marks.is_opaque(self._upper.fd)
        if in_lower and (in_lower := stat.S_ISDIR(self._lower.lstat(name).st_mode)):
            self._lower.down(name)
        self._down(st, name, has_lower=in_lower, has_upper=True)

    def _down(self, st: os.stat_result, name: str, *, has_lower: bool, has_upper: bool) -> None:
        os.mkdir(name, 0o700, dir_fd=self._merged.fd)
        self._merged.down(name)
        self._enter(st, has_lower=has_lower, has_upper=has_upper)

    def _copy(self, source: Cursor, st: os.stat_result, name: str, *, from_lower: bool) -> None:
        parent = self._merged.fd
        kind = None if from_lower else self._marks.special(st, source.fd, name)
        if stat.S_ISLNK(st.st_mode):
            put_symlink(os.readlink(name, dir_fd=source.fd), st, parent, name)
        elif kind is not None or not stat.S_ISREG(st.st_mode):
            if stat.S_ISFIFO(st.st_mode) or stat.S_ISSOCK(st.st_mode):
                os.mknod(name, st.st_mode, dir_fd=parent)
        elif from_lower:  # whose links are other bases
            with opened(source.fd, name) as (fd, st):
                made = put_file(fd, st, parent, name, kept_xattrs(fd))
            self._rows.append(stamp(made, st.st_ino))
        elif not self._held.put(st, parent, name):
            with opened(source.fd, name) as (fd, st):
                put_file(fd, st, parent, name, self._own(kept_xattrs(fd)))
            self._held.hold(st, parent, name)

    def _own(self, raw: Xattrs) -> Xattrs:
        return (*self._marks.agent_xattrs(raw), *(item for item in raw if item[0] in ACCESS_LISTS))
