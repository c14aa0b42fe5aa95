"""What earlier applies of the same session left in the workspace: for the next one that is the program's own work,
not an edit of the user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from overlayws.apply.journal import Journal
from overlayws.apply.look import Look
from overlayws.apply.record import Node
from overlayws.apply.step import Seen
from overlayws.apply.undo import load_applied
from overlayws.source.entry import Kind


@dataclass(frozen=True, slots=True)
class Earlier:
    """The files and symlinks that earlier applies left, and the modes of the directories."""

    nodes: Mapping[str, Node] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)


def earlier(journals: Iterable[Path]) -> Earlier:
    """What the applies of ``journals`` (oldest first) left. Raises JournalError."""
    nodes: dict[str, Node] = {}
    modes: dict[str, int] = {}
    for directory in journals:
        for path, node in load_applied(Journal(directory).applied).nodes.items():
            nodes.pop(path, None)
            modes.pop(path, None)
            if node is not None and node.kind is Kind.DIRECTORY:
                modes[path] = node.mode
            elif node is not None:
                nodes[path] = node
    return Earlier(nodes, modes)


def is_earlier(left: Earlier, look: Look, path: str, seen: Seen) -> bool:
    """Whether the workspace still has what an earlier apply left at ``path``."""
    node = left.nodes.get(path)
    if node is None or node.kind is not seen.kind:
        return False
    stamp = seen.stamp
    if (stamp.ino, stamp.size, stamp.mtime_ns, stamp.ctime_ns) == (node.ino, node.size, node.mtime_ns, node.ctime_ns):
        return True
    return node.kind is Kind.FILE and node.digest is not None and look.digest(path) == node.digest
