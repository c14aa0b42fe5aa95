"""Go's regular expressions, as far as a pattern of an ignore file can reach them: text -> branches of items.

Docker turns a pattern into the text of a regular expression and escapes only part of what is special there, so
classes, escapes, repetitions and alternatives leak through. The syntax is that of Go's regexp/syntax with the
Perl flags (https://pkg.go.dev/regexp/syntax, https://github.com/google/re2/wiki/Syntax). Of groups there is only
the ``(.*/)?`` that stands for ``**``.
"""

from __future__ import annotations

from overlayws.filter.chars import ANY, MAX, NOT_NEWLINE, Branch, Chars, Folders, Item, Look, Loop, Repeat
from overlayws.filter.named_sets import PERL, POSIX, table_named

_FOLDERS = "(.*/)?"
_MOST_REPEATS = 1000  # RE2's own limit of one repetition, and of nested ones multiplied
_MOST_COPIES = 20_000  # of all repetitions of one pattern; RE2 has a limit too, of 3 million instructions
_DEEPEST = 998

_CONTROLS = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_LOOKS = {"A": Look.BEGIN, "z": Look.END, "b": Look.EDGE, "B": Look.NO_EDGE}


class BadRegex(Exception):
    """RE2 refuses the expression."""


def parse(text: str) -> tuple[Branch, ...]:
    """The alternatives of an expression, each made to match a whole path. Raises BadRegex."""
    return tuple(_whole(branch) for branch in _Parser(text).alternatives())


def _whole(items: list[Item]) -> Branch:
    """An expression is searched for; a branch matches from the first character to the last."""
    if items and items[0] is Look.BEGIN:
        items = items[1:]
    else:
        items = [Loop(ANY), *items]
    if items and items[-1] is Look.END:
        items = items[:-1]
    else:
        items = [*items, Loop(ANY)]
    return joined(items)


def joined(items: list[Item]) -> Branch:
    """The items with characters that follow each other as one run, and loops that follow themselves once."""
    found: list[Item] = []
    run: list[str] = []
    for item in items:
        if isinstance(item, str):
            run += item
            continue
        if run:
            found.append("".join(run))
            run = []
        if not (found and found[-1] == item and isinstance(item, (Loop, Folders, Look))):
            found.append(item)
    if run:
        found.append("".join(run))
    return tuple(found)


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def alternatives(self) -> list[list[Item]]:
        """One list of items for each branch; a run of characters is one item a character."""
        branches: list[list[Item]] = [[]]
        repeatable = False  # whether something stands before that can be repeated
        repeated = False  # whether a repetition stands just before: two in a row are refused
        copies = 0
        depth, times = 0, 1  # of repetitions that are repeated: how many, and multiplied
        while self.at < len(self.text):
            c = self.text[self.at]
            items = branches[-1]
            count = self._count() if c in "*{" else None
            if count is not None:
                low, high = count
                depth += 1
                times = 1 if high == 0 else times * max(low if high is None else high, 1)
                copies += times
                if repeated or not repeatable or depth > _DEEPEST or times > _MOST_REPEATS or copies > _MOST_COPIES:
                    raise BadRegex
                items[-1] = _repeated(items[-1], low, high)
                repeated = True
                continue
            if c == "\\" and self.text.startswith("\\Q", self.at):
                quoted = self._quoted()
                items.extend(map(_literal, quoted))
                repeated = False
                if quoted:
                    repeatable, depth, times = True, 0, 1
                continue
            repeated, repeatable, depth, times = False, True, 0, 1
            if c == "|":
                self.at += 1
                branches.append([])
                repeatable = False
            elif self.text.startswith(_FOLDERS, self.at):
                self.at += len(_FOLDERS)
                items.append(Folders(NOT_NEWLINE))
                repeated = True
            else:
                items.append(self._single(c))
        return branches

    def _single(self, c: str) -> Item:
        if c == "[":
            return self._class()
        if c == "\\":
            return self._escape()
        self.at += 1
        if c == "^":
            return Look.BEGIN
        if c == "$":
            return Look.END
        if c == ".":
            return NOT_NEWLINE
        return _literal(c)

    def _escape(self) -> Item:
        following = self.text[self.at + 1 : self.at + 2]
        if following in _LOOKS:
            self.at += 2
            return _LOOKS[following]
        if following in PERL:
            self.at += 2
            return Chars(PERL[following])
        if following in ("p", "P"):
            return Chars(tables=(self._table(),))
        return _literal(chr(self._escaped()))

    def _quoted(self) -> str:
        begin = self.at + 2
        end = self.text.find("\\E", begin)
        self.at = len(self.text) if end < 0 else end + 2
        return self.text[begin:] if end < 0 else self.text[begin:end]

    def _count(self) -> tuple[int, int | None] | None:
        """(low, high) of the repetition here, or None where a '{' is only a brace. Raises BadRegex."""
        if self.text[self.at] == "*":
            self.at += 1
            return 0, None
        low, at = self._number(self.at + 1)
        if low is None:
            return None
        high: int | None = low
        if self.text[at : at + 1] == ",":
            at += 1
            if self.text[at : at + 1] == "}":
                high = None
            else:
                high, at = self._number(at)
                if high is None:
                    return None
        if self.text[at : at + 1] != "}":
            return None
        if low > _MOST_REPEATS or (high is not None and not low <= high <= _MOST_REPEATS):
            raise BadRegex
        self.at = at + 1
        return low, high

    def _number(self, at: int) -> tuple[int | None, int]:
        end = at
        while end < len(self.text) and self.text[end] in "0123456789":
            end += 1
        digits = self.text[at:end]
        if not digits or (len(digits) > 1 and digits[0] == "0"):
            return None, at
        return (int(digits) if len(digits) < 9 else MAX), end

    def _class(self) -> Chars:
        ranges: list[tuple[int, int]] = []
        tables: list[tuple[str, bool]] = []
        text = self.text
        self.at += 1
        negated = text.startswith("^", self.at)
        self.at += negated
        first = True
        while first or not text.startswith("]", self.at):
            first = False
            if text.startswith("[:", self.at) and (end := text.find(":]", self.at + 2)) >= 0:
                name = text[self.at + 2 : end]
                if name not in POSIX:
                    raise BadRegex
                ranges += POSIX[name]
                self.at = end + 2
                continue
            if text.startswith(("\\p", "\\P"), self.at):
                tables.append(self._table())
                continue
            if text.startswith("\\", self.at) and text[self.at + 1 : self.at + 2] in PERL:
                ranges += PERL[text[self.at + 1]]
                self.at += 2
                continue
            low = high = self._operand()
            if text.startswith("-", self.at) and self.at + 1 < len(text) and text[self.at + 1] != "]":
                self.at += 1
                high = self._operand()
                if high < low:
                    raise BadRegex
            ranges.append((low, high))
        self.at += 1
        return Chars(tuple(sorted(set(ranges))), tuple(tables), negated)

    def _operand(self) -> int:
        if self.at >= len(self.text):
            raise BadRegex
        if self.text[self.at] == "\\":
            return self._escaped()
        self.at += 1
        return ord(self.text[self.at - 1])

    def _escaped(self) -> int:
        """The code point that the escape here stands for. Raises BadRegex."""
        text = self.text
        c = text[self.at + 1 : self.at + 2]
        self.at += 2
        if c in "01234567" and c:
            end = self.at
            while end < min(len(text), self.at + 2) and text[end] in "01234567":
                end += 1
            if c != "0" and end == self.at:  # a back reference
                raise BadRegex
            digits, self.at = c + text[self.at : end], end
            return int(digits, 8)
        if c == "x":
            if text.startswith("{", self.at):
                end = text.find("}", self.at)
                digits, after = text[self.at + 1 : max(end, 0)], end + 1
            else:
                digits, after = text[self.at : self.at + 2], self.at + 2
                if len(digits) < 2:
                    raise BadRegex
            code = 0
            for digit in digits:
                if digit not in "0123456789abcdefABCDEF" or (code := code * 16 + int(digit, 16)) > MAX:
                    raise BadRegex
            if not digits:
                raise BadRegex
            self.at = after
            return code
        if c in _CONTROLS:
            return _CONTROLS[c]
        if c and c.isascii() and not c.isalnum():
            return ord(c)
        raise BadRegex

    def _table(self) -> tuple[str, bool]:
        """(name, negated) of the Unicode table here: ``\\pL``, ``\\p{Greek}``, ``\\P{^Lu}``. Raises BadRegex."""
        text = self.text
        negated = text[self.at + 1] == "P"
        name = text[self.at + 2 : self.at + 3]
        end = self.at + 3
        if name == "{":
            close = text.find("}", end)
            if close < 0:
                raise BadRegex
            name, end = text[end:close], close + 1
        if name.startswith("^"):
            negated, name = not negated, name[1:]
        self.at = end
        table = table_named(name)
        if table is None:
            raise BadRegex
        return table, negated


def _literal(c: str) -> Item:
    # In a regular expression U+FFFD is also every byte that is not UTF-8.
    return Chars(((0xFFFD, 0xFFFD),)) if c == "\ufffd" else c


def _repeated(item: Item, low: int, high: int | None) -> Item:
    """The item, repeated, in the simplest form that matches the same; '' for nothing."""
    if high == 0 or item == "":
        return ""
    if isinstance(item, (Loop, Folders)):  # both match nothing too, and twice is as good as once
        return item
    if isinstance(item, Look):
        return item if low else ""
    if (low, high) == (1, 1):
        return item
    if isinstance(item, str):
        item = Chars(((ord(item), ord(item)),))
    assert isinstance(item, (Chars, Repeat))
    if isinstance(item, Repeat) and item.low <= 1:  # no gaps between the possible numbers of copies
        low, high = item.low * low, None if high is None or item.high is None else item.high * high
        item = item.item
    if isinstance(item, Chars) and (low, high) == (0, None):
        return Loop(item)
    return Repeat(item, low, high)
