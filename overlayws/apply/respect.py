"""Directories that the user locked since the start are not written in; those that were locked before, and those that
the program locked, are (``locked`` opens them for the time of the apply)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from overlayws.apply.look import Barred, Look
from overlayws.apply.step import Action, Step
from overlayws.base.manifest import Manifest
from overlayws.beneath import directories_above, split
from overlayws.changes.change import Change
from overlayws.errors import UnableError
from overlayws.source.entry import Kind


def check_locks(
    look: Look, steps: Iterable[Step], changes: Mapping[str, Change], manifest: Manifest, left: Mapping[str, int]
) -> frozenset[str]:
    """The directories that must be opened for ``steps``.

    ``left``: the modes of the directories that earlier applies of the session left. Raises UnableError where names
    would change in one that its user made read-only since the start.
    """
    if os.geteuid() == 0:  # to whom a mode forbids nothing
        return frozenset()
    steps = tuple(steps)
    renaming = [step for step in steps if step.action not in (Action.OPEN, Action.SET)]
    made = {step.path for step in renaming if step.action is Action.MAKE_DIRECTORY}
    written = {split(step.path)[0] for step in renaming}
    locked = set()
    for directory in sorted(directories_above(step.path for step in steps) - made):
        try:
            seen = look.seen(directory)
        except Barred:  # a symlink took its place since the plan looked: carrying it out refuses that
            continue
        if seen is None or seen.kind is not Kind.DIRECTORY or seen.uid != os.geteuid() or seen.mode & 0o700 == 0o700:
            continue
        locked.add(directory)
        change, given = changes.get(directory), manifest.get(directory)
        modes = {left.get(directory)}
        if change is not None and change.after is not None:
            modes.add(change.after.mode)
        if given is not None:
            modes.add(given.entry.mode)
        if directory in written and seen.mode & 0o300 != 0o300 and seen.mode not in modes:
            raise UnableError(
                f"cannot write in directory {directory!r} of the workspace: "
                f"its mode was made {seen.mode:04o} since the start",
                hint="make it writable, then apply again; nothing was changed",
            )
    return frozenset(locked)
