"""A change set for people and scripts: patch, --stat, --name-status, JSON.

What is meant for programs is exact; what is meant for a terminal is escaped (see ``escape``), since every name and
every line in it was chosen by a program that is not trusted.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from overlayws.changes.change import Change, ChangeSet, unsaid
from overlayws.changes.contents import Contents
from overlayws.changes.escape import quoted_path, visible
from overlayws.changes.git import EXACT, Limits, private_repository
from overlayws.changes.grouping import grouped
from overlayws.changes.listing import Row
from overlayws.changes.verify import verify
from overlayws.source.entry import Entry, Kind

SCHEMA = "overlayws.changeset/1"
_LETTERS = {"added": "A", "deleted": "D", "modified": "M", "mode-changed": "M", "type-changed": "T"}


def patch(
    changeset: ChangeSet,
    base: Contents,
    theirs: Contents,
    *,
    context: int = 3,
    scratch: Path | None = None,
    limits: Limits = EXACT,
) -> tuple[bytes, list[Change]]:
    """(the exact difference in git's format, the changes that ``limits`` keep out of it).

    ``git apply`` accepts it. It was parsed back and compared (see ``verify``).
    What has no patch form is not in it either: ``git.without_patch`` names that. Raises as ``private_repository`` and
    ``verify``.
    """
    with private_repository(changeset, base, theirs, scratch=scratch, limits=limits) as repository:
        made = repository.patch(context=context)
        verify(made, repository.changes, base)
        return made, repository.left_out


def name_status(rows: Sequence[Row]) -> str:
    """A line for each row, as ``git diff --name-status``: a letter (R with the similarity), a tab, the path.

    Paths are quoted as git quotes them, so a line is one change whatever the names are.
    """
    return "".join(_name_status(row) for row in rows)


def _name_status(row: Row) -> str:
    if row.old is not None:
        return f"R{row.similarity:03d}\t{quoted_path(row.old)}\t{quoted_path(row.path)}\n"
    return f"{_LETTERS[row.status]}\t{quoted_path(row.path)}\n"


def stat(rows: Sequence[Row], *, width: int = 80, colour: bool = False, everything: bool = False) -> str:
    """A line for each row with a graph of the added and removed lines, and their sum, at most ``width`` wide.

    Of very many rows those that say the same of one directory are one line (``grouped``), unless ``everything``.
    """
    if not rows:
        return ""
    single, groups = (rows, []) if everything else grouped(rows)
    lines = _stat_lines(single, width, colour) if single else []
    lines += [f" {group}\n" for group in groups]
    return "".join(lines) + f" {summary_line(rows)}\n"


def _stat_lines(rows: Sequence[Row], width: int, colour: bool) -> list[str]:
    names = [_stat_name(row) for row in rows]
    counts = [_stat_count(row) for row in rows]
    most = max((row.added or 0) + (row.removed or 0) for row in rows)
    count_width = max((len(count) for row, count in zip(rows, counts, strict=True) if _graphed(row)), default=1)
    name_width = min(max(map(len, names)), max(width - count_width - 16, 20))
    room = max(width - name_width - count_width - 5, 5)
    lines = []
    for row, name, count in zip(rows, names, counts, strict=True):
        if len(name) > name_width:
            name = "..." + name[len(name) - name_width + 3 :]
        if _graphed(row):
            count = f"{count:>{count_width}} {_graph(row.added or 0, row.removed or 0, most, room, colour)}".rstrip()
        told = unsaid(row.before, row.after)
        if told and row.status != "mode-changed":
            count += f", {told}"
        if row.flags:
            count += f"  \x1b[33m[{', '.join(row.flags)}]\x1b[m" if colour else f"  [{', '.join(row.flags)}]"
        lines.append(f" {name:<{name_width}} | {count}\n")
    return lines


def summary_line(rows: Sequence[Row]) -> str:
    """``5 files changed, 40 insertions(+), 7 deletions(-)``."""
    total = _summary(rows)
    parts = [f"{total['files']} file{'' if total['files'] == 1 else 's'} changed"]
    if total["added"] or not total["removed"]:
        parts.append(f"{total['added']} insertion{'' if total['added'] == 1 else 's'}(+)")
    if total["removed"] or not total["added"]:
        parts.append(f"{total['removed']} deletion{'' if total['removed'] == 1 else 's'}(-)")
    return ", ".join(parts)


def _stat_name(row: Row) -> str:
    return quoted_path(row.path) if row.old is None else f"{quoted_path(row.old)} => {quoted_path(row.path)}"


def _graphed(row: Row) -> bool:
    return bool(row.added or row.removed)


def _stat_count(row: Row) -> str:
    if row.binary:
        return f"Bin {row.before.size if row.before else 0} -> {row.after.size if row.after else 0} bytes"
    if _graphed(row):
        return str((row.added or 0) + (row.removed or 0))
    if row.status == "mode-changed":
        return f"mode {_mode(row.before)} -> {_mode(row.after)}"
    if row.kind is Kind.FILE and row.status != "type-changed":
        entry = row.after or row.before
        size = entry.size if entry is not None else 0
        # No line was counted in what was too large to be compared: it is not empty, and nobody has seen it.
        return f"not shown: {size} bytes" if row.added is None and size else "0"
    return f"{row.kind.value} {row.status}"


def _graph(added: int, removed: int, most: int, room: int, colour: bool) -> str:
    if most > room:
        scale = room / most
        plus = max(round(added * scale), 1) if added else 0
        minus = max(round(removed * scale), 1) if removed else 0
    else:
        plus, minus = added, removed
    if not colour:
        return "+" * plus + "-" * minus
    return f"\x1b[32m{'+' * plus}\x1b[m\x1b[31m{'-' * minus}\x1b[m"


def as_json(
    changeset: ChangeSet,
    rows: Sequence[Row],
    *,
    session: str,
    base: Mapping[str, object],
    digest: str | None = None,
) -> dict[str, Any]:
    """The document of ``overlayws diff --json``, schema overlayws.changeset/1 (docs/changes.md), ready for json.dumps.

    ``base`` is said as it is given (mode, files, hidden). ``digest`` is that of the whole change set, where
    ``changeset`` is a selection.
    """
    return {
        "schema": SCHEMA,
        "session": session,
        "digest": digest or changeset.digest,
        "base": dict(base),
        "changes": [_json_row(row) for row in rows],
        "summary": _summary(rows),
        "problems": [visible(str(problem)) for problem in changeset.problems],
        "access_lists": [_json_path("path", path) for path in changeset.access_lists],
        "hard_links": [[_json_path("path", path) for path in group] for group in changeset.links],
    }


def _json_row(row: Row) -> dict[str, Any]:
    entries = (row.before, row.after)
    found: dict[str, Any] = _json_path("path", row.path)
    found["status"] = row.status
    found["kind"] = row.kind.value
    if row.old is not None:
        found |= _json_path("from", row.old)
        found["similarity"] = row.similarity
    found["mode"] = [_mode(entry) for entry in entries]
    found["size"] = [entry.size if entry is not None and entry.kind is Kind.FILE else None for entry in entries]
    found["sha256"] = [entry.digest if entry is not None else None for entry in entries]
    if row.status == "type-changed":
        found["kinds"] = [entry.kind.value if entry is not None else None for entry in entries]
    if any(entry is not None and entry.kind is Kind.SYMLINK for entry in entries):
        found["target"] = [_json_text(entry.target) if entry is not None else None for entry in entries]
    attributes = [entry.xattrs if entry is not None else () for entry in entries]
    if row.after is not None and attributes[0] != attributes[1]:
        found["xattrs"] = [{_json_text(name): value.hex() for name, value in one} for one in attributes]
    found["added"] = row.added
    found["removed"] = row.removed
    found["binary"] = row.binary or "binary" in row.flags
    found["flags"] = list(row.flags)
    return found


def _json_path(key: str, path: str) -> dict[str, str]:
    """The path; where it is not UTF-8, escaped, and exact as Base64 beside it."""
    data = os.fsencode(path)
    try:
        return {key: data.decode("utf-8")}
    except UnicodeDecodeError:
        return {key: _json_text(path) or "", f"{key}_b64": base64.b64encode(data).decode("ascii")}


def _json_text(text: str | None) -> str | None:
    return None if text is None else os.fsencode(text).decode("utf-8", "backslashreplace")


def _mode(entry: Entry | None) -> str | None:
    return None if entry is None else f"{entry.mode:04o}"


def _summary(rows: Sequence[Row]) -> dict[str, int]:
    return {
        "files": len(rows),
        "added": sum(row.added or 0 for row in rows),
        "removed": sum(row.removed or 0 for row in rows),
    }
