"""ConflictError, and for every class of what is not applied a way to go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from overlayws.apply.refuse import ADMISSIBLE
from overlayws.apply.step import Conflict
from overlayws.errors import OverlaywsError, UsageError

ON_CONFLICT = ("fail", "ours", "theirs", "markers")
_BY_HAND = "make the change by hand"
_OUT = "leave it out (--skip-refused)"
# What to do about a class, where no --on-conflict does it.
_NEXT = {
    "redacted": f"{_BY_HAND}: the program never saw the secrets",
    "edited": _BY_HAND,
    "exists": "move yours away",
    "kind": _BY_HAND,
    "mode": "chmod it as it should be",
    "xattrs": "set its attributes as they should be",
    "not-empty": "move away what is in it",
    "parent-symlink": "choose that path too, or put a directory in the place of the link",
    "parent-not-a-directory": "put a directory there",
    "parent-vanished": "make the directory again",
    "parent-unreadable": "make the directory readable",
    "blocked": "settle what is above it first, or name that too",
    "special": _OUT,
    "git": f"{_OUT}; --branch brings the program's commits",
    "hidden-original": f"{_OUT}: what is hidden is never touched",
    "twins": f"{_OUT}, or rename one of the two in the session",
    "symlink-outside": f"admit it (--allow symlink-outside), or {_OUT}",
}


def check_options(on_conflict: str, allow: frozenset[str]) -> None:
    """Raises UsageError for a value of --on-conflict or a class to admit that is none."""
    if on_conflict not in ON_CONFLICT:
        raise UsageError(f"unknown value {on_conflict!r} of --on-conflict", hint="one of " + ", ".join(ON_CONFLICT))
    if unknown := allow - ADMISSIBLE:
        raise UsageError(
            f"class {min(unknown)!r} cannot be admitted", hint="these can: " + ", ".join(sorted(ADMISSIBLE))
        )


def next_step(conflict: Conflict) -> str:
    """What a person can do about it."""
    if conflict.reason in ("content", "deleted"):
        return _choices(conflict.choices) + f", or {_BY_HAND}"
    step = _NEXT.get(conflict.reason, _BY_HAND)
    refused = "--skip-refused" in step
    return step if refused else f"{_choices(conflict.choices)}, or {step}"


def _choices(choices: Sequence[str]) -> str:
    return "--on-conflict " + "|".join(("ours", *choices))


def hint_of(conflicts: Sequence[Conflict], refused: Sequence[Conflict]) -> str:
    """What to do about all of them at once: only what helps with every one of them is offered."""
    hints = []
    if conflicts:
        shared = [c for c in ("theirs", "markers") if all(c in conflict.choices for conflict in conflicts)]
        hints.append(f"edit the files so that both fit, or {_choices(shared)}")
    if refused:
        hints.append("--skip-refused applies the rest")
        admissible = sorted({conflict.reason for conflict in refused} & ADMISSIBLE)
        hints += [f"--allow {reason} admits that class" for reason in admissible]
    return "; ".join(hints)


class ConflictError(OverlaywsError):
    """A plan has conflicts (or refused changes), so nothing is written. ``conflicts`` has all of them."""

    def __init__(self, message: str, conflicts: tuple[Conflict, ...], hint: str) -> None:
        super().__init__(message, hint=hint)
        self.conflicts = conflicts

    @classmethod
    def of(cls, conflicts: Sequence[Conflict], refused: Sequence[Conflict]) -> Self:
        """The error for what is in the way of a plan."""
        found = (*conflicts, *refused)
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        return cls(f"nothing applied: {found[0]}{more}", found, hint_of(conflicts, refused))
