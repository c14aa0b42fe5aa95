"""Drop single changes from a layer that nobody has mounted: it then shows the base's entry again.

A path that comes back becomes a copy of what the lowerdir has there (a no-op copy-up, which ``scan`` does not report).
So it comes back from below a whiteout or an opaque directory without its siblings. To remove the whiteout or the
changed file would not do: a file renamed or linked elsewhere keeps in ``origin`` the handle of the same lower inode,
and overlayfs answers ESTALE for one of two names that claim it (seen on 6.18: the renamed file was gone).

Each path is restored in one step: after a crash it is restored or as it was, and no other path is touched.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from overlayws import beneath
from overlayws.beneath import open_directory, split
from overlayws.errors import UsageError
from overlayws.layer.mount import Layer
from overlayws.layer.whiteout import Marks
from overlayws.source.copyfile import copy_file
from overlayws.source.remove import remove_below, remove_tree

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_CANNOT = (errno.EINVAL, errno.ENOSYS)


class Replaced(UsageError):
    """A path cannot come back, because what is above it is no directory any more and is to stay so."""


def restore(layer: Layer, marks: Marks, paths: Iterable[str], given: Callable[[str], bool] = lambda path: True) -> None:
    """Make the layer show the base's entry (or nothing, where the base has none) at each of ``paths``.

    A directory is restored by itself (that it is there, mode, attributes): name what is below it too. Deleted
    directories above a path come back with nothing else in them. ``given(path)`` says whether the program was given a
    path that a live base has now: what is hidden, or newer than the session, does not come back.
    Raises OSError, and Replaced before anything changed.
    """
    ordered = sorted(paths, key=os.fsencode)
    # The copy backend: its private copy shows what was dropped. Without stamps it is made anew from both layers.
    (layer.workdir / "stamps").unlink(missing_ok=True)
    aside = layer.workdir / "discarding"  # on the upperdir's file system, as overlayfs demands of a workdir
    remove_tree(aside)
    aside.mkdir(mode=0o700)
    try:
        with _Restoring(layer, aside, marks, given) as restoring:
            chosen = set(ordered)
            for path in ordered:
                restoring.check(path, chosen)
            # What goes away goes first and deepest first; then the rest, parents before children.
            for path in reversed(ordered):
                restoring.remove(path)
            for path in ordered:
                restoring.put_back(path)
            restoring.sync()
    finally:
        remove_tree(aside)


class _Way:
    """The way down to a directory of the upperdir. What the program locked (chmod 000) is open while the context is."""

    def __init__(self, top: int) -> None:
        self._locked: list[tuple[int, int]] = []
        self.fd = -1
        self._enter(os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=top))

    def enter(self, name: str) -> None:
        """Go on to the directory ``name``. Raises OSError."""
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._enter(os.open(name, flags, dir_fd=self.fd))

    def _enter(self, handle: int) -> None:
        try:
            mode = stat.S_IMODE(os.fstat(handle).st_mode)
            if mode & 0o700 != 0o700 and os.geteuid() != 0:
                os.chmod(f"/proc/self/fd/{handle}", mode | 0o700)
                self._locked.append((os.dup(handle), mode))
            below = os.open(".", _DIRECTORY, dir_fd=handle)
        finally:
            os.close(handle)
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = below

    def __enter__(self) -> _Way:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)
        while self._locked:
            handle, mode = self._locked.pop()
            try:
                os.chmod(f"/proc/self/fd/{handle}", mode)
            finally:
                os.close(handle)


class _Restoring:
    def __init__(self, layer: Layer, aside: Path, marks: Marks, given: Callable[[str], bool]) -> None:
        # A live base: the mask holds files that were redacted, the last lowerdir all else.
        self._lower = os.open(layer.below[-1] if layer.below else layer.lowerdir, _DIRECTORY)
        self._mask = os.open(layer.below[0], _DIRECTORY) if layer.below else -1
        self._given = given
        self._upper = os.open(layer.upperdir, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._aside = os.open(aside, _DIRECTORY)
        self._marks = marks

    def __enter__(self) -> _Restoring:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fd in (self._lower, self._upper, self._aside, self._mask):
            if fd >= 0:
                os.close(fd)

    def sync(self) -> None:
        beneath.syncfs(self._aside)

    def check(self, path: str, chosen: set[str]) -> None:
        """Raises Replaced where a parent would have to give way that is not among the ``chosen`` paths."""
        if self._base(path) is None:
            return
        parts = path.split("/")
        with _Way(self._upper) as way:
            for number, name in enumerate(parts[:-1]):
                st = _stat(name, way.fd)
                if st is not None and stat.S_ISDIR(st.st_mode):
                    way.enter(name)
                    continue
                above = "/".join(parts[: number + 1])
                if st is not None and above not in chosen and not self._marks.is_whiteout(st, way.fd, name):
                    raise Replaced(
                        f"{path!r} cannot come back while {above!r} is no directory", hint=f"discard {above!r} too"
                    )
                return

    def remove(self, path: str) -> None:
        """Remove from the upperdir what the base does not have."""
        if self._base(path) is not None:
            return
        parent, name = split(path)
        with _Way(self._upper) as way:
            try:
                for component in parent.split("/") if parent else ():
                    way.enter(component)
            except OSError as error:
                if error.errno in _NOT_THERE:
                    return
                raise
            remove_below(way.fd, name)

    def put_back(self, path: str) -> None:
        """Show what the base has."""
        base = self._base(path)
        if base is None:
            return
        parent, name = split(path)
        with _Way(self._upper) as way:
            covered = self._marks.is_opaque(way.fd)
            source = os.dup(self._lower)
            try:
                for component in parent.split("/") if parent else ():
                    there = _stat(component, way.fd)
                    if there is None and not covered:
                        return  # nothing of the upperdir is above the path
                    if there is None or not stat.S_ISDIR(there.st_mode):
                        st = os.stat(component, dir_fd=source, follow_symlinks=False)
                        self._put(source, way.fd, component, st, opaque=not covered)
                    way.enter(component)
                    covered = covered or self._marks.is_opaque(way.fd)
                    below = os.open(component, _DIRECTORY, dir_fd=source)
                    os.close(source)
                    source = below
                above, source = source, self._source(path, source)
                os.close(above)
                base = os.stat(name, dir_fd=source, follow_symlinks=False)
                there = _stat(name, way.fd)
                if there is not None and stat.S_ISDIR(there.st_mode) and stat.S_ISDIR(base.st_mode):
                    self._attributes(source, way, name, base)
                elif there is not None or covered:
                    self._put(source, way.fd, name, base, opaque=not covered)
            finally:
                os.close(source)

    def _source(self, path: str, source: int) -> int:
        """Where the base's entry is: ``source``, or the mask's directory for a redacted file. The caller's."""
        if self._mask >= 0:
            parent, name = split(path)
            try:
                fd = open_directory(self._mask, parent)
            except OSError:
                return os.dup(source)
            st = _stat(name, fd)
            if st is not None and stat.S_ISREG(st.st_mode):
                return fd
            os.close(fd)
        return os.dup(source)

    def _base(self, path: str) -> os.stat_result | None:
        if not self._given(path):
            return None
        parent, name = split(path)
        try:
            fd = open_directory(self._lower, parent)
        except OSError as error:
            if error.errno in _NOT_THERE:
                return None
            raise
        try:
            return _stat(name, fd)
        finally:
            os.close(fd)

    def _attributes(self, source: int, way: _Way, name: str, st: os.stat_result) -> None:
        parent = os.dup(way.fd)
        try:
            with _Way(parent) as inside:
                inside.enter(name)  # opened even if the program locked it; its mode is set last
                self._copy_xattrs(source, name, inside.fd)
            # By the name: only we can write here, so it is still that directory.
            os.utime(name, ns=(st.st_atime_ns, st.st_mtime_ns), dir_fd=parent)
            os.chmod(name, stat.S_IMODE(st.st_mode), dir_fd=parent)
        finally:
            os.close(parent)

    def _put(self, source: int, target: int, name: str, st: os.stat_result, *, opaque: bool = False) -> None:
        """A copy of the base's entry in the place of what is there; of a directory without what is in it."""
        handle = -1
        try:
            if stat.S_ISDIR(st.st_mode):
                os.mkdir("new", 0o700, dir_fd=self._aside)
                handle = os.open("new", _DIRECTORY, dir_fd=self._aside)
                if opaque:
                    os.setxattr(handle, self._marks.prefix + "opaque", b"y")
                self._copy_xattrs(source, name, handle)
            else:
                self._copy(source, name, st)
            self._place(target, name)
            if handle >= 0:
                # Only now: a directory must be writable to be moved, its ".." changes (rename(2)).
                os.utime(handle, ns=(st.st_atime_ns, st.st_mtime_ns))
                os.fchmod(handle, stat.S_IMODE(st.st_mode))
        finally:
            if handle >= 0:
                os.close(handle)
            remove_below(self._aside, "new")

    def _place(self, target: int, name: str) -> None:
        there = _stat(name, target) is not None
        try:
            (beneath.exchange if there else beneath.move)(self._aside, "new", target, name)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            remove_below(target, name)  # a file system without exchange: not in one step
            os.rename("new", name, src_dir_fd=self._aside, dst_dir_fd=target)

    def _copy(self, source: int, name: str, st: os.stat_result) -> None:
        times = (st.st_atime_ns, st.st_mtime_ns)
        if stat.S_ISLNK(st.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), "new", dir_fd=self._aside)
            os.utime("new", ns=times, dir_fd=self._aside, follow_symlinks=False)
            return
        fd = beneath.open_quietly(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, source)
        try:
            out = os.open("new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._aside)
            try:
                copy_file(fd, out, st, os.fstat(out).st_dev)
                self._copy_xattrs(source, name, out)
                os.utime(out, ns=times)
                os.fchmod(out, stat.S_IMODE(st.st_mode))
                os.fsync(out)  # else a power cut could leave the name with no content
            finally:
                os.close(out)
        finally:
            os.close(fd)

    def _copy_xattrs(self, source: int, name: str, target: int) -> None:
        fd = beneath.open_quietly(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, source)
        try:
            wanted = {n: os.getxattr(fd, n) for n in os.listxattr(fd) if n.startswith("user.")}
        finally:
            os.close(fd)
        for there in os.listxattr(target):
            own = self._marks.agent_xattrs({there: b""})  # none for a mark: those stay
            if own and own[0][0] not in wanted:
                os.removexattr(target, there)
        for attribute, value in wanted.items():
            os.setxattr(target, attribute, value)


def _stat(name: str, parent: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
