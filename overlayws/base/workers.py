"""copy_all: the files of a workspace, by this process and, where there are many, by another one beside it.

A process, not a thread: half of the time goes into looking at contents, which holds the interpreter's lock. Two, not
more: creating files in one file system scales no further.
"""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import overlayws
from overlayws.base.contents import Scan
from overlayws.base.files import Copied, copy_files
from overlayws.base.worker import receive, send
from overlayws.errors import UnableError

# Starting the other process costs as much as copying some 1,500 files.
_WORTH_IT = 3_000
_CHUNK = 200
_CHUNK_BYTES = 32 << 20
_AHEAD = 2  # chunks on their way to the other process, so that it never waits
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
) -> Copied:
    """As ``copy_files``. Raises UnableError where the other process ends before its time."""
    if len(files) < _WORTH_IT or len(os.sched_getaffinity(0)) < 2:
        return copy_files(root, target, list(files), clock=clock, scan=scan, progress=progress)
    done = Copied()
    finished = 0
    waiting: list[int] = []  # of the chunks that the other process has, how many files
    chunks = _chunks(files)
    with _other(root, target) as other:
        assert other.stdin is not None and other.stdout is not None
        try:
            send(other.stdin, (root, target, clock, scan))  # type: ignore[arg-type]
            chunk = next(chunks, None)
            while chunk is not None or waiting:
                while chunk is not None and len(waiting) < _AHEAD:
                    send(other.stdin, chunk)  # type: ignore[arg-type]
                    waiting.append(len(chunk))
                    chunk = next(chunks, None)
                if chunk is not None:
                    done.add(copy_files(root, target, chunk, clock=clock, scan=scan))
                    finished += len(chunk)
                    chunk = next(chunks, None)
                while waiting and (chunk is None or select.select([other.stdout], [], [], 0)[0]):
                    answer = receive(other.stdout)  # type: ignore[arg-type]
                    if isinstance(answer, OSError):
                        raise answer
                    done.add(answer)
                    finished += waiting.pop(0)
                progress(finished)
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


@contextmanager
def _other(root: int, target: int) -> Iterator[subprocess.Popen[bytes]]:
    package = Path(overlayws.__file__).parent.parent
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PROGRAM, os.fspath(package)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=(root, target),
        bufsize=0,
    )
    assert process.stdin is not None and process.stdout is not None
    for pipe in (process.stdin, process.stdout):
        try:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)  # an answer fits: nobody waits for the other to read
        except OSError:
            pass
    try:
        yield process
    except BaseException:
        process.kill()
        raise
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()
