"""Every sandbox by name, best first."""

from __future__ import annotations

from overlayws.errors import NotStartedError, UsageError
from overlayws.run import bwrap, docker, gvisor, unconfined
from overlayws.run.sandbox import Sandbox

SANDBOXES: dict[str, Sandbox] = {"bwrap": bwrap, "docker": docker, "gvisor": gvisor, "none": unconfined}

# `none` confines nothing: a machine without a sandbox is a reason to stop, not to go on without.
_AUTOMATIC = ("bwrap",)
_HINT = "overlayws doctor says what would help; --sandbox none runs the command unconfined"


def choose(name: str) -> tuple[str, Sandbox, tuple[str, ...]]:
    """(name, sandbox, why the better ones were passed over) for a name or ``auto``, which is never ``none``.

    Raises NotStartedError where it (or any, for ``auto``) cannot be used here, UsageError for an unknown name.
    """
    if name != "auto" and name not in SANDBOXES:
        raise UsageError(f"unknown sandbox {name!r}", hint=f"one of: auto, {', '.join(SANDBOXES)}")
    passed_over: list[str] = []
    for candidate in _AUTOMATIC if name == "auto" else (name,):
        reason = SANDBOXES[candidate].unusable()
        if reason is None:
            return candidate, SANDBOXES[candidate], tuple(passed_over)
        passed_over.append(f"sandbox {candidate} cannot be used here: {reason}")
    raise NotStartedError("; ".join(passed_over), hint=_HINT)
