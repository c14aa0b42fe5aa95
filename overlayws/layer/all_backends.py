"""BACKENDS, best first, and the choice among them: made by trying, with the reason for each one passed over."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from overlayws.errors import UsageError
from overlayws.layer import kernel, plaincopy, userns
from overlayws.layer.mount import Backend, MountError

BACKENDS: dict[str, Backend] = {"kernel": kernel, "userns": userns, "copy": plaincopy}


def choose(name: str, state: Path, among: Collection[str] | None = None) -> tuple[str, Backend, tuple[str, ...]]:
    """(name, backend, one line for each backend passed over) for ``--backend NAME``; ``auto`` is the best that works.

    ``among``: ``auto`` takes one of these only. ``state`` is the existing directory below which the layers will be.
    Raises UsageError for a name that is none,
    MountError where the named one (or, for ``auto``, every one) does not work here.
    """
    if name != "auto":
        if name not in BACKENDS:
            raise UsageError(f"no backend named {name}", hint=f"one of: auto, {', '.join(BACKENDS)}")
        if reason := BACKENDS[name].unusable(state):
            raise MountError(f"backend {name} does not work here: {reason}", hint="--backend auto takes one that does")
        return name, BACKENDS[name], ()
    passed_over: list[str] = []
    for candidate, backend in BACKENDS.items():
        if among is not None and candidate not in among:
            continue
        reason = backend.unusable(state)
        if reason is None:
            return candidate, backend, tuple(passed_over)
        passed_over.append(f"{candidate}: {reason}")
    raise MountError(
        f"no backend works here: {'; '.join(passed_over)}",
        hint="set OVERLAYWS_HOME to a directory of yours on a local disk",
    )
