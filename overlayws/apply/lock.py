"""One apply, undo or recover at a time in a workspace, whatever session it is for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from overlayws.errors import UnableError, UsageError
from overlayws.locking import flock

_PATIENCE = 1.0  # seconds of waiting in silence


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
    with ExitStack() as held:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            held.enter_context(flock(directory / f"workspace-{st.st_dev}-{st.st_ino}", waiting, _PATIENCE))
        except OSError as error:
            raise UnableError(f"cannot lock {workspace}: {error.strerror}", hint=f"check {directory}") from error
        yield
