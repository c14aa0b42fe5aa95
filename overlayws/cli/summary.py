"""A change set in one line."""

from __future__ import annotations

from collections import Counter

from overlayws.changes.change import ChangeSet
from overlayws.source.entry import Kind


def summarize(changeset: ChangeSet) -> str:
    """Such as ``5 files changed: 2 added, 2 modified, 1 deleted``. Directories count where they stand alone."""
    from overlayws.changes.render import listed

    changes = listed(changeset)
    if not changes and not changeset.problems:
        return "nothing changed"
    counts = Counter(change.status for change in changes)
    order = ("added", "modified", "deleted", "renamed", "type-changed", "mode-changed")
    parts = ", ".join(f"{counts[status]} {status}" for status in order if counts[status])
    noun = "file" if all(c.kind is not Kind.DIRECTORY for c in changes) else "path"
    text = f"{len(changes)} {noun}{'' if len(changes) == 1 else 's'} changed" + (f": {parts}" if parts else "")
    if changeset.problems:
        text += f"; {len(changeset.problems)} could not be captured"
    return text
