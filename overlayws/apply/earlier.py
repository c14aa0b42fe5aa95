"""What earlier applies of the same session left in the workspace: for the next one that is the program's own work,
not an edit of the user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from overlayws.apply.journal import Journal
from overlayws.apply.look import Look
from overlayws.apply.record import Node
from overlayws.apply.step import Seen
from overlayws.apply.undo import load_applied
from overlayws.source.entry import Kind

Earlier = Mapping[str, Node]


def earlier(journals: Iterable[Path]) -> Earlier:
    """The files and symlinks that the applies of ``journals`` (oldest first) left. Raises JournalError."""
    left: dict[str, Node] = {}
    for directory in journals:
        for path, node in load_applied(Journal(directory).applied).nodes.items():
            if node is not None and node.kind is not Kind.DIRECTORY:
                left[path] = node
            else:
                left.pop(path, None)
    return left


def is_earlier(left: Earlier, look: Look, path: str, seen: Seen) -> bool:
    """Whether the workspace still has what an earlier apply left at ``path``."""
    node = left.get(path)
    if node is None or node.kind is not seen.kind:
        return False
    stamp = seen.stamp
    if (stamp.ino, stamp.size, stamp.mtime_ns, stamp.ctime_ns) == (node.ino, node.size, node.mtime_ns, node.ctime_ns):
        return True
    return node.kind is Kind.FILE and node.digest is not None and look.digest(path) == node.digest
