"""What the content scan (``filter/contents.py``) says of a file, for the copier."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from overlayws.base.manifest import Finding
from overlayws.errors import OverlaywsError
from overlayws.filter.content_rules import Action
from overlayws.filter.contents import Inspector
from overlayws.filter.ignorefile import Rule
from overlayws.filter.match import Filter
from overlayws.filter.redact_formats import redactable_among

Said = tuple[Action, str, bytes | None, list[Finding]]
"""(action, rule, the bytes to show if that is REDACT, findings)"""
SHOWN: Said = (Action.SHOW, "", None, [])
Part = tuple[list[str], dict[str, list[str]]]
"""What of a Scan concerns some paths alone: those that are spared, and aliases."""


class BlockedError(OverlaywsError):
    """The workspace holds what a rule lets no program near, and nobody said otherwise."""


@dataclass(frozen=True, slots=True)
class Scan:
    """How the contents of files are judged. Can be pickled: a worker process judges as we do."""

    inspector: Inspector
    spared: Collection[str] = frozenset()  # paths that --show names: reported, but shown as they are
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)  # all visible names of a file that has several

    def part(self, paths: Iterable[str]) -> Part | None:
        """What is to be known for ``paths`` besides how contents are judged; mostly nothing."""
        if not self.spared and not self.aliases:
            return None
        own = [path for path in paths if path in self.spared or path in self.aliases]
        return [path for path in own if path in self.spared], {
            path: list(self.aliases[path]) for path in own if path in self.aliases
        }

    def of(self, part: Part | None) -> Scan:
        """This one, where nothing else is known than ``part``."""
        return replace(self, spared=part[0], aliases=part[1]) if part else self

    def reads(self, path: str, size: int) -> bool:
        """Whether ``judge`` needs the bytes of a file of that size."""
        return size <= self.inspector.largest

    def clean(self, prefix: str, files: Sequence[tuple[str, bytes]]) -> list[bool]:
        """For each of ``files`` (name and content) in one directory whether ``judge`` need not be asked: it says SHOWN,
        and the content is text."""
        from overlayws.filter.content_screen import screen

        suspects = screen([data for _, data in files])
        named = redactable_among([name for name, _ in files])
        largest, aliases = self.inspector.largest, self.aliases
        return [
            number not in suspects
            and name not in named
            and len(data) <= largest
            and not (aliases and prefix + name in aliases)
            for number, (name, data) in enumerate(files)
        ]

    def judge(self, path: str, data: bytes | None) -> Said:
        """What becomes of the file ``path``; no ``data``: it is too large.

        The strictest under all names of the inode, since what a rule says depends on the name, and the bytes can be
        read under every one.
        """
        if data is None:
            data = bytes(self.inspector.largest + 1)  # only its length counts
        said = self.inspector.inspect(path, data)
        for name in self.aliases.get(path, ()):
            other = self.inspector.inspect(name, data)
            if _STRENGTH[other.action] > _STRENGTH[said.action]:
                said = other
        if not said.findings:
            return SHOWN
        action = Action.SHOW if path in self.spared else said.action
        findings = [
            Finding(
                path,
                f.line,
                f.rule,
                f.action.value if isinstance(f.action, Action) and action != Action.SHOW else "warn",
            )
            for f in said.findings
        ]
        strongest = next((f.rule for f in said.findings if f.action is said.action), said.findings[0].rule)
        return action, f"content: {strongest}", said.data if action is Action.REDACT else None, findings


_STRENGTH = {Action.SHOW: 0, Action.REDACT: 1, Action.HIDE: 2, Action.BLOCK: 3}


def identity(inspector: Inspector | None) -> str:
    """Equal only where two inspectors say, and show, the same of every file: policy, key and code are the same."""
    if inspector is None:
        return "none"
    policy = inspector.policy
    digest = hashlib.sha256(repr((policy.actions, policy.env, policy.largest)).encode())
    digest.update(hashlib.sha256(policy.key).digest())
    digest.update(_code())
    return digest.hexdigest()


@cache
def _code() -> bytes:
    """What judges: it is loaded once in a process, so it is asked for once."""
    with os.scandir(Path(__file__).parent.parent / "filter") as files:
        found = sorted((f.name, f.stat()) for f in files if f.name.endswith(".py"))
    return "".join(f"{name} {st.st_size} {st.st_mtime_ns}" for name, st in found).encode()


def spared(rules: Filter, paths: Iterable[str]) -> frozenset[str]:
    """Those of ``paths`` that ``--show`` names, whether or not a rule by name would hide them."""
    shows = shown_by_name(rules)
    if not shows:
        return frozenset()
    named = Filter(command=(Rule("**", False, "--hide", 0), *shows), secrets=False)
    return frozenset(path for path in paths if not named.hidden_path(path, False).hidden)


def shown_by_name(rules: Filter) -> list[Rule]:
    """The rules of ``--show``."""
    return [rule for rule in rules.rules if rule.file == "--show"]


def blocked(findings: Sequence[Finding]) -> BlockedError:
    """The refusal of a start, naming the first file."""
    first = findings[0]
    files = len({finding.path for finding in findings})
    more = f" (and {files - 1} more files)" if files > 1 else ""
    return BlockedError(
        f"{first.path!r} line {first.line}: {first.rule}: nothing is started with it in the workspace{more}",
        hint="remove it, keep the file from the program (--hide PATTERN), or show it by name (--show PATTERN)",
    )
