"""The other process of ``copy_all``: copies the chunks that it is sent on its standard input.

Frames of 4 bytes length and a pickle, between us and a process that we started ourselves. The first one says
(root, target, clock, scan), each further one is a list of paths; each is answered by a Copied, or by the OSError that
ended it.
"""

from __future__ import annotations

import gc
import pickle
from typing import Any, BinaryIO

from overlayws.base.files import copy_files


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


def main(source: BinaryIO, out: BinaryIO) -> None:
    """Serve until ``source`` ends."""
    gc.disable()
    try:
        root, target, clock, scan = receive(source)
        while True:
            try:
                send(out, copy_files(root, target, receive(source), clock=clock, scan=scan))
            except OSError as error:
                send(out, error)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
