"""Journal: the directory of one transaction; its state, its stages, and the originals that undo needs.

docs/apply.md describes the files. The state file is replaced atomically and durably; it decides what ``recover``
does with the rest.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from overlayws import beneath
from overlayws.apply.locked import WRITING, Log, Reach
from overlayws.apply.record import JournalError, checked_path, damaged, sealed, unsealed
from overlayws.atomic import write_atomic
from overlayws.beneath import Directories, open_directory, split
from overlayws.errors import UnableError

STATES = ("staging", "applying", "applied", "undo-staging", "undoing", "finished", "kept")
_NONE: Mapping[str, int] = MappingProxyType({})
HIDDEN = ".overlayws-apply-"  # a stage in the workspace, where the journal is on another mount


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stage is: ``path`` in the workspace, or '' for the one in the journal.

    ``mtime_ns`` is what the directory that it is in gets back when it is removed: nothing is left of a stage.
    """

    path: str
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class State:
    """The state file. ``ino`` is the inode of the workspace's root."""

    state: str
    workspace: Path
    ino: int
    places: tuple[Place, ...]


class Journal:
    """The directory of one transaction."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.apply_record = directory / "apply.json"
        self.undo_record = directory / "undo.json"
        self.applied = directory / "applied.json"
        self.kept = directory / "kept"
        self.stage = directory / "stage"

    def create(self) -> None:
        """Make the directory, for its owner alone. Raises UnableError."""
        try:
            self.directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.directory.mkdir(mode=0o700)
            self.stage.mkdir(mode=0o700)
        except OSError as error:
            raise UnableError(
                f"cannot make journal {self.directory}: {error.strerror}", hint="check the state directory"
            ) from error

    def state(self) -> State | None:
        """The state, or None where none was written yet. Raises JournalError."""
        path = self.directory / "state.json"
        try:
            document = unsealed(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            state, ino = document["state"], int(document["ino"])
            places = tuple(
                Place(checked_path(where, directory=True), int(mtime)) for where, mtime in document["stages"]
            )
            workspace = Path(document["workspace"])
        except (ValueError, KeyError, TypeError) as error:
            raise damaged(path, str(error)) from None
        if state not in STATES:
            raise damaged(path, f"unknown state {state!r}")
        for place in places:
            if place.path and not split(place.path)[1].startswith(HIDDEN):
                raise damaged(path, f"{place.path!r} is no stage")
        return State(state, workspace, ino, places)

    def enter(self, state: State, name: str) -> State:
        """Write the state ``name``; durable when this returns. Raises OSError."""
        state = replace(state, state=name)
        document = {
            "state": name,
            "workspace": str(state.workspace),
            "ino": state.ino,
            "stages": [(place.path, place.mtime_ns) for place in state.places],
        }
        write_atomic(self.directory / "state.json", sealed(document))
        return state

    def remove(self) -> None:
        """Remove everything, the state last: until then the next recover goes on. Raises OSError."""
        for directory in (self.stage, self.kept):
            with suppress(FileNotFoundError):
                fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    empty(fd)
                finally:
                    os.close(fd)
                os.rmdir(directory)
        for name in sorted(os.listdir(self.directory), key=lambda name: name == "state.json"):
            (self.directory / name).unlink()
        self.directory.rmdir()


class Ground:
    """A workspace and the stages of one transaction, opened. Use as a context manager."""

    def __init__(self, journal: Journal, state: State) -> None:
        self.journal = journal
        self.state = state
        self.directories = Reach(state.workspace, Log(journal.directory, state.workspace).load(), WRITING)
        self.stages: list[int] = []
        if os.fstat(self.directories.root).st_ino != state.ino:
            os.close(self.directories.root)
            raise JournalError(
                f"{state.workspace} is not the directory that {journal.directory} is about",
                hint="put the workspace back where it was, or remove the journal if it is gone for good",
            )

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_stages()
        self.directories.__exit__()

    def places(self, places: tuple[Place, ...]) -> None:
        """Set where the stages will be; the next ``enter`` writes it down."""
        self.state = replace(self.state, places=places)

    def settle(self) -> None:
        """Forget the stages of the workspace, which are gone; the next ``enter`` writes it down."""
        self.close_stages()
        self.places(())

    def enter(self, name: str) -> None:
        """Write the state ``name``; durable when this returns. Raises OSError."""
        self.state = self.journal.enter(self.state, name)

    def close_stages(self) -> None:
        while self.stages:
            fd = self.stages.pop()
            if fd >= 0:
                os.close(fd)

    def make_stages(self) -> None:
        """Make the stages of the workspace, and open all. Raises OSError."""
        for place in self.state.places:
            if place.path:
                parent, name = split(place.path)
                os.mkdir(name, 0o700, dir_fd=self.directories.open(parent))
        self.open_stages()

    def open_stages(self) -> None:
        """Open every stage that is there; -1 stands for one that is not. Raises OSError."""
        for place in self.state.places:
            fd = -1
            with suppress(FileNotFoundError):
                if place.path:
                    parent, name = split(place.path)
                    fd = open_directory(self.directories.open(parent), name)
                else:
                    fd = os.open(self.journal.stage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self.stages.append(fd)

    def remove_stages(self, times: Mapping[str, int] = _NONE) -> None:
        """Empty and remove the stages that are in the workspace. The directories that they were in get the mtimes
        in ``times``, else those from before (also where an interrupted try has removed the stage). Raises OSError."""
        self.close_stages()
        self.open_stages()
        for number, place in enumerate(self.state.places):
            if not place.path:
                continue
            parent, name = split(place.path)
            if (fd := self.stages[number]) >= 0:
                empty(fd)
                os.rmdir(name, dir_fd=self.directories.open(parent))
                self.stages[number] = -1  # FUSE and NFS know nothing of a directory that is gone
                os.close(fd)
            set_mtime(self.directories, parent, times.get(parent, place.mtime_ns))

    def sync(self) -> None:
        """Make every file system of this transaction durable. Raises OSError."""
        done = set()
        with directory(self.journal.directory) as own:
            for fd in (own, self.directories.root, *(fd for fd in self.stages if fd >= 0)):
                device = os.fstat(fd).st_dev
                if device not in done:
                    done.add(device)
                    beneath.syncfs(fd)


@contextmanager
def directory(path: Path) -> Iterator[int]:
    """A descriptor of a directory of our own."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def set_mtime(directories: Directories, path: str, mtime_ns: int) -> None:
    """Set the mtime of a directory back; a directory that is gone or of another owner is left."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        try:
            fd = directories.open(path)
        except OSError:  # a symlink is there now
            return
        os.utime(fd, ns=(os.fstat(fd).st_atime_ns, mtime_ns))


def empty(fd: int) -> None:
    """Remove everything from a stage. Raises OSError."""
    for name in os.listdir(fd):
        remove_name(fd, name)


def remove_name(fd: int, name: str) -> None:
    """Remove a file, a symlink or an empty directory. Raises OSError."""
    st = os.stat(name, dir_fd=fd, follow_symlinks=False)
    if stat.S_ISDIR(st.st_mode):
        os.rmdir(name, dir_fd=fd)
    else:
        os.unlink(name, dir_fd=fd)


def all_journals(root: Path) -> list[Journal]:
    """The journals below a directory, oldest name first; none where it does not exist."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return [Journal(root / name) for name in sorted(os.listdir(root)) if (root / name).is_dir()]
    return []
