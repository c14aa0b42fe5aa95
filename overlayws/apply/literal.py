"""Placeholders that apply writes as they are: where one is not in its own unchanged line, the secret that it stands for
does not come back (filter/redact_merge.py), and the file has a word in it that was never meant for the workspace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from overlayws.apply.look import Look
from overlayws.apply.merge3 import LIMIT
from overlayws.apply.step import Action, Source, Step
from overlayws.changes.change import Change
from overlayws.changes.contents import Contents
from overlayws.filter.redact import placeholders
from overlayws.source.entry import Kind

_PATHS, _LINES = 20, 5  # at most so many are named: the program chooses how many there are


def literal(look: Look, steps: Sequence[Step], changes: Mapping[str, Change], theirs: Contents) -> Iterator[str]:
    """A line for each path that gets placeholders which the workspace's own file does not have, with the lines that
    they are in. Of what is as accepted only what has the flag ``secret`` is read. Raises UnableError, UntrustedError.
    """
    more = 0
    for step in steps:
        found = placeholders(_written(step, changes, theirs))
        if found and step.seen is not None and step.seen.kind is Kind.FILE:
            had = {number for _, number in placeholders(look.read(step.path, LIMIT) or b"")}
            found = [(line, number) for line, number in found if number not in had]
        if not found:
            continue
        if more == _PATHS:
            yield "placeholders are written literally to more paths"
            return
        more += 1
        lines = sorted({line for line, _ in found})
        named = ", ".join(map(str, lines[:_LINES])) + (f" and {len(lines) - _LINES} more" if lines[_LINES:] else "")
        what = "a placeholder is" if len(found) == 1 else "placeholders are"
        noun = "line" if len(lines) == 1 else "lines"
        yield f"{step.path}: {what} written literally, in {noun} {named}: the secret is not put there"


def _written(step: Step, changes: Mapping[str, Change], theirs: Contents) -> bytes:
    if step.action is not Action.WRITE or step.after is None or step.source is Source.OURS:
        return b""
    if step.source is Source.MERGED:
        return step.content or b""
    change = changes.get(step.path)
    flagged = change is not None and "secret" in change.flags
    return theirs.read(step.path, step.after) if flagged else b""
