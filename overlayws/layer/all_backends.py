"""BACKENDS, best first, and the choice among them: made by trying, with the reason for each one passed over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from overlayws.errors import UsageError
from overlayws.layer import kernel, plaincopy, userns
from overlayws.layer.mount import Backend, MountError

BACKENDS: dict[str, Backend] = {"kernel": kernel, "userns": userns, "copy": plaincopy}

Choice = tuple[str, Backend, tuple[str, ...]]
_Answers = Mapping[str, Callable[[], str | None]]


def choose(name: str, state: Path, among: Collection[str] | None = None) -> Choice:
    """(name, backend, one line for each backend passed over) for ``--backend NAME``; ``auto`` is the best that works.

    ``among``: ``auto`` takes one of these only. ``state`` is the existing directory below which the layers will be.
    Raises UsageError for a name that is none,
    MountError where the named one (or, for ``auto``, every one) does not work here.
    """
    return _chosen(name, state, among, {})


@contextmanager
def choosing(name: str, state: Path, among: Collection[str] | None = None) -> Iterator[Callable[[], Choice]]:
    """``choose``, to be called later: what it would try first is tried beside the caller from now on.

    Only calling it raises. Leaving the context takes away what there is of a trial.
    """
    first = _first(among) if name == "auto" else name
    if first not in BACKENDS:
        yield lambda: choose(name, state, among)
        return
    with BACKENDS[first].trying(state) as answer:
        yield lambda: _chosen(name, state, among, {first: answer})


def _first(among: Collection[str] | None) -> str:
    """The one that most likely works: where that is known without a trial, it is not one that does not."""
    candidates = [name for name in BACKENDS if among is None or name in among]
    return next((name for name in candidates if BACKENDS[name] is not kernel or kernel.permitted()), "")


def _chosen(name: str, state: Path, among: Collection[str] | None, begun: _Answers) -> Choice:
    def reason(candidate: str) -> str | None:
        return begun[candidate]() if candidate in begun else BACKENDS[candidate].unusable(state)

    if name != "auto":
        if name not in BACKENDS:
            raise UsageError(f"no backend named {name}", hint=f"one of: auto, {', '.join(BACKENDS)}")
        if why := reason(name):
            raise MountError(f"backend {name} does not work here: {why}", hint="--backend auto takes one that does")
        return name, BACKENDS[name], ()
    passed_over: list[str] = []
    for candidate, backend in BACKENDS.items():
        if among is not None and candidate not in among:
            continue
        why = reason(candidate)
        if why is None:
            return candidate, backend, tuple(passed_over)
        passed_over.append(f"{candidate}: {why}")
    raise MountError(
        f"no backend works here: {'; '.join(passed_over)}",
        hint="set OVERLAYWS_HOME to a directory of yours on a local disk",
    )
