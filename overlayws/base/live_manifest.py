"""LiveManifest: the manifest of ``--base live``, whose base is the workspace itself.

At the start only names are written down: of each directory what it showed, with kinds and inode numbers. What a path
was is told by the workspace as it is now, as long as nobody touched it since. That is certain: the inode is the one of
the start, and its ctime, which no program can set back (inode(7)) and which a rename sets as well, is not after the
start. Else the content that the program was given is lost: the path has drifted.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from overlayws.base.files import user_xattrs
from overlayws.base.fingerprint import now_ns
from overlayws.base.live import DIRECTORY, FILE, KINDS, SYMLINK, Found, Names
from overlayws.base.manifest import Manifest, Recorded, Row, pack, signed
from overlayws.base.manifest_write import ManifestWriter
from overlayws.beneath import Directories, split
from overlayws.errors import UnableError
from overlayws.source.entry import Entry, Kind, Stamp

STARTED = "started_ns"
_SECONDS_NS = 2_000_000_000  # file systems with times in seconds, or in two of them

_U64 = (1 << 64) - 1

_Known = tuple[str, int]  # kind and inode number


class LiveManifest(Manifest):
    """As Manifest; ``workspace`` is looked at when a path is asked for. Raises UnableError where it is gone."""

    def __init__(self, path: Path, workspace: Path) -> None:
        super().__init__(path)
        try:
            self._workspace = Directories(workspace)
        except OSError as error:
            self._db.close()
            raise UnableError(
                f"cannot open the workspace {workspace}, which is the base: {error.strerror}", hint="is it still there?"
            ) from error
        self._started = int(self.meta(STARTED) or 0)
        self._last: tuple[str, Names | None] = ("", None)
        self._again: dict[str, set[tuple[int, int]]] = {}  # what our own applies and undos put there
        for name, ino, ctime in self._query("SELECT path, ino, ctime_ns FROM again", ()):
            self._again.setdefault(os.fsdecode(name), set()).add((ino & _U64, ctime))

    def close(self) -> None:
        self._workspace.__exit__()
        super().close()

    def get(self, path: str) -> Recorded | None:
        stored = super().get(path)
        if stored is not None:  # redacted: the mask has what was shown
            return stored
        known = self._known(path)
        if known is None:
            return None
        found = self._found(path, known)
        if found is not None:
            return found
        return Recorded(path, Entry(KINDS[known[0]], 0), Stamp(0, 0, 0, 0, 0), drifted=True)

    def rows(self, paths: Sequence[str]) -> dict[str, Row]:
        rows = super().rows(paths)
        for path in paths:
            if path not in rows and (known := self._known(path)) is not None:
                recorded = self._found(path, known)
                if recorded is not None:
                    e = recorded.entry
                    target = None if e.target is None else os.fsencode(e.target)
                    rows[path] = (os.fsencode(path), e.kind.value, e.mode, e.size, target, pack(e.xattrs), None)
        return rows

    def drifted(self, path: str) -> bool:
        recorded = self.get(path)
        return recorded is not None and recorded.drifted

    def holds(self, path: str) -> bool:
        return bool(self.rows([path]))

    def below(self, path: str) -> Iterator[Recorded]:
        name = os.fsencode(path)
        low, high = (name + b"/", name + b"0") if path else (b"", b"\xff" * 4096)
        sql = "SELECT path, mode, names FROM names WHERE path = ? OR path > ? AND path < ? ORDER BY path"
        for row in self._query(sql, (name, low, high)):
            listed = _names(row)
            prefix = f"{listed.path}/" if listed.path else ""
            # A directory comes before what is in it, as its row does; the order among siblings says nothing.
            for entry, known in listed.names.items():
                if self.hidden(prefix + entry) is None:
                    recorded = super().get(prefix + entry) or self._found(prefix + entry, known)
                    if recorded is not None:
                        yield recorded

    def counts(self) -> dict[str, int]:
        return {**super().counts(), "files": int(self.meta("files") or 0)}

    def inodes(self) -> dict[tuple[int, int], int]:
        """(device, inode) -> mtime of what was hidden when it was last seen."""
        rows = self._query("SELECT dev, ino, mtime_ns FROM inode ORDER BY rowid", ())
        return {(dev & _U64, ino & _U64): mtime for dev, ino, mtime in rows}

    def redacted(self) -> set[str]:
        """The files that the mask shows redacted."""
        return {os.fsdecode(row[0]) for row in self._query("SELECT path FROM entry", ())}

    def wait_past_start(self) -> None:
        """Until whatever is touched gets a later ctime than the start has: to be called before a program is started.

        The clock of ctimes stands still for up to 10 ms at a time; a run that comes later does not wait, nor does one
        for a clock that was set back.
        """
        while 0 <= self._started - now_ns() < _SECONDS_NS:
            time.sleep(0.001)

    def all_hidden(self) -> set[str]:
        """Every path that is hidden or was not shown for what it is."""
        return {h.path for h in self.hidden_below("")} | {path for path, _ in self.skipped()}

    def was_base(self, path: str, ino: int, ctime_ns: int) -> bool:
        """Whether an inode with this ctime at ``path`` was what the program was given."""
        known = self._known(path)
        if known is None:
            return False
        return (ino, ctime_ns) in self._again.get(path, ()) or (known[1] == ino and self._before(ctime_ns))

    def identities(self, paths: Iterable[str]) -> list[tuple[str, int, int]]:
        """(path, inode, ctime in ns) of those of ``paths`` that are in the workspace now."""
        found = []
        for path in paths:
            above, name = split(path)
            with suppress(OSError):
                st = os.stat(name, dir_fd=self._workspace.open(above), follow_symlinks=False)
                found.append((path, st.st_ino, st.st_ctime_ns))
        return found

    def _known(self, path: str) -> _Known | None:
        """What was at ``path`` at the start, if it was visible."""
        if not path:
            return None
        above, name = split(path)
        if self._last[1] is None or self._last[0] != above:
            rows = self._query("SELECT path, mode, names FROM names WHERE path = ?", (os.fsencode(above),))
            self._last = (above, _names(rows[0]) if rows else None)
        listed = self._last[1]
        known = listed.names.get(name) if listed is not None else None
        return known if known is not None and self.hidden(path) is None else None

    def _found(self, path: str, known: _Known) -> Recorded | None:
        """``path`` as it is in the workspace; None where that is gone, or of another kind."""
        above, name = split(path)
        kind, ino = known
        try:
            fd = self._workspace.open(above)
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if kind == FILE and stat.S_ISREG(st.st_mode):
                entry = Entry(Kind.FILE, stat.S_IMODE(st.st_mode), st.st_size, xattrs=_xattrs(name, fd))
            elif kind == SYMLINK and stat.S_ISLNK(st.st_mode):
                entry = Entry(Kind.SYMLINK, 0o777, target=os.readlink(name, dir_fd=fd))
            elif kind == DIRECTORY and stat.S_ISDIR(st.st_mode):
                entry = Entry(Kind.DIRECTORY, stat.S_IMODE(self._mode(path, st)), xattrs=_xattrs(name, fd))
                return Recorded(path, entry, Stamp.of(st))
            else:
                return None
        except OSError:
            return None
        stamp = Stamp.of(st)
        if (st.st_ino == ino and self._before(st.st_ctime_ns)) or (
            (st.st_ino, st.st_ctime_ns) in self._again.get(path, ())
        ):
            return Recorded(path, entry, stamp)
        return Recorded(path, entry, replace(stamp, ctime_ns=0), drifted=True)

    def _before(self, ctime_ns: int) -> bool:
        """Whether what has this ctime was not touched since the start."""
        return ctime_ns + (0 if ctime_ns % 1_000_000_000 else _SECONDS_NS) <= self._started

    def _mode(self, path: str, st: os.stat_result) -> int:
        """The mode of a directory at the start: its ctime tells of other things too."""
        rows = self._query("SELECT mode FROM names WHERE path = ?", (os.fsencode(path),))
        return int(rows[0][0]) if rows else st.st_mode


def write_again(path: Path, found: Iterable[tuple[str, int, int]]) -> None:
    """Note in the manifest at ``path`` that these paths, with their inodes and ctimes, are the base again."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executemany("INSERT INTO again VALUES (?, ?, ?)", ((os.fsencode(p), signed(i), c) for p, i, c in found))


def write_inodes(path: Path, inodes: Mapping[tuple[int, int], int]) -> None:
    """Add to the manifest at ``path`` the inodes of what is hidden, for the runs to come."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN")
        db.executemany("INSERT INTO inode VALUES (?, ?, ?)", _inode_rows(inodes))
        db.execute("COMMIT")


def _inode_rows(inodes: Mapping[tuple[int, int], int]) -> Iterator[tuple[int, int, int]]:
    return ((signed(dev), signed(ino), mtime) for (dev, ino), mtime in inodes.items())


def write_names(manifest: ManifestWriter, found: Found) -> None:
    """Add what the directories showed. Raises OSError."""
    columns = "(path BLOB PRIMARY KEY, mode INTEGER, names BLOB) WITHOUT ROWID"
    manifest.table("names", columns, map(_row, found.directories))
    manifest.table("again", "(path BLOB, ino INTEGER, ctime_ns INTEGER)", ())
    manifest.table("inode", "(dev INTEGER, ino INTEGER, mtime_ns INTEGER)", _inode_rows(found.inodes))


def _row(listed: Names) -> tuple[bytes, int, bytes]:
    # name / kind and inode number: a name has no slash.
    text = "/".join([f"{name}/{kind}{ino}" for name, (kind, ino) in listed.names.items()])
    return os.fsencode(listed.path), listed.mode, text.encode("utf-8", "surrogateescape")


def _names(row: tuple[bytes, int, bytes]) -> Names:
    path, mode, data = row
    words = data.decode("utf-8", "surrogateescape").split("/") if data else []
    known = {name: (told[0], int(told[1:])) for name, told in zip(words[::2], words[1::2], strict=True)}
    return Names(os.fsdecode(path), mode, known)


def _xattrs(name: str, parent: int) -> tuple[tuple[str, bytes], ...]:
    # O_PATH: nothing is opened for reading, so no access time is set and no permission is needed.
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        return user_xattrs(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
