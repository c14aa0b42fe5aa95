"""Three-way decisions about one file or directory: base is what the program was given, ours is the workspace now,
theirs is what was accepted. What only one side changed is taken from that side."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from overlayws.apply.look import Look
from overlayws.apply.merge3 import LIMIT, Merged, merge3
from overlayws.apply.step import Seen, Source
from overlayws.base.manifest import Recorded
from overlayws.changes.contents import Contents
from overlayws.source.entry import Entry, Kind, Xattrs

Redact = Callable[[str, bytes], bytes | None]


class Disagreement(Exception):
    """Both sides changed the same thing; ``merged`` has conflict markers where there are any."""

    def __init__(self, reason: str, detail: str, merged: bytes | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.merged = merged


@dataclass(frozen=True, slots=True)
class Content:
    """What a file will hold: ``source`` is OURS where it stays as it is."""

    source: Source
    data: bytes | None = None


def digest_of(contents: Contents, path: str, entry: Entry) -> str:
    """The digest of a file of a change set, computed where the scan did not need it."""
    return entry.digest or hashlib.sha256(contents.read(path, entry)).hexdigest()


def untouched(seen: Seen, recorded: Recorded | None) -> bool:
    """Whether nobody touched the inode since the base was made (see Stamp)."""
    return recorded is not None and recorded.stamp == seen.stamp


def redacted(recorded: Recorded | None) -> bool:
    """Whether the program was shown other bytes than the workspace's: then its file never replaces the user's,
    it is only merged into it."""
    return recorded is not None and recorded.redacted


def drift(seen: Seen | None, after: Entry | None) -> tuple[str, str]:
    """(reason, detail) of a conflict over a path that the user changed while the program ran on a live base: what the
    program was given is lost, so there is nothing to merge with."""
    if seen is None:
        return "deleted", "deleted in the workspace, changed by the program"
    if after is None:
        return "edited", "deleted by the program, edited in the workspace"
    return "edited", "edited in the workspace before the program had ended: --base live has nothing to merge with"


def is_base(
    look: Look, path: str, before: Entry, seen: Seen, recorded: Recorded | None, base: Contents, *, removing: bool
) -> bool:
    """Whether the workspace has what the program was given. For a removal an untouched inode is enough; what is
    replaced must also look as the program saw it (a redacted file or a placeholder link does not)."""
    if seen.kind is not before.kind:
        return False
    if untouched(seen, recorded) and (removing or before.kind is Kind.FILE and not redacted(recorded)):
        return True
    if before.kind is Kind.SYMLINK:
        return look.target(path) == before.target
    if seen.mode != before.mode:
        return False
    if before.kind is Kind.DIRECTORY:
        return True
    given = digest_of(base, path, before)
    return _same_file(look, path, seen, before.size, given) and look.xattrs(path) == before.xattrs


def is_after(look: Look, path: str, after: Entry, seen: Seen, theirs: Contents) -> bool:
    """Whether the workspace has what would be applied already."""
    if seen.kind is not after.kind:
        return False
    if after.kind is Kind.SYMLINK:
        return look.target(path) == after.target
    if after.kind is Kind.DIRECTORY:
        return True
    if (seen.mode ^ after.mode) & 0o100:
        return False
    return _same_file(look, path, seen, after.size, digest_of(theirs, path, after))


def _same_file(look: Look, path: str, seen: Seen, size: int, digest: str) -> bool:
    return seen.stamp.size == size and look.digest(path) == digest


def merge_content(
    look: Look,
    path: str,
    seen: Seen,
    recorded: Recorded | None,
    before: Entry,
    after: Entry,
    base: Contents,
    theirs: Contents,
    redact: Redact | None = None,
) -> Content:
    """The content of a modified file. ``redact`` replaces the secrets of a file as the start did; without
    it a secret that the user replaced is not told from the old one. Raises Disagreement."""
    given = before.digest or digest_of(base, path, before)
    if given == after.digest and before.size == after.size:
        return Content(Source.OURS)
    if redacted(recorded):
        edited = not untouched(seen, recorded)
        return _merge_redacted(look, path, before, after, base, theirs, redact, edited=edited)
    if untouched(seen, recorded):
        return Content(Source.THEIRS)
    accepted = digest_of(theirs, path, after)
    ours = look.digest(path)
    if ours == given:
        return Content(Source.THEIRS)
    if ours == accepted:
        return Content(Source.OURS)
    data = look.read(path, LIMIT)
    if data is None or max(before.size, after.size) > LIMIT:
        raise Disagreement("content", "edited in the workspace too, and too large to merge")
    merged = merge3(base.read(path, before), data, theirs.read(path, after))
    if merged.content is None:
        raise Disagreement("content", f"edited in the workspace too, and {merged.why}")
    if merged.conflicts:
        what = "place" if merged.conflicts == 1 else "places"
        raise Disagreement("content", f"edited in the workspace too, in {merged.conflicts} same {what}", merged.content)
    return Content(Source.OURS) if merged.content == data else Content(Source.MERGED, merged.content)


def _merge_redacted(
    look: Look,
    path: str,
    before: Entry,
    after: Entry,
    base: Contents,
    theirs: Contents,
    redact: Redact | None,
    *,
    edited: bool,
) -> Content:
    """Secrets go back to their own unchanged lines and nowhere else. Raises Disagreement."""
    from overlayws.filter.redact_merge import merge_redacted

    ours = look.read(path, LIMIT)
    if ours is None or max(before.size, after.size) > LIMIT:
        raise Disagreement("redacted", "secrets in it were hidden from the program, and it is too large to merge")
    given, accepted = base.read(path, before), theirs.read(path, after)
    # What the program would be given of it now: equal secrets have equal placeholders, so this tells a new secret too.
    shown = redact(path, ours) if edited and redact is not None else given
    merged = None
    if shown == given:
        merged = merge_redacted(ours, given, accepted)
    elif shown is not None:
        both = merge3(given, shown, accepted)
        if both.content is not None and not both.conflicts:
            merged = merge_redacted(ours, shown, both.content)
    if merged is None:
        if merge3(given, ours, accepted) == Merged(ours):
            return Content(Source.OURS)  # applied already
        raise Disagreement("redacted", "secrets in it were hidden from the program, and their lines were edited")
    return Content(Source.OURS) if merged == ours else Content(Source.MERGED, merged)


def permissions(after: int, before: int, umask: int) -> int:
    """The permission bits of what is applied: never set-id or sticky, and of the umask's bits only those that
    were there before."""
    return after & 0o777 & ~(umask & ~before)


def shut(after: int, ours: int) -> int:
    """The mode of a redacted file as the program left it, open to nobody but its owner to whom it was not before: a
    program that writes a file anew gives it 0644, and knows of no secret in it."""
    return after & ~(0o066 & ~ours)


def merge_mode(ours: int, before: int, after: int, umask: int) -> int:
    """The mode of a file or directory that exists: the workspace's, unless the program changed it.

    Set-id and sticky bits stay where both sides have them; none is added. Raises Disagreement.
    """
    if after & 0o777 == before & 0o777:
        return ours & ~(before & ~after & 0o7000)
    accepted = permissions(after, before, umask) | (ours & after & 0o7000)
    if ours & 0o777 in (before & 0o777, accepted & 0o777):
        return accepted
    raise Disagreement(
        "mode", f"its mode was changed to {ours:04o} in the workspace and to {accepted:04o} by the program"
    )


def merge_xattrs(ours: Xattrs, before: Xattrs, after: Xattrs) -> Xattrs:
    """The ``user.*`` attributes, name by name. Raises Disagreement."""
    if before == after or ours == after:
        return ours
    mine, given, accepted = dict(ours), dict(before), {n: v for n, v in after if n.startswith("user.")}
    for name in {*given, *accepted}:
        if given.get(name) == accepted.get(name):
            continue
        if mine.get(name) not in (given.get(name), accepted.get(name)):
            raise Disagreement("xattrs", f"its attribute {name!r} was changed in the workspace too")
        if name in accepted:
            mine[name] = accepted[name]
        else:
            mine.pop(name, None)
    return tuple(sorted(mine.items()))
