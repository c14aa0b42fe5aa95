"""Manifest: what was at every path of the workspace when the base was made, looked up without loading it.

One SQLite file, so that the cost of a lookup or of a subtree follows what is asked for, not the size of the tree.
Paths are stored as bytes and sort as bytes: a directory comes before what is in it, and everything below ``d`` is
the range ``d/`` … ``d0`` ('0' follows '/').
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from overlayws.errors import UntrustedError
from overlayws.source.entry import Entry, Kind, Stamp, Xattrs

SCHEMA = 2
REPOSITORY = "repository"  # the rule of a `.git` of the user: never shown, never applied, not counted as hidden

# ``size`` is the workspace's; ``shown_size`` is the base's where the program is shown other bytes, else NULL.
_ENTRY = "path, kind, mode, size, target, xattrs, dev, ino, mtime_ns, ctime_ns, digest, shown_size"
_ROW = "path, kind, mode, ifnull(shown_size, size), target, xattrs, digest"

Stored = tuple[bytes, str, int, int, bytes | None, bytes | None, int, int, int, int, str | None, int | None]
"""All columns of an entry."""
Row = tuple[bytes, str, int, int, bytes | None, bytes | None, str | None]
"""path, kind, mode, size, target, packed xattrs, digest: what the program was given.

A digest is there where the start read the file and found it to be text, so that a scan need not read it again.
"""
BINARY_HEAD = 8000  # bytes in which a NUL makes a file binary, as in git's buffer_is_binary
_BATCH = 128  # parameters of a statement; as many statements of this kind are kept compiled


class ManifestError(UntrustedError):
    """A manifest is damaged or from another version."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A path of the workspace at start: what the program was given, and the stamp of the user's own inode.

    A stamp whose ``ctime_ns`` is 0 is of no use: the file was written so shortly before that a later edit could have
    the same one. ``redacted``: the program was given other bytes than the user's file holds.
    """

    path: str
    entry: Entry
    stamp: Stamp
    redacted: bool = False
    drifted: bool = False  # see Manifest.drifted


@dataclass(frozen=True, slots=True)
class Hidden:
    """A path that the filter kept from the program, and the rule that did."""

    path: str
    kind: Kind
    rule: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What the content scan found in a file: never the value."""

    path: str
    line: int
    rule: str
    action: str  # redact, hide, warn


class Manifest:
    """A manifest opened for reading. Use as a context manager, or call ``close``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # immutable: the base is frozen, so no lock and no journal file; also on a read-only file system.
            quoted = _uri(path)
            self._db = sqlite3.connect(
                f"{quoted}?mode=ro&immutable=1", uri=True, check_same_thread=False, cached_statements=2 * _BATCH
            )
            version = self._db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        except sqlite3.Error as error:
            raise ManifestError(
                f"damaged manifest {path}: {error}", hint="discard the session and start it again"
            ) from error
        if version != (str(SCHEMA),):
            raise ManifestError(f"manifest {path} has schema {version}", hint="made by another version")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def get(self, path: str) -> Recorded | None:
        """What the base holds at ``path``, or None (absent or hidden)."""
        rows = self._query(f"SELECT {_ENTRY} FROM entry WHERE path = ?", (os.fsencode(path),))
        return _recorded(rows[0]) if rows else None

    def rows(self, paths: Sequence[str]) -> dict[str, Row]:
        """What the base holds of ``paths``, as rows for ``entry_of``.

        The scan asks for a directory at a time and drops most answers: that costs a quarter of ``get`` for each.
        """
        found = {}
        for start in range(0, len(paths), _BATCH):
            names = [path.encode("utf-8", "surrogateescape") for path in paths[start : start + _BATCH]]
            marks = ",".join("?" * len(names))
            sql = f"SELECT {_ROW} FROM entry WHERE path IN ({marks})"
            for row in self._query(sql, names):
                found[row[0].decode("utf-8", "surrogateescape")] = row
        return found

    def drifted(self, path: str) -> bool:
        """Whether the base's own content of ``path`` is lost, because the base is the workspace and the user changed
        it since the start (``--base live``). Never for a frozen base."""
        return False

    def holds(self, path: str) -> bool:
        """Whether the base has something at ``path`` now. Of a frozen base its lowerdir alone tells."""
        return True

    def below(self, path: str) -> Iterator[Recorded]:
        """Everything below the directory ``path`` ('' is the whole tree), parents first."""
        low, high = _range(path)
        for row in self._query(f"SELECT {_ENTRY} FROM entry WHERE path > ? AND path < ? ORDER BY path", (low, high)):
            yield _recorded(row)

    def hidden(self, path: str) -> Hidden | None:
        """The hidden path that ``path`` is or lies below, or None."""
        parts = os.fsencode(path).split(b"/")
        # SQLite keeps what was bound to its last statements: of a deep path that would be gigabytes.
        prefixes, length = [], -1
        for n, part in enumerate(parts, 1):
            length += len(part) + 1
            if length > self._longest_hidden:
                break
            prefixes.append(b"/".join(parts[:n]))
        if not prefixes:
            return None
        marks = ",".join("?" * len(prefixes))
        rows = self._query(f"SELECT path, kind, rule FROM hidden WHERE path IN ({marks})", tuple(prefixes))
        return _hidden(rows[0]) if rows else None

    def hidden_below(self, path: str) -> list[Hidden]:
        """The hidden paths below the directory ``path`` ('' is the whole tree)."""
        low, high = _range(path)
        if len(low) >= self._longest_hidden:
            return []
        rows = self._query("SELECT path, kind, rule FROM hidden WHERE path > ? AND path < ? ORDER BY path", (low, high))
        return [_hidden(row) for row in rows]

    @cached_property
    def _longest_hidden(self) -> int:
        """Bytes of the longest hidden path; longer than any of them, most paths need no question."""
        return int(self._query("SELECT ifnull(max(length(path)), 0) FROM hidden", ())[0][0])

    def redacted(self) -> set[str]:
        """The files that the program is shown with other bytes. Looks through the whole manifest."""
        rows = self._query("SELECT path FROM entry WHERE shown_size IS NOT NULL", ())
        return {os.fsdecode(row[0]) for row in rows}

    def skipped(self) -> list[tuple[str, Kind]]:
        """The FIFOs, sockets and devices that were not copied."""
        rows = self._query("SELECT path, kind FROM skipped ORDER BY path", ())
        return [(os.fsdecode(path), Kind(kind)) for path, kind in rows]

    def findings(self) -> list[Finding]:
        """What the content scan found, by path and line."""
        rows = self._query("SELECT path, line, rule, action FROM finding ORDER BY path, line, rule", ())
        return [Finding(os.fsdecode(path), line, rule, action) for path, line, rule, action in rows]

    def meta(self, key: str) -> str | None:
        """What was noted under ``key`` when the manifest was written."""
        rows = self._query("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def stored(self) -> list[Stored]:
        """Every entry as it is stored, for a base that is made from this one."""
        return self._query(f"SELECT {_ENTRY} FROM entry", ())

    def counts(self) -> dict[str, int]:
        """How many: files (no directories), hidden (the user's own ``.git`` not counted), skipped."""
        files = self._query("SELECT count(*) FROM entry WHERE kind != 'directory'", ())[0][0]
        hidden = self._query("SELECT count(*) FROM hidden WHERE rule != ?", (REPOSITORY,))[0][0]
        skipped = self._query("SELECT count(*) FROM skipped", ())[0][0]
        return {"files": files, "hidden": hidden, "skipped": skipped}

    def _query(self, sql: str, arguments: Sequence[object]) -> list[tuple]:  # type: ignore[type-arg]
        try:
            return self._db.execute(sql, arguments).fetchall()
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def _damaged(self, error: sqlite3.Error) -> ManifestError:
        return ManifestError(f"damaged manifest {self.path}: {error}", hint="discard the session and start it again")


def _uri(path: Path) -> str:
    from urllib.parse import quote

    return "file:" + quote(os.fsencode(path.absolute()))


def _range(path: str) -> tuple[bytes, bytes]:
    if not path:
        return b"", b"\xff" * 4096
    name = os.fsencode(path)
    return name + b"/", name + b"0"


def signed(number: int) -> int:
    """SQLite's integers are signed 64 bit; device and inode numbers may use all 64."""
    return number - (1 << 64) if number >> 63 else number


_KIND = {kind.value: kind for kind in Kind}
_FILE = Kind.FILE


def _recorded(row: tuple) -> Recorded:  # type: ignore[type-arg]
    path, kind, mode, size, target, xattrs, dev, ino, mtime_ns, ctime_ns, digest, shown_size = row
    entry = _entry(kind, mode, size if shown_size is None else shown_size, target, xattrs, digest)
    stamp = Stamp(dev & _U64, ino & _U64, size, mtime_ns, ctime_ns)
    return Recorded(os.fsdecode(path), entry, stamp, shown_size is not None)


def _entry(kind: str, mode: int, size: int, target: bytes | None, xattrs: bytes | None, digest: str | None) -> Entry:
    return Entry(
        _KIND[kind],
        mode,
        size if kind == "file" else 0,
        digest,
        None if target is None else os.fsdecode(target),
        _unpack(xattrs) if xattrs else (),
    )


def entry_of(row: Row, digest: str | None = None) -> Entry:
    """The entry of a row; ``digest`` where it was computed since."""
    _, kind, mode, size, target, xattrs, known = row
    if kind == "file" and not xattrs:
        return Entry(_FILE, mode, size, digest or known)
    return _entry(kind, mode, size, target, xattrs, digest or known)


_U64 = (1 << 64) - 1


def _hidden(row: tuple) -> Hidden:  # type: ignore[type-arg]
    return Hidden(os.fsdecode(row[0]), Kind(row[1]), row[2])


def pack(xattrs: Xattrs) -> bytes | None:
    """NAME NUL LENGTH NUL VALUE, one after the other: names hold no NUL, values may hold anything."""
    if not xattrs:
        return None
    return b"".join(b"%s\0%d\0%s" % (os.fsencode(name), len(value), value) for name, value in xattrs)


def _unpack(data: bytes) -> Xattrs:
    found = []
    while data:
        name, length, data = data.split(b"\0", 2)
        found.append((os.fsdecode(name), data[: int(length)]))
        data = data[int(length) :]
    return tuple(found)
