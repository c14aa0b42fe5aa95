"""Calls that change something, counted in a forked child: the n-th is never made, since the child is killed or
because the call fails."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable

from overlayws import beneath

CALLS = (
    "open write mkdir rmdir unlink rename link symlink fsync ftruncate fchmod chmod fchown chown setxattr removexattr "
    "utime"
).split()


class _Counter:
    def __init__(self, nth: int, number: int | None) -> None:
        self.left = nth
        self.number = number
        self.reached = False

    def count(self, arguments: tuple[object, ...]) -> None:
        self.left -= 1
        if self.left != 0:
            return
        self.reached = True
        if self.number is None:
            os.kill(os.getpid(), signal.SIGKILL)
        assert self.number is not None
        raise OSError(self.number, os.strerror(self.number))


def _patch(counter: _Counter) -> None:
    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*arguments: object, **named: object) -> object:
            if call is not real_open or (len(arguments) > 1 and int(arguments[1]) & os.O_CREAT):  # type: ignore[call-overload]
                counter.count(arguments)
            return call(*arguments, **named)

        return wrapper

    real_open = os.open
    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    for name in ("_renameat2", "syncfs"):
        setattr(beneath, name, counted(getattr(beneath, name)))


def in_child(work: Callable[[], object], nth: int = 0, number: int | None = None) -> str:
    """Run ``work`` in a child whose ``nth`` changing call kills it (or fails with ``number``). Returns "killed",
    "failed" (it raised; the call was reached), "done" (it ended well although the call was reached) or "unreached".
    """
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            counter = _Counter(nth, number)
            _patch(counter)
            try:
                work()
                code = 11 if counter.reached else 0
            except Exception as error:
                code = 10 if counter.reached and hasattr(error, "exit_code") else 99
                if code == 99:
                    traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(code)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return "killed"
    return {0: "unreached", 10: "failed", 11: "done"}[os.WEXITSTATUS(status)]
