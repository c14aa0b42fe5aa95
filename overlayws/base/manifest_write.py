"""Writing a manifest: what was at every path of the workspace, row by row as the base is made."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Self

from overlayws.atomic import fsync_path
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


def write_manifest(
    path: Path,
    entries: Iterable[Recorded],
    hidden: Iterable[Hidden],
    skipped: Iterable[tuple[str, Kind]],
) -> None:
    """Write a new manifest at ``path`` and make it durable. The iterables are consumed one row at a time."""
    write_rows(path, map(_row, entries), hidden, skipped)


def write_rows(
    path: Path,
    rows: Iterable[Stored],
    hidden: Iterable[Hidden],
    skipped: Iterable[tuple[str, Kind]],
    findings: Iterable[Finding] = (),
    meta: Mapping[str, str] = MappingProxyType({}),
    *,
    durable: bool = True,
) -> None:
    """As ``write_manifest``, from rows as they are stored (fastest if sorted by path)."""
    with ManifestWriter(path) as manifest:
        manifest.add(rows)
        manifest.finish(hidden, skipped, findings, meta)
    if durable:
        fsync_path(path)


class ManifestWriter:
    """A manifest that is written as the base is made. Use as a context manager; without ``finish`` it is not whole.

    All methods raise OSError where it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        with _as_oserror():
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = OFF")  # the file is new: there is nothing to roll back to
            self._db.execute("PRAGMA synchronous = OFF")
            self._db.executescript(_TABLES)
            self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add(self, rows: Iterable[Stored]) -> None:
        """Insert entries: fastest if those that are next to each other are so in the tree as well."""
        with _as_oserror():
            self._db.executemany(f"INSERT INTO entry VALUES ({','.join('?' * 12)})", rows)

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
        """Write the rest; the file is whole, but not durable yet."""
        db = self._db
        with _as_oserror():
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
