"""Copying: the files of a workspace, by this process and, where there are many, by another one beside it.

A process, not a thread: half of the time goes into looking at contents, which holds the interpreter's lock. Two, not
more: creating files in one file system scales no further. The other one begins with the first files while the workspace
is still surveyed, and is given more by a queue; then this one begins with the last. When they meet, whoever is free
takes what is in the queue: so neither waits for the other.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol, Self

import overlayws
from overlayws.base.contents import Scan
from overlayws.base.files import Copied, Copier
from overlayws.base.manifest import Stored
from overlayws.base.worker import LONGEST, Work, main, message, numbered, receive
from overlayws.errors import UnableError

# Where fork(2) cannot be used, starting the other process costs as much as copying some 1,500 files.
_WORTH_IT, _WORTH_A_START = 300, 3_000
_CHUNK = 100  # files; fewer towards the end, where the first who is done waits for the other
_LEAST = 20
_CHUNK_BYTES = 32 << 20
_CHUNK_NAMES = LONGEST // 8  # characters
_WAITING = 2  # chunks in the queue at least, while there are any
_SHARE = 8 * _CHUNK  # of so many files that are left one chunk more: this process may be busy with other things
_PIPE = 1 << 20

_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from overlayws.base.worker import started; " + (
    "started(int(sys.argv[2]), sys.stdout.buffer)"
)

Files = Mapping[str, os.stat_result]


class Copying:
    """Copies files from below the descriptor ``root`` to below ``target``, judged by ``scan``. A context manager: no
    other process is left at its end.

    ``offered`` are the paths that were taken before all were known.
    """

    def __init__(self, root: int, target: int, scan: Scan | None) -> None:
        self._root, self._target, self._scan = root, target, scan
        self._least = _WORTH_IT if _one_thread() else _WORTH_A_START
        if len(os.sched_getaffinity(0)) < 2:
            self._least = sys.maxsize  # alone
        self._clock = 0
        self._left: deque[tuple[str, os.stat_result]] = deque()  # that nobody took, in order
        self._long: list[dict[str, os.stat_result]] = []  # chunks that are longer than a message can be
        self.offered: set[str] = set()
        self._all = False  # are known
        self._given: dict[int, dict[str, os.stat_result]] = {}  # to the queue, and not yet answered
        self._answers: list[tuple[dict[str, os.stat_result], Copied]] = []
        self._count = 0
        self._failed: OSError | None = None
        self._ended = False  # the other process, before its time
        self._other: _Other | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._other is not None:
            self._other.end(kill=kind is not None)

    def offer(self, files: Sequence[tuple[str, os.stat_result]], clock: int) -> None:
        """Take some files, whose directories are there, before all are known; ``clock`` is ``now_ns()`` from before.

        What goes wrong is told by ``finish``.
        """
        self._clock = clock
        self._left.extend(files)
        self.offered.update(path for path, _ in files)
        if self._other is None and len(self._left) >= self._least:
            self._begin()
        self._hear()
        self._feed()

    def finish(
        self,
        files: Files,
        *,
        clock: int,
        scan: Scan | None = None,
        progress: Callable[[int], None] = lambda n: None,
        store: Callable[[Files, list[Stored]], None] = lambda files, rows: None,
    ) -> Copied:
        """Copy ``files``; what became of them and of those that were offered, as ``Copier.copy``. ``store`` is given
        some files at a time and the rows of those that were copied.

        Raises UnableError where the other process ends before its time.
        """
        done = Copied()
        finished = 0

        def take(chunk: Files, answer: Copied) -> None:
            nonlocal finished
            done.add(answer)
            store(chunk, answer.rows)
            finished += len(chunk)
            progress(finished)

        def take_answers() -> None:
            for chunk, answer in self._answers:
                take(chunk, answer)
            self._answers.clear()

        self._scan, self._clock, self._all = scan, clock, True
        self._left.extend((path, st) for path, st in files.items() if path not in self.offered)
        if self._other is None and len(self._left) >= self._least:
            self._begin()
        copier = Copier(self._root, self._target, clock=clock, scan=scan)
        self._feed()
        take_answers()
        while chunk := self._own():
            take(chunk, copier.copy(chunk))
            self._hear()
            self._feed()
            take_answers()
        if self._other is not None:
            self._other.no_more()
        while self._given and self._failed is None and not self._ended:
            self._hear(wait=True)
            take_answers()
        if self._failed is not None:
            raise self._failed
        if self._given:  # it took them with it
            raise UnableError("the process that copies files ended", hint="is there enough memory?")
        return done

    def _begin(self) -> None:
        self._other = _Other(self._root, self._target, self._scan)

    def _feed(self) -> None:
        """Put chunks into the queue, as many as it should hold."""
        other = self._other
        if other is None or self._ended:
            return
        while self._left and len(self._given) < max(_WAITING, len(self._left) // _SHARE):
            if not self._all and len(self._left) < _CHUNK and self._given:
                return  # more will come
            chunk = self._cut(self._left.popleft)
            part = self._scan.part(chunk) if self._scan is not None else None
            told = message(self._count, self._clock, list(chunk), part)
            try:
                if len(told) > LONGEST:
                    raise OSError(errno.EMSGSIZE, "too long")
                other.tell(told)
            except BlockingIOError:
                self._left.extendleft(reversed(chunk.items()))
                return
            except OSError:
                self._long.append(chunk)
                continue
            self._given[self._count] = chunk
            self._count += 1

    def _own(self) -> dict[str, os.stat_result]:
        """The files that this process copies next."""
        if self._failed is not None:
            return {}
        if self._long:
            return self._long.pop()
        if self._left and self._other is None:
            return self._cut(self._left.popleft)
        if self._left:
            return dict(reversed(self._cut(self._left.pop).items()))
        told = self._other.take_back() if self._other is not None else None
        return self._given.pop(numbered(told)) if told else {}

    def _cut(self, pop: Callable[[], tuple[str, os.stat_result]]) -> dict[str, os.stat_result]:
        chunk: dict[str, os.stat_result] = {}
        size = names = 0
        most = max(_LEAST, min(_CHUNK, len(self._left) // 6)) if self._all else _CHUNK
        while self._left and len(chunk) < most and size < _CHUNK_BYTES and names < _CHUNK_NAMES:
            path, st = pop()
            chunk[path] = st
            size += st.st_size
            names += len(path)
        return chunk

    def _hear(self, *, wait: bool = False) -> None:
        """Take the answers that came."""
        other = self._other
        while other is not None and self._given and not self._ended and (wait or other.answered()):
            wait = False
            try:
                number, answer = receive(other.answers)
            except OSError as error:
                self._failed, self._ended = error, True
                return
            except EOFError:
                self._ended = True
                return
            self._answers.append((self._given.pop(number), answer))


class _Process(Protocol):
    def kill(self) -> None: ...
    def wait(self) -> object: ...


class _Other:
    """The other process, the queue, and what it answers by."""

    def __init__(self, root: int, target: int, scan: Scan | None) -> None:
        self._queue, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        hear, answer = os.pipe2(os.O_CLOEXEC)
        self.answers: BinaryIO = open(hear, "rb", buffering=0)
        try:
            with suppress(OSError):
                fcntl.fcntl(answer, fcntl.F_SETPIPE_SZ, _PIPE)  # its answers fit: it does not wait for us to read
            work = Work(root, target, self._theirs.fileno(), scan)
            start = _Forked if _one_thread() else _Spawned
            self._process: _Process = start(work, answer, (hear, self._queue.fileno()))
        except BaseException:
            self._close()
            raise
        finally:
            os.close(answer)

    def tell(self, told: bytes) -> None:
        """Put a message into the queue. Raises BlockingIOError where that is full, OSError for one that is too long."""
        self._queue.send(told, socket.MSG_DONTWAIT)

    def take_back(self) -> bytes:
        """The next message in the queue, which the other process gets no more; empty where there is none."""
        try:
            return self._theirs.recv(LONGEST, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""

    def no_more(self) -> None:
        """Tell that nothing more is put into the queue."""
        self._queue.close()

    def answered(self) -> bool:
        """Whether there is something to read (or the end)."""
        return bool(select.select([self.answers], [], [], 0)[0])

    def end(self, *, kill: bool) -> None:
        """Wait for its end."""
        self._close()
        if kill:
            self._process.kill()
        self._process.wait()

    def _close(self) -> None:
        self._queue.close()
        self._theirs.close()
        self.answers.close()


def _one_thread() -> bool:
    """Whether fork(2) is safe: of several threads it copies one, and the locks that the others hold stay locked."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


class _Forked:
    """A copy of this process, which starts and imports nothing."""

    def __init__(self, work: Work, answer: int, ours: tuple[int, ...]) -> None:
        self._pid = os.fork()
        if self._pid:
            return
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for fd in ours:  # or it would not see when we are gone
                os.close(fd)
            with open(answer, "wb", buffering=0) as out:
                main(work, out)
        finally:
            os._exit(0)

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> None:
        os.waitpid(self._pid, 0)


class _Spawned(subprocess.Popen[bytes]):
    """A new one."""

    def __init__(self, work: Work, answer: int, ours: tuple[int, ...]) -> None:
        package = Path(overlayws.__file__).parent.parent
        with open(os.memfd_create("overlayws-work"), "wb") as given:
            pickle.dump(work, given, pickle.HIGHEST_PROTOCOL)
            given.flush()
            super().__init__(
                [sys.executable, "-I", "-S", "-X", "utf8", "-c", _PROGRAM, os.fspath(package), str(given.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=subprocess.DEVNULL,
                pass_fds=(work.root, work.target, work.queue, given.fileno()),
            )
