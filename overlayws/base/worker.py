"""The other process of ``Copying``: copies what it takes from a queue, and tells of it on a pipe.

The queue is a SOCK_SEQPACKET socket (unix(7)): a message is received whole, and once, by whoever asks first. Messages
and frames are between us and a process that we started ourselves.
"""

from __future__ import annotations

import gc
import marshal
import pickle
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from overlayws.base.contents import Part, Scan
from overlayws.base.files import Copied, Copier

LONGEST = 128 << 10  # bytes of a message: the kernel holds at least so many (net.core.wmem_default)
_MARSHAL = 2  # the version without references, which would be looked for at every number


@dataclass(frozen=True, slots=True)
class Work:
    """What the other process copies: below ``root`` to below ``target``. ``queue`` is an end of the socket."""

    root: int
    target: int
    queue: int
    scan: Scan | None


def message(number: int, clock: int, paths: Sequence[str], part: Part | None) -> bytes:
    """What is put into the queue: copy ``paths`` at ``clock``, and answer by ``number``."""
    return marshal.dumps((number, clock, list(paths), part), _MARSHAL)


def numbered(told: bytes) -> int:
    """The number in a message."""
    number: int = marshal.loads(told)[0]
    return number


def send(out: BinaryIO, number: int, what: Copied | OSError) -> None:
    """Write one frame, of 4 bytes length and what became of the chunk ``number``, or the error that ended the work.

    Raises OSError.
    """
    rows: list[object] = []
    rest: Copied | OSError | None = what
    if isinstance(what, Copied):
        rows, rest = list(what.rows), what.rest()
    data = marshal.dumps((number, rows, None if rest is None else pickle.dumps(rest)), _MARSHAL)
    left = memoryview(len(data).to_bytes(4) + data)
    while left:  # so may one write(2) take less
        left = left[out.write(left) :]
    out.flush()


def receive(source: BinaryIO) -> tuple[int, Copied]:
    """Read one frame. Raises EOFError where there is none, and the OSError that it tells of."""
    number, rows, rest = marshal.loads(_exactly(source, int.from_bytes(_exactly(source, 4))))
    done = Copied() if rest is None else pickle.loads(rest)
    if isinstance(done, OSError):
        raise done
    done.rows = rows
    return number, done


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
    """Copy until nothing is left in the queue and nobody can put more into it."""
    gc.disable()
    number = -1
    try:
        copier = Copier(work.root, work.target, clock=0)
        with socket.socket(fileno=work.queue) as queue:
            while told := queue.recv(LONGEST):
                number, copier.clock, paths, part = marshal.loads(told)
                copier.scan = work.scan and work.scan.of(part)
                send(out, number, copier.copy(dict.fromkeys(paths)))
    except (BrokenPipeError, KeyboardInterrupt):
        return
    except OSError as error:
        send(out, number, error)


def started(given: int, out: BinaryIO) -> None:
    """As ``main``, for the Work that was pickled into the file behind the descriptor ``given``."""
    with open(given, "rb") as f:
        f.seek(0)
        work = pickle.load(f)
    main(work, out)
