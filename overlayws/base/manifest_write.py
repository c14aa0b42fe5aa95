"""Writing a manifest: what was at every path of the workspace, row by row as the base is made."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Self

from overlayws.base.manifest import SCHEMA, Finding, Hidden, Recorded, Stored, pack, signed
from overlayws.source.entry import Kind

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE entry (
  path BLOB PRIMARY KEY, kind TEXT, mode INTEGER, size INTEGER, target BLOB, xattrs BLOB,
  dev INTEGER, ino INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, digest TEXT, shown_size INTEGER
) WITHOUT ROWID;
CREATE TABLE hidden (path BLOB PRIMARY KEY, kind TEXT, rule TEXT) WITHOUT ROWID;
CREATE TABLE skipped (path BLOB PRIMARY KEY, kind TEXT) WITHOUT ROWID;
CREATE TABLE finding (path BLOB, line INTEGER, rule TEXT, action TEXT);
"""
_PLAIN = "INSERT INTO entry VALUES (?, 'file', ?, ?, NULL, NULL, ?, ?, ?, ?, ?, NULL)"
_varying = itemgetter(0, 2, 3, 6, 7, 8, 9, 10)


def write_manifest(
    path: Path,
    entries: Iterable[Recorded],
    hidden: Iterable[Hidden],
    skipped: Iterable[tuple[str, Kind]],
) -> None:
    """Write a new manifest at ``path``. The iterables are consumed one row at a time."""
    with ManifestWriter(path) as manifest:
        manifest.add(map(_row, entries))
        manifest.finish(hidden, skipped, (), {})


class ManifestWriter:
    """A manifest that is written as the base is made. Use as a context manager; without ``finish`` it is not whole.

    It is not durable then: see upkeep.captured. All methods raise OSError where it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if "_db" in self.__dict__:
            self._db.close()

    @cached_property
    def _db(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None)
        # The file is new and nobody else's: there is nothing to roll back to, and no one to keep out.
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.executescript(f"BEGIN; {_TABLES}")
        return db

    def table(self, name: str, columns: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Make one table more, of ``rows``; ``columns`` as SQL has them, in parentheses and with what follows."""
        marks = ",".join("?" * (columns.count(",") + 1))
        with _as_oserror():
            self._db.execute(f"CREATE TABLE {name} {columns}")
            self._db.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)

    def add(self, rows: Iterable[Stored]) -> None:
        """Insert entries: fastest if those that are next to each other are so in the tree as well."""
        plain: list[Stored] = []
        others: list[Stored] = []
        for row in rows:
            (plain if row[1] == "file" and row[5] is None and row[11] is None else others).append(row)
        with _as_oserror():
            # Nearly all rows, at two thirds of the price: what is always the same need not be bound for each.
            self._db.executemany(_PLAIN, map(_varying, plain))
            self._db.executemany(f"INSERT INTO entry VALUES ({','.join('?' * 12)})", others)

    def remove(self, paths: Iterable[bytes]) -> None:
        """Take entries out again."""
        with _as_oserror():
            self._db.executemany("DELETE FROM entry WHERE path = ?", ((path,) for path in paths))

    def finish(
        self,
        hidden: Iterable[Hidden],
        skipped: Iterable[tuple[str, Kind]],
        findings: Iterable[Finding],
        meta: Mapping[str, str],
    ) -> None:
        """Write the rest; the file is whole then."""
        with _as_oserror():
            db = self._db
            db.executemany("INSERT INTO meta VALUES (?, ?)", {**meta, "schema": str(SCHEMA)}.items())
            db.executemany(
                "INSERT INTO finding VALUES (?, ?, ?, ?)",
                ((os.fsencode(f.path), f.line, f.rule, f.action) for f in findings),
            )
            db.executemany(
                "INSERT INTO hidden VALUES (?, ?, ?)",
                ((os.fsencode(h.path), h.kind.value, h.rule) for h in hidden),
            )
            db.executemany("INSERT INTO skipped VALUES (?, ?)", ((os.fsencode(p), k.value) for p, k in skipped))
            db.execute("COMMIT")
            db.close()


@contextmanager
def _as_oserror() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        full = error.sqlite_errorname == "SQLITE_FULL"
        raise OSError(errno.ENOSPC if full else errno.EIO, f"the manifest: {error}") from error


def _row(recorded: Recorded) -> Stored:
    entry, stamp = recorded.entry, recorded.stamp
    return (
        os.fsencode(recorded.path),
        entry.kind.value,
        entry.mode,
        stamp.size,
        None if entry.target is None else os.fsencode(entry.target),
        pack(entry.xattrs),
        signed(stamp.dev),
        signed(stamp.ino),
        stamp.mtime_ns,
        stamp.ctime_ns,
        entry.digest,
        entry.size if recorded.redacted else None,
    )
