"""Record: what a transaction will do, written down before the first change, and read back with distrust.

A record is one JSON document and one line with its SHA-256; docs/apply.md describes every field. Device numbers are
not part of it: they may be others after a reboot.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overlayws.atomic import write_atomic
from overlayws.beneath import plain
from overlayws.errors import UntrustedError
from overlayws.source.entry import Kind, kind_of

SCHEMA = "overlayws.journal/1"
OPS = ("put", "take", "swap", "mkdir", "rmdir", "set")

Values = tuple[tuple[str, bytes | None], ...]  # extended attributes; None is one that is not there


class JournalError(UntrustedError):
    """A journal is damaged, or does not belong to this workspace."""


@dataclass(frozen=True, slots=True)
class Node:
    """One inode as it was at one moment."""

    kind: Kind
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    uid: int
    gid: int
    digest: str | None = None  # SHA-256 of a file, where it is known
    xattrs: Values = ()  # of a directory that is removed: all; of a new file, or where some are set: those

    def is_at(self, st: os.stat_result) -> bool:
        """Whether ``st`` is this inode, and nobody wrote to it. rename(2) changes the ctime, so it does not count."""
        same = st.st_ino == self.ino and kind_of(st.st_mode) is self.kind
        return same and (self.kind is Kind.DIRECTORY or (st.st_size, st.st_mtime_ns) == (self.size, self.mtime_ns))

    def untouched(self, st: os.stat_result) -> bool:
        """Whether ``st`` is this inode, and not even its name or mode was changed."""
        return self.is_at(st) and (self.kind is Kind.DIRECTORY or st.st_ctime_ns == self.ctime_ns)


def node_of(st: os.stat_result, digest: str | None = None, xattrs: Values = (), *, mode: int | None = None) -> Node:
    """The Node of what was just looked at; ``mode`` where the permission bits that count are others."""
    return Node(
        kind_of(st.st_mode),
        st.st_ino,
        st.st_size,
        st.st_mtime_ns,
        st.st_ctime_ns,
        stat.S_IMODE(st.st_mode) if mode is None else mode,
        st.st_uid,
        st.st_gid,
        digest,
        xattrs,
    )


@dataclass(frozen=True, slots=True)
class Move:
    """One change of one name, and its opposite.

    put: ``new`` goes from its slot of the stage to ``path``, where nothing is. take: ``old`` goes from ``path`` to
    the slot. swap: both, in one exchange. mkdir: as put, of an empty directory. rmdir: ``old`` is removed; what it
    takes to make it again is in ``old``. set: mode and attributes of ``old`` become those of ``new``, in place.
    """

    op: str
    path: str
    stage: int
    slot: int
    old: Node | None
    new: Node | None

    @property
    def locks(self) -> bool:
        """Whether it takes the owner's own permissions on a directory away: then it comes after all else."""
        new = self.new
        return self.op == "set" and new is not None and new.kind is Kind.DIRECTORY and new.mode & 0o700 != 0o700


def in_order(moves: list[Move]) -> tuple[Move, ...]:
    """The moves with those that lock a directory last, the deepest first: what is in one is not reached after."""
    last = sorted((move for move in moves if move.locks), key=lambda move: -move.path.count("/"))
    return (*(move for move in moves if not move.locks), *last)


@dataclass(frozen=True, slots=True)
class Record:
    """One transaction. ``times`` are the directories whose names change, with their mtimes from before (ns);
    ``after`` are mtimes that are set once all is done (undo brings back the ones from before the apply)."""

    moves: tuple[Move, ...]
    times: tuple[tuple[str, int], ...]
    after: tuple[tuple[str, int], ...] = ()


def sealed(document: dict[str, Any]) -> bytes:
    """The document as one line of JSON and one line with the SHA-256 of the first."""
    line = json.dumps({"schema": SCHEMA, **document}, separators=(",", ":")).encode("ascii") + b"\n"
    return line + f"sha256:{hashlib.sha256(line).hexdigest()}\n".encode("ascii")


def unsealed(path: Path) -> dict[str, Any]:
    """The document in a file that ``sealed`` made. Raises JournalError (damaged), FileNotFoundError."""
    data = path.read_bytes()
    line, _, seal = data.partition(b"\n")
    if seal != f"sha256:{hashlib.sha256(line + b'%c' % 10).hexdigest()}\n".encode("ascii"):
        raise damaged(path, "its checksum is wrong")
    document = json.loads(line)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise damaged(path, "it is of another version")
    return document


def damaged(path: Path, why: str) -> JournalError:
    return JournalError(
        f"damaged journal {path}: {why}", hint="the originals are kept beside it: put them back by hand"
    )


def save(path: Path, record: Record) -> None:
    """Write a record; durable when this returns. Raises OSError."""
    document = {"moves": [_move(move) for move in record.moves], "times": record.times, "after": record.after}
    write_atomic(path, sealed(document))


def load(path: Path, stages: int | None = None) -> Record:
    """The record in a file, every path of it checked component by component, and every stage to be one of
    ``stages`` (if given). Raises JournalError."""
    try:
        document = unsealed(path)
    except FileNotFoundError:
        raise damaged(path, "it is missing") from None
    try:
        moves = tuple(_read_move(fields) for fields in document["moves"])
        times, after = (
            tuple((checked_path(p, directory=True), _int(t)) for p, t in document[name]) for name in ("times", "after")
        )
        if stages is not None and any(move.stage >= stages for move in moves):
            raise ValueError("a stage that is none")
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, str(error)) from None
    return Record(moves, times, after)


def _move(move: Move) -> list[object]:
    return [move.op, move.path, move.stage, move.slot, write_node(move.old), write_node(move.new)]


def write_node(node: Node | None) -> list[object] | None:
    if node is None:
        return None
    xattrs = [[name, None if value is None else value.hex()] for name, value in node.xattrs]
    numbers = (node.ino, node.size, node.mtime_ns, node.ctime_ns, node.mode, node.uid, node.gid)
    return [node.kind.value, *numbers, node.digest, xattrs]


def _read_move(fields: Any) -> Move:
    op, path, stage, slot, old, new = fields
    if op not in OPS:
        raise ValueError(f"unknown operation {op!r}")
    move = Move(op, checked_path(path), _int(stage), _int(slot), read_node(old), read_node(new))
    if move.stage < 0 or move.slot < 0:
        raise ValueError(f"{op} of {path!r} has no slot")
    if (move.old is None) != (op in ("put", "mkdir")) or (move.new is None) != (op in ("take", "rmdir")):
        raise ValueError(f"{op} of {path!r} does not say what it needs")
    return move


def read_node(fields: Any) -> Node | None:
    if fields is None:
        return None
    kind, *numbers, digest, xattrs = fields
    ino, size, mtime_ns, ctime_ns, mode, uid, gid = map(_int, numbers)
    if digest is not None and not isinstance(digest, str):
        raise ValueError("a digest is no string")
    values = tuple((str(name), None if value is None else bytes.fromhex(value)) for name, value in xattrs)
    return Node(Kind(kind), ino, size, mtime_ns, ctime_ns, mode, uid, gid, digest, values)


def checked_path(path: Any, *, directory: bool = False) -> str:
    """``path``, if it is plain component by component; '' (the root) only for a directory. Raises ValueError."""
    if not isinstance(path, str):
        raise ValueError(f"not a path: {path!r}")
    return path if directory and not path else plain(path)


def _int(number: Any) -> int:
    if not isinstance(number, int) or isinstance(number, bool):
        raise ValueError(f"not a number: {number!r}")
    return number
