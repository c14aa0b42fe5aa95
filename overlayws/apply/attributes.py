"""Extended attributes are applied only where that is asked for: tools act on some (``user.mime_type``, quarantine
marks, checksums), and nobody sees them in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from overlayws.changes.acls import told
from overlayws.changes.change import Change, ChangeSet


def accepted(changes: Sequence[Change], xattrs: bool) -> Sequence[Change]:
    """The changes; unless ``xattrs``, with the attributes from before, and without what changed in nothing else."""
    if xattrs:
        return changes
    found = []
    for change in changes:
        before, after = change.before, change.after
        if after is not None:
            kept = before.xattrs if before is not None and before.kind is after.kind else ()
            if kept != after.xattrs:
                change = replace(change, after=replace(after, xattrs=kept))
        if change.before != change.after:
            found.append(change)
    return found


def left_out(changeset: ChangeSet, xattrs: bool) -> tuple[str, ...]:
    """What apply says of attributes and access lists that it leaves out: a line each, or none."""
    notes = []
    if not xattrs:
        kept = {change.path: change.after for change in accepted(changeset.changes, xattrs)}
        left = [c.path for c in changeset.changes if c.after is not None and kept.get(c.path, c.before) != c.after]
        if left:
            notes.append(f"extended attributes are left out (--xattrs applies them): {told(left)}")
    if changeset.access_lists:
        notes.append(f"access lists are never applied: {told(changeset.access_lists)}")
    return tuple(notes)
