"""What the content scan says of a file, for the copier: the scan itself is in ``filter``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from overlayws.base.manifest import Finding
from overlayws.errors import OverlaywsError
from overlayws.filter.content_rules import Action


class Found(Protocol):
    """One thing that was found: never the value."""

    @property
    def line(self) -> int: ...
    @property
    def rule(self) -> str: ...


class Inspection(Protocol):
    """What becomes of a file, and its bytes as the program may see them."""

    @property
    def action(self) -> Action: ...
    @property
    def findings(self) -> Sequence[Found]: ...
    @property
    def data(self) -> bytes: ...


class Inspector(Protocol):
    """``largest``: bytes of the largest file that is looked at. ``identity``: equal if and only if two inspectors
    say the same of every file; a base remembers it."""

    @property
    def largest(self) -> int: ...
    @property
    def identity(self) -> str: ...
    def inspect(self, path: str, data: bytes) -> Inspection: ...


class BlockedError(OverlaywsError):
    """The workspace holds what a rule does not let any program near, and nobody said otherwise."""


_ORDER = (Action.SHOW, Action.REDACT, Action.HIDE, Action.BLOCK)


def strictest(
    inspector: Inspector, names: Sequence[str], path: str, data: bytes
) -> tuple[Action, str, bytes, list[Finding]]:
    """(action, rule, bytes to show, findings) for ``path``: the strictest under all ``names`` of the same inode,
    since what a rule says depends on the name, and the bytes can be read under every one."""
    said = inspector.inspect(names[0], data)
    for name in names[1:]:
        other = inspector.inspect(name, data)
        if _ORDER.index(other.action) > _ORDER.index(said.action):
            said = other
    word = "warn" if said.action is Action.SHOW else said.action.value
    findings = [Finding(path, found.line, found.rule, word) for found in said.findings]
    rule = f"content: {findings[0].rule}" if findings else "content"
    return said.action, rule, said.data if said.action is Action.REDACT else data, findings


def blocked(findings: Sequence[Finding]) -> BlockedError:
    """The refusal of a start, naming the first file."""
    first = findings[0]
    files = len({finding.path for finding in findings})
    more = f" (and {files - 1} more files)" if files > 1 else ""
    return BlockedError(
        f"{first.path!r} line {first.line}: {first.rule}: no program is started with it in the workspace{more}",
        hint="remove it, keep the file from the program (--hide PATTERN), or allow it by name (--show PATTERN)",
    )
