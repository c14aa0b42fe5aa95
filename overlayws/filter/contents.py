"""The content scan: what the bytes of one visible file say about showing it.

Nothing in a file turns a rule off: comments like ``gitleaks:allow`` have no effect, since whoever writes the
workspace's files is not who decides what leaves it.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from overlayws.errors import UsageError
from overlayws.filter.content_rules import RULES, WARN, Action, Effect
from overlayws.filter.redact import PLACEHOLDER, Span, by_lines, replaced
from overlayws.filter.redact_formats import ON_REQUEST, redactable, secret_fields

if TYPE_CHECKING:
    from overlayws.filter.content_match import Hit

_STRENGTH: dict[Effect, int] = {Action.SHOW: 0, WARN: 1, Action.REDACT: 2, Action.HIDE: 3, Action.BLOCK: 4}

# Where names and calls stand after a '=': a bare word is no literal there.
_CODE = frozenset(
    "adoc awk bat c cc cjs clj cljs cmake coffee cpp cr cs css cts cxx d dart diff el elm erl ex exs f90 fs fsx go "
    "gradle groovy h hh hpp hrl hs htm html hxx ipynb java jl js jsx kt kts less lisp lua m md mjs mk ml mli mm mts "
    "nim patch php phtml pl pm po pot proto ps1 psm1 py pyi pyx r rb rs rst s sass scala scm scss sol sql svelte swift "
    "t tcl tex ts tsx txt v vb vim vue wat xhtml xsl zig".split()
)
_CONFIG = frozenset(
    "cfg cnf conf config cnx credentials desktop env ini json json5 jsonc netrc ovpn pgpass properties service tf "
    "tfvars toml xml yaml yml".split()
)


@dataclass(frozen=True, slots=True)
class ContentPolicy:
    """What is done about each rule, and the key that placeholders are made with.

    ``actions`` are pairs of a rule's id and an action, in place of its default. ``key`` is secret and belongs to one
    session: equal secrets have equal placeholders under one key, and nobody without it can tell a guessed secret by
    its placeholder. ``env`` shows ``.env`` files with their values replaced. Raises UsageError for an unknown rule.
    """

    actions: tuple[tuple[str, Effect], ...] = ()
    env: bool = False
    largest: int = 16 << 20  # bytes
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def __post_init__(self) -> None:
        for rule, _ in self.actions:
            if rule not in RULES:
                raise UsageError(
                    f"no content rule is called {rule!r}", hint=f"the rules are: {', '.join(sorted(RULES))}"
                )
        if len(self.key) < 16:
            raise ValueError("a key of less than 16 bytes can be guessed")


@dataclass(frozen=True, slots=True)
class Finding:
    """A secret (never its value): by which rule, in which line (from 1; 0 for the file as a whole), what is done."""

    rule: str
    line: int
    action: Effect


@dataclass(frozen=True, slots=True)
class Inspection:
    """What becomes of a file: the strongest action of its findings. ``data`` are the bytes to show where that is
    REDACT, else None."""

    action: Action
    findings: tuple[Finding, ...] = ()
    data: bytes | None = None


CLEAN = Inspection(Action.SHOW)


class Inspector:
    """Inspects files by one policy. Holds no state between files, and can be pickled."""

    def __init__(self, policy: ContentPolicy | None = None) -> None:
        self.policy = policy if policy is not None else ContentPolicy()
        self.largest = self.policy.largest
        self._actions: Mapping[str, Effect] = {
            **{rule.id: rule.action for rule in RULES.values()},
            **dict(self.policy.actions),
        }

    def redacts(self, path: str) -> bool:
        """Whether the file is redacted by its name: then it is shown where a name rule alone would hide it."""
        kind = redactable(path)
        return kind is not None and (kind not in ON_REQUEST or self.policy.env)

    def inspect(self, path: str, data: bytes) -> Inspection:
        """Decide for the file ``path`` (relative, surrogateescape) with the content ``data``; never raises for either.

        More than ``largest`` bytes are not looked at: the finding ``not-inspected`` says so, and for a file that is
        redacted by its name its rule's ``HIDE`` holds.
        """
        if len(data) > self.largest:
            return self.unread(path)
        told = self._hits(path, data)
        if told is None:
            return self._whole("not-understood")
        text, hits, codec = told
        return self._judge(data, text, hits, codec) if hits else CLEAN

    def redacted(self, path: str, data: bytes) -> bytes | None:
        """What is shown of a file: ``data`` with its secrets replaced; None where it is not shown at all."""
        said = self.inspect(path, data)
        return data if said.action is Action.SHOW else said.data

    def values(self, path: str, data: bytes) -> Counter[bytes]:
        """The secrets in a file, each with how often it is there; placeholders of ours are none. For comparing only:
        they are never to be told. A file of more than ``largest`` bytes has none."""
        told = self._hits(path, data) if len(data) <= self.largest else None
        if told is None:
            return Counter()
        text, hits, _ = told
        values = (text[hit.begin : hit.end] for hit in hits if self._actions[hit.rule] is not Action.SHOW)
        return Counter(value for value in values if not PLACEHOLDER.search(value))

    def _hits(self, path: str, data: bytes) -> tuple[bytes, list[Hit], str | None] | None:
        """(the text, the secrets in it, its codec if that is UTF-16); None for a file that is redacted by its name and
        not understood."""
        # Loaded with the first file that is looked into: a start on an unchanged workspace has none.
        from overlayws.filter.content_match import Hit, disjoint, find_secrets

        kind = redactable(path) if self.redacts(path) else None
        wide = None
        if b"\0" in data[:4096] or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            from overlayws.filter.content_runs import narrowed

            wide = narrowed(data)
        text = wide[0] if wide else data
        code, config = _kind_of_text(path)
        if kind is not None:
            fields = None if wide else secret_fields(kind, text)
            if fields is None:
                return None
            hits = disjoint([*(Hit("config-secret", begin, end) for begin, end in fields),
                             *find_secrets(text, code=False, config=True)])  # fmt: skip
        else:
            hits = find_secrets(text, code=code, config=config, binary=wide is None and b"\0" in data)
        return text, hits, wide[1] if wide else None

    def unread(self, path: str) -> Inspection:
        """What ``inspect`` says of a file that is too large, without its bytes."""
        return self._whole("not-understood" if self.redacts(path) else "not-inspected")

    def _whole(self, rule: str) -> Inspection:
        action = self._actions[rule]
        if action is Action.REDACT:  # there is no span to replace
            action = Action.HIDE
        return Inspection(Action.SHOW if action == WARN else Action(action), (Finding(rule, 0, action),))

    def _judge(self, data: bytes, text: bytes, hits: list[Hit], codec: str | None) -> Inspection:
        # A longer or shorter string would break what binary formats count.
        binary = codec is None and b"\0" in data
        findings: list[Finding] = []
        spans: list[Span] = []
        line, counted = 1, 0
        for hit in hits:
            line += text.count(b"\n", counted, hit.begin)
            counted = hit.begin
            action = self._actions[hit.rule]
            if action is Action.SHOW:
                continue
            if action is Action.REDACT and binary:
                action = Action.HIDE
            findings.append(Finding(hit.rule, line, action))
            if action is Action.REDACT:
                spans += by_lines(text, hit.begin, hit.end)
        strongest = max((f.action for f in findings), key=_STRENGTH.__getitem__, default=Action.SHOW)
        if strongest is Action.REDACT:
            return Inspection(Action.REDACT, tuple(findings), replaced(data, text, spans, self.policy.key, codec))
        return Inspection(Action.SHOW if strongest == WARN else Action(strongest), tuple(findings))


def _kind_of_text(path: str) -> tuple[bool, bool]:
    """(code, config) of a file, by its name."""
    name = path.rpartition("/")[2].lower()
    stem, dot, extension = name.rpartition(".")
    if extension in _CODE and stem and not stem.startswith(".env"):  # most files, and none of the rest is about them
        return True, False
    while dot and extension in ("example", "sample", "template", "dist", "defaults", "bak", "orig", "old"):
        stem, dot, extension = stem.rpartition(".")
    if not dot:
        return False, False
    config = extension in _CONFIG or not stem or stem.startswith(".env")
    return extension in _CODE and not config, config
