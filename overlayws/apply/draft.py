"""A plan while it is made: the steps taken and the changes turned down so far, and what both mean for the changes that
come after. What is decided for a change is in plan.py; here is how that is put down."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from overlayws.apply.look import Look
from overlayws.apply.step import Action, Conflict, Seen, Source, Step
from overlayws.apply.threeway import permissions, redacted
from overlayws.base.manifest import Manifest
from overlayws.beneath import split
from overlayws.changes.change import Change
from overlayws.source.entry import Entry, Kind


class Draft:
    """``changes`` are all that were chosen, by path."""

    def __init__(self, look: Look, manifest: Manifest, on_conflict: str, umask: int) -> None:
        self.look, self.manifest = look, manifest
        self.on_conflict, self.umask = on_conflict, umask
        self.steps: list[Step] = []
        self.conflicts: list[Conflict] = []
        self.refused: list[Conflict] = []
        self.notes: list[str] = []
        self.changes: dict[str, Change] = {}
        self.made: set[str] = set()  # directories that will be made
        self.blocked: dict[str, str] = {}  # path -> reason: what should have appeared there does not
        self.gone: dict[str, set[str]] = defaultdict(set)  # directory -> names that steps take away

    def take(self, *steps: Step) -> None:
        """These are done."""
        for step in steps:
            parent, name = split(step.path)
            if step.action in (Action.REMOVE, Action.REMOVE_DIRECTORY):
                self.gone[parent].add(name)
            elif step.action is Action.MAKE_DIRECTORY:
                self.made.add(step.path)
            self.steps.append(step)

    def create(self, path: str, after: Entry, seen: Seen | None) -> list[Step]:
        """The steps for a path where nothing is, or a file or symlink that is swapped out."""
        change = self.changes.get(path)
        before = change.before.mode if change and change.before and change.before.kind is after.kind else 0
        mode = permissions(after.mode, before, self.umask)
        if after.mode & 0o7000 and after.kind is not Kind.SYMLINK:
            self.notes.append(f"{path}: set-id and sticky bits ({after.mode & 0o7000:04o}) are left out")
        xattrs = tuple(item for item in after.xattrs if item[0].startswith("user."))
        actions = {Kind.FILE: Action.WRITE, Kind.SYMLINK: Action.LINK, Kind.DIRECTORY: Action.MAKE_DIRECTORY}
        return [Step(path, actions[after.kind], seen, after, mode=mode, xattrs=xattrs)]

    def replace(self, path: str, after: Entry, seen: Seen) -> list[Step] | None:
        """The steps that put ``after`` in the place of what is there; None where that would empty a directory."""
        if seen.kind is Kind.DIRECTORY or seen.kind.special or redacted(self.manifest.get(path)):
            return None
        if after.kind is Kind.DIRECTORY:
            return [Step(path, Action.REMOVE, seen), *self.create(path, after, None)]
        return self.create(path, after, seen)

    def refuse(self, conflict: Conflict) -> None:
        """This is never applied, and nothing can be made below it."""
        self.refused.append(conflict)
        self.blocked[conflict.path] = conflict.reason

    def block(self, change: Change, ancestor: str) -> None:
        """``change`` shares the fate of the directory ``ancestor`` above it."""
        reason = self.blocked[ancestor]
        self.blocked[change.path] = reason
        conflict = Conflict(change.path, reason, f"its directory {ancestor!r} is not applied")
        if any(r.path == ancestor for r in self.refused):
            self.refused.append(conflict)
        else:
            self.conflict(change, "blocked", conflict.detail)

    def conflict(
        self,
        change: Change,
        reason: str,
        detail: str,
        *,
        theirs: Iterable[Step] | None = None,
        markers: bytes | None = None,
    ) -> None:
        """Both sides changed the same: what ``--on-conflict`` says is done, with the steps ``theirs`` or the content
        ``markers`` where there are any."""
        path, after = change.path, change.after
        if self.on_conflict == "theirs" and theirs is not None:
            self.notes.append(f"{path}: {detail}; theirs is taken")
            self.take(*theirs)
            return
        if self.on_conflict == "markers" and markers is not None and after is not None:
            self.notes.append(f"{path}: {detail}; written with conflict markers")
            seen = self.look.seen(path)
            if seen is not None:
                step = self.create(path, after, seen)[0]
                self.take(replace(step, source=Source.MERGED, content=markers, mode=seen.mode & 0o777))
                return
        self.blocked[path] = reason
        if self.on_conflict == "ours":
            self.notes.append(f"{path}: {detail}; ours is kept")
        else:
            ways = (("theirs", theirs is not None), ("markers", markers is not None and after is not None))
            self.conflicts.append(Conflict(path, reason, detail, tuple(way for way, open_ in ways if open_)))
