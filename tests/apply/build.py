"""A workspace, what the program was given, and what it made of it: real directories, and the change set between."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from overlayws.apply.execute import execute, undo
from overlayws.apply.plan import plan_apply
from overlayws.apply.recover import recover
from overlayws.apply.step import ApplyPlan
from overlayws.base.manifest import Hidden, Manifest, Recorded
from overlayws.base.manifest_write import write_manifest
from overlayws.changes.change import Change
from overlayws.changes.contents import TreeContents
from overlayws.source.entry import Entry, Kind, Stamp, kind_of
from tests.trees import Node, make_tree


def entry(path: Path) -> Entry:
    """What is at a path."""
    st = os.lstat(path)
    kind = kind_of(st.st_mode)
    mode = stat.S_IMODE(st.st_mode)
    if kind is Kind.SYMLINK:
        return Entry(kind, 0o777, target=os.readlink(path))
    xattrs = ()
    if kind in (Kind.FILE, Kind.DIRECTORY):
        names = sorted(name for name in os.listxattr(path) if name.startswith("user."))
        xattrs = tuple((name, os.getxattr(path, name)) for name in names)
    if kind is not Kind.FILE:
        return Entry(kind, mode, xattrs=xattrs)
    return Entry(kind, mode, st.st_size, hashlib.sha256(path.read_bytes()).hexdigest(), xattrs=xattrs)


def paths(root: Path) -> list[str]:
    """Everything below a directory, sorted by bytes."""
    found = []
    for directory, names, files in os.walk(root):
        found += [os.path.relpath(os.path.join(directory, name), root) for name in names + files]
    return sorted(found, key=os.fsencode)


def differences(before: Path, after: Path) -> tuple[Change, ...]:
    """The change set between two directories, as scan makes it."""
    old = {path: entry(before / path) for path in paths(before)}
    new = {path: entry(after / path) for path in paths(after)}
    both = sorted({*old, *new}, key=os.fsencode)
    return tuple(Change(path, old.get(path), new.get(path)) for path in both if old.get(path) != new.get(path))


@dataclass
class Case:
    """A workspace of which the program was given a copy (``base``), and its result (``theirs``)."""

    home: Path
    workspace: Path
    base: Path
    theirs: Path
    manifest: Path
    journals: Path
    changes: tuple[Change, ...] = ()
    number: list[int] = field(default_factory=lambda: [0])

    def plan(self, changes: Sequence[Change] | None = None, **options: object) -> ApplyPlan:
        with Manifest(self.manifest) as manifest, TreeContents(self.base) as base, TreeContents(self.theirs) as theirs:
            chosen = self.changes if changes is None else changes
            options.setdefault("journal", self.journals / "planning")
            return plan_apply(self.workspace, chosen, manifest, base, theirs, **options)  # type: ignore[arg-type]

    def execute(self, plan: ApplyPlan, **options: bool) -> Path:
        self.number[0] += 1
        journal = self.journals / f"{self.number[0]:04}"
        with TreeContents(self.theirs) as theirs:
            execute(plan, journal, theirs, **options)
        return journal

    def apply(self, changes: Sequence[Change] | None = None, **options: object) -> Path:
        return self.execute(self.plan(changes, **options))

    def undo(self, journal: Path) -> None:
        undo(journal)

    def recover(self) -> tuple[str, ...]:
        return recover(self.journals, self.workspace)


def make_case(
    home: Path,
    base: Mapping[str, Node],
    theirs: Mapping[str, Node],
    hidden: Mapping[str, Node] | None = None,
    state: Path | None = None,
) -> Case:
    """A case below ``home``: the workspace holds ``base`` and ``hidden``; ``state`` is where journals go."""
    workspace = make_tree(home / "workspace", base)
    given = home / "base"
    shutil.copytree(workspace, given, symlinks=True)
    result = make_tree(home / "theirs", theirs)
    make_tree(workspace, hidden or {})
    recorded = [Recorded(path, entry(given / path), Stamp.of(os.lstat(workspace / path))) for path in paths(given)]
    names = [Hidden(path, Kind.FILE, "test") for path in hidden or {}]
    write_manifest(home / "manifest", recorded, names, [])
    journals = (state or home) / "journals"
    return Case(home, workspace, given, result, home / "manifest", journals, differences(given, result))


def reasons(plan: ApplyPlan) -> dict[str, str]:
    return {c.path: c.reason for c in (*plan.conflicts, *plan.refused)}


def added(case: Case, path: str, content: bytes = b"new\n", **values: object) -> Change:
    """An added file that the program's result really has."""
    make_tree(case.theirs, {path: content})
    return Change(path, None, replace(entry(case.theirs / path), **values))  # type: ignore[arg-type]


def snapshot(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything of a tree that must come back: kind, mode, content, target, mtime, xattrs, owner, links."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [".", *paths(root)]:
        where = root / path
        st = os.lstat(where)
        content: object = None
        if stat.S_ISREG(st.st_mode):
            content = where.read_bytes()
        elif stat.S_ISLNK(st.st_mode):
            content = os.readlink(where)
        names = [] if stat.S_ISLNK(st.st_mode) else sorted(os.listxattr(where))
        xattrs = tuple((name, os.getxattr(where, name)) for name in names)
        links = st.st_nlink if stat.S_ISREG(st.st_mode) else 0
        found[path] = (st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns, content, xattrs, links)
    return found


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """What an apply promises of a tree: kind, mode, content or target, user xattrs."""
    found = {}
    for path in paths(root):
        e = entry(root / path)
        found[path] = (e.kind, e.mode, e.digest, e.target, e.xattrs)
    return found
