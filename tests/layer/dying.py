"""Crashes at every step: a forked child that ends itself before its nth call."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from typing import Any

Function = Callable[..., Any]


def in_child(action: Callable[[], object]) -> bool:
    """Whether ``action`` came to its end in a forked child that may end itself (dying)."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(2)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, 9), status
    return status == 0


def dying(nth: int) -> Callable[[Function], Function]:
    """What makes functions end this process at once in place of the nth call of any of them."""
    left = nth

    def counted(function: Function) -> Function:
        def call(*arguments: object, **keywords: object) -> object:
            nonlocal left
            if left == 0:
                os._exit(9)
            left -= 1
            return function(*arguments, **keywords)

        return call

    return counted
