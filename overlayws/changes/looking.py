"""What is shown to a person: the patch within limits, decoded and folded, and what is not in it with its reason."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from overlayws.changes.change import Change, ChangeSet, unsaid
from overlayws.changes.contents import Contents
from overlayws.changes.escape import quoted_path
from overlayws.changes.folding import folded
from overlayws.changes.git import EVERYTHING, SHOWN, PrivateRepository, private_repository
from overlayws.changes.sections import Section, names, sections
from overlayws.source.entry import Entry, Kind


@dataclass(frozen=True, slots=True)
class Looking:
    """A repository to look at: not exact, never to be applied."""

    repository: PrivateRepository
    everything: bool

    def sections(self, *, context: int = 3) -> list[Section]:
        """The files that have a patch form and are within the limits."""
        exact = list(sections(self.repository.patch(context=context)))
        annotate(exact, self.repository.changes)
        decoded = {os.fsencode(path): encoding for path, encoding in self.repository.decoded.items()}
        for section in exact:
            old, new = names(section)
            encoding = decoded.get(new or b"") or decoded.get(old or b"")
            if encoding is not None:
                section.notes.append(f"a text in {encoding.upper()}, decoded here; tools take it for binary")
        if self.everything:
            return exact
        return folded(exact, sections(self.repository.patch(context=context, ignore_ends=True)))

    def left_out(self) -> list[str]:
        """A line for each change that the limits keep out."""
        return [not_shown(change) for change in self.repository.left_out]


@contextmanager
def looking(
    changeset: ChangeSet, base: Contents, theirs: Contents, *, scratch: Path | None = None, everything: bool = False
) -> Iterator[Looking]:
    """What to show of the change set; ``everything``: without folding, and up to what git takes.

    Raises as ``private_repository``.
    """
    limits = EVERYTHING if everything else SHOWN
    with private_repository(changeset, base, theirs, scratch=scratch, limits=limits, decode=True) as repository:
        yield Looking(repository, everything)


def annotate(found: Iterable[Section], changes: Iterable[Change]) -> None:
    """Say in the notes what a patch does not: permissions, attributes, flags."""
    known = {os.fsencode(change.path): change for change in changes}
    for section in found:
        old, new = names(section)
        if new in known:
            if told := unsaid(known[old].before if old in known else None, known[new].after):
                section.notes.append(told)
            if known[new].flags:
                section.notes.append(f"flags: {', '.join(known[new].flags)}")


def not_shown(change: Change) -> str:
    """What is said of a change whose content is not shown: size and digest, before and after."""
    told = unsaid(change.before, change.after)
    status = f"{change.status}, {told}" if told else change.status
    return f"not shown: {quoted_path(change.path)} ({status}): {_side(change.before)} -> {_side(change.after)}"


def _side(entry: Entry | None) -> str:
    if entry is None:
        return "nothing"
    if entry.kind is not Kind.FILE:
        return str(entry.kind.value)
    return f"{entry.size} bytes, sha256 {entry.digest or 'not captured'}"
