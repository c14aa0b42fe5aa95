"""What earlier applies of the same session left in the workspace: for the next one that is the program's own work,
not an edit of the user. Only where exactly the accepted content was written: a merge holds the user's edits too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from overlayws.apply.journal import Journal
from overlayws.apply.look import Look
from overlayws.apply.record import Node
from overlayws.apply.step import Seen
from overlayws.apply.undo import load_applied
from overlayws.source.entry import Entry, Kind


@dataclass(frozen=True, slots=True)
class Earlier:
    """The files and symlinks that earlier applies left, with what was accepted, and the modes of the directories."""

    nodes: Mapping[str, tuple[Node, Entry]] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)


def earlier(journals: Iterable[Path]) -> Earlier:
    """What the applies of ``journals`` (oldest first) left. Raises JournalError."""
    nodes: dict[str, tuple[Node, Entry]] = {}
    modes: dict[str, int] = {}
    for directory in journals:
        applied = load_applied(Journal(directory).applied)
        for path, node in applied.nodes.items():
            nodes.pop(path, None)
            modes.pop(path, None)
            if node is not None and node.kind is Kind.DIRECTORY:
                modes[path] = node.mode
            elif node is not None and path in applied.accepted:
                nodes[path] = (node, applied.accepted[path])
    return Earlier(nodes, modes)


def is_earlier(left: Earlier, look: Look, path: str, seen: Seen) -> tuple[Node, Entry] | None:
    """What an earlier apply left at ``path`` and what was accepted, if the workspace still has it; else None."""
    node, entry = left.nodes.get(path, (None, None))
    if node is None or entry is None or node.kind is not seen.kind:
        return None
    stamp = seen.stamp
    if (stamp.ino, stamp.size, stamp.mtime_ns, stamp.ctime_ns) == (node.ino, node.size, node.mtime_ns, node.ctime_ns):
        return node, entry
    same = node.kind is Kind.FILE and node.digest is not None and look.digest(path) == node.digest
    return (node, entry) if same else None
