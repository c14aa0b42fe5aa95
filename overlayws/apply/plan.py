"""plan_apply: reads the workspace as it is now and says what apply will do. Writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from overlayws.apply.conflicts import ON_CONFLICT, check_options
from overlayws.apply.draft import Draft
from overlayws.apply.earlier import Earlier, is_earlier
from overlayws.apply.literal import literal
from overlayws.apply.look import BARRED, Barred, Look
from overlayws.apply.merge3 import is_text, merge3
from overlayws.apply.record import Node
from overlayws.apply.refuse import is_in, refused, twins
from overlayws.apply.respect import check_locks
from overlayws.apply.step import Action, ApplyPlan, Conflict, Seen, Source, Step, by_path, position, set_step
from overlayws.apply.threeway import (
    Disagreement,
    Redact,
    drift,
    is_after,
    is_base,
    merge_content,
    merge_mode,
    merge_xattrs,
    redacted,
    shut,
    untouched,
)
from overlayws.base.manifest import Manifest
from overlayws.beneath import split
from overlayws.changes.change import Change
from overlayws.changes.contents import Contents
from overlayws.changes.flags import HiddenPaths
from overlayws.changes.gitname import repositories
from overlayws.errors import UntrustedError
from overlayws.source.entry import Entry, Kind, Xattrs

__all__ = ["ON_CONFLICT", "Action", "ApplyPlan", "Conflict", "Step", "plan_apply"]


def plan_apply(
    workspace: Path,
    changes: Sequence[Change],
    manifest: Manifest,
    base: Contents,
    theirs: Contents,
    *,
    on_conflict: str = "fail",
    umask: int = 0o022,
    allow: frozenset[str] = frozenset(),
    left: Earlier | None = None,
    journal: Path | None = None,
    redact: Redact | None = None,
) -> ApplyPlan:
    """What it takes to bring ``changes`` into ``workspace``: steps, conflicts, refused changes, notes.

    ``base`` holds the contents that the program was given, ``theirs`` the accepted ones. ``on_conflict``: ``fail``
    lists a conflict, ``ours`` leaves the workspace's side, ``theirs`` takes the accepted side where that loses no
    hidden or redacted byte, ``markers`` writes text with conflict markers. ``allow`` admits refused classes
    (only ``symlink-outside`` can be). ``left`` is what earlier applies of the session left: no edit of the user's.
    ``redact`` replaces the secrets of a file as the start did. ``journal`` is where directories that must be opened to
    be read are written down (see ``locked``). Reads a file of the workspace only where it was touched since start.

    Raises UsageError (unknown option value, no such workspace), UnableError (something cannot be read),
    UntrustedError (paths that are not plain, contents that changed since the scan).
    """
    check_options(on_conflict, allow)
    with Look(workspace, journal) as look:
        planner = _Planner(look, manifest, base, theirs, on_conflict, umask, left or Earlier(), redact)
        planner.run(changes, allow)
        planner.notes += literal(look, planner.steps, planner.changes, planner.theirs)
        locked = check_locks(look, planner.steps, planner.changes, manifest, planner.left.modes)
        return ApplyPlan(
            workspace,
            look.root,
            tuple(sorted(planner.steps, key=position)),
            tuple(sorted(planner.conflicts, key=by_path)),
            tuple(sorted(planner.refused, key=by_path)),
            tuple(planner.notes),
            locked,
        )


class _Planner(Draft):
    def __init__(
        self,
        look: Look,
        manifest: Manifest,
        base: Contents,
        theirs: Contents,
        on_conflict: str,
        umask: int,
        left: Earlier,
        redact: Redact | None,
    ) -> None:
        super().__init__(look, manifest, on_conflict, umask)
        self.base, self.theirs, self.left, self.redact = base, theirs, left, redact
        self.hidden = HiddenPaths(manifest)
        self.emptied: list[tuple[Change, Seen]] = []  # directories that vanish, judged when all else is known

    def run(self, changes: Sequence[Change], allow: frozenset[str]) -> None:
        for change in sorted(changes, key=lambda c: c.path.encode("utf-8", "surrogateescape")):
            if self.changes.setdefault(change.path, change) is not change:
                raise UntrustedError(f"the change set names {change.path!r} twice", hint="discard it")
        colliding = twins(self.changes.values(), self.look.folds, self.look.one)
        embedded = repositories(self.changes.values(), self.look.exists)
        for path, change in self.changes.items():
            conflict = refused(change, self.manifest, allow)
            if conflict is None and change.after is not None and is_in(path, embedded):
                conflict = Conflict(path, "git", "in a directory that git would take for a repository")
            if conflict is None and path in colliding:
                conflict = Conflict(path, "twins", "two names that are one on this file system")
            if conflict is not None:
                self.refuse(conflict)
                continue
            try:
                self._one(change)
            except Barred as barred:
                self._barred(change, barred)
            except Disagreement as both:
                self.conflict(change, both.reason, both.detail, markers=both.merged)
        for change, seen in sorted(self.emptied, key=lambda item: -item[0].path.count("/")):
            self._emptied(change, seen)

    def _one(self, change: Change) -> None:
        path, before, after = change.path, change.before, change.after
        seen = None if split(path)[0] in self.made else self.look.seen(path)  # apply makes that directory itself
        earlier = None if seen is None else is_earlier(self.left, self.look, path, seen)
        if seen is not None and earlier is not None and not redacted(self.manifest.get(path)):
            self._again(path, after, seen, *earlier)
        elif "drift" in change.flags:
            self._drifted(change, seen)
        elif after is None:
            if before is not None and seen is not None:
                self._deleted(change, before, seen)
        elif before is None:
            self._added(change, after, seen)
        elif seen is None:
            again = self.create(path, after, None)
            self.conflict(change, "deleted", "deleted in the workspace, changed by the program", theirs=again)
        elif before.kind is not after.kind:
            self._type_changed(change, before, after, seen)
        elif seen.kind is not before.kind:
            detail = f"is a {seen.kind.value} in the workspace now, was a {before.kind.value}"
            self.conflict(change, "kind", detail, theirs=self.replace(path, after, seen))
        elif before.kind is Kind.FILE:
            self._file(path, before, after, seen)
        elif before.kind is Kind.SYMLINK:
            self._symlink(change, before, after, seen)
        else:
            self._directory(path, before, after, seen)

    def _drifted(self, change: Change, seen: Seen | None) -> None:
        path, after = change.path, change.after
        if after is None and seen is not None:
            gone = [Step(path, Action.REMOVE, seen)] if seen.kind is not Kind.DIRECTORY else None
            self.conflict(change, *drift(seen, after), theirs=gone)
        elif after and not (seen and is_after(self.look, path, after, seen, self.theirs)):
            theirs = self.replace(path, after, seen) if seen else self.create(path, after, None)
            self.conflict(change, *drift(seen, after), theirs=theirs)

    def _again(self, path: str, after: Entry | None, seen: Seen, node: Node, accepted: Entry) -> None:
        """The program changed once more what an earlier apply wrote; mode and attributes may be the user's."""
        if after is None:
            self.take(Step(path, Action.REMOVE, seen))
        elif after.kind is not Kind.FILE or seen.kind is not Kind.FILE:
            if not is_after(self.look, path, after, seen, self.theirs):
                self.take(*(self.replace(path, after, seen) or ()))
        else:
            before = accepted.mode if after.mode == accepted.mode else node.mode
            mode = merge_mode(seen.mode, before, after.mode, self.umask)
            ours = self.look.xattrs(path)
            xattrs = merge_xattrs(ours, accepted.xattrs, after.xattrs)
            if (after.digest, after.size) != (accepted.digest, accepted.size):
                self.take(Step(path, Action.WRITE, seen, after, Source.THEIRS, None, mode & 0o777, xattrs))
            else:
                self._metadata(path, after, seen, mode, ours, xattrs)

    def _metadata(self, path: str, after: Entry, seen: Seen, mode: int, ours: Xattrs, xattrs: Xattrs) -> None:
        """The content of a file stays; its mode and attributes may not."""
        if mode == seen.mode and xattrs == ours:
            return
        if seen.nlink == 1:
            self.take(set_step(Action.SET, path, seen, mode, ours, xattrs))
        else:
            self.take(Step(path, Action.WRITE, seen, after, Source.OURS, None, mode, xattrs))

    def _deleted(self, change: Change, before: Entry, seen: Seen) -> None:
        path = change.path
        if not self._is_base(path, before, seen, True):
            taken = [Step(path, Action.REMOVE, seen)] if seen.kind is not Kind.DIRECTORY else None
            self.conflict(change, "edited", "deleted by the program, edited in the workspace", theirs=taken)
        elif seen.kind is Kind.DIRECTORY:
            self.emptied.append((change, seen))
        else:
            self.take(Step(path, Action.REMOVE, seen))

    def _emptied(self, change: Change, seen: Seen) -> None:
        path, after = change.path, change.after
        left = set(self.look.names(path)) - self.gone[path]
        if not left:
            self.take(Step(path, Action.REMOVE_DIRECTORY, seen))
            if after is not None:
                self.take(*self.create(path, after, None))
        elif after is None:
            self.notes.append(f"{path}: stays, it holds {len(left)} more in the workspace")
        else:
            detail = f"a directory in the workspace that still holds {len(left)} more"
            self.conflict(change, "not-empty", detail)

    def _added(self, change: Change, after: Entry, seen: Seen | None) -> None:
        path = change.path
        if seen is None:
            if self._parents(change):
                self.take(*self.create(path, after, None))
        elif not self.look.exactly(path):
            self.refuse(
                Conflict(path, "twins", "the workspace has it under a name that is the same on this file system")
            )
        elif is_after(self.look, path, after, seen, self.theirs):
            return
        elif seen.kind is after.kind:
            merged = None
            if after.kind is Kind.FILE and max(seen.stamp.size, after.size) <= 1 << 24:
                ours, theirs = self.look.read(path, 1 << 24), self.theirs.read(path, after)
                if ours is not None and is_text(ours) and is_text(theirs):
                    merged = merge3(b"", ours, theirs).content
            detail = "added by the program, and there is another one in the workspace"
            self.conflict(change, "exists", detail, theirs=self.replace(path, after, seen), markers=merged)
        else:
            detail = f"added by the program, and there is a {seen.kind.value} in the workspace"
            self.conflict(change, "exists", detail, theirs=self.replace(path, after, seen))

    def _type_changed(self, change: Change, before: Entry, after: Entry, seen: Seen) -> None:
        path = change.path
        if seen.kind is after.kind and is_after(self.look, path, after, seen, self.theirs):
            return
        if redacted(self.manifest.get(path)) and seen.kind is before.kind:
            # Nothing but a merge may replace it, whether or not it was edited.
            detail = f"made a {after.kind.value} by the program, from which secrets in it were hidden"
            self.conflict(change, "redacted", detail)
        elif not self._is_base(path, before, seen, False):
            detail = f"made a {after.kind.value} by the program, edited in the workspace"
            self.conflict(change, "edited", detail, theirs=self.replace(path, after, seen))
        elif before.kind is Kind.DIRECTORY:
            self.emptied.append((change, seen))
        else:
            self.take(*(self.replace(path, after, seen) or ()))

    def _file(self, path: str, before: Entry, after: Entry, seen: Seen) -> None:
        recorded = self.manifest.get(path)
        try:
            content = merge_content(self.look, path, seen, recorded, before, after, self.base, self.theirs, self.redact)
            if (wanted := shut(after.mode, seen.mode) if redacted(recorded) else after.mode) != after.mode:
                self.notes.append(f"{path}: stays closed to others ({seen.mode & 0o777:04o}): secrets are in it")
            mode = merge_mode(seen.mode, before.mode, wanted, self.umask)
            ours = before.xattrs if untouched(seen, recorded) else self.look.xattrs(path)
            xattrs = merge_xattrs(ours, before.xattrs, after.xattrs)
        except Disagreement as both:
            theirs = None if redacted(recorded) else self.create(path, after, seen)
            self.conflict(self.changes[path], both.reason, both.detail, theirs=theirs, markers=both.merged)
            return
        if content.source is Source.OURS:
            self._metadata(path, after, seen, mode, ours, xattrs)
        else:  # a content that the program wrote never runs with the rights of the file it replaces
            self.take(Step(path, Action.WRITE, seen, after, content.source, content.data, mode & 0o777, xattrs))

    def _symlink(self, change: Change, before: Entry, after: Entry, seen: Seen) -> None:
        ours = self.look.target(change.path)
        if ours == after.target:
            return
        made = self.create(change.path, after, seen)
        if ours == before.target:
            self.take(*made)
        else:
            self.conflict(change, "content", f"a symlink to {ours!r} in the workspace now", theirs=made)

    def _directory(self, path: str, before: Entry, after: Entry, seen: Seen) -> None:
        mode = merge_mode(seen.mode, before.mode, after.mode, self.umask)
        ours = self.look.xattrs(path, directory=True) if before.xattrs != after.xattrs else ()
        xattrs = merge_xattrs(ours, before.xattrs, after.xattrs)
        if mode == seen.mode and xattrs == ours:
            return
        if self.hidden.opened(path, seen.mode, mode):
            change = f"{seen.mode & 0o777:04o} -> {mode & 0o777:04o}"
            self.notes.append(f"{path}: opened to others ({change}), and what is hidden from the program is in it")
        # Files can be made in a directory that becomes writable only after that.
        opens = mode & 0o300 == 0o300 and seen.mode & 0o300 != 0o300
        self.take(set_step(Action.OPEN if opens else Action.SET, path, seen, mode, ours, xattrs))

    def _is_base(self, path: str, before: Entry, seen: Seen, removing: bool) -> bool:
        return is_base(self.look, path, before, seen, self.manifest.get(path), self.base, removing=removing)

    def _parents(self, change: Change) -> bool:
        """Make sure that an added path has a directory to be in: what was not chosen gets the default mode. False (and
        a conflict) where the user removed one."""
        missing = []
        parent = split(change.path)[0]
        while parent and parent not in self.made and self.look.seen(parent) is None:
            if parent in self.blocked:
                self.block(change, parent)
                return False
            if self.manifest.get(parent) is not None or parent in self.changes:
                detail = f"its directory {parent!r} is gone from the workspace"
                self.conflict(change, "parent-vanished", detail)
                return False
            missing.append(parent)
            parent = split(parent)[0]
        if parent not in self.made and (self.blocked.get(parent) == "twins" or not self.look.spelled(parent)):
            self.refuse(Conflict(change.path, "twins", f"the workspace has {parent!r} under another name"))
            return False
        for path in reversed(missing):
            entry = Entry(Kind.DIRECTORY, 0o777 & ~self.umask)
            self.take(Step(path, Action.MAKE_DIRECTORY, None, entry, mode=entry.mode))
        return True

    def _barred(self, change: Change, barred: Barred) -> None:
        ancestor = barred.ancestor
        above = self.changes.get(ancestor)
        if change.after is None and above is not None and barred.reason != "parent-unreadable":
            if above.after is None or above.after.kind is not Kind.DIRECTORY:
                return  # gone already; whether its directory went as the change set wants it is judged there
        if ancestor in self.blocked:
            self.block(change, ancestor)
        else:
            self.conflict(change, barred.reason, f"{BARRED[barred.reason]} ({ancestor!r})")
