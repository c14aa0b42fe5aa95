"""Hard links: the names in the upperdir that are one file for the program. Told, never applied: see ``told``.

An upperdir has them as they are (``index=off``: a copy-up breaks those of the base). Names that an inode may have in
other places are nobody's concern: what is captured is its bytes, what is applied is a new file.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Sequence

from overlayws.changes.bounds import Bounds
from overlayws.changes.change import Change
from overlayws.changes.escape import quoted_path

Group = tuple[str, ...]
"""The names of one file, sorted by their bytes."""

_GROUPS, _NAMES = 5, 5  # that are told; more of them are counted


class Links:
    """The files with several names that a scan met."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._names: dict[tuple[int, int], list[str]] = {}

    def add(self, path: str, st: os.stat_result) -> None:
        """Remember a file if it has other names, and if there is room for it."""
        if st.st_nlink > 1 and self._bounds.remembers(path):
            self._names.setdefault((st.st_dev, st.st_ino), []).append(path)

    def groups(self, changes: Iterable[Change]) -> tuple[Group, ...]:
        """The files of which several names were met and one is a change, sorted."""
        if not self._names:
            return ()
        changed = {change.path for change in changes}
        found = [names for names in self._names.values() if len(names) > 1 and not changed.isdisjoint(names)]
        return tuple(sorted((tuple(sorted(names, key=os.fsencode)) for names in found), key=_first))


def touching(groups: Sequence[Group], paths: Container[str]) -> tuple[Group, ...]:
    """Those of ``groups`` that one of ``paths`` is in, whole."""
    return tuple(group for group in groups if any(path in paths for path in group))


def note(groups: Sequence[Group], written: Iterable[str]) -> tuple[str, ...]:
    """What apply says where it writes names of ``groups``: one line, or none."""
    apart = touching(groups, set(written))
    return (f"hard links become files of their own: {told(apart)}",) if apart else ()


def told(groups: Sequence[Group]) -> str:
    """One line of all groups, escaped: the first names, and how many more there are."""
    shown = "; ".join(_names(group) for group in groups[:_GROUPS])
    more = len(groups) - _GROUPS
    return f"{shown}; and {more} more files" if more > 0 else shown


def _names(group: Group) -> str:
    names = " = ".join(map(quoted_path, group[:_NAMES]))
    return names + (f" = {len(group) - _NAMES} more" if len(group) > _NAMES else "")


def _first(group: Group) -> bytes:
    return os.fsencode(group[0])
