"""What a person is shown of a patch: noise folded, with both counts, so that the one real edit stands out.

Folded is what differs only in white space at the end of lines (a flip of CRLF too), and, where indentation means
nothing to the language, hunks that only indent. Not where a line ends in a character that joins it to the next: a space
after it changes the program. An option shows all of it, and the exported patch always has it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from overlayws.changes.sections import PatchHunk, Section, names

# Languages in which white space at the beginning of a line has no meaning. Not: Python, YAML, make, Markdown, nor what
# can hold a block of such a language (vue, svelte: pug, sass).
_FREE = frozenset(
    """
    c cc cpp cs css cxx dart go gradle h hh hpp htm html hxx java js json json5 jsx kt kts less mjs cjs php proto rs
    scala scss sql swift svg ts tsx xml zig
    """.split()
)
_JOINS = (b"\\", b"`", b"^")  # at the end of a line: shells, C, Dockerfile; PowerShell; cmd


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
    if (added, removed) != (real_added, real_removed) and not _joins(exact) and not _joins(blind):
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


def _joins(section: Section | None) -> bool:
    """Whether a changed line ends, but for white space, in what joins lines. The blind side is asked too: it may pair
    other lines."""
    lines = (line for hunk in section.hunks for line in hunk.lines) if section is not None else ()
    return any(line[:1] in (b"+", b"-") and line.rstrip().endswith(_JOINS) for line in lines)


def _indents_freely(section: Section) -> bool:
    suffixes = {os.path.splitext(path)[1] for path in names(section) if path is not None}
    return all(suffix and os.fsdecode(suffix[1:]).lower() in _FREE for suffix in suffixes)  # no suffix: any language


def _only_indents(hunk: PatchHunk) -> bool:
    """Whether both sides, with the lines between the changed ones, are the same line by line: a line that moved past
    another is no indentation."""
    if any(line[:1] == b"\\" for line in hunk.lines):
        return False
    old = [_bare(line[1:]) for line in hunk.lines if line[:1] != b"+"]
    new = [_bare(line[1:]) for line in hunk.lines if line[:1] != b"-"]
    return old == new


def _bare(line: bytes) -> bytes:
    bare = line.strip()
    return line.lstrip() if bare.endswith(_JOINS) else bare


def _hunks(count: int) -> str:
    return f"{count} hunk{'' if count == 1 else 's'}"
