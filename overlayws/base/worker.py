"""The other process of ``copy_all``: copies what is left, from the end, and tells of it on its standard output.

Frames of 4 bytes length and a pickle, between us and a process that we started ourselves: a Copied for each chunk of
paths, or the OSError that ended it; None when nothing is left.
"""

from __future__ import annotations

import gc
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from overlayws.base.contents import Scan
from overlayws.base.files import Copier


@dataclass(frozen=True, slots=True)
class Work:
    """What two processes do: each chunk once. ``left`` is a semaphore (eventfd(2)) that counts those nobody took."""

    root: int
    target: int
    left: int
    chunks: Sequence[Mapping[str, os.stat_result]]
    clock: int
    scan: Scan | None

    def copier(self) -> Copier:
        """What copies in this process."""
        return Copier(self.root, self.target, clock=self.clock, scan=self.scan)

    def take(self) -> bool:
        """Whether one of the chunks is the caller's: the first or the last that nobody took."""
        try:
            os.eventfd_read(self.left)
        except BlockingIOError:
            return False
        return True


def send(out: BinaryIO, what: Any) -> None:
    """Write one frame. Raises OSError."""
    data = pickle.dumps(what, pickle.HIGHEST_PROTOCOL)
    left = memoryview(len(data).to_bytes(4) + data)
    while left:  # so may one write(2) take less
        left = left[out.write(left) :]
    out.flush()


def receive(source: BinaryIO) -> Any:
    """Read one frame. Raises EOFError where there is none."""
    return pickle.loads(_exactly(source, int.from_bytes(_exactly(source, 4))))


def _exactly(source: BinaryIO, size: int) -> bytes:
    """``size`` bytes: one read(2) of a pipe may give less than what is asked for."""
    chunks = []
    while size:
        chunk = source.read(size)
        if not chunk:
            raise EOFError("the other side is gone")
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def main(work: Work, out: BinaryIO) -> None:
    """Copy until nothing is left, the last chunk first."""
    gc.disable()
    try:
        copier = work.copier()
        for chunk in reversed(work.chunks):
            if not work.take():
                break
            send(out, copier.copy(chunk))
        send(out, None)
    except (BrokenPipeError, KeyboardInterrupt):
        return
    except OSError as error:
        send(out, error)


def started(given: int, out: BinaryIO) -> None:
    """As ``main``, for the Work that was pickled into the file behind the descriptor ``given``."""
    with open(given, "rb") as f:
        f.seek(0)
        work = pickle.load(f)
    main(work, out)
