"""Changes as a commit on top of another: what apply does to a workspace is done to a private checkout of the files
concerned, with the same refusals and the same merge, and the result is committed from there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from overlayws.apply.conflicts import ConflictError
from overlayws.apply.execute import execute
from overlayws.apply.plan import plan_apply
from overlayws.apply.refuse import refused
from overlayws.apply.repository import GITLINK, Repository, Tracked
from overlayws.apply.step import ApplyPlan, Conflict
from overlayws.base.manifest import Manifest
from overlayws.beneath import directories_above, split
from overlayws.changes.change import Change
from overlayws.changes.contents import Contents
from overlayws.source.entry import Entry, Kind


@dataclass(frozen=True, slots=True)
class Options:
    """How changes are brought in; as of ``plan_apply`` and ``execute``."""

    on_conflict: str = "fail"
    allow: frozenset[str] = frozenset()
    skip_refused: bool = False


def bring(
    repository: Repository,
    journal: Path,
    changes: Sequence[Change],
    manifest: Manifest,
    base: Contents,
    theirs: Contents,
    options: Options,
    *,
    dry_run: bool = False,
) -> ApplyPlan:
    """Bring ``changes`` to the index of ``repository`` that stands for the commit to build on; the plan that was made.

    New files that git ignores are left out, with a note. What git does not record is left out in silence: directories,
    permissions but the execute bit, attributes. Raises ConflictError, UnableError, UntrustedError; then nothing is
    brought.
    """
    tracked, prefix = repository.tracked(), repository.prefix
    wanted = [change for change in map(_as_git, changes) if change is not None]
    _check_out(repository, tracked, {prefix + change.path for change in wanted})
    new = [prefix + c.path for c in wanted if _makes_file(c) and refused(c, manifest, options.allow) is None]
    ignored = repository.ignored(path for path in new if path not in tracked)
    notes = [f"{path.removeprefix(prefix)}: left out, git ignores it" for path in sorted(ignored)]
    wanted = [change for change in wanted if prefix + change.path not in ignored]
    links = [path for path, at in tracked.items() if at.mode == GITLINK]
    inside = [change for change in wanted if _is_in(prefix + change.path, links)]
    wanted = [change for change in wanted if change not in inside]
    plan = plan_apply(
        repository.tree / prefix, wanted, manifest, base, theirs, on_conflict=options.on_conflict, allow=options.allow
    )
    conflicts = [replace(c, detail=c.detail.replace("the workspace", "HEAD")) for c in plan.conflicts]
    conflicts += [Conflict(change.path, "kind", "it is in a submodule") for change in inside]
    notes = [*(note.replace("the workspace", "HEAD") for note in plan.notes), *notes]
    plan = replace(plan, conflicts=tuple(conflicts), notes=tuple(notes))
    if dry_run:
        return plan
    in_the_way = () if options.skip_refused else plan.refused
    if plan.conflicts or in_the_way:
        raise ConflictError.of(plan.conflicts, in_the_way)
    if execute(plan, journal, theirs, skip_refused=options.skip_refused):
        files = {change.path for change in wanted for e in (change.before, change.after) if e and _is_file(e)}
        repository.stage(prefix + path for path in sorted({step.path for step in plan.steps} & files))
    return plan


def _as_git(change: Change) -> Change | None:
    """The change as git records it, or None where it records nothing."""
    before, after = change.before and _entry(change.before), change.after and _entry(change.after)
    return None if before == after else replace(change, before=before, after=after)


def _entry(entry: Entry) -> Entry:
    if entry.kind is Kind.FILE:
        return replace(entry, mode=0o755 if entry.mode & 0o100 else 0o644, xattrs=())
    return replace(entry, mode=0o755, xattrs=()) if entry.kind is Kind.DIRECTORY else entry


def _makes_file(change: Change) -> bool:
    return change.after is not None and change.after.kind is not Kind.DIRECTORY


def _is_file(entry: Entry) -> bool:
    return entry.kind in (Kind.FILE, Kind.SYMLINK)


def _is_in(path: str, links: Iterable[str]) -> bool:
    return any(path == link or path.startswith(f"{link}/") for link in links)


def _check_out(repository: Repository, tracked: dict[str, Tracked], changed: set[str]) -> None:
    """Check out what the changes are compared with: the files at, above and below the changed paths, and the
    ``.gitignore`` files that may concern them."""
    above = {"", *directories_above(changed)}
    for directory in above & directories_above(tracked):  # also those of which no file is checked out
        (repository.tree / directory).mkdir(parents=True, exist_ok=True)
    wanted = []
    for path, at in tracked.items():
        parent, name = split(path)
        if at.mode == GITLINK:
            continue
        if path in changed or path in above or (name == ".gitignore" and parent in above):
            wanted.append(path)
        else:
            while parent and parent not in changed:
                parent = split(parent)[0]
            if parent:
                wanted.append(path)
    repository.check_out(wanted)
