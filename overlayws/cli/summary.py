"""A change set in one line."""

from __future__ import annotations

from collections import Counter

from overlayws.changes.change import Change, ChangeSet
from overlayws.source.entry import Kind


def summarize(changeset: ChangeSet) -> str:
    """Such as ``5 files changed: 2 added, 2 modified, 1 deleted``. Directories count where they stand alone."""
    from overlayws.changes.shown import listed

    changes = listed(changeset)
    if not changes and not changeset.problems:
        return "nothing changed"
    new = {rename.new for rename in changeset.renames}
    old = {rename.old for rename in changeset.renames}
    counts = Counter("renamed" if c.path in new else c.status for c in changes if c.path not in old)
    order = ("added", "modified", "deleted", "renamed", "type-changed", "mode-changed")
    parts = ", ".join(f"{counts[status]} {status}" for status in order if counts[status])
    total = sum(counts.values())
    noun = "path" if any(_is_directory(c) for c in changes) else "file"
    text = f"{total} {noun}{'' if total == 1 else 's'} changed" + (f": {parts}" if parts else "")
    if changeset.problems:
        text += f"; {len(changeset.problems)} could not be captured"
    return text


def _is_directory(change: Change) -> bool:
    return any(entry is not None and entry.kind is Kind.DIRECTORY for entry in (change.before, change.after))
