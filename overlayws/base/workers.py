"""copy_all: the files of a workspace, by this process and, where there are many, by another one beside it.

A process, not a thread: half of the time goes into looking at contents, which holds the interpreter's lock. Two, not
more: creating files in one file system scales no further.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import overlayws
from overlayws.base.contents import Scan
from overlayws.base.files import Copied, copy_files
from overlayws.base.manifest import Stored
from overlayws.base.worker import main, receive, send
from overlayws.errors import UnableError

# Where fork(2) cannot be used, starting the other process costs as much as copying some 1,500 files.
_WORTH_IT, _WORTH_A_START = 300, 3_000
_CHUNK = 100
_CHUNK_BYTES = 32 << 20
_AHEAD = 3  # chunks on their way to the other process, so that it never waits
_PIPE = 1 << 20

_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from overlayws.base.worker import main; " + (
    "main(sys.stdin.buffer, sys.stdout.buffer)"
)


def copy_all(
    root: int,
    target: int,
    files: Mapping[str, os.stat_result],
    *,
    clock: int,
    scan: Scan | None = None,
    progress: Callable[[int], None] = lambda n: None,
    store: Callable[[Sequence[str], list[Stored]], None] = lambda paths, rows: None,
) -> Copied:
    """As ``copy_files``; ``store`` is given some paths at a time and the rows of those that were copied.

    Raises UnableError where the other process ends before its time.
    """
    done = Copied()
    finished = 0

    def take(chunk: Sequence[str], answer: Copied) -> None:
        nonlocal finished
        done.add(answer)
        store(chunk, answer.rows)
        finished += len(chunk)
        progress(finished)

    chunks = _chunks(files)
    least = _WORTH_IT if _one_thread() else _WORTH_A_START
    if len(files) < least or len(os.sched_getaffinity(0)) < 2:
        for chunk in chunks:
            take(chunk, copy_files(root, target, chunk, clock=clock, scan=scan))
        return done
    waiting: list[list[str]] = []  # the chunks that the other process has
    with _other(root, target) as (to, source):
        try:
            send(to, (root, target, clock, scan))
            ours = next(chunks, None)
            while ours is not None or waiting:
                while ours is not None and len(waiting) < _AHEAD and _fits(to, [*waiting, ours]):
                    send(to, ours)
                    waiting.append(ours)
                    ours = next(chunks, None)
                if ours is not None:
                    take(ours, copy_files(root, target, ours, clock=clock, scan=scan))
                    ours = next(chunks, None)
                while waiting and (ours is None or select.select([source], [], [], 0)[0]):
                    answer = receive(source)
                    if isinstance(answer, OSError):
                        raise answer
                    take(waiting.pop(0), answer)
        except (EOFError, BrokenPipeError):
            raise UnableError("the process that copies files ended", hint="is there enough memory?") from None
    return done


def _chunks(files: Mapping[str, os.stat_result]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for path, st in files.items():
        chunk.append(path)
        size += st.st_size
        if len(chunk) >= _CHUNK or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _fits(to: BinaryIO, chunks: list[list[str]]) -> bool:
    """Whether the last of ``chunks`` can be sent before the others are answered. Where it would have to wait for room
    in the pipe, and the other process for us to read an answer, both would wait for ever."""
    names = sum(3 * len(path) + 16 for chunk in chunks for path in chunk)
    return len(chunks) == 1 or names < fcntl.fcntl(to, fcntl.F_GETPIPE_SZ) // 2


@contextmanager
def _other(root: int, target: int) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """(what it is told by, what it answers by) of another process that copies."""
    told, tell = os.pipe2(os.O_CLOEXEC)
    hear, answer = os.pipe2(os.O_CLOEXEC)
    with open(tell, "wb", buffering=0) as to, open(hear, "rb", buffering=0) as source:
        try:
            for pipe in (tell, answer):
                try:
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)  # an answer fits: nobody waits for the other to read
                except OSError:
                    pass
            process = (_Forked if _one_thread() else _spawned)(told, answer, (root, target), (tell, hear))
        finally:
            os.close(told)
            os.close(answer)
        try:
            yield to, source
        except BaseException:
            process.kill()
            raise
        finally:
            to.close()
            source.close()
            process.wait()


def _one_thread() -> bool:
    """Whether fork(2) is safe: of several threads it copies one, and the locks that the others hold stay locked."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


class _Forked:
    """A copy of this process, which starts and imports nothing."""

    def __init__(self, told: int, answer: int, shared: tuple[int, ...], ours: tuple[int, ...]) -> None:
        self._pid = os.fork()
        if self._pid:
            return
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for fd in ours:  # or it would not see when we are gone
                os.close(fd)
            with open(told, "rb", buffering=0) as source, open(answer, "wb", buffering=0) as out:
                main(source, out)
        finally:
            os._exit(0)

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)

    def wait(self) -> None:
        os.waitpid(self._pid, 0)


def _spawned(told: int, answer: int, shared: tuple[int, ...], ours: tuple[int, ...]) -> subprocess.Popen[bytes]:
    package = Path(overlayws.__file__).parent.parent
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PROGRAM, os.fspath(package)],
        stdin=told,
        stdout=answer,
        stderr=subprocess.DEVNULL,
        pass_fds=shared,
    )
