"""Store: the sessions under one state directory. Create, load, list, save, lock, remove.

The layout is in docs/state.md. A session is made under a hidden name and renamed when it is whole, so a crash leaves
either no session or a complete one. Every lock is flock(2): the kernel drops it with its holder.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from overlayws.atomic import fsync_path, write_atomic
from overlayws.errors import OverlaywsError, UnableError, UsageError
from overlayws.locking import flock
from overlayws.session.names import checked, invent
from overlayws.session.places import check_names
from overlayws.session.record import DamagedSession, from_bytes, to_bytes
from overlayws.session.session import Session
from overlayws.source.remove import remove_tree

_STARTING = ".starting-"
_REMOVED = ".removed-"
_YOUNG = 60  # seconds
_DIFF = "overlayws-diff-"
_PROBES = (".probe-", ".doctor-")
_OUTSIDE = "outside"  # as Session.outside: the record of run/leftovers.py
_PROBE_LOCK = "lock"  # held while the probe is going on
_PROBE_AGE = 3600  # seconds: a backend's own probe takes less than one, and holds no lock


class BusySession(OverlaywsError):
    """Another command is using the session."""


class Store:
    """The sessions below ``home``, a directory with mode 0700 that is made when first written."""

    def __init__(self, home: Path) -> None:
        """Raises UnableError in a process where names of files are not UTF-8."""
        check_names()
        self.home = home.absolute()
        self.sessions = self.home / "sessions"

    def prepare(self) -> None:
        """Make the directories. Raises UnableError where they cannot be made or written."""
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            st = self.home.stat()
            if stat.S_IMODE(st.st_mode) != 0o700 or st.st_gid != os.getegid():
                self._close()
            self.sessions.mkdir(mode=0o700, exist_ok=True)
            if not os.access(self.sessions, os.W_OK | os.X_OK):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise UnableError(
                f"cannot use the state directory {self.home}: {error.strerror}",
                hint="set OVERLAYWS_HOME to a directory that you can write",
            ) from error

    def _close(self) -> None:
        """Keep others out of the state directory, but never out of one that is used for other things (/tmp)."""
        names = os.listdir(self.home)
        if names and "sessions" not in names:
            raise UnableError(
                f"cannot use the state directory {self.home}: it holds other files and others may enter it",
                hint="set OVERLAYWS_HOME to a directory of its own",
            )
        # Below a set-group-ID directory everything would get a group that a user namespace cannot map.
        os.chown(self.home, -1, os.getegid())
        self.home.chmod(0o700)

    @contextmanager
    def creating(self, name: str | None) -> Iterator[tuple[str, Path]]:
        """(name, scratch directory) of a session to be; on leaving without an error it becomes the session.

        The scratch directory must then hold a saved ``session.json``. Raises UsageError where the name is taken.
        """
        self.prepare()
        final = self._free_name(name)
        scratch = self.sessions / f"{_STARTING}{final}-{os.getpid()}"
        scratch.mkdir(mode=0o700)
        with _flock(scratch / "lock"):
            try:
                yield final, scratch
                os.rename(scratch, self.sessions / final)
            except OSError as error:
                remove_tree(scratch)
                if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                    raise UsageError(f"a session named {final} exists", hint="choose another --name") from None
                raise
            except BaseException:
                remove_tree(scratch)
                raise
            fsync_path(self.sessions)

    def _free_name(self, name: str | None) -> str:
        if name is not None:
            if (self.sessions / checked(name)).exists():
                raise UsageError(f"a session named {name} exists", hint="choose another --name, or discard it first")
            return name
        for _ in range(100):
            candidate = invent()
            if not (self.sessions / candidate).exists():
                return candidate
        return f"{invent()}-{int(time.time())}"

    def load(self, name: str) -> Session:
        """The session ``name``. Raises UsageError where there is none, DamagedSession where it cannot be read."""
        directory = self.sessions / checked(name)
        try:
            data = (directory / "session.json").read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            if directory.is_dir():
                raise DamagedSession(
                    name, "session.json is missing", hint="remove it with: overlayws gc --damaged"
                ) from None
            raise UsageError(f"no session named {name}", hint="overlayws list shows the sessions") from None
        except OSError as error:
            raise DamagedSession(
                name, f"cannot read session.json: {error.strerror}", hint="remove it with: overlayws gc --damaged"
            ) from error
        return from_bytes(data, directory)

    def names(self) -> list[str]:
        """The names of all sessions, damaged ones included, sorted."""
        try:
            return sorted(n for n in os.listdir(self.sessions) if not n.startswith("."))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UnableError(
                f"cannot read the state directory {self.home}: {error.strerror}",
                hint="set OVERLAYWS_HOME to your own state directory",
            ) from error

    def all(self) -> tuple[list[Session], list[DamagedSession]]:
        """All sessions, oldest first, and the errors of the damaged ones."""
        sessions, damaged = [], []
        for name in self.names():
            try:
                sessions.append(self.load(name))
            except DamagedSession as error:
                damaged.append(error)
            except UsageError:
                continue  # removed meanwhile
        sessions.sort(key=lambda s: (s.created, s.name))
        return sessions, damaged

    def needs_base(self, base_id: str) -> bool:
        """Whether a session that is not discarded, or that cannot be read but names it, uses the shared base."""
        for name in os.listdir(self.sessions):
            if name.startswith(_REMOVED):
                continue
            try:
                data = (self.sessions / name / "session.json").read_bytes()
            except OSError:
                continue
            if base_id.encode() in data:
                try:
                    session = from_bytes(data, self.sessions / name)
                except DamagedSession:  # also a session that is being made: its directory has another name
                    return True
                if session.base_id == base_id and session.state != "discarded":
                    return True
        return False

    def newest(self, directory: Path) -> Session:
        """The newest session of the workspace that ``directory`` is in. Raises UsageError where there is none."""
        here = Path(os.path.realpath(directory))
        found = [s for s in self.all()[0] if s.workspace == here or s.workspace in here.parents]
        found = [s for s in found if s.state != "discarded"] or found
        if not found:
            raise UsageError(
                f"no session of a workspace at {here}", hint="name one (overlayws list), or overlayws start"
            )
        deepest = max(len(s.workspace.parts) for s in found)
        return [s for s in found if len(s.workspace.parts) == deepest][-1]

    def save(self, session: Session) -> None:
        """Write ``session.json``, durable and whole."""
        try:
            write_atomic(session.directory / "session.json", to_bytes(session))
        except OSError as error:
            raise UnableError(
                f"cannot write session {session.name}: {error.strerror}", hint="free some space on the state directory"
            ) from error

    @contextmanager
    def locked(self, session: Session, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """A context that holds the session's lock. ``waiting`` is called once if somebody else holds it.

        Raises BusySession at once where the holder is running a command: that may take hours.
        """

        def busy() -> None:
            if self.load(session.name).doing == "run":
                raise BusySession(
                    f"a command is running in session {session.name}", hint="wait until it has ended, or stop it"
                )
            waiting()

        with _flock(self._lock(session.name), busy):
            yield

    @contextmanager
    def locked_now(self, name: str) -> Iterator[None]:
        """As ``locked``, but raises BusySession at once whoever holds the lock; the session may be damaged."""

        def busy() -> None:
            raise BusySession(f"session {name} is in use by another command", hint="wait until it has ended")

        with _flock(self._lock(name), busy):
            yield

    def _lock(self, name: str) -> Path:
        directory = self.sessions / checked(name)
        if not directory.is_dir():  # removed meanwhile
            raise UsageError(f"no session named {name}", hint="overlayws list shows the sessions")
        return directory / "lock"

    def is_locked(self, session: Session) -> bool:
        """True while a process holds the session's lock."""
        try:
            with self.locked_now(session.name):
                return False
        except BusySession:
            return True

    def remove(self, name: str) -> None:
        """Remove a session's files: first its name, so that a crash leaves no half session. Raises UnableError."""
        gone = self.sessions / f"{_REMOVED}{checked(name)}-{os.getpid()}-{time.monotonic_ns()}"
        try:
            os.rename(self.sessions / name, gone)
            remove_tree(gone)
        except FileNotFoundError:
            return
        except OSError as error:
            raise UnableError(f"cannot remove session {name}: {error.strerror}") from error

    def sweep(self) -> list[Path]:
        """Remove what a crash left of sessions that were being made or removed; what was removed.

        What cannot be removed is left: it is no part of the command that meets it, and the next one tries again.
        """
        removed = []
        try:
            leftovers = [n for n in os.listdir(self.sessions) if n.startswith((_STARTING, _REMOVED))]
        except OSError:
            return []
        for name in leftovers:
            path = self.sessions / name
            try:
                if not name.startswith(_STARTING):
                    remove_tree(path)
                elif (path / "lock").exists():
                    with _flock(path / "lock", _still_starting):
                        remove_tree(path)
                elif time.time() - path.stat().st_mtime < _YOUNG:
                    continue  # its maker may be about to lock it
                else:
                    remove_tree(path)
            except (OverlaywsError, OSError):
                continue  # it is being made, or was finished or removed meanwhile
            removed.append(path)
        return [*removed, *self._sweep_scratch()]

    def _sweep_scratch(self) -> list[Path]:
        """Remove the scratch directories of killed commands: of ``diff`` in a session, of probes in ``home``."""
        removed = []
        for name in self.names():
            directory = self.sessions / name
            left = [directory / n for n in _listed(directory) if n.startswith(_DIFF)]
            if left:
                try:
                    with self.locked_now(name):
                        for path in left:
                            remove_tree(path)
                    removed += left
                except (OverlaywsError, OSError):
                    continue  # its diff is still going on
        for name in _listed(self.home):
            if name.startswith(_PROBES):
                with suppress(OverlaywsError, OSError):
                    removed += _swept_probe(self.home / name)
        return removed


@contextmanager
def probing(home: Path, prefix: str) -> Iterator[Path]:
    """A directory to try something in, with what a crash may leave of it in its record (run/leftovers.py)."""
    scratch = Path(tempfile.mkdtemp(prefix=prefix, dir=home))
    with _flock(scratch / _PROBE_LOCK):
        try:
            yield scratch
        finally:
            # What could not be taken away (a container, a mount) is left to the next command.
            with suppress(OSError):
                if not os.path.lexists(scratch / _OUTSIDE):
                    remove_tree(scratch)


def _swept_probe(path: Path) -> list[Path]:
    locked = os.path.lexists(path / _PROBE_LOCK)
    if not locked and time.time() - path.lstat().st_mtime <= _PROBE_AGE:
        return []  # a backend's, ours perhaps
    from overlayws.run.leftovers import clean

    if not locked:
        clean(path / _OUTSIDE)
        remove_tree(path)
        return [path]
    with _flock(path / _PROBE_LOCK, _still_going_on):
        clean(path / _OUTSIDE)  # first: a container may still have a mount in it
        remove_tree(path)
    return [path]


def _listed(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _still_starting() -> None:
    raise BusySession("a session is being started")


def _still_going_on() -> None:
    raise BusySession("a probe is going on")


@contextmanager
def _flock(path: Path, busy: Callable[[], None] = lambda: None) -> Iterator[None]:
    with ExitStack() as held:
        try:
            held.enter_context(flock(path, busy))
        except OSError as error:
            raise UnableError(f"cannot lock {path}: {error.strerror}") from error
        yield
