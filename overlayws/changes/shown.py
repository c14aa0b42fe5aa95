"""Which changes a person is shown: what was asked for, and directories only where nothing else says them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from overlayws.changes.change import Change, ChangeSet, Problem
from overlayws.changes.links import touching
from overlayws.changes.pathspec import Pathspec, matcher, parse
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
    """The changes that ``paths`` mean: paths of the workspace or git's pathspecs (see ``pathspec``); all of them if
    there are none.

    Its digest is that of the selection, and so are its problems. Raises UsageError for one that means no change.
    """
    names = {change.path for change in changeset.changes}
    # What is named exactly is meant exactly, whatever characters are in its name.
    specs = [Pathspec(frozenset({"literal"}), path) if path in names else parse(path) for path in paths]
    specs = [replace(spec, pattern=_normal(spec.pattern)) for spec in specs]
    specs = [replace(s, magic=s.magic | {"literal"}) if s.wild and s.pattern in names else s for s in specs]
    wanted = [spec for spec in specs if "exclude" not in spec.magic]
    if not specs or (any(not spec.pattern for spec in wanted) and len(wanted) == len(specs)):
        return changeset
    chosen: set[str] = set()
    problems: set[Problem] = set()
    for spec in wanted or [Pathspec(frozenset(), "")]:
        matches = matcher(spec)
        found = [path for path in names if matches(path)]
        missed = [p for p in changeset.problems if matches(p.path) or _is_above(p, spec)]
        problems.update(missed)
        if not found and not missed:
            hint = "overlayws diff --name-status lists what changed"
            if "/" not in spec.pattern:  # it may have been meant for a session
                hint += "; no session has that name either, see overlayws list"
            raise UsageError(f"nothing changed at {str(spec)!r}", hint=hint)
        chosen.update(found)
    for spec in specs:
        if "exclude" in spec.magic:
            matches = matcher(spec)
            chosen = {path for path in chosen if not matches(path)}
            problems = {problem for problem in problems if not matches(problem.path)}
    return ChangeSet(
        tuple(c for c in changeset.changes if c.path in chosen),
        tuple(r for r in changeset.renames if r.old in chosen and r.new in chosen),
        tuple(sorted(problems)),
        touching(changeset.links, chosen),
        tuple(path for path in changeset.access_lists if path in chosen),
    )


def _is_above(problem: Problem, spec: Pathspec) -> bool:
    """Whether something that is meant may lie in what could not be read."""
    return (
        not problem.path
        or f"{spec.fixed}/".startswith(f"{problem.path}/")
        or (spec.wild and f"{problem.path}/".startswith(spec.fixed))
    )


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
