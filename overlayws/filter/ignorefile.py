"""Reading an ignore file: text -> rules, each knowing its file and line.

This is what Docker does when it loads a ``.dockerignore``: split, trim, clean, check (rules 1 to 9 of
``docs/filter.md``). What a pattern matches is the business of ``pattern.py``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from overlayws.errors import UsageError

# Unicode White_Space; str.strip() alone would also take U+001C to U+001F.
_BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_LONGEST_LINE = 65_535  # bytes, '\r' counted and '\n' not: the buffer of Go's bufio.Scanner
_UNCLEAN = re.compile(r"(?s)//|(?:\A|/)\.\.?(?:/|\Z)|./\Z")
_MOST_RULES = 2_000_000


@dataclass(frozen=True, slots=True)
class Rule:
    """One pattern, cleaned and without its ``!``, and where it was written (``line`` counts from 1)."""

    pattern: str
    negated: bool
    file: str
    line: int


class IgnoreSyntaxError(UsageError):
    """A line of an ignore file is not a pattern (exit code 2)."""


def bad_rule(
    rule: Rule,
    why: str = "syntax error in pattern",
    hint: str = "escape a special character with a backslash, close each '[' with a ']', or remove the pattern",
) -> IgnoreSyntaxError:
    """The error of one rule: names the file (or option), the line and the pattern."""
    where = f"{printable(rule.file)}:{rule.line}" if rule.line else rule.file
    return IgnoreSyntaxError(f"{where}: {why}: {shown(rule)}", hint=hint)


def shown(rule: Rule) -> str:
    """The pattern as a person may read it: printable, with its ``!``, cut after 200 characters."""
    text = ("!" if rule.negated else "") + rule.pattern
    return printable(text if len(text) <= 200 else text[:200] + "…")


def printable(text: str) -> str:
    """``text`` with everything that is not printable (controls, bidirectional marks, stray bytes) escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def parse(data: bytes, file: str) -> tuple[Rule, ...]:
    """The rules of an ignore file in Docker's syntax, in the order written. ``file`` is only named in rules and errors.

    A line that repeats one before it is left out where it cannot matter: with no rule of the other sign between.
    Raises IgnoreSyntaxError for a line of 65,536 bytes or more, a lone ``!``, a pattern that Go's
    ``filepath.Match`` refuses, and for more than two million rules. Some broken patterns show only when they are
    first tried on a path.
    """
    lines = data.split(b"\n")
    for number, raw in enumerate(lines, 1):  # before anything else: a long line refuses the file, even a comment
        if len(raw) > _LONGEST_LINE:
            raise IgnoreSyntaxError(
                f"{printable(file)}:{number}: line too long ({len(raw):,} bytes): {printable(_text(raw[:40]))}…",
                hint=f"a line of an ignore file holds at most {_LONGEST_LINE:,} bytes",
            )
    rules: list[Rule] = []
    run: set[bytes] = set()  # the lines since the last change of sign
    for number, raw in enumerate(lines, 1):
        if raw.endswith(b"\r"):
            raw = raw[:-1]
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if raw.startswith(b"#"):
            continue
        if raw in run:
            continue
        rule = parse_line(_text(raw), file, number)
        if rule is None:
            continue
        if rules and rules[-1].negated != rule.negated:
            run.clear()
        if len(rules) == _MOST_RULES:
            raise bad_rule(rule, f"more than {_MOST_RULES:,} patterns", hint="use fewer patterns with wildcards")
        run.add(raw)
        rules.append(rule)
    return tuple(rules)


def parse_line(text: str, file: str, line: int) -> Rule | None:
    """One pattern, as a line of an ignore file (or the value of an option) gives it; None for a blank one.

    ``line`` is 0 for an option. Raises IgnoreSyntaxError.
    """
    text = text.strip(_BLANKS)
    if not text:
        return None
    # Docker does this in two programs, one after the other: the first takes a '!' off and puts it back, the second
    # looks at the result as a whole. So './!a' is an exception too.
    mark = "!" if text[0] == "!" else ""
    text = text[len(mark) :].strip(_BLANKS)
    if text:
        text = _clean(text)
        if len(text) > 1 and text[0] == "/":
            text = text[1:]
    text = (mark + text).strip(_BLANKS)
    if not text:
        return None
    text = _clean(text)
    rule = Rule(text.removeprefix("!"), text[0] == "!", file, line)
    if not rule.pattern:
        raise bad_rule(
            rule, "a lone '!' makes no exception", hint="write !PATTERN to keep what PATTERN matches visible"
        )
    if ("[" in text or "\\" in text) and not _well_formed(rule.pattern):
        raise bad_rule(rule)
    return rule


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _clean(path: str) -> str:
    """Go's ``filepath.Clean`` on Linux: lexical, knows neither escapes nor classes."""
    if not _UNCLEAN.search(path):
        return path
    rooted = path[0] == "/"
    kept: list[str] = []
    for component in path.split("/"):
        if component == "..":
            if kept and kept[-1] != "..":
                kept.pop()
            elif not rooted:
                kept.append(component)
        elif component not in ("", "."):
            kept.append(component)
    joined = "/".join(kept)
    return "/" + joined if rooted else joined or "."


class _Malformed(Exception):
    pass


def _well_formed(pattern: str) -> bool:
    """Whether Go's ``filepath.Match(pattern, ".")`` reports no error.

    It cuts the pattern at each run of ``*`` outside a class and matches the parts in turn; parts after the first
    that cannot match are never looked at, so not every broken pattern is found here.
    """
    name, rest = ".", pattern
    try:
        while rest:
            star, part, rest = _cut(rest)
            if star and not part:
                return True
            left = _match_part(part, name)
            if left is not None and (not left or rest):
                name = left
                continue
            if not star or not name:
                return True
            left = _match_part(part, "")
            if left is None:
                return True
            name = left
    except _Malformed:
        return False
    return True


def _cut(pattern: str) -> tuple[bool, str, str]:
    """(begins with ``*``, the part up to the next ``*``, what is left)."""
    stripped = pattern.lstrip("*")
    in_class = False
    at = 0
    while at < len(stripped):
        c = stripped[at]
        if c == "\\":
            at += 1
        elif c == "[":
            in_class = True
        elif c == "]":
            in_class = False
        elif c == "*" and not in_class:
            break
        at += 1
    return stripped != pattern, stripped[:at], stripped[at:]


def _match_part(part: str, name: str) -> str | None:
    """What is left of ``name`` after a part without ``*``, or None. Checks all of the part. Raises _Malformed."""
    failed = False
    at = 0
    while at < len(part):
        failed = failed or not name
        here, name = name[:1], name[1:]
        c = part[at]
        if c == "[":
            matched, at = _match_class(part, at + 1, here)
            failed = failed or not matched
            continue
        if c == "\\":
            at += 1
            if at == len(part):
                raise _Malformed
            c = part[at]
        elif c == "?":
            c = here  # the name is '.' or empty, never '/'
        failed = failed or c != here
        at += 1
    return None if failed else name


def _match_class(part: str, at: int, here: str) -> tuple[bool, int]:
    """(whether the class that begins at ``at`` has ``here``, the index behind its ``]``). Raises _Malformed."""
    negated = part[at : at + 1] == "^"
    at += negated
    matched = False
    first = True
    while first or part[at : at + 1] != "]":
        first = False
        low, at = _operand(part, at)
        high = low
        if part[at] == "-":
            high, at = _operand(part, at + 1)
        matched = matched or low <= here <= high
    return matched != negated, at + 1


def _operand(part: str, at: int) -> tuple[str, int]:
    """(a character of a class, the index behind it). Something must follow. Raises _Malformed."""
    if part[at : at + 1] in ("", "-", "]"):
        raise _Malformed
    at += part[at] == "\\"
    # A byte that is not UTF-8 is refused here (and only here).
    if at + 1 >= len(part) or "\udc80" <= part[at] <= "\udcff":
        raise _Malformed
    return part[at], at + 1
