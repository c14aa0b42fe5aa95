"""Pathspecs: which paths are meant, by git's rules (gitglossary(7), wildmatch.c).

``src`` and ``src/`` mean the path and all below it; ``*``, ``?`` and ``[…]`` match in the whole path, '/' included;
``:(glob)`` lets ``*`` and ``?`` stop at '/' and gives ``**`` a meaning; also ``:(literal)``, ``:(icase)``, ``:(top)``
or ``:/``, and ``:(exclude)``, ``:!`` or ``:^``. A pattern always begins at the top: ``app.py`` never means ``app.pyc``.
One rule is ours: a pathspec that is the very name of something that changed means that, not a pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from overlayws.errors import UsageError

_LONG = {"top", "literal", "icase", "glob", "exclude"}
_SHORT = {"/": "top", "!": "exclude", "^": "exclude"}
_DEEP = "(?:.*/)?"  # of ``**/``
_WILD = re.compile(r"[*?\[\\]")
_CLASSES = {
    "alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "blank": " \\t", "cntrl": "\\x00-\\x1f\\x7f", "digit": "0-9",
    "graph": "\\x21-\\x7e", "lower": "a-z", "print": "\\x20-\\x7e", "punct": "!-/:-@\\[-`{-~",
    "space": " \\t\\n\\r\\f\\v", "upper": "A-Z", "xdigit": "0-9a-fA-F",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pathspec:
    """One argument: its magic words, and the path or pattern after them."""

    magic: frozenset[str]
    pattern: str

    def __str__(self) -> str:
        return (f":({','.join(sorted(self.magic))})" if self.magic else "") + self.pattern

    @property
    def wild(self) -> bool:
        """Whether it is a pattern, not only a path."""
        return "literal" not in self.magic and _WILD.search(self.pattern) is not None

    @property
    def fixed(self) -> str:
        """What every path that is meant begins with."""
        first = _WILD.search(self.pattern) if self.wild else None
        return self.pattern[: first.start()] if first else self.pattern


def escaped(path: str) -> str:
    """``path`` as a pattern that means it."""
    return _WILD.sub(lambda found: "\\" + found[0], path)


def parse(argument: str) -> Pathspec:
    """Split magic from path. Raises UsageError for magic that is not known here."""
    if not argument.startswith(":"):
        return Pathspec(frozenset(), argument)
    if argument.startswith(":("):
        words, closed, pattern = argument[2:].partition(")")
        magic = frozenset(word for word in words.split(",") if word)
        unknown = sorted(magic - _LONG)
        if not closed or unknown or {"glob", "literal"} <= magic:
            why = (
                f"unknown magic {unknown[0]!r}"
                if unknown
                else "it is not complete"
                if not closed
                else "glob and literal"
            )
            raise UsageError(f"not a pathspec: {argument!r}: {why}", hint="see gitglossary, pathspec")
        return Pathspec(magic, pattern)
    found = set()
    at = 1
    while at < len(argument) and argument[at] in _SHORT:
        found.add(_SHORT[argument[at]])
        at += 1
    if at < len(argument) and argument[at] == ":":  # ends the magic
        at += 1
    elif not found or (at < len(argument) and argument[at] in "\"#%&'-,;<=>@_`~"):
        raise UsageError(f"not a pathspec: {argument!r}", hint="a path that begins with a colon is ./:path")
    return Pathspec(frozenset(found), argument[at:])


def matcher(spec: Pathspec) -> Callable[[str], bool]:
    """A function that tells whether a path is meant. Takes a time linear in the path for each ``*``."""
    icase = "icase" in spec.magic
    wanted = spec.pattern.rstrip("/").lower() if icase else spec.pattern.rstrip("/")
    below = f"{wanted}/"
    regex = _regex(spec) if spec.wild else None

    def matches(path: str) -> bool:
        plain = path.lower() if icase else path
        if not wanted or plain == wanted or plain.startswith(below):
            return True
        return regex is not None and regex.fullmatch(path) is not None

    return matches


def _regex(spec: Pathspec) -> re.Pattern[str]:
    """wildmatch.c as a regular expression."""
    stop = "glob" in spec.magic
    one = "[^/]" if stop else "."
    pattern, at = spec.pattern, 0
    first = _WILD.search(pattern)
    literal = first.start() if first else len(pattern)
    parts: list[list[str]] = [[]]  # split at the stars; each of ``stars`` comes before the next part
    stars: list[str] = []
    while at < len(pattern):
        char = pattern[at]
        if char == "*":
            end = at
            while end < len(pattern) and pattern[end] == "*":
                end += 1
            # git strips what comes before the first special character, so that stars there are at a beginning too.
            begins = at == literal or pattern[at - 1] == "/"
            deep = stop and end - at > 1 and begins and pattern[end : end + 1] in ("", "/")
            if deep and pattern[end : end + 1] == "/":
                parts[-1].append(_DEEP)
                end += 1
            else:
                stars.append(".*" if deep or not stop else "[^/]*")
                parts.append([])
            at = end
        elif char == "?":
            parts[-1].append(one)
            at += 1
        elif char == "[":
            text, at = _bracket(pattern, at, stop)
            parts[-1].append(text)
        else:
            if char == "\\":
                at += 1
                char = pattern[at] if at < len(pattern) else ""
            parts[-1].append(re.escape(char) if char else "(?!)")
            at += 1
    flags = re.DOTALL | (re.IGNORECASE if "icase" in spec.magic else 0)
    whole = "".join(parts[0])
    for number, (star, part) in enumerate(zip(stars, parts[1:], strict=True), 1):
        # Only the last star has a choice: for the others the first place where the rest fits is as good as any, and to
        # try no other keeps hostile names from costing exponential time (as fnmatch does it).
        fixed = "".join(part)
        choice = number == len(stars) or _DEEP in part or (stop and star == ".*")
        whole += star + fixed if choice else f"(?>{star}?{fixed})"
    return re.compile(whole, flags)


def _bracket(pattern: str, start: int, stop: bool) -> tuple[str, int]:
    """A bracket expression and where it ends; one that does not end matches nothing, as in git."""
    at = start + 1
    negated = pattern[at : at + 1] in ("!", "^")
    at += negated
    members: list[str] = []
    first = True
    while True:
        if at >= len(pattern):
            return "(?!)", len(pattern)
        char = pattern[at]
        if char == "]" and not first:
            break
        first = False
        if pattern.startswith("[:", at) and (end := pattern.find(":]", at)) > 0:
            name = pattern[at + 2 : end]
            if name not in _CLASSES:
                return "(?!)", len(pattern)
            members.append(_CLASSES[name])
            at = end + 2
            continue
        if char == "\\" and at + 1 < len(pattern):
            at += 1
            char = pattern[at]
        if pattern[at + 1 : at + 2] == "-" and pattern[at + 2 : at + 3] not in ("", "]"):
            last = pattern[at + 2]
            at += 3
            if last == "\\" and at < len(pattern):
                last = pattern[at]
                at += 1
            if char <= last:
                members.append(f"{re.escape(char)}-{re.escape(last)}")
            continue
        members.append(re.escape(char))
        at += 1
    body = "".join(members)
    if negated:
        found = f"[^{body}]" if body else "."
    else:
        found = f"[{body}]" if body else "(?!)"
    return (f"(?!/){found}" if stop else found), at + 1
