"""What a person is shown of a patch: noise folded, with both counts, so that the one real edit stands out.

Folded is what differs only in white space at the end of lines (a flip of CRLF too), and, where indentation means
nothing to the language, hunks that only indent. An option shows all of it, and the exported patch always has it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from overlayws.changes.sections import PatchHunk, Section, names

# Languages in which white space at the beginning of a line has no meaning. Not: Python, YAML, make, Markdown ...
_FREE = frozenset(
    """
    c cc cpp cs css cxx dart go gradle h hh hpp htm html hxx java js json json5 jsx kt kts less mjs cjs php proto rs
    scala scss sql swift svg svelte ts tsx vue xml zig
    """.split()
)


def folded(exact: Iterable[Section], blind: Iterable[Section]) -> list[Section]:
    """``exact`` with what is noise taken out and told in the notes.

    ``blind`` is the same patch made without a look at white space at the end of lines.
    """
    without = {section.header[0]: section for section in blind}
    return [_folded(section, without.get(section.header[0])) for section in exact]


def _folded(exact: Section, blind: Section | None) -> Section:
    if not exact.hunks:
        return exact
    result = Section(exact.header, exact.hunks, notes=list(exact.notes))
    added, removed = exact.counts()
    real_added, real_removed = blind.counts() if blind is not None else (0, 0)
    if (added, removed) != (real_added, real_removed):
        result.hunks = blind.hunks if blind is not None else []
        result.notes.append(
            f"-{removed - real_removed} +{added - real_added} lines differ only in white space at their end and are "
            f"folded; -{real_removed} +{real_added} others; --all shows them"
        )
    if _indents_freely(result):
        shown = [hunk for hunk in result.hunks if not _only_indents(hunk)]
        if hidden := len(result.hunks) - len(shown):
            result.notes.append(
                f"{_hunks(hidden)} that only indent {'is' if hidden == 1 else 'are'} folded; "
                f"{_hunks(len(shown))} shown; --all shows them"
            )
            result.hunks = shown
    return result


def _indents_freely(section: Section) -> bool:
    old, new = names(section)
    suffixes = {os.fsdecode(path).rpartition(".")[2].lower() for path in (old, new) if path is not None}
    return suffixes <= _FREE


def _only_indents(hunk: PatchHunk) -> bool:
    added = [line[1:].strip() for line in hunk.lines if line[:1] == b"+"]
    removed = [line[1:].strip() for line in hunk.lines if line[:1] == b"-"]
    return added == removed and not any(line[:1] == b"\\" for line in hunk.lines)


def _hunks(count: int) -> str:
    return f"{count} hunk{'' if count == 1 else 's'}"
