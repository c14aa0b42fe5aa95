"""The words of apply: Seen, Step, Conflict, ApplyPlan. Plain data: a plan is made by ``plan`` and carried out by
``execute``; printing it is all that a dry run does."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from overlayws.source.entry import Entry, Kind, Stamp, Xattrs, kind_of


class Action(Enum):
    """What a step does at its path, in the order in which the kinds of steps are carried out."""

    OPEN = "open"  # an existing directory gets a mode that lets its owner write; before everything else
    REMOVE = "remove"  # a file or symlink
    REMOVE_DIRECTORY = "remove-directory"
    MAKE_DIRECTORY = "make-directory"
    WRITE = "write"  # a file, new or in place of a file or symlink
    LINK = "link"  # a symlink, new or in place of a file or symlink
    SET = "set"  # mode or extended attributes of what stays where it is


class Source(Enum):
    """Where the content of a written file comes from."""

    THEIRS = "theirs"  # the change set
    MERGED = "merged"  # Step.content
    OURS = "ours"  # the workspace's own file: only its mode changes, and it has other names (hard links)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the plan saw at a path of the workspace."""

    kind: Kind
    stamp: Stamp
    mode: int  # st_mode & 0o7777
    uid: int
    gid: int
    nlink: int

    @classmethod
    def of(cls, st: os.stat_result, mode: int) -> Seen:
        """``mode``: the permission bits that count (see ``Reach.true_mode``)."""
        return cls(kind_of(st.st_mode), Stamp.of(st), mode, st.st_uid, st.st_gid, st.st_nlink)


@dataclass(frozen=True, slots=True)
class Step:
    """One change of one path. ``seen is None``: nothing was there (or an earlier step takes it away)."""

    path: str
    action: Action
    seen: Seen | None
    after: Entry | None = None  # the accepted content or target; its digest is verified while staging
    source: Source = Source.THEIRS
    content: bytes | None = None  # of a merged file
    mode: int = 0  # permission bits of what is written, made or set
    xattrs: Xattrs = ()  # user.* of what is written or made, whole; of what is set, only those that are set
    dropped: tuple[str, ...] = ()  # user.* names that a SET step removes

    def __str__(self) -> str:
        how = "" if self.source is Source.THEIRS else f" ({self.source.value})"
        return f"{self.action.value} {self.path}{how}"


def set_step(action: Action, path: str, seen: Seen, mode: int, ours: Xattrs, wanted: Xattrs) -> Step:
    """The step that makes attributes ``ours`` those ``wanted``, and sets the mode."""
    dropped = tuple(name for name, _ in ours if name not in dict(wanted))
    changed = tuple(item for item in wanted if item not in ours)
    return Step(path, action, seen, mode=mode, xattrs=changed, dropped=dropped)


REFUSED = frozenset({"special", "git", "hidden-original", "symlink-outside", "twins"})


@dataclass(frozen=True, slots=True)
class Conflict:
    """A change that is not applied: a conflict with the workspace, or of a refused class.

    ``reason`` is a class id. Conflicts: content, redacted, edited, exists, deleted, kind, mode, xattrs, not-empty,
    parent-symlink, parent-not-a-directory, parent-vanished, parent-unreadable, blocked. Refused classes: special,
    git, hidden-original, symlink-outside, twins.
    """

    path: str
    reason: str
    detail: str
    choices: tuple[str, ...] = ()  # the values of --on-conflict, besides ours, that settle it

    @property
    def refused(self) -> bool:
        """Whether it is of a refused class, and no conflict."""
        return self.reason in REFUSED

    def __str__(self) -> str:
        return f"{self.path}: {self.detail} [{self.reason}]"


@dataclass(frozen=True, slots=True)
class ApplyPlan:
    """What apply will do. ``refused`` changes have no steps; ``execute`` wants to be told to leave them out."""

    workspace: Path
    root: tuple[int, int]  # st_dev, st_ino of the workspace: the plan is for this directory and no other
    steps: tuple[Step, ...]
    conflicts: tuple[Conflict, ...] = ()
    refused: tuple[Conflict, ...] = ()
    notes: tuple[str, ...] = ()
    locked: frozenset[str] = frozenset()  # directories that only an ordinary user has to open for it


_ORDER = {action: n for n, action in enumerate(Action)}


def by_path(item: Conflict) -> bytes:
    """The order of conflicts: by the bytes of the path."""
    return item.path.encode("utf-8", "surrogateescape")


def position(step: Step) -> tuple[int, int, bytes]:
    """The order in which steps are carried out."""
    depth = step.path.count("/")
    deepest_first = step.action in (Action.REMOVE, Action.REMOVE_DIRECTORY, Action.SET)
    return _ORDER[step.action], -depth if deepest_first else depth, step.path.encode("utf-8", "surrogateescape")
