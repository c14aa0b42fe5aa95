"""The program's own commits, one by one on top of another commit: author, date and message are kept.

Each is taken as what it changes against its first parent and brought in as any change set is, with the same refusals
and merges. Names and messages are the program's words: control characters in them are spelled out.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from overlayws.apply.onto import Options, bring
from overlayws.apply.repository import GITLINK, Repository
from overlayws.apply.step import ApplyPlan
from overlayws.base.manifest import Manifest
from overlayws.beneath import split
from overlayws.changes.acls import told
from overlayws.changes.autorun import is_run_on_its_own
from overlayws.changes.change import Change
from overlayws.changes.commits import MOST, Commit, Commits
from overlayws.changes.contents import Contents
from overlayws.errors import UntrustedError
from overlayws.filter.redact import placeholders
from overlayws.source.entry import Entry, Kind

_PASSING = 20  # commits that are named
_LARGEST = 256 << 20  # bytes of a file; it is held in memory
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_KINDS = {"100644": Kind.FILE, "100755": Kind.FILE, "120000": Kind.SYMLINK}
_DIRECTORY = Entry(Kind.DIRECTORY, 0o755)


@dataclass(frozen=True, slots=True)
class Rebased:
    """``commits`` are the new ones, the oldest first. ``left_out``: paths of the change set that no commit has so."""

    commits: tuple[str, ...]
    plan: ApplyPlan  # of all commits together
    left_out: int


def own_commits(found: Commits) -> tuple[Commit, ...]:
    """The commits from the base to where the program's HEAD (or main) is, along first parents, the oldest first."""
    tips = dict(found.branches)
    at = tips.get("HEAD") or tips.get("main") or found.base
    known = {commit.id: commit for commit in found.commits}
    chain: list[Commit] = []
    while at != found.base:
        commit = known.get(at)
        if commit is None and found.cut:
            raise UntrustedError(
                f"the program made more than {MOST} commits: too many to bring one by one",
                hint="add --commit: one commit of all changes",
            )
        if commit is None or not commit.parents:
            raise UntrustedError(
                "the program's commits do not go on from what it was given",
                hint="add --commit: one commit of all changes",
            )
        chain.append(commit)
        at = commit.parents[0]
    return tuple(reversed(chain))


def rebase(
    repository: Repository,
    found: Commits,
    chain: tuple[Commit, ...],
    changes: tuple[Change, ...],
    manifest: Manifest,
    options: Options,
) -> Rebased:
    """Put ``chain`` on the commit that ``repository`` was started from. ``changes``: the whole change set, to tell what
    of it is in no commit. Raises ConflictError (nothing is kept), UntrustedError, GitRefused."""
    made: list[tuple[str, dict[str, Entry]]] = []  # with what it has that tools run on their own
    tip, plans, final = repository.head, [], {}
    for number, commit in enumerate(chain):
        with _Blobs(found, commit) as (these, contents):
            journal = repository.tree.parent / f"journal-{number}"
            plans.append(bring(repository, journal, these, manifest, contents, contents, options))
            final.update({change.path: change.after for change in these})
            brought = {step.path for step in plans[-1].steps}
            run = {c.path: c.after for c in these if c.after and c.path in brought and _runs(c.path, c.after)}
        author = {
            "GIT_AUTHOR_NAME": _spelled(commit.author) or "unknown",
            "GIT_AUTHOR_EMAIL": _spelled(commit.email),
            "GIT_AUTHOR_DATE": commit.date,
        }
        new = repository.commit(_spelled(commit.message).encode("utf-8", "replace"), tip, author)
        if new is not None:
            made.append((new, run))
            tip = new
    steps = tuple({step.path: step for plan in plans for step in plan.steps}.values())
    merged = replace(
        plans[-1], steps=steps, notes=(*(note for plan in plans for note in plan.notes), *_passing(made, final)),
        refused=tuple(conflict for plan in plans for conflict in plan.refused),
    )  # fmt: skip
    commits = tuple(commit for commit, _ in made)
    return Rebased(commits, merged, sum(not _committed(change, final) for change in changes))


def _runs(path: str, entry: Entry) -> bool:
    return entry.kind in _KINDS.values() and is_run_on_its_own(path)


def _passing(made: Sequence[tuple[str, dict[str, Entry]]], final: Mapping[str, Entry | None]) -> list[str]:
    """A line for each commit with files that tools run on their own and that the last one has not so: nobody saw them
    in the diff, and who checks that commit out runs them."""
    lines = []
    for commit, run in made:
        if paths := [path for path, entry in run.items() if not _same(entry, final[path])]:
            lines.append(f"commit {commit[:12]} has what tools run on their own, the last has it not: {told(paths)}")
    more = len(lines) - _PASSING
    return [*lines[:_PASSING], *([f"{more} more commits have such files"] if more > 0 else [])]


def _committed(change: Change, final: dict[str, Entry | None]) -> bool:
    if (change.after or change.before or _DIRECTORY).kind not in (Kind.FILE, Kind.SYMLINK):
        return True
    return change.path in final and _same(change.after, final[change.path])


def _same(one: Entry | None, other: Entry | None) -> bool:
    """Whether git records both alike."""
    if one is None or other is None:
        return one is other
    return (one.kind, one.digest, one.target, one.mode & 0o100) == (
        other.kind,
        other.digest,
        other.target,
        other.mode & 0o100,
    )


def _spelled(text: str) -> str:
    """The text without what a terminal would obey or not show; lines and tabs stay."""
    return _CONTROL.sub(lambda found: f"<U+{ord(found[0]):04X}>", text)


class _Blobs:
    """What a commit changes, and the contents on both sides, from the repository that holds it."""

    def __init__(self, found: Commits, commit: Commit) -> None:
        self._found = found
        self._commit = commit

    def __enter__(self) -> tuple[tuple[Change, ...], Contents]:
        raw = self._git("diff-tree", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", self._commit.parents[0],
                        self._commit.id)  # fmt: skip
        fields = raw.split(b"\0")[:-1]
        data: dict[tuple[str, str | None], bytes] = {}
        sides: dict[str, tuple[Entry | None, Entry | None]] = {}
        for about, name in zip(fields[::2], fields[1::2], strict=True):
            old_mode, mode, old, new, _ = about[1:].decode("ascii").split(" ")
            path = os.fsdecode(name)
            sides[path] = (self._entry(path, old_mode, old, data), self._entry(path, mode, new, data))
        for path, (before, after) in list(sides.items()):
            # git has no directories: one that gives way to a file, or takes its place, is told by what is in it.
            parent = split(path)[0]
            between: list[str] = []
            while parent:
                was, now = sides.get(parent, (None, None))
                if before is not None and now is not None and was in (None, _DIRECTORY):
                    sides[parent] = (_DIRECTORY, now)
                    for directory in between:
                        sides[directory] = (_DIRECTORY, None)
                if after is not None and was is not None and now is None:
                    sides[parent] = (was, _DIRECTORY)
                between.append(parent)
                parent = split(parent)[0]
        marked = {path for (path, _), content in data.items() if placeholders(content)}
        return tuple(Change(p, *both, ("secret",) if p in marked else ()) for p, both in sides.items()), _Memory(data)

    def __exit__(self, *_: object) -> None:
        return None

    def _entry(self, path: str, mode: str, blob: str, data: dict[tuple[str, str | None], bytes]) -> Entry | None:
        if mode == "000000":
            return None
        if mode == GITLINK or mode not in _KINDS:
            raise UntrustedError(
                f"{path!r} is a submodule in the program's commits", hint="add --commit to leave it out"
            )
        size = int(self._git("cat-file", "-s", blob))
        if size > _LARGEST:
            raise UntrustedError(f"{path!r} is too large in the program's commits", hint="add --commit")
        content = self._git("cat-file", "blob", blob)
        if _KINDS[mode] is Kind.SYMLINK:
            return Entry(Kind.SYMLINK, 0o777, target=os.fsdecode(content))
        digest = sha256(content).hexdigest()
        data[path, digest] = content
        return Entry(Kind.FILE, int(mode[3:], 8), size, digest)

    def _git(self, *arguments: str) -> bytes:
        done = subprocess.run(
            ["git", *arguments], env=self._found.environment, cwd=self._found.git_dir, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode:
            raise UntrustedError(f"the program's commits cannot be read: git {arguments[0]}", hint="add --commit")
        return done.stdout


class _Memory(Contents):
    def __init__(self, data: dict[tuple[str, str | None], bytes]) -> None:
        self._data = data

    def close(self) -> None:
        return None

    def chunks(self, path: str, entry: Entry) -> Iterator[bytes]:
        yield self._data[path, entry.digest]
