"""No mount: a private copy of the lowerdir, whose difference is written into an upperdir of the kernel's format.

Works wherever files can be written, at the cost of a copy at the first entry and of looking at every file at the end.
In ``workdir``:

``stamps``    the private copy is whole; JSON line {"merged": [device, inode], "trusted": bool}, then rows of stamps.py
``captured``  the upperdir holds all of it: a digest of the upperdir at that moment. Missing while a program may be
              running, so that after a crash the next entry and exit completes the capture

Where the upperdir is not the one that was captured (changes were discarded), the copy is made anew from both layers.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from overlayws.atomic import fsync_path, write_atomic
from overlayws.layer.cursor import Cursor
from overlayws.layer.difference import difference
from overlayws.layer.fill import fill
from overlayws.layer.mount import Layer, Mount, MountError, scratch_layer, shown
from overlayws.layer.overlay import locked, prepare
from overlayws.layer.room import Room
from overlayws.layer.stamps import Stamps, pack, trustworthy, unpack
from overlayws.layer.whiteout import USER_PREFIX, Marks
from overlayws.source.remove import remove_tree

XATTR_PREFIX = USER_PREFIX

_MARKS = Marks(XATTR_PREFIX)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_libc = ctypes.CDLL(None, use_errno=True)


def unusable(state: Path) -> str | None:
    """Why copies cannot be made and compared below ``state``, or None."""
    try:
        scratch = Path(tempfile.mkdtemp(prefix=".probe-", dir=state))
    except OSError as error:
        return f"cannot write to {shown(state)}: {error.strerror}"
    try:
        layer = scratch_layer(scratch)
        (layer.lowerdir / "d").mkdir(parents=True)
        (layer.lowerdir / "d" / "x").write_text("some")
        with mounted(layer):
            (layer.merged / "d" / "x").unlink()
        upper = os.open(layer.upperdir / "d", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return None if _MARKS.is_opaque(upper) else "the file system does not keep user.overlay.* attributes"
        finally:
            os.close(upper)
    except MountError as error:
        return error.message.partition(": ")[2] or error.message
    except OSError as error:
        return f"a copy cannot be tried: {error.strerror}"
    finally:
        remove_tree(scratch)


def trying(state: Path) -> AbstractContextManager[Callable[[], str | None]]:
    """See ``Backend.trying``: when it is asked for; another process could do it no sooner."""
    return nullcontext(lambda: unusable(state))


@contextmanager
def mounted(layer: Layer, at: Path | None = None, room: Room | None = None) -> Iterator[Mount]:
    """See ``Backend.mounted``. ``merged`` is the private copy, kept for the next time; ``at`` means nothing here."""
    with locked(layer):
        try:
            stamps = _enter(layer)
        except OSError as error:
            raise MountError(
                f"cannot make a private copy at {shown(layer.merged)}: {error.strerror or error}",
                hint="free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "",
            ) from error
        try:
            yield Mount(layer.merged, (), unbounded="the backend copy has no upperdir meanwhile" if room else "")
        finally:
            try:
                _capture(layer, stamps)
            except OSError as error:
                raise MountError(
                    f"cannot capture {shown(layer.merged)}: {error.strerror or error}",
                    hint="the private copy is kept; free some space and try again",
                ) from error


def _enter(layer: Layer) -> Stamps:
    if not layer.upperdir.exists() and _beside(layer, "replaced").exists():
        os.rename(_beside(layer, "replaced"), layer.upperdir)  # a crash between the two renames of _swap
    for name in ("next", "replaced"):
        remove_tree(_beside(layer, name))
    captured = layer.workdir / "captured"
    stamps = _known(layer)
    # ``work``: the upperdir was written by a mount.
    prepare(layer, used=any((layer.workdir / name).exists() for name in ("stamps", "captured", "work")))
    if stamps is not None and captured.exists() and captured.read_text() != _digest(layer.upperdir):
        stamps = None
    if stamps is None:
        stamps = _copy(layer)
    captured.unlink(missing_ok=True)
    fsync_path(layer.workdir)
    return stamps


def _known(layer: Layer) -> Stamps | None:
    """The stamps of the private copy that is there, or None: there is none, or not a whole one."""
    try:
        head, _, rows = (layer.workdir / "stamps").read_bytes().partition(b"\n")
        told = json.loads(head)
        st = os.lstat(layer.merged)
        if told["merged"] != [st.st_dev, st.st_ino] or not layer.upperdir.exists():
            return None
        return unpack(rows) if told["trusted"] else {}
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None


def _copy(layer: Layer) -> Stamps:
    (layer.workdir / "stamps").unlink(missing_ok=True)  # first: from here on the copy is not whole
    remove_tree(layer.merged)
    layer.merged.mkdir(mode=0o700)
    rows = fill(layer, _MARKS)
    trusted = trustworthy(layer.workdir, max((row[-1] for row in rows), default=0))
    st = os.lstat(layer.merged)
    head = json.dumps({"merged": [st.st_dev, st.st_ino], "trusted": trusted}).encode()
    data = pack(rows) if trusted else b""
    write_atomic(layer.workdir / "stamps", head + b"\n" + data)
    return unpack(data)


def _capture(layer: Layer, stamps: Stamps) -> None:
    made = _beside(layer, "next")
    remove_tree(made)
    made.mkdir(mode=0o700)
    difference(layer, stamps, _MARKS, made)
    digest = _digest(made)
    fd = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd):  # one call for any number of files
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(fd)
    _swap(made, layer)
    write_atomic(layer.workdir / "captured", digest.encode())
    remove_tree(made)
    remove_tree(_beside(layer, "replaced"))


def _beside(layer: Layer, name: str) -> Path:
    # In the same parent: to move a directory to another one, it must itself be writable (its ".." changes).
    return layer.upperdir.with_name(f".{layer.upperdir.name}-{name}")


def _swap(made: Path, layer: Layer) -> None:
    """Put ``made`` in the place of the upperdir: a crash leaves one or the other."""
    names = (os.fsencode(made), os.fsencode(layer.upperdir))
    if _libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number))
        # A file system without exchange; _enter finishes it after a crash in between.
        os.rename(layer.upperdir, _beside(layer, "replaced"))
        os.rename(made, layer.upperdir)
    fsync_path(layer.upperdir.parent)


def _digest(upperdir: Path) -> str:
    """Changes whenever something in the upperdir does: names, inodes, modes, and the ctimes of what is no directory."""
    digest = hashlib.sha256()
    with Cursor(upperdir) as cursor:
        digest.update(b"%o" % cursor.root.st_mode)
        stack = [iter(cursor.names())]
        while stack:
            name = next(stack[-1], None)
            if name is None:
                stack.pop()
                digest.update(b"\0up")
                if stack:
                    cursor.up()
                continue
            st = cursor.lstat(name)
            # Not of a directory: reading one whose owner may not do so sets its ctime.
            ctime = 0 if stat.S_ISDIR(st.st_mode) else st.st_ctime_ns
            digest.update(b"\0%b\0%o %d %d" % (os.fsencode(name), st.st_mode, st.st_ino, ctime))
            if stat.S_ISDIR(st.st_mode):
                cursor.down(name)
                stack.append(iter(cursor.names()))
    return digest.hexdigest()
