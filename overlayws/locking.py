"""Exclusive locks: flock(2) on a file, which the kernel drops with its holder, however that ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL = 0.02  # seconds


@contextmanager
def flock(path: Path, busy: Callable[[], None] = lambda: None, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock of the file ``path``, which is made if missing and never removed: a lock on a removed file would
    not keep out who makes a new one.

    Where somebody else holds it for ``patience`` seconds, ``busy`` is called once (it may raise); then it is waited
    for. Raises OSError where the file cannot be opened.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _wait(fd, busy, patience)
        yield
    finally:
        os.close(fd)


def _wait(fd: int, busy: Callable[[], None], patience: float) -> None:
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                break
            time.sleep(_POLL)
    busy()
    fcntl.flock(fd, fcntl.LOCK_EX)
