"""The flags that need more than one change at a time, or much time: made when the changes are frozen.

``secret`` (what the program wrote has a secret in it), ``embedded-repository`` (a directory that git takes for a
repository) and ``confusable`` for a name that looks like another one beside it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from overlayws.base.manifest import Manifest
from overlayws.changes.change import Change, ChangeSet
from overlayws.changes.confusable import skeleton
from overlayws.changes.gitname import is_git_name, repositories
from overlayws.filter.content_rules import WARN, Action
from overlayws.filter.contents import Inspector

_INSPECTED = 64 << 20  # bytes in all; the content rules read about 20 MB a second
# As in docs/changes.md.
ORDER = (
    "executable", "symlink-outside", "setuid", "hidden-original", "binary", "large", "secret", "invisible-text",
    "confusable", "auto-executed", "special", "git", "embedded-repository", "drift",
)  # fmt: skip


class Secrets:
    """Which of the contents that are given to it have a secret in them, as the filter's rules know secrets."""

    def __init__(self) -> None:
        self._inspector = Inspector()
        self._left = _INSPECTED
        self.paths: set[str] = set()

    def look(self, path: str, data: bytes) -> None:
        """Note ``path`` if ``data`` has a secret; beyond 64 MiB in all nothing is looked at any more."""
        self._left -= len(data)
        if self._left < 0:
            return
        findings = self._inspector.inspect(path, data).findings
        if any(f.line and f.action not in (Action.SHOW, WARN) for f in findings):
            self.paths.add(path)


def marked(changeset: ChangeSet, manifest: Manifest, secrets: Collection[str]) -> ChangeSet:
    """``changeset`` with these flags; ``secrets`` are the paths that have some."""
    new: dict[str, set[str]] = {path: {"secret"} for path in secrets}
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
