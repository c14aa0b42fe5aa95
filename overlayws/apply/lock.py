"""One apply, undo or recover at a time in a workspace, whatever session it is for."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from overlayws.errors import UnableError, UsageError

_PATIENCE = 1.0  # seconds of waiting in silence
_POLL = 0.02


@contextmanager
def workspace_lock(state: Path, workspace: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of ``workspace`` (flock(2) on a file below ``state``, named by device and inode, so that every
    path to the workspace means the same lock); waits for it, and calls ``waiting`` once after a second.

    The lock ends with the process, however that ends. Raises UsageError (no such workspace), UnableError.
    """
    try:
        st = os.stat(workspace)
    except OSError as error:
        raise UsageError(f"no workspace at {workspace}: {error.strerror}", hint="give an existing one") from error
    directory = state / "locks"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Never removed: a lock on a removed file would not keep out who makes a new one.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(directory / f"workspace-{st.st_dev}-{st.st_ino}", flags, 0o600)
    except OSError as error:
        raise UnableError(f"cannot lock {workspace}: {error.strerror}", hint=f"check {directory}") from error
    try:
        _wait(fd, waiting)
        yield
    finally:
        os.close(fd)


def _wait(fd: int, waiting: Callable[[], None]) -> None:
    started = time.monotonic()
    while time.monotonic() - started < _PATIENCE:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(_POLL)
    waiting()
    fcntl.flock(fd, fcntl.LOCK_EX)
