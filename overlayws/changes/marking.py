"""The flags that need more than one change at a time: made when the changes are frozen.

``embedded-repository`` (a directory that git takes for a repository) and ``confusable`` for a name that looks like
another one beside it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from overlayws.base.manifest import Manifest
from overlayws.changes.change import Change, ChangeSet
from overlayws.changes.confusable import skeleton
from overlayws.changes.gitname import is_git_name, repositories

# As in docs/changes.md.
ORDER = (
    "executable", "symlink-outside", "setuid", "hidden-original", "binary", "large", "secret", "invisible-text",
    "confusable", "auto-executed", "special", "git", "embedded-repository", "drift",
)  # fmt: skip


def marked(changeset: ChangeSet, manifest: Manifest) -> ChangeSet:
    """``changeset`` with these flags."""
    new: dict[str, set[str]] = {}
    for path in _embedded(changeset.changes, manifest):
        new.setdefault(path, set()).add("embedded-repository")
    for path in _twins(changeset.changes, manifest):
        new.setdefault(path, set()).add("confusable")
    if not new:
        return changeset
    changes = tuple(_with(change, new[change.path]) if change.path in new else change for change in changeset.changes)
    return replace(changeset, changes=changes)


def _with(change: Change, flags: set[str]) -> Change:
    return replace(change, flags=tuple(sorted({*change.flags, *flags}, key=ORDER.index)))


def _embedded(changes: Collection[Change], manifest: Manifest) -> set[str]:
    """What is in directories that git takes for a repository, one of its parts being new; and a nested ``.git``."""
    tops = repositories(changes, lambda path: manifest.get(path) is not None)
    found = {change.path for change in changes if "/" in change.path and is_git_name(change.path)}
    inside = None  # the last of them, and a slash: what is below it comes in one piece
    for path in (change.path for change in changes) if tops else ():
        if inside is None or not path.startswith(inside):
            above = path.rpartition("/")[0]
            top = path if path in tops else above if above in tops else None
            if top is None:
                continue
            inside = f"{top}/"
        found.add(path)
    return found


def _twins(changes: Collection[Change], manifest: Manifest) -> set[str]:
    """New names that look like another one beside them, in the base or among the changes."""
    added = [change.path for change in changes if change.before is None]
    odd = [path for path in added if not path.isascii()]
    if not odd:
        return set()
    looks: dict[str, set[str]] = {}
    for change in changes:
        if not change.path.isascii():
            parent, _, name = change.path.rpartition("/")
            looks.setdefault(f"{parent}/{skeleton(name)}", set()).add(change.path)
    there = {change.path for change in changes}
    found = set()
    for path in odd:
        parent, _, name = path.rpartition("/")
        like = skeleton(name)
        other = f"{parent}/{like}".lstrip("/")
        if like and like != name and (other in there or manifest.get(other) is not None):
            found.add(path)
        elif len(looks[f"{parent}/{like}"]) > 1:
            found.add(path)
    return found
