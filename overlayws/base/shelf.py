"""Shelf: the bases below one state directory, each made once and shared by the sessions that can use it.

``bases/ID/{lower,manifest.db}``; ID begins with what names the workspace. A base is made under a hidden name and
renamed when it is whole, and never written afterwards. Whoever makes, chooses or drops bases of a workspace holds its
lock (flock(2), which the kernel drops with its holder) until the session that uses the base is saved.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from overlayws.base import fingerprint
from overlayws.base.build import Progress, copy_base, opened, surveyed
from overlayws.base.collector import paused
from overlayws.base.contents import identity
from overlayws.base.judge import Judge
from overlayws.base.link import Previous, previous_base
from overlayws.base.making import Base, Making
from overlayws.base.manifest import SCHEMA, Manifest, ManifestError
from overlayws.base.report import warnings
from overlayws.base.survey import Survey
from overlayws.errors import UnableError
from overlayws.locking import flock
from overlayws.source.remove import remove_tree

_MAKING, _REMOVED, _LOCK = ".making-", ".removed-", ".lock-"


@dataclass(frozen=True, slots=True)
class Shelved:
    """A base on the shelf. ``reused`` says that it was there already."""

    id: str
    base: Base
    reused: bool


class Shelf:
    """The bases below ``directory``, which is made when first needed (mode 0700)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextmanager
    def locked(self, workspace: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the lock of the workspace's bases; ``waiting`` is called once if somebody else holds it.

        Raises UnableError where the directory cannot be written.
        """
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            lock = flock(self._lock(group(workspace)), waiting)
            lock.__enter__()
        except OSError as error:
            raise UnableError(
                f"cannot use {self.directory}: {error.strerror}",
                hint="set OVERLAYWS_HOME to a directory that you can write",
            ) from error
        try:
            yield
        finally:
            lock.__exit__(None, None, None)

    def obtain(
        self,
        workspace: Path,
        judge: Judge,
        *,
        own_git: bool = False,
        progress: Progress = lambda what, done, total: None,
    ) -> Shelved:
        """The base of ``workspace`` as it is now: one that is there if nothing changed (then only names and stats are
        read), else a new one, with what an older one holds linked from there. The lock is held.

        ``own_git``: with a repository of the program's own. Raises as ``build_base``.
        """
        ours = group(workspace)
        self._sweep(ours)
        key = f"{SCHEMA} {fingerprint.boot()} {int(own_git)} {os.fspath(workspace)!a} {identity(judge.inspector)}"
        with paused(), opened(workspace) as root, ExitStack() as stack:
            bases = list(self._made_by(ours, key, stack))
            found: Survey | None = None
            mark: str | None = None
            if bases:  # before anything is copied
                found = surveyed(root, workspace, judge, progress)
                mark = fingerprint.of_survey(found, os.fstat(root).st_mode)
                for name, manifest in bases:
                    with suppress(ManifestError):
                        if manifest.meta("fingerprint") == mark:
                            said = (*judge.rules.warnings, *warnings(found, manifest.findings()))
                            return Shelved(name, self._base(name, said), reused=True)
            previous = self._previous(bases, stack)
            name = f"{ours}-{secrets.token_hex(4)}"
            making = self.directory / f"{_MAKING}{name}"
            making.mkdir(mode=0o700)
            try:
                with Making(root, making, judge) as new:
                    found = found or surveyed(root, workspace, judge, progress, new.ready)
                    old = previous[1] if previous else None
                    made = copy_base(
                        root, workspace, found, mark, new, judge, progress, previous=old, meta={"key": key}
                    )
                if own_git:
                    from overlayws.base.repository import make_repository, renew_repository

                    progress("making the program's own repository", 0, 0)
                    if previous is None or not renew_repository(self.directory / previous[0] / "lower", made.lowerdir):
                        make_repository(made.lowerdir)
                os.rename(making, self.directory / name)
            except BaseException:
                remove_tree(making)
                raise
        return Shelved(name, self._base(name, made.warnings), reused=False)

    def _made_by(self, ours: str, key: str, stack: ExitStack) -> Iterator[tuple[str, Manifest]]:
        """The bases of a workspace that were made as ``key`` says, newest first."""
        for name in self._newest(ours):
            with suppress(ManifestError, OSError):  # damaged: gc drops it when no session needs it
                manifest = stack.enter_context(Manifest(self.directory / name / "manifest.db"))
                if manifest.meta("key") == key:
                    yield name, manifest

    def _previous(self, bases: list[tuple[str, Manifest]], stack: ExitStack) -> tuple[str, Previous] | None:
        """The newest of them, to take files from."""
        for name, _ in bases:
            with suppress(ManifestError, OSError):
                return name, stack.enter_context(previous_base(self.directory / name))
        return None

    def key(self, workspace: Path) -> bytes:
        """The secret that placeholders in the bases of ``workspace`` are made with: one, since bases share files."""
        path = self.directory / f".key-{group(workspace)}"
        try:
            found = path.read_bytes()
            if len(found) == 32:
                return found
        except FileNotFoundError:
            pass
        from overlayws.atomic import write_atomic

        made = secrets.token_bytes(32)
        write_atomic(path, made)
        return made

    def drop(self, used: Callable[[str], bool], workspace: Path | None = None) -> list[str]:
        """Remove the bases that are not ``used``; what was removed. Of ``workspace``, whose lock is held, all but the
        newest; of no workspace: of every one whose lock is free, all."""
        if workspace is not None:
            ours = group(workspace)
            return [name for name in self._newest(ours)[1:] if not used(name) and self._remove(name)]
        removed = []
        try:
            groups = {name.rpartition("-")[0].removeprefix(_MAKING).removeprefix(_REMOVED) for name in self._names()}
        except FileNotFoundError:
            return []
        for ours in sorted(g for g in groups if g and not g.startswith(".")):
            try:
                with flock(self._lock(ours), _raise_busy):
                    self._sweep(ours)
                    removed += [name for name in self._newest(ours) if not used(name) and self._remove(name)]
            except BlockingIOError:
                continue
        return removed

    def _base(self, name: str, said: tuple[str, ...]) -> Base:
        return Base(self.directory / name / "lower", self.directory / name / "manifest.db", said)

    def _lock(self, ours: str) -> Path:
        return self.directory / f"{_LOCK}{ours}"

    def _names(self) -> list[str]:
        return os.listdir(self.directory)

    def _newest(self, ours: str) -> list[str]:
        """The bases of a workspace, newest first."""
        found = []
        for name in self._names():
            if name.startswith(f"{ours}-"):
                try:
                    found.append((os.stat(self.directory / name / "manifest.db").st_mtime_ns, name))
                except OSError:
                    found.append((0, name))
        return [name for _, name in sorted(found, reverse=True)]

    def _remove(self, name: str) -> bool:
        gone = self.directory / f"{_REMOVED}{name}"
        try:
            os.rename(self.directory / name, gone)
            remove_tree(gone)
        except OSError as error:
            raise UnableError(f"cannot remove the base {name}: {error.strerror}") from error
        return True

    def _sweep(self, ours: str) -> None:
        """Remove what a crash left of bases that were being made or removed."""
        for name in self._names():
            if name.startswith((f"{_MAKING}{ours}-", f"{_REMOVED}{ours}-")):
                remove_tree(self.directory / name)


def group(workspace: Path) -> str:
    """What the names of the bases of ``workspace`` begin with."""
    return hashlib.sha256(os.fsencode(workspace)).hexdigest()[:16]


def _raise_busy() -> None:
    raise BlockingIOError
