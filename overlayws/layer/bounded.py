"""An upperdir with a limit that the kernel holds: while a command runs, it is on a small file system of its own.

Beside the plain upperdir of a layer:

``upper.img``         the file system (image.py). While it is there it has the upperdir; the plain one is older
``upper.img-making``  one that is being made: nothing of it counts
``absorbing``         its upperdir on the way back: exchanged with the plain one in one step; then the image goes

So a crash at any moment leaves either the plain upperdir alone, or the file system, which the next command brings back
(``absorb``), as often as it takes. It is mounted where only our own descriptor and the layer's processes are (loop.py):
no mount and no device outlives them. Its journal makes it whole after a power cut. The program wrote what is in it, by
way of the kernel, and never saw the device.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from overlayws.atomic import fsync_path
from overlayws.beneath import syncfs
from overlayws.errors import NotStartedError, UntrustedError, UsageError
from overlayws.layer import image, loop
from overlayws.layer.image import NoImage
from overlayws.layer.mount import Layer, MountError, shown
from overlayws.layer.replica import replicate
from overlayws.layer.room import IMAGE, Room, size_shown
from overlayws.layer.upperdir import put_in_place
from overlayws.source.remove import remove_tree

MAKING, ABSORBING = f"{IMAGE}-making", "absorbing"
_LINKS = "absorbing-links"
_SCRATCH = (ABSORBING, f"{ABSORBING}.old", _LINKS)
_PATIENCE = 10.0  # seconds for the end of a mount whose last process is gone


@contextmanager
def bounded(layer: Layer, room: Room) -> Iterator[tuple[Path, Layer]]:
    """(the top of the file system, the layer with its upperdir and workdir in it), until its last process ended;
    then what was written is in ``layer.upperdir``.

    A program that was not started leaves nothing, one of which nobody knows whether it ended leaves the image. Raises
    NoImage where there can be none, MountError where what the upperdir holds is already more than ``room``, or where
    what was written could not be brought back (the image stays).
    """
    beside = layer.upperdir.with_name
    making = beside(MAKING)
    with ExitStack() as stack:
        try:
            image.make(making, room)
            try:
                top = stack.enter_context(loop.mounted(making))
            except OSError as error:
                raise NoImage(f"it cannot be mounted: {error.strerror}") from error
            _fill(top, layer, room)
            os.rename(making, beside(IMAGE))
            fsync_path(making.parent)
        finally:
            making.unlink(missing_ok=True)
        upperdir, workdir = (image.inside(top, name) for name in (image.UPPER, image.WORK))
        try:
            yield image.inside(top, ""), replace(layer, upperdir=upperdir, workdir=workdir)
        except (NotStartedError, UsageError):
            beside(IMAGE).unlink()
            raise
        except UntrustedError:
            raise
        except BaseException:
            _take(top, layer)
            raise
        _take(top, layer)


def _fill(top: int, layer: Layer, room: Room) -> None:
    """Bring in what the session has; what is left to write is ``room`` less that."""
    try:
        image.prepare(top)
        empty = image.free(top)
        replicate(layer.upperdir, image.inside(top, image.UPPER), image.links(top))
        now = image.free(top)
        left = Room(room.size - (empty.size - now.size), room.files - (empty.files - now.files))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise MountError(f"cannot copy {shown(layer.upperdir)}: {error.strerror}") from error
        # One is free again: the copy's own directory of links.
        left = Room(-2 * room.size, 0) if image.free(top).files > 1 else Room(0, -1)
    if left.size < -image.slack(room) or left.files < 0:
        what = f"{room.files:,} files" if left.files < 0 else size_shown(room.size)
        raise MountError(
            f"the disk limit of {what} was reached before the command ran",
            hint="overlayws discard SESSION PATH drops some changes; or start a session with a larger --disk",
        )
    try:
        image.bound(top, Room(max(0, left.size), left.files))
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=top)
        try:
            syncfs(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise MountError(f"cannot prepare {shown(layer.upperdir.with_name(MAKING))}: {error.strerror}") from error


def absorb(layer: Layer) -> bool:
    """Bring back what an image that a crash left holds; False where there is none. Nothing of the layer runs.

    Raises MountError: the image stays, and the next call tries again.
    """
    left, directory = layer.upperdir.with_name(IMAGE), layer.upperdir.parent
    try:
        layer.upperdir.with_name(MAKING).unlink(missing_ok=True)
        for name in _SCRATCH:
            remove_tree(directory / name)
        if not os.path.lexists(left):
            return False
    except OSError as error:
        raise MountError(f"cannot use {shown(directory)}: {error.strerror}") from error
    if os.geteuid() != 0:
        raise MountError(f"{shown(left)} holds the changes, and only root can mount it", hint="run it as root again")
    try:
        with loop.mounted(left, _PATIENCE) as top:
            _take(top, layer)
    except OSError as error:
        raise MountError(
            f"{shown(left)} holds what the last command changed, and cannot be mounted: {error.strerror}",
            hint="see e2fsck(8) for what can be done about it; overlayws discard gives it up",
        ) from error
    return True


def drop(layer: Layer) -> None:
    """Remove what there is of an image, and all that is in it. Raises OSError."""
    for name in (IMAGE, MAKING, *_SCRATCH):
        remove_tree(layer.upperdir.with_name(name))


def _take(top: int, layer: Layer) -> None:
    directory = layer.upperdir.parent
    made = directory / ABSORBING
    try:
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=top)
        try:
            syncfs(fd)  # EIO, where something of it did not reach the disk
        finally:
            os.close(fd)
        image.trim(top)  # the copy takes room outside, where the image has reserved much more than it uses
        remove_tree(made)
        made.mkdir(mode=0o700)
        replicate(image.inside(top, image.UPPER), made, directory / _LINKS)
        fd = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syncfs(fd)
        finally:
            os.close(fd)
        put_in_place(layer, ABSORBING)
        fsync_path(directory)
        (directory / IMAGE).unlink()
        fsync_path(directory)
        with suppress(OSError):  # the next command tries again
            for name in _SCRATCH:
                remove_tree(directory / name)
    except OSError as error:
        with suppress(OSError):  # what came until now takes room that others need
            remove_tree(made)
        what = f"{error.filename!r}: {error.strerror}" if error.filename else error.strerror
        raise MountError(
            f"cannot bring back what the command changed ({what}): it is kept in {shown(directory / IMAGE)}",
            hint="free some space; the next command tries again",
        ) from error
