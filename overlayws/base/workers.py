"""copy_all: the files of a workspace, by this process and, where there are many, by another one beside it.

A process, not a thread: half of the time goes into looking at contents, which holds the interpreter's lock. Two, not
more: creating files in one file system scales no further. One begins with the first file and the other with the last,
and they end where they meet: so neither waits for the other, and nothing is sent but what was found.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import overlayws
from overlayws.base.contents import Scan
from overlayws.base.files import Copied, Copier
from overlayws.base.manifest import Stored
from overlayws.base.worker import Work, main, receive
from overlayws.errors import UnableError

# Where fork(2) cannot be used, starting the other process costs as much as copying some 1,500 files.
_WORTH_IT, _WORTH_A_START = 300, 3_000
_CHUNK = 100  # files; fewer towards the middle, where the first who is done waits for the other
_LEAST = 20
_CHUNK_BYTES = 32 << 20
_PIPE = 1 << 20

_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from overlayws.base.worker import started; " + (
    "started(int(sys.argv[2]), sys.stdout.buffer)"
)

Files = Mapping[str, os.stat_result]


def copy_all(
    root: int,
    target: int,
    files: Files,
    ending: ExitStack,
    *,
    clock: int,
    scan: Scan | None = None,
    begun: Callable[[], None] = lambda: None,
    progress: Callable[[int], None] = lambda n: None,
    store: Callable[[Files, list[Stored]], None] = lambda files, rows: None,
) -> Copied:
    """As ``Copier.copy``; ``store`` is given some files at a time and the rows of those that were copied. ``begun`` is
    called when the other process, if there is one, is at work, and ``ending`` waits for its end: taking a process
    down lasts longer than copying fifty files.

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

    least = _WORTH_IT if _one_thread() else _WORTH_A_START
    alone = len(files) < least or len(os.sched_getaffinity(0)) < 2
    chunks = list(_chunks(files))
    if alone:
        begun()
        copier = Copier(root, target, clock=clock, scan=scan)
        for chunk in chunks:
            take(chunk, copier.copy(chunk))
        return done
    left = os.eventfd(len(chunks), os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
    try:
        work = Work(root, target, left, chunks, clock, scan)
        with _other(work, ending) as source:
            copier = work.copier()
            theirs, ours = len(chunks), 0
            answered = False

            def hear() -> bool:
                nonlocal theirs
                answer = receive(source)
                if isinstance(answer, OSError):
                    raise answer
                if answer is None:
                    return True
                theirs -= 1
                take(chunks[theirs], answer)
                return False

            begun()
            while work.take():
                take(chunks[ours], copier.copy(chunks[ours]))
                ours += 1
                while not answered and select.select([source], [], [], 0)[0]:
                    answered = hear()
            while not answered:
                answered = hear()
            if ours != theirs:
                raise EOFError("what is left was taken by nobody")
    except EOFError:
        raise UnableError("the process that copies files ended", hint="is there enough memory?") from None
    finally:
        os.close(left)
    return done


def _chunks(files: Files) -> Iterator[dict[str, os.stat_result]]:
    chunk: dict[str, os.stat_result] = {}
    size = at = 0
    most = _CHUNK
    for path, st in files.items():
        if not chunk:
            most = max(_LEAST, min(_CHUNK, abs(len(files) - 2 * at) // 6))
        chunk[path] = st
        size += st.st_size
        if len(chunk) >= most or size >= _CHUNK_BYTES:
            yield chunk
            at += len(chunk)
            chunk, size = {}, 0
    if chunk:
        yield chunk


class _Process(Protocol):
    def kill(self) -> None: ...
    def wait(self) -> object: ...


@contextmanager
def _other(work: Work, ending: ExitStack) -> Iterator[BinaryIO]:
    """What another process answers by, which does ``work`` from the end."""
    hear, answer = os.pipe2(os.O_CLOEXEC)
    with open(hear, "rb", buffering=0) as source:
        try:
            try:
                fcntl.fcntl(answer, fcntl.F_SETPIPE_SZ, _PIPE)  # its answers fit: it does not wait for us to read
            except OSError:
                pass
            process: _Process = (_Forked if _one_thread() else _spawned)(work, answer, hear)
        finally:
            os.close(answer)
        try:
            yield source
        except BaseException:
            process.kill()
            process.wait()
            raise
        ending.callback(process.wait)


def _one_thread() -> bool:
    """Whether fork(2) is safe: of several threads it copies one, and the locks that the others hold stay locked."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


class _Forked:
    """A copy of this process, which starts and imports nothing."""

    def __init__(self, work: Work, answer: int, ours: int) -> None:
        self._pid = os.fork()
        if self._pid:
            return
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.close(ours)  # or it would not see when we are gone
            with open(answer, "wb", buffering=0) as out:
                main(work, out)
        finally:
            os._exit(0)

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> None:
        os.waitpid(self._pid, 0)


def _spawned(work: Work, answer: int, ours: int) -> subprocess.Popen[bytes]:
    package = Path(overlayws.__file__).parent.parent
    with open(os.memfd_create("overlayws-work"), "wb") as given:
        pickle.dump(work, given, pickle.HIGHEST_PROTOCOL)
        given.flush()
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM, os.fspath(package), str(given.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=answer,
            stderr=subprocess.DEVNULL,
            pass_fds=(work.root, work.target, work.left, given.fileno()),
        )
