"""Directories of the workspace that their owner may not use (``chmod 000``), opened for as long as that is needed.

A program takes permissions away as it likes, and so does a user: both are data, not a reason to fail. Only directories
of our own are opened, each is written down (durably) before it is, and gets its mode back whatever happens: here, or
by ``recover`` after a crash. docs/apply.md describes the file.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from overlayws.apply.record import checked_path, damaged
from overlayws.atomic import fsync_path
from overlayws.beneath import Directories, open_directory, split

READING = 0o500  # what looking at the names in a directory takes
WRITING = 0o700  # what changing them takes
_HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@dataclass(slots=True)
class Opened:
    """A directory that was opened. ``final`` is the mode that it gets when it is closed."""

    ino: int
    mode: int  # before
    given: int  # while it is open
    final: int


class Log:
    """The directories of one workspace that are open, in the file ``opened`` of a journal."""

    def __init__(self, directory: Path, workspace: Path) -> None:
        self.path = directory / "opened"
        self.workspace = workspace
        self.opened: dict[str, Opened] = {}
        self._fd = -1

    def load(self) -> Log:
        """Read what a crashed process has written down; nothing there is fine. Raises JournalError, OSError."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except (FileNotFoundError, NotADirectoryError):
            return self
        for line in lines[1:-1]:  # the first names the workspace; the last was not finished, so nothing was opened
            seal, _, text = line.partition(b" ")
            try:
                if seal != _seal(text):
                    raise ValueError("its checksum is wrong")
                path, ino, mode = json.loads(text)
                self._add(checked_path(path), int(ino), int(mode))
            except (ValueError, TypeError) as error:
                raise damaged(self.path, str(error)) from None
        return self

    def add(self, path: str, ino: int, mode: int) -> Opened:
        """Write down that ``path`` will be opened, and gets ``mode`` again; durable on return. Raises OSError."""
        if self._fd < 0:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Whatever is there was loaded, or is of a transaction that ended: a crash is recovered first.
            again = self.path.exists()
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            if not again:
                self._write(os.fspath(self.workspace))
                fsync_path(self.path.parent)
        self._write([path, ino, mode])
        return self._add(path, ino, mode)

    def _add(self, path: str, ino: int, mode: int) -> Opened:
        found = self.opened[path] = Opened(ino, mode, mode | WRITING, mode)
        return found

    def _write(self, what: object) -> None:
        text = json.dumps(what).encode("ascii")
        os.write(self._fd, _seal(text) + b" " + text + b"\n")
        os.fsync(self._fd)

    def remove(self) -> None:
        """All is closed: remove the file. Raises OSError."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.opened.clear()
        with suppress(FileNotFoundError, NotADirectoryError):
            self.path.unlink()


def workspace_of(directory: Path) -> Path | None:
    """The workspace whose directories a journal's file names, or None where it names none. Raises JournalError."""
    path = directory / "opened"
    try:
        line, end, _ = path.read_bytes().partition(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not end:  # it was being made
        return None
    seal, _, text = line.partition(b" ")
    if seal != _seal(text):
        raise damaged(path, "its checksum is wrong")
    return Path(json.loads(text))


def _seal(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode("ascii")


class Reach(Directories):
    """Directories below a workspace, also those of ours without the permissions ``need`` (READING, WRITING)."""

    def __init__(self, root: Path, log: Log | None, need: int) -> None:
        super().__init__(root)
        self.log = log
        self.may: frozenset[str] | None = None  # the directories that may be opened; None: all of ours
        self.nearest: dict[str, str] = {}  # path -> the nearest directory that exists, as ``existing`` found it
        self._need = need

    @property
    def opened(self) -> dict[str, Opened]:
        """The directories that are open, by their paths."""
        return self.log.opened if self.log else {}

    def true_mode(self, path: str, st: os.stat_result) -> int:
        """The permission bits of ``path``, of which ``st`` is the stat now, as if it had not been opened."""
        mode = stat.S_IMODE(st.st_mode)
        found = self.opened.get(path)
        return found.final if found and found.ino == st.st_ino and mode == found.given else mode

    def is_opened(self, path: str, st: os.stat_result) -> bool:
        """Whether ``path`` was opened, and has the mode that it got then."""
        found = self.opened.get(path)
        return found is not None and found.ino == st.st_ino and stat.S_IMODE(st.st_mode) == found.given

    def close_with(self, path: str, mode: int) -> None:
        """Give the opened directory ``path`` another mode when it is closed."""
        self.opened[path].final = mode

    def defer(self, path: str, handle: int, before: int, mode: int) -> bool:
        """Whether the directory ``path`` (``handle`` is open) has to wait for ``mode``: that would bar the way
        to one in it that is open and gets its own mode back first. Then it counts as opened, with the mode ``before``
        of a rollback, until ``close_opened``. Raises OSError."""
        if self.log is None or mode & 0o100 or os.geteuid() == 0:
            return False
        if not any(other.startswith(f"{path}/") for other in self.log.opened):
            return False
        st = os.fstat(handle)
        found = self.log.add(path, st.st_ino, before)
        if stat.S_IMODE(st.st_mode) != found.given:
            os.chmod(f"/proc/self/fd/{handle}", found.given)
        self.close_with(path, mode)
        return True

    def _reach(self, path: str) -> int:
        above, name = split(path)
        parent = self._open.get(above, -1)
        try:
            # Where the directory above is open a deep path costs one step, not one for each component.
            fd = open_directory(parent, name) if parent >= 0 else open_directory(self.root, path)
        except PermissionError:
            if self.log is None:
                raise
        else:
            if self.log is None or os.geteuid() == 0 or not self._lacks(path, os.fstat(fd), self._need):
                return fd
            os.close(fd)
        return self._open_all(path)

    def _lacks(self, path: str, st: os.stat_result, need: int) -> bool:
        """Whether permissions are missing that we may give ourselves."""
        mine = st.st_uid == os.geteuid() and st.st_mode & need != need
        return mine and (self.may is None or path in self.may)

    def _open_all(self, path: str) -> int:
        """Open ``path``, and what is above it where it cannot be searched. Raises OSError with the whole path."""
        fd = os.dup(self.root)
        at = 0
        try:
            while at <= len(path):
                end = path.find("/", at)
                end = len(path) if end < 0 else end
                name, so_far = path[at:end], path[:end]
                below = os.open(name, _HANDLE, dir_fd=fd)
                os.close(fd)
                fd = below
                self._unlock(so_far, fd, self._need if end == len(path) else 0o100)
                at = end + 1
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        finally:
            os.close(fd)

    def _unlock(self, path: str, handle: int, need: int) -> None:
        st = os.fstat(handle)
        if not self._lacks(path, st, need):
            return
        assert self.log is not None
        found = self.log.opened.get(path)
        if found is None or found.ino != st.st_ino or stat.S_IMODE(st.st_mode) not in (found.mode, found.given):
            found = self.log.add(path, st.st_ino, stat.S_IMODE(st.st_mode))
        os.chmod(f"/proc/self/fd/{handle}", found.given)

    def close_opened(self) -> None:
        """Give every directory that was opened its mode, the deepest first. One that is another directory or has
        another mode by now was changed by somebody else and is left. Raises OSError."""
        if self.log is None:
            return
        # Sorted, the last descendant of a directory comes right before the next one: what is in it is closed first.
        for path in sorted(self.log.opened, key=lambda path: path.split("/"), reverse=True):
            found = self.log.opened[path]
            try:
                handle = self._handle(path)
            except OSError as error:
                # What is below a directory that is locked was closed before it was: an earlier try was interrupted.
                if error.errno in (*_GONE, errno.EACCES):
                    continue
                raise
            try:
                st = os.fstat(handle)
                if st.st_ino == found.ino and stat.S_IMODE(st.st_mode) == found.given:
                    os.chmod(f"/proc/self/fd/{handle}", found.final)
            finally:
                os.close(handle)
        self.log.remove()

    def _handle(self, path: str) -> int:
        fd = os.dup(self.root)
        for name in path.split("/"):
            try:
                below = os.open(name, _HANDLE, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        return fd
