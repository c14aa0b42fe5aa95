"""The outer end of ``--capture memory``: tapes from a sandbox become the session's upperdir, each as a whole or not.

A tape is unpacked beside the upperdir and exchanged with it in one step when its end mark was read and fits. So at any
moment the upperdir is what it was before the run, or what one checkpoint or the end of the run said. What came of a
tape without an end is kept aside, for a person to look at (kept.py).
"""

from __future__ import annotations

import os
import select
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

from overlayws.errors import UntrustedError
from overlayws.layer.mount import Layer
from overlayws.layer.pack import pack
from overlayws.layer.tape import End, Forged, Member, Reader, Truncated, Writer
from overlayws.layer.unpack import Most, Unpacked, unpack
from overlayws.layer.whiteout import Marks
from overlayws.run.inside import Order
from overlayws.run.kept import CHECKPOINT, END, INCOMPLETE, UNPACKING, keep, put_aside
from overlayws.source.remove import remove_tree

ORDERS, ANSWERS, GO, NO = "orders", "answers", "go", "no"  # beside the bundle: two FIFOs, and what begins the command
_CHUNK = 1 << 18


class CaptureLost(UntrustedError):
    """The program ran, and what it changed did not come back whole."""


@dataclass(frozen=True, slots=True)
class Received:
    """How it ended. ``reason`` is empty where the last tape came whole."""

    reason: str
    unsaved: tuple[str, ...] = ()
    free: int = 0  # bytes that were left in the sandbox's memory when it was fullest


class Receiver:
    """A thread that sends the upperdir into the sandbox and takes the tapes that come. Use as a context manager."""

    def __init__(self, directory: Path, layer: Layer, marks: Marks, order: Order, most: Most) -> None:
        self._directory, self._layer, self._marks = directory, layer, marks
        self._order, self._most = order, most
        self._stop = Event()
        self._result = Received("it ended before anything of it was saved")
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        for name in (UNPACKING, INCOMPLETE):
            remove_tree(self._beside(name))
        self._beside(CHECKPOINT).unlink(missing_ok=True)
        for name in (ORDERS, ANSWERS):
            os.mkfifo(self._directory / name, 0o600)
        # Both now: whoever opens the other ends never waits. Of ORDERS we hold both until the tape was sent.
        self._orders = os.open(self._directory / ORDERS, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._answers = os.open(self._directory / ANSWERS, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        for fd in (self._orders, self._answers):
            if fd >= 0:
                os.close(fd)
        put_aside(self._layer)

    def received(self) -> Received:
        """How it ended, once the sandbox has."""
        self._stop.set()
        self._thread.join()
        return self._result

    def _beside(self, name: str) -> Path:
        return self._layer.upperdir.with_name(name)

    def _run(self) -> None:
        try:
            self._send()
            self._receive()
        except Forged as error:
            self._result = Received(f"what the sandbox sends is not to be trusted: {error}")
        except (Truncated, OSError) as error:
            self._result = Received(str(error))
        except Exception as error:  # a thread's traceback would go to the terminal
            self._result = Received(f"{type(error).__name__}: {error}")
        finally:
            with suppress(OSError):
                (self._directory / NO).write_bytes(self._result.reason.encode("utf-8", "replace"))
            # Whoever still writes gets EPIPE, and ends.
            os.close(self._answers)
            self._answers = -1

    # -- to the sandbox ---------------------------------------------------------------------------------------

    def _send(self) -> None:
        self._write(self._order.line())
        to = Writer(self._write, bytes.fromhex(self._order.key))
        pack(self._layer.upperdir, self._marks, to)
        to.end("import")
        # Until it was read: the end of file would be the word to finish. standalone.py holds its own end by then.

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        poll = select.poll()
        poll.register(self._orders, select.POLLOUT)
        while view:
            if self._stop.is_set():
                raise Truncated("the sandbox ended before it had begun")
            if poll.poll(100):
                with suppress(BlockingIOError):
                    view = view[os.write(self._orders, view[:4096]) :]

    # -- from the sandbox -------------------------------------------------------------------------------------

    def _receive(self) -> None:
        tape = Reader(_Bytes(self._answers, self._stop).exactly, bytes.fromhex(self._order.key))
        said = tape.next()
        if getattr(said, "kind", "") != "ready":
            raise Forged("the sandbox did not say that it is ready")
        (self._directory / GO).touch()
        os.close(self._orders)
        self._orders = -1
        while not self._take(tape):
            pass

    def _take(self, tape: Reader) -> bool:
        """The next tape; whether it was the last."""
        top = self._beside(UNPACKING)
        remove_tree(top)
        top.mkdir(mode=0o700)
        failed = ""
        try:
            found = unpack(tape, top, self._marks, self._most)
            end = found.end
        except OSError as error:
            failed = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
            found, end = Unpacked(), _rest(tape)
        kind = "" if end is None else end.kind
        if kind not in ("checkpoint", "torn", "final") or end is None:
            raise Forged(f"a tape of the kind {kind!r}")
        if kind == "final":
            self._result = Received(failed, tuple(found.unsaved), end.free)
        if kind == "torn" or (failed and kind == "checkpoint"):
            remove_tree(top)
        elif not failed:
            keep(self._layer, top, END if kind == "final" and not found.unsaved else time.strftime("%H%M%S"))
        return kind == "final"


def _rest(tape: Reader) -> End:
    """The end of a tape of which nothing more is made."""
    while isinstance(found := tape.next(), Member):
        pass
    return found


class _Bytes:
    """A FIFO whose writer may not have come yet, in pieces of the wanted length."""

    def __init__(self, fd: int, stop: Event) -> None:
        self._fd, self._stop = fd, stop
        self._data = bytearray()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def exactly(self, number: int) -> bytes:
        while len(self._data) < number:
            self._more(number - len(self._data))
        found = bytes(self._data[:number])
        del self._data[:number]
        return found

    def _more(self, number: int) -> None:
        # Between tapes hours may pass; within one, bytes come.
        while not (ready := self._poll.poll(200)):
            if self._stop.is_set():
                raise Truncated("the sandbox ended before all of it was saved")
        if ready[0][1] & select.POLLIN:
            data = os.read(self._fd, max(number, _CHUNK))
            if data:
                self._data += data
                return
        raise Truncated("the sandbox ended before all of it was saved")
