"""What undo needs to know: what apply left, whether it still is there, and the moves back."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from overlayws.apply import kept
from overlayws.apply.journal import Ground
from overlayws.apply.moves import all_xattrs, at, opened, xattr
from overlayws.apply.record import (
    JournalError,
    Move,
    Node,
    Record,
    checked_path,
    damaged,
    in_order,
    node_of,
    read_node,
    sealed,
    unsealed,
    write_node,
)
from overlayws.apply.stage import make_directory
from overlayws.atomic import write_atomic
from overlayws.beneath import split
from overlayws.source.entry import Entry, Kind


@dataclass(frozen=True, slots=True)
class Applied:
    """What a finished apply left: ``nodes`` at every path of it (None: nothing), the mtimes of the directories,
    which slots have their originals in ``kept``, and what was ``accepted`` where exactly that content was written: not
    where it was merged with the user's, and not where only a mode was set."""

    nodes: dict[str, Node | None]
    times: dict[str, int]
    kept: dict[int, str | None]
    accepted: dict[str, Entry]


def look(
    ground: Ground, record: Record, copied: tuple[tuple[int, str | None], ...], accepted: dict[str, Entry]
) -> Applied:
    """What is there right after all moves; those that lock a directory are still to come. Raises OSError."""
    locked = {move.path: move.new.mode for move in record.moves if move.locks and move.new is not None}
    digests = {m.path: m.new.digest for m in record.moves if m.op in ("put", "swap") and m.new is not None}
    given = {m.path: m.new.xattrs for m in record.moves if m.new is not None}
    nodes: dict[str, Node | None] = {}
    for step in record.moves:
        if step.path in nodes:
            continue
        now = _at(ground, step.path)
        if now is None:
            nodes[step.path] = None
            continue
        mode = locked.get(step.path, ground.directories.true_mode(step.path, now))
        nodes[step.path] = node_of(now, digests.get(step.path), given.get(step.path, ()), mode=mode)
    times = {}
    for path, _ in record.times:
        now = os.fstat(ground.directories.root) if not path else _at(ground, path)
        if now is not None and stat.S_ISDIR(now.st_mode):
            times[path] = now.st_mtime_ns
    return Applied(nodes, times, dict(copied), accepted)


def save_applied(path: Path, applied: Applied) -> None:
    """Write it down durably. Raises OSError."""
    document = {
        "nodes": [[name, write_node(node)] for name, node in applied.nodes.items()],
        "times": list(applied.times.items()),
        "kept": list(applied.kept.items()),
        "accepted": [[name, *_entry_fields(entry)] for name, entry in applied.accepted.items()],
    }
    write_atomic(path, sealed(document))


def load_applied(path: Path) -> Applied:
    """Read it back. Raises JournalError."""
    try:
        document: dict[str, Any] = unsealed(path)
        nodes = {checked_path(name): read_node(fields) for name, fields in document["nodes"]}
        times = {checked_path(name, directory=True): int(mtime_ns) for name, mtime_ns in document["times"]}
        accepted = {checked_path(name): _entry(fields) for name, *fields in document["accepted"]}
        return Applied(nodes, times, {int(slot): digest for slot, digest in document["kept"]}, accepted)
    except FileNotFoundError:
        raise damaged(path, "it is missing") from None
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, str(error)) from None


def _entry_fields(entry: Entry) -> list[object]:
    xattrs = [[name, value.hex()] for name, value in entry.xattrs]
    return [entry.kind.value, entry.mode, entry.size, entry.digest, entry.target, xattrs]


def _entry(fields: Any) -> Entry:
    kind, mode, size, digest, target, xattrs = fields
    values = tuple((str(name), bytes.fromhex(value)) for name, value in xattrs)
    return Entry(Kind(kind), int(mode), int(size), digest, target, values)


def edited(ground: Ground, record: Record, applied: Applied) -> list[str]:
    """The paths that are not what apply left any more. Raises OSError."""
    made = {step.path for step in record.moves if step.op == "mkdir"}
    ours: dict[str, set[str]] = defaultdict(set)
    for path, node in applied.nodes.items():
        if node is not None:
            parent, name = split(path)
            ours[parent].add(name)
    found = []
    for path, node in applied.nodes.items():
        now = _at(ground, path)
        if node is None or now is None:
            same = node is None and now is None
        else:
            same = _same(ground, path, node, now)
            if same and path in made:
                same = set(os.listdir(ground.directories.open(path))) <= ours[path]
        if not same:
            found.append(path)
    return found


def _same(ground: Ground, path: str, node: Node, now: os.stat_result) -> bool:
    mode = ground.directories.true_mode(path, now)
    if node_of(now).kind is not node.kind or (mode != node.mode and node.kind is not Kind.SYMLINK):
        return False
    if node.kind is not Kind.FILE or node.untouched(now):
        return node.kind is Kind.DIRECTORY or node.is_at(now)
    if node.digest is None:
        return node.is_at(now) and _has_set(ground, path, node)
    # Saved again with the same content, or renamed away and back.
    return now.st_size == node.size and _digest(ground, path) == node.digest and _has(ground, path, node)


def _has_set(ground: Ground, path: str, node: Node) -> bool:
    """Whether the attributes that were set there are still what they were set to."""
    parent, name = split(path)
    with opened(ground.directories.open(parent), name) as (_, link):
        return all(xattr(link, key) == value for key, value in node.xattrs)


def _has(ground: Ground, path: str, node: Node) -> bool:
    """Whether a file that was written has the user's attributes that it was written with, and no others."""
    parent, name = split(path)
    with opened(ground.directories.open(parent), name) as (_, link):
        own = {key: value for key, value in all_xattrs(link) if key.startswith("user.")}
        return own == {key: value for key, value in node.xattrs if key.startswith("user.")}


def _digest(ground: Ground, path: str) -> str:
    parent, name = split(path)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(name, flags, dir_fd=ground.directories.open(parent))
    try:
        return hashlib.file_digest(os.fdopen(fd, "rb", closefd=False), "sha256").hexdigest()
    finally:
        os.close(fd)


def inverse(
    ground: Ground, record: Record, applied: Applied, stages: dict[int, int], times: tuple[tuple[str, int], ...]
) -> Record:
    """The moves back, the last first; originals that are not in the right stage yet are brought there.

    ``stages``: slot -> number of the stage. ``times``: the directories with their mtimes now. Raises OSError,
    JournalError.
    """
    moves: list[Move] = []
    late: list[Move] = []
    for step in reversed(record.moves):
        stage, slot = stages[step.slot], step.slot
        old = new = None
        if step.op in ("take", "swap"):
            try:
                kept.bring(ground, slot, stage, slot in applied.kept, applied.kept.get(slot))
            except FileNotFoundError:
                raise _lost(ground, step) from None
            new = _staged(ground, step, stage)
        if step.op in ("put", "swap", "mkdir", "set"):
            old = _now(ground, step)
        if step.op == "rmdir":
            assert step.old is not None
            make_directory(ground.stages[stage], str(slot), replace(step.old, mode=0o700))
            new = _staged(ground, step, stage)
            late.append(Move("set", step.path, stage, slot, new, replace(new, mode=step.old.mode)))
        if step.op == "set":
            assert step.old is not None and old is not None
            new = replace(old, mode=step.old.mode, xattrs=step.old.xattrs)
        moves.append(Move(_INVERSE[step.op], step.path, stage, slot, old, new))
    late.sort(key=lambda move: -move.path.count("/"))
    now = dict(times)
    # A directory in which something else was changed since keeps the mtime that this gave it.
    after = tuple((path, mtime_ns) for path, mtime_ns in record.times if now.get(path) == applied.times.get(path))
    return Record(in_order([*moves, *late]), times, after)


_INVERSE = {"put": "take", "take": "put", "swap": "swap", "mkdir": "rmdir", "rmdir": "mkdir", "set": "set"}


def _staged(ground: Ground, step: Move, stage: int) -> Node:
    st = at(ground.stages[stage], str(step.slot))
    if st is None:
        raise _lost(ground, step)
    return node_of(st)


def _lost(ground: Ground, step: Move) -> JournalError:
    return JournalError(
        f"journal {ground.journal.directory} has lost the original of {step.path!r}",
        hint="undo cannot be done; nothing was changed",
    )


def _now(ground: Ground, step: Move) -> Node:
    """What is at the path of a move now, with the attributes that making it again takes."""
    assert step.new is not None
    parent, name = split(step.path)
    with opened(ground.directories.open(parent), name) as (fd, path):
        st = os.fstat(fd)
        if step.op == "set":
            xattrs = tuple((key, xattr(path, key)) for key, _ in step.new.xattrs)
            return node_of(st, xattrs=xattrs, mode=ground.directories.true_mode(step.path, st))
        if step.op == "mkdir":
            return node_of(st, xattrs=all_xattrs(path), mode=step.new.mode)
        return node_of(st)


def _at(ground: Ground, path: str) -> os.stat_result | None:
    parent, name = split(path)
    try:
        return at(ground.directories.open(parent), name)
    except OSError as error:
        # A parent that is a symlink or a file now (the apply may have made it one) has nothing below it.
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise
