"""A process that tries something while we go on: spawned at once, its end awaited later.

posix_spawn(3), not fork(2): the caller may have threads.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

from overlayws.atomic import write_all

_COMPLAINTS = 1 << 13  # bytes that are read of what it says
TIMED_OUT = 124  # as timeout(1)


class Attempt:
    """A process that was begun (see ``begun``)."""

    def __init__(self, pid: int, files: Mapping[int, int], seconds: float) -> None:
        self._pid, self._files = pid, files
        self._status: int | None = None
        self._until = time.monotonic() + seconds

    def wait(self) -> int:
        """Its exit status once it has ended: 128 + n for signal n, TIMED_OUT where its time was over (it is killed).

        0 also where nobody can know (wait(2), SIGCHLD ignored): what it did has to show that it worked.
        """
        pause = 0.0005
        while self._status is None and not self._reaped():
            left = self._until - time.monotonic()
            if left <= 0:
                self.end()
                self._status = TIMED_OUT
                break
            time.sleep(min(pause, left))
            pause = min(2 * pause, 0.01)
        assert self._status is not None
        return self._status

    def said(self, number: int = 2) -> bytes:
        """What it wrote to the descriptor ``number``, one of ``heard``; not more than some lines."""
        return os.pread(self._files[number], _COMPLAINTS, 0)

    def end(self) -> None:
        """Kill it and what it has begun, unless it has ended."""
        if self._status is None and not self._reaped():
            with suppress(ProcessLookupError):  # it has ended now, and somebody else waits for every child
                os.killpg(self._pid, signal.SIGKILL)
            self._reaped(0)

    def _reaped(self, how: int = os.WNOHANG) -> bool:
        try:
            pid, status = os.waitpid(self._pid, how)
        except ChildProcessError:  # SIGCHLD is ignored, or somebody who has us as a library waits for every child
            self._status = 0
            return True
        if pid:
            code = os.waitstatus_to_exitcode(status)
            self._status = 128 - code if code < 0 else code
        return pid != 0


@contextmanager
def begun(
    argv: Sequence[str],
    *,
    program: str | None = None,
    seconds: float,
    given: Mapping[int, bytes] | None = None,
    heard: Sequence[int] = (2,),
) -> Iterator[Attempt]:
    """``argv`` (executing ``program``, or its first word, an absolute path) as a process that is gone on leaving.

    It has a session of its own, no environment, every signal as it is by default, /dev/null as 0 and 1, at each number
    of ``given`` that content to read, at each of ``heard`` an empty file to write; nothing else below the limit of
    descriptors is open. ``seconds`` is the time that it gets. Raises OSError where it cannot be executed.
    """
    # Above all that are asked for, so that nothing that is put in place lands on what is still to be put.
    above = 1 + max(2, *(given or ()), *heard)
    with ExitStack() as stack:

        def kept(fd: int) -> int:
            try:
                high = _high(fd, above)
            finally:
                os.close(fd)
            stack.callback(os.close, high)
            return high

        null = kept(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        wanted = {0: null, 1: null}
        for number, content in (given or {}).items():
            wanted[number] = kept(_file(content))
        files = {number: kept(_file()) for number in heard}
        wanted |= files
        actions: list[tuple[int, int] | tuple[int, int, int]] = [
            (os.POSIX_SPAWN_DUP2, fd, number) for number, fd in wanted.items()
        ]
        # posix_spawn refuses numbers beyond the limit, which was higher when those were opened: they stay open.
        limit = os.sysconf("SC_OPEN_MAX")
        actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable() if fd not in wanted and fd < limit]
        pid = os.posix_spawn(
            program or argv[0], list(argv), {}, file_actions=actions, setsid=True, setsigmask=(),
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )  # fmt: skip
        attempt = Attempt(pid, files, seconds)
        stack.callback(attempt.end)
        yield attempt


def _high(fd: int, above: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above)


def _file(content: bytes = b"") -> int:
    fd = os.memfd_create("overlayws", os.MFD_CLOEXEC)
    write_all(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _inheritable() -> list[int]:
    """The descriptors that the process would get from us: what we were given ourselves, all of Python's own are not."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.get_inheritable(int(name)):
                found.append(int(name))
        except OSError as error:
            if error.errno != errno.EBADF:  # that of the listing itself
                raise
    return found


def last_line(said: bytes) -> str:
    """The last line that is not empty, for a message of one line; "" where there is none."""
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    return "".join(c if c.isprintable() else "?" for c in lines[-1]) if lines else ""
