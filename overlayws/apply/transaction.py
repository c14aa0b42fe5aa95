"""run: carry out a Record. Every name is looked at before it is touched and what came out is looked at after, so
that an edit made at the same moment is found, whenever it was made; ``rollback`` then puts it back."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from overlayws.apply.journal import Ground
from overlayws.apply.moves import at, move, opened, set_attributes, set_xattrs, swap
from overlayws.apply.record import Move, Node, Record
from overlayws.beneath import split
from overlayws.errors import OverlaywsError, UnableError

_DRIFT = (errno.EEXIST, errno.ENOENT, errno.ENOTEMPTY, errno.ENOTDIR, errno.ELOOP)


class DriftError(OverlaywsError):
    """Somebody edited a path while it was applied or undone; nothing was changed in the end."""


class StepError(UnableError):
    """A system call failed (no space, an I/O error, no permission …); nothing was changed in the end."""

    def __init__(self, path: str, error: OSError) -> None:
        name = errno.errorcode.get(error.errno or 0, "?")
        super().__init__(
            f"cannot change {path!r}: {error.strerror} ({name}); the workspace is as it was",
            hint="make room, or check modes and owners, then try again",
        )


def drift(path: str) -> DriftError:
    return DriftError(
        f"{path!r} was changed by somebody else meanwhile; the workspace is as it was",
        hint="look at it, then try again",
    )


def run(ground: Ground, moves: Iterable[Move]) -> None:
    """Carry out moves. Raises DriftError, StepError: the caller rolls back."""
    moved: dict[int, int] = {}  # inode -> ctime after our own last move of it: another name of it comes later
    for step in moves:
        try:
            _run(ground, step, moved)
        except OSError as error:
            if error.errno in _DRIFT:
                raise drift(step.path) from error
            raise StepError(step.path, error) from error


def _run(ground: Ground, step: Move, moved: dict[int, int]) -> None:
    parent_path, name = split(step.path)
    parent, stage, slot = ground.directories.open(parent_path), ground.stages[step.stage], str(step.slot)
    if step.old is None:
        move(stage, slot, parent, name)
        return
    now = at(parent, name)
    if now is None or not (step.old.untouched(now) or _is_moved(step.old, now, moved)):
        raise drift(step.path)
    if step.op == "rmdir":
        os.rmdir(name, dir_fd=parent)
    elif step.op == "set":
        assert step.new is not None
        with opened(parent, name) as (fd, path):
            st = os.fstat(fd)
            if not step.old.untouched(st) or ground.directories.true_mode(step.path, st) != step.old.mode:
                raise drift(step.path)
            directories = ground.directories
            if directories.is_opened(step.path, st) or directories.defer(step.path, fd, step.old.mode, step.new.mode):
                set_xattrs(path, step.new.xattrs)
                directories.close_with(step.path, step.new.mode)
            else:
                set_attributes(path, step.old.mode, step.new)
    else:
        if step.op == "take":
            move(parent, name, stage, slot)
        else:
            swap(stage, slot, parent, name)
        # What came out may be an edit that was made since it was looked at: then it goes back.
        out = at(stage, slot)
        if out is None or not step.old.is_at(out):
            raise drift(step.path)
        if out.st_nlink > 1:
            moved[out.st_ino] = out.st_ctime_ns


def _is_moved(old: Node, now: os.stat_result, moved: dict[int, int]) -> bool:
    """Whether nothing but our moves of its other names (hard links) touched it: each rename(2) changes the ctime."""
    return old.is_at(now) and moved.get(now.st_ino) == now.st_ctime_ns


def check_originals(ground: Ground, record: Record) -> None:
    """Raise DriftError where a program that had a file open wrote to it after it was taken out."""
    for step in record.moves:
        if step.old is not None and step.op in ("take", "swap"):
            out = at(ground.stages[step.stage], str(step.slot))
            if out is None or not step.old.is_at(out):
                raise drift(step.path)
