"""Making: a base that is being made, which may begin before the survey of the workspace is at its end."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from overlayws.base import fingerprint
from overlayws.base.contents import Scan, shown_by_name
from overlayws.base.judge import Judge
from overlayws.beneath import split
from overlayws.errors import UnableError

_REGULAR = stat.S_IFREG >> 12


@dataclass(frozen=True, slots=True)
class Base:
    """A sanitized copy and what is known of it."""

    lowerdir: Path
    manifest: Path
    warnings: tuple[str, ...] = ()


class Making:
    """A base that is being made in ``directory``, which exists and is empty. A context manager.

    Raises UnableError where nothing can be made there.
    """

    def __init__(self, root: int, directory: Path, judge: Judge) -> None:
        self.base = Base(directory / "lower", directory / "manifest.db")
        self.made: set[str] = set()  # directories, before all are known
        self._clock = fingerprint.now_ns()
        # Who is shown by name is looked for when all names are known.
        self._early = not shown_by_name(judge.rules)
        with told(directory):
            self.base.lowerdir.mkdir(mode=0o700)
            self.target = os.open(self.base.lowerdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        from overlayws.base.workers import Copying  # not for a base that is used again

        self.copying = Copying(root, self.target, None if judge.inspector is None else Scan(judge.inspector))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: Any) -> None:
        os.close(self.target)
        self.copying.__exit__(*reason)

    def ready(self, parent: str, visible: list[tuple[str, os.stat_result]]) -> None:
        """Begin with what a survey has just found, where it can no longer be found to be something else: a file with
        one name, whose stamp tells of every change after this."""
        latest = self._clock - fingerprint.LONGEST_TICK_NS

        def final(st: os.stat_result) -> bool:
            return st.st_mode >> 12 == _REGULAR and st.st_nlink == 1 and st.st_ctime_ns <= latest

        files = [file for file in visible if final(file[1])] if self._early else []
        if files and self._has(parent):  # without any, the directory itself may be hidden
            self.copying.offer(files, self._clock)

    def _has(self, path: str) -> bool:
        """Whether the directory is there now."""
        missing = []
        while path and path not in self.made:
            missing.append(path)
            path = split(path)[0]
        try:
            for path in reversed(missing):
                os.mkdir(path, 0o700, dir_fd=self.target)
                self.made.add(path)
        except OSError:  # told when it is made with the others; or longer than a path can be
            return False
        return True


@contextmanager
def told(directory: Path) -> Iterator[None]:
    """Say of an OSError what could not be done. Raises UnableError."""
    try:
        yield
    except OSError as error:
        raise UnableError(
            f"cannot copy the workspace to {directory}: {error.strerror or error}",
            hint="free some space, hide large files (--hide PATTERN), or set OVERLAYWS_HOME to another disk"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "set OVERLAYWS_HOME to a directory that you can write",
        ) from error
