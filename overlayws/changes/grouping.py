"""Very many rows, listed so that a person can read them: what came or went in one directory as one line.

Only whole files that were added or deleted are put together, and the flags among them are counted: an edit of a file
that was there is always a line of its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from overlayws.changes.escape import quoted_path
from overlayws.changes.listing import Row

_MANY = 1000  # rows; fewer are all listed
_GROUP = 100  # rows of one directory and status


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one top-level directory ('' is the workspace itself: the files in it) and one status."""

    directory: str
    status: str
    rows: int
    added: int
    removed: int
    flags: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        flags = "".join(f", {flag} {count}" for flag, count in self.flags)
        name = quoted_path(f"{self.directory}/" if self.directory else "./")
        return f"{name} | {self.rows} {self.status}: +{self.added} -{self.removed} lines{flags}"


def grouped(rows: Sequence[Row]) -> tuple[list[Row], list[Group]]:
    """(rows that stand alone, groups); no groups unless there are more than a thousand rows."""
    if len(rows) <= _MANY:
        return list(rows), []
    found: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.status in ("added", "deleted"):
            found[row.path.partition("/")[0] if "/" in row.path else "", row.status].append(row)
    found = defaultdict(list, {key: below for key, below in found.items() if len(below) >= _GROUP})
    together = {row.path for below in found.values() for row in below}
    return [row for row in rows if row.path not in together], [_group(*key, below) for key, below in found.items()]


def _group(directory: str, status: str, rows: Sequence[Row]) -> Group:
    flags = Counter(flag for row in rows for flag in row.flags)
    added, removed = sum(row.added or 0 for row in rows), sum(row.removed or 0 for row in rows)
    return Group(directory, status, len(rows), added, removed, tuple(flags.most_common()))
