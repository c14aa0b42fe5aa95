"""Which changes are shown, one row each: renames paired, directories only where no file says them, lines counted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from overlayws.changes.change import Change, ChangeSet
from overlayws.changes.git import FileStat, PrivateRepository, uncaptured
from overlayws.changes.shown import listed
from overlayws.source.entry import Entry, Kind


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a listing. For a rename ``before`` is what was at ``old``."""

    path: str
    status: str  # added, modified, deleted, renamed, type-changed, mode-changed
    before: Entry | None
    after: Entry | None
    flags: tuple[str, ...]
    added: int | None  # lines; None where there are none to count: binary and special files
    removed: int | None
    binary: bool = False
    old: str | None = None
    similarity: int | None = None

    @property
    def kind(self) -> Kind:
        entry = self.after or self.before
        assert entry is not None
        return entry.kind


def rows(changeset: ChangeSet, repository: PrivateRepository) -> list[Row]:
    """The rows of a change set, sorted by the bytes of the path.

    The renames that the scan was sure of come first, then those that git finds by similarity among the rest.
    """
    changes = {change.path: change for change in changeset.changes}
    stats = {stat.path: stat for stat in repository.stats()}
    pairs: dict[str, FileStat] = {}
    for rename in changeset.renames:
        stat = stats.get(rename.new)
        if stat is None or stat.old != rename.old:
            stat = repository.similarity(rename.old, rename.new)
        pairs[rename.new] = stat
    taken = {stat.old for stat in pairs.values()}
    torn = False
    for stat in list(stats.values()):
        if stat.old is None or stat.path in pairs:
            continue
        if stat.old in taken:
            torn = True
        else:
            pairs[stat.path] = stat
    # Where git paired otherwise than the scan, the halves it has no pair for any more are counted on their own.
    if torn or any(stats.get(new) is not pair for new, pair in pairs.items()):
        stats = {stat.path: stat for stat in repository.stats(renames=False)}
    moved = {pair.old for pair in pairs.values()}
    left_out = {change.path for change in (*repository.left_out, *uncaptured(changeset.changes))}
    found = []
    for change in listed(changeset):
        if change.path in moved:
            continue
        pair = pairs.get(change.path)
        if pair is not None and pair.old is not None and pair.old in changes:
            found.append(_renamed(changes[pair.old], change, pair))
        else:
            found.append(_row(change, stats.get(change.path), left_out))
    return found


def _renamed(old: Change, new: Change, stat: FileStat) -> Row:
    flags = tuple(dict.fromkeys((*new.flags, *(f for f in old.flags if f == "hidden-original"))))
    return Row(
        new.path, "renamed", old.before, new.after, flags, stat.added, stat.removed,
        binary=stat.added is None, old=old.path, similarity=stat.similarity or 0,
    )  # fmt: skip


def _row(change: Change, stat: FileStat | None, left_out: Collection[str]) -> Row:
    added: int | None = 0
    removed: int | None = 0
    binary = False
    if stat is not None:
        added, removed, binary = stat.added, stat.removed, stat.added is None
    elif change.kind.special or "git" in change.flags or change.path in left_out:
        added = removed = None
    return Row(change.path, change.status, change.before, change.after, change.flags, added, removed, binary)
