"""Every exported patch is parsed back, by our own reader and by unidiff, and applied in memory: what comes out must be
exactly what the change set says, else nothing is written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from hashlib import sha256

from overlayws.changes.change import Change
from overlayws.changes.contents import Contents
from overlayws.changes.sections import NotAPatch, Section, names, sections
from overlayws.errors import UntrustedError
from overlayws.source.entry import Entry, Kind

_State = tuple[bytes, str | None]  # git's mode, and the SHA-256 of the content; None: a binary patch brought it


def verify(patch: bytes, changes: Iterable[Change], base: Contents) -> None:
    """Raises UntrustedError unless ``patch`` (in git's format) makes of the files before the ``changes`` those after.

    Names, modes and texts are compared; of a binary patch the name and the mode.
    """
    before, expected = {}, {}
    for change in changes:
        path = os.fsencode(change.path)
        if change.before is not None and change.before.kind is not Kind.DIRECTORY:
            before[path] = change
        if change.after is not None and change.after.kind is not Kind.DIRECTORY:
            expected[path] = _state(change.after)
    try:
        read = list(_parsed(patch))
        got = _applied([section for section, _ in read], before, base)
        for path, (mode, digest) in expected.items():
            there = got.pop(path, None)
            if there is None or there[0] != mode or there[1] not in (digest, None):
                raise NotAPatch(f"{os.fsdecode(path)!r} is not what was captured")
        if got:
            raise NotAPatch(f"it leaves {os.fsdecode(min(got))!r}")
        _second_opinion(read)
    except (NotAPatch, LookupError) as error:
        raise UntrustedError(
            f"the patch does not say what changed: {error}",
            hint="nothing was written; overlayws diff --json has the changes",
        ) from None


def _parsed(patch: bytes) -> Iterator[tuple[Section, tuple[int, int]]]:
    for section in sections(patch):
        yield section, section.counts()


def _state(entry: Entry) -> _State:
    if entry.kind is Kind.SYMLINK:
        return b"120000", sha256(os.fsencode(entry.target or "")).hexdigest()
    return b"100755" if entry.mode & 0o100 else b"100644", entry.digest


def _applied(found: Iterable[Section], before: dict[bytes, Change], base: Contents) -> dict[bytes, _State]:
    """The files after the patch. A rename takes its source away, whatever comes first."""
    result = {path: _state(change.before) for path, change in before.items() if change.before}
    gone: set[bytes] = set()
    made: dict[bytes, _State] = {}
    for section in found:
        old, new = names(section)
        if old is not None:
            if old not in before or (old in gone and section.said(b"rename from") is None):
                raise NotAPatch(f"it changes {os.fsdecode(old)!r}, which did not change, or twice")
            gone.add(old)
        if new is None:
            continue
        if new in made:
            raise NotAPatch(f"it makes {os.fsdecode(new)!r} twice")
        was = before[old].before if old is not None else None
        old_mode = _state(was)[0] if was is not None else b""
        mode = section.said(b"new file mode") or section.said(b"new mode") or old_mode
        if section.binary:
            made[new] = mode, None
        elif not section.hunks:
            made[new] = mode, _state(was)[1] if was is not None else sha256(b"").hexdigest()
        else:
            data = b""
            if was is not None and old is not None:
                linked = was.kind is Kind.SYMLINK
                data = os.fsencode(was.target or "") if linked else base.read(os.fsdecode(old), was)
            made[new] = mode, sha256(_patched(data, section)).hexdigest()
    for path in gone:
        del result[path]
    return result | made


def _patched(data: bytes, section: Section) -> bytes:
    lines = data.split(b"\n")  # the last one has no end of line; '' where the text ends with one
    result: list[bytes] = []
    at = 0
    open_end = False  # the text made so far ends without an end of line
    for hunk in section.hunks:
        start = hunk.old_start - (1 if hunk.old_count else 0)
        if start < at or start > len(lines):
            raise NotAPatch(f"hunks overlap: {hunk.header[:80]!r}")
        result += lines[at:start]
        at = start
        last = b""
        for line in hunk.lines:
            mark, text = line[:1], line[1:]
            if mark == b"\\":
                open_end = open_end or last in (b" ", b"+")
                if last in (b" ", b"-") and at != len(lines):
                    raise NotAPatch("an end of line is missing where there is one")
                continue
            if mark in (b" ", b"-"):
                if at >= len(lines) or lines[at] != text:
                    raise NotAPatch(f"a line that is not there: {text[:80]!r}")
                at += 1
            if mark in (b" ", b"+"):
                result.append(text)
            last = mark
    rest = lines[at:]
    if open_end and rest not in ([], [b""]):
        raise NotAPatch("the text goes on after its end")
    if not open_end:
        result += rest or [b""]
    return b"\n".join(result)


def _second_opinion(read: list[tuple[Section, tuple[int, int]]]) -> None:
    """unidiff must find as many added and removed lines in as many hunks."""
    from unidiff.errors import UnidiffParseError
    from unidiff.patch import PatchSet

    def lines() -> Iterator[str]:
        for number, section in enumerate(found):
            yield f"--- a/{number}\n"
            yield f"+++ b/{number}\n"
            for hunk in section.hunks:
                yield hunk.header.decode("latin-1") + "\n"
                for line in hunk.lines:
                    yield line.decode("latin-1") + "\n"

    found = [section for section, _ in read if section.hunks]
    ours = [(*counts, len(section.hunks)) for section, counts in read if section.hunks]
    try:
        theirs = [(file.added, file.removed, len(file)) for file in PatchSet(lines(), metadata_only=True)]
    except UnidiffParseError as error:
        raise NotAPatch(f"unidiff: {ascii(str(error))[:200]}") from None
    if ours != theirs:
        raise NotAPatch("unidiff counts other lines")
