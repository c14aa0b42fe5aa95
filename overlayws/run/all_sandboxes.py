"""Every sandbox by name, best first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from overlayws.errors import NotStartedError, UsageError
from overlayws.run.sandbox import Sandbox


def _bwrap() -> Sandbox:
    from overlayws.run import bwrap

    return bwrap


def _docker() -> Sandbox:
    from overlayws.run import docker

    return docker


def _gvisor() -> Sandbox:
    from overlayws.run import gvisor

    return gvisor


def _unconfined() -> Sandbox:
    from overlayws.run import unconfined

    return unconfined


# Each is loaded when it is asked for: to load them all took a tenth of what `start` takes.
SANDBOXES: dict[str, Callable[[], Sandbox]] = {
    "bwrap": _bwrap, "docker": _docker, "gvisor": _gvisor, "none": _unconfined,
}  # fmt: skip

# Where the program of root is another user.
CONTAINERS = ("docker", "gvisor")
# `none` confines nothing: a machine without a sandbox is a reason to stop, not to go on without.
_AUTOMATIC = ("bwrap",)
Choice = tuple[str, Sandbox, tuple[str, ...]]
_HINT = "overlayws doctor says what would help; --sandbox none runs the command unconfined"


@contextmanager
def choosing(name: str) -> Iterator[Callable[[], Choice]]:
    """``choose``, to be called later: what it would try first is tried beside the caller from now on, if that can be.

    Only calling it raises. Leaving the context takes away what there is of a trial.
    """
    if name not in ("auto", "bwrap"):
        yield lambda: choose(name)
        return
    from overlayws.run import bwrap

    with bwrap.trying() as settle:

        def chosen() -> Choice:
            settle()
            return choose(name)

        yield chosen


def choose(name: str) -> Choice:
    """(name, sandbox, why the better ones were passed over) for a name or ``auto``, which is never ``none``.

    Raises NotStartedError where it (or any, for ``auto``) cannot be used here, UsageError for an unknown name.
    """
    if name != "auto" and name not in SANDBOXES:
        raise UsageError(f"unknown sandbox {name!r}", hint=f"one of: auto, {', '.join(SANDBOXES)}")
    passed_over: list[str] = []
    for candidate in _AUTOMATIC if name == "auto" else (name,):
        sandbox = SANDBOXES[candidate]()
        reason = sandbox.unusable()
        if reason is None:
            return candidate, sandbox, tuple(passed_over)
        passed_over.append(f"sandbox {candidate} cannot be used here: {reason}")
    raise NotStartedError("; ".join(passed_over), hint=_HINT)
