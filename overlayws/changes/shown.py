"""Which changes a person is shown: what was asked for, and directories only where nothing else says them."""

from __future__ import annotations

from collections.abc import Iterable

from overlayws.changes.change import Change, ChangeSet, Problem
from overlayws.errors import UsageError
from overlayws.source.entry import Kind


def listed(changeset: ChangeSet) -> list[Change]:
    """The changes, sorted, without the directories that a shown change below them implies.

    A directory that only changed its mode, or took the place of something else, is always shown.
    """
    made: set[str] = set()  # directories that must have come
    gone: set[str] = set()  # directories that must have been there
    shown = []
    for change in reversed(changeset.changes):  # what is in a directory comes before it
        before, after = change.before, change.after
        if before is None and after is not None and after.kind is Kind.DIRECTORY and change.path in made:
            continue
        if after is None and before is not None and before.kind is Kind.DIRECTORY and change.path in gone:
            continue
        shown.append(change)
        if after is not None:
            _add_parents(made, change.path)
        if before is not None:
            _add_parents(gone, change.path)
    shown.reverse()
    return shown


def select(changeset: ChangeSet, paths: Iterable[str]) -> ChangeSet:
    """The changes at or below ``paths``, which are literal paths of the workspace; all of them if there are none.

    Its digest is that of the selection, and so are its problems. Raises UsageError for a path with no change.
    """
    wanted = [_normal(path) for path in paths]
    if not wanted or "" in wanted:
        return changeset
    chosen: set[str] = set()
    problems: set[Problem] = set()
    for path in wanted:
        below = f"{path}/"
        found = [c.path for c in changeset.changes if c.path == path or c.path.startswith(below)]
        missed = [p for p in changeset.problems if p.path == path or p.path.startswith(below) or _is_above(p, path)]
        problems.update(missed)
        if not found and not missed:
            hint = "overlayws diff --name-status lists what changed"
            if "/" not in path:  # it may have been meant for a session
                hint += "; no session has that name either, see overlayws list"
            raise UsageError(f"nothing changed at {path!r}", hint=hint)
        chosen.update(found)
    return ChangeSet(
        tuple(c for c in changeset.changes if c.path in chosen),
        tuple(r for r in changeset.renames if r.old in chosen and r.new in chosen),
        tuple(sorted(problems)),
    )


def _is_above(problem: Problem, path: str) -> bool:
    """Whether ``path`` lies in what could not be read."""
    return not problem.path or path.startswith(f"{problem.path}/")


def _normal(path: str) -> str:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts:
        raise UsageError(f"not a path of the workspace: {path!r}", hint="give it relative to the workspace, without ..")
    return "/".join(parts)


def _add_parents(known: set[str], path: str) -> None:
    end = path.rfind("/")
    while end > 0:
        parent = path[:end]
        if parent in known:
            return
        known.add(parent)
        end = path.rfind("/", 0, end)
