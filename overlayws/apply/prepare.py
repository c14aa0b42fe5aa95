"""From a plan to a Record: choose the stages, check that the workspace can be written, stage every new content."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from overlayws.apply.journal import Ground
from overlayws.apply.locked import Reach
from overlayws.apply.moves import all_xattrs, opened, xattr
from overlayws.apply.record import Move, Node, Record, Values, in_order, node_of
from overlayws.apply.stage import Places, existing, final_mode, stage_step
from overlayws.apply.step import Action, Seen, Step
from overlayws.apply.transaction import StepError, drift
from overlayws.beneath import split
from overlayws.changes.contents import Contents
from overlayws.errors import UnableError
from overlayws.source.entry import Kind

_OPS = {Action.REMOVE: "take", Action.REMOVE_DIRECTORY: "rmdir", Action.MAKE_DIRECTORY: "mkdir"}


def check_writable(directories: Reach, paths: Iterable[str]) -> None:
    """Raise UnableError unless names can be changed in the directories that ``paths`` are in; nothing is written."""
    for parent in sorted({split(path)[0] for path in paths}):
        try:
            fd = directories.open(existing(directories, parent))
        except OSError as error:
            raise StepError(parent, error) from error
        if os.access(".", os.W_OK | os.X_OK, dir_fd=fd, effective_ids=True):
            continue
        read_only = os.fstatvfs(fd).f_flag & os.ST_RDONLY
        why = "it is on a read-only file system" if read_only else "no permission"
        raise UnableError(
            f"cannot write in directory {parent or '.'!r} of the workspace: {why}",
            hint="make it writable, then apply again; nothing was changed",
        )


def touched(steps: Iterable[tuple[str, bool]], directories: Reach) -> tuple[tuple[str, int], ...]:
    """The directories whose names change, with their mtimes now (ns). ``steps``: path, and whether it is a
    directory that vanishes itself."""
    paths = set()
    for path, vanishes in steps:
        paths.add(split(path)[0])
        if vanishes:
            paths.add(path)
    found = []
    for path in sorted(paths):
        if existing(directories, path) == path:
            found.append((path, os.fstat(directories.open(path)).st_mtime_ns))
    return tuple(found)


def choose(places: Places, paths: Iterable[str]) -> list[int]:
    """The number of the stage for each path. Raises StepError."""
    numbers = []
    for path in paths:
        try:
            numbers.append(places.of(split(path)[0]))
        except OSError as error:
            raise StepError(path, error) from error
    return numbers


def prepare(
    ground: Ground, steps: tuple[Step, ...], numbers: list[int], theirs: Contents, times: tuple[tuple[str, int], ...]
) -> Record:
    """Stage what the steps bring, and say what will be done. Raises StepError, DriftError, ChangedSince."""
    moves: list[Move] = []
    late: list[Move] = []
    for slot, (step, stage) in enumerate(zip(steps, numbers, strict=True)):
        try:
            if step.action in (Action.OPEN, Action.SET):
                moves.append(_set(ground, step, stage, slot))
            elif step.action is Action.REMOVE_DIRECTORY:
                moves.append(_removed(ground, step, stage, slot))
            elif step.action is Action.REMOVE:
                assert step.seen is not None
                moves.append(Move("take", step.path, stage, slot, _node(step.seen), None))
            else:
                new = stage_step(ground, step, stage, slot, theirs)
                old = _node(step.seen) if step.seen else None
                op = "mkdir" if step.action is Action.MAKE_DIRECTORY else "swap" if old else "put"
                moves.append(Move(op, step.path, stage, slot, old, new))
                if op == "mkdir":
                    # Until everything is in it, a directory is its owner's to write.
                    final = replace(new, mode=final_mode(ground, step))
                    late.append(Move("set", step.path, stage, slot, new, final))
        except FileNotFoundError:
            raise drift(step.path) from None
        except OSError as error:
            raise StepError(step.path, error) from error
    late.sort(key=lambda move: -move.path.count("/"))
    return Record(in_order([*moves, *late]), times)


def _node(seen: Seen) -> Node:
    stamp = seen.stamp
    return Node(seen.kind, stamp.ino, stamp.size, stamp.mtime_ns, stamp.ctime_ns, seen.mode, seen.uid, seen.gid)


def _set(ground: Ground, step: Step, stage: int, slot: int) -> Move:
    assert step.seen is not None
    if os.geteuid() not in (0, step.seen.uid):
        raise UnableError(
            f"cannot change the mode of {step.path!r}: it belongs to another user", hint="change its owner"
        )
    new: Values = (*step.xattrs, *((name, None) for name in step.dropped))
    parent, name = split(step.path)
    if new and step.seen.kind is Kind.DIRECTORY:
        ground.directories.open(step.path)  # its attributes can be read by who may read it (xattr(7))
    with opened(ground.directories.open(parent), name) as (_, path):
        old = tuple((key, xattr(path, key)) for key, _ in new)
    before = replace(_node(step.seen), xattrs=old)
    return Move("set", step.path, stage, slot, before, replace(before, mode=step.mode, xattrs=new))


def _removed(ground: Ground, step: Step, stage: int, slot: int) -> Move:
    parent, name = split(step.path)
    with opened(ground.directories.open(parent), name) as (fd, path):
        st = os.fstat(fd)
        node = node_of(st, xattrs=all_xattrs(path), mode=ground.directories.true_mode(step.path, st))
        return Move("rmdir", step.path, stage, slot, node, None)
