"""A change set in one line, and what is to be looked at in it in a few more."""

from __future__ import annotations

import re
from collections import Counter

from overlayws.changes.change import Change, ChangeSet
from overlayws.cli.terminal import say, visible
from overlayws.source.entry import Kind

_NAMED = 3
_LONGEST = 100  # characters of a path
_PLAIN = re.compile(r"[\w./@+-]+…?", re.ASCII)


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


def tell(changeset: ChangeSet) -> None:
    """Say the summary, and for each flag which paths have it."""
    say(summarize(changeset))
    for line in flagged(changeset):
        say(f"  {line}")


def flagged(changeset: ChangeSet) -> list[str]:
    """For each flag a line such as ``auto-executed: .envrc, "a b.pth" and 7 more``."""
    paths: dict[str, list[str]] = {}
    for change in changeset.changes:
        for flag in change.flags:
            paths.setdefault(flag, []).append(change.path)
    lines = []
    for flag in sorted(paths):
        named = ", ".join(map(_told, paths[flag][:_NAMED]))
        more = len(paths[flag]) - _NAMED
        lines.append(f"{flag}: {named}{f' and {more} more' if more > 0 else ''}")
    return lines


def _told(path: str) -> str:
    """In quotes where it is not plain: a name shall not pass for several, or for what we say."""
    if len(path) > _LONGEST:
        path = path[:_LONGEST] + "…"
    return path if _PLAIN.fullmatch(path) else '"' + visible(path).replace('"', '\\"') + '"'


def _is_directory(change: Change) -> bool:
    return any(entry is not None and entry.kind is Kind.DIRECTORY for entry in (change.before, change.after))
