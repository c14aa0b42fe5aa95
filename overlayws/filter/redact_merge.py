"""How an edited redacted file becomes the workspace's new file: the secrets go back to their own unchanged lines, and
nowhere else.

The program knows placeholders, not secrets, and a placeholder that it puts elsewhere must not become the secret: it
would carry it into a file that is published, or behind a host that the program chose. So a secret returns only where
its line is still the line that was redacted, in the same section or below the same parents; where that cannot be told,
the answer is that a person decides. A line beside it can still lead it elsewhere (``host:`` in the same section):
that line may be a wanted edit, so the secret does return, but ``retargeted`` says so and a person is asked.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter

from overlayws.filter.content_runs import narrowed
from overlayws.filter.redact import PLACEHOLDER, placeholders

_ENDS = b" \t\r,;"  # what an edit may add to or take from a line that otherwise stays: indentation, a comma


def merge_redacted(original: bytes, redacted_base: bytes, theirs: bytes) -> bytes | None:
    """``theirs`` (the program's edit of ``redacted_base``) with the secrets of ``original`` at their own lines.

    ``original`` is the file that ``redacted_base`` was made of; if the user changed it since, redact it again with
    the session's key, merge in redacted form, and give both here. None where a person must decide: a line with a
    placeholder was edited but kept it, its section or parents changed, it was doubled in place, or ``redacted_base``
    is not ``original`` redacted. A placeholder anywhere else stays as it is: ``stray`` tells where.
    """
    if theirs == redacted_base:
        return original
    codec = _codec(redacted_base)
    if codec is not None:
        try:
            three = [data.decode(codec, "surrogatepass").encode("utf-8", "surrogatepass")
                     for data in (original, redacted_base, theirs)]  # fmt: skip
        except UnicodeDecodeError:
            return None
        merged = _merged(*three)
        return None if merged is None else merged.decode("utf-8", "surrogatepass").encode(codec, "surrogatepass")
    return _merged(original, redacted_base, theirs)


def stray(redacted_base: bytes | None, theirs: bytes) -> list[tuple[int, str]]:
    """(line from 1, number) of the placeholders in ``theirs`` that are not in their own unchanged line of
    ``redacted_base`` (None: the file is new). These are findings: they were moved, doubled or copied."""
    found = placeholders(theirs)
    if not found or redacted_base is None:
        return found
    codec = _codec(redacted_base)
    if codec is not None:
        redacted_base = redacted_base.decode(codec, "replace").encode("utf-8", "replace")
        theirs = theirs.decode(codec, "replace").encode("utf-8", "replace")
    base, edited = redacted_base.split(b"\n"), theirs.split(b"\n")
    own, _ = _own_lines(base, edited, _marked(base))
    return [(line, number) for line, number in found if line - 1 not in own]


# What names where a secret goes. Words within words count (db_host, baseURL): one flag too many is a question.
_WHERE = re.compile(
    rb"host|ur[il]s?(?![a-z])|regist|repos|endpoint|server|proxy|addr|domain|gateway|remote|dsn|target|origin|issuer|(?<![a-z])port\b|://"
    rb"|\bip\b|\d\.\d+\.\d+\.\d",
    re.I,
)


def retargeted(redacted_base: bytes, theirs: bytes) -> bool:
    """Whether ``theirs``, which holds placeholders, has a changed, new or missing line that may give them to somebody
    else: one that names a host or the like anywhere, or any in the section or below the parent of a placeholder."""
    codec = _codec(redacted_base)
    if codec is not None:
        redacted_base = redacted_base.decode(codec, "replace").encode("utf-8", "replace")
        theirs = theirs.decode(codec, "replace").encode("utf-8", "replace")
    base, edited = redacted_base.split(b"\n"), theirs.split(b"\n")
    if not _marked(edited):
        return False
    known: dict[tuple[int, bytes], int] = {}
    contexts = [_contexts(lines, known) for lines in (base, edited)]
    # Not those at the top of a file without sections (0): there everything is beside everything.
    beside = {context[n] for lines, context in zip((base, edited), contexts, strict=True) for n in _marked(lines)} - {0}
    # Lines as they stand below their parents: one that is only doubled or moved among its own kind names nobody new.
    before, after = (
        {(context, line.strip(_ENDS)) for context, line in zip(known_contexts, lines, strict=True)}
        for known_contexts, lines in zip(contexts, (base, edited), strict=True)
    )
    return any(line and (context in beside or _WHERE.search(line)) for context, line in before ^ after)


def _codec(data: bytes) -> str | None:
    wide = narrowed(data) if b"\0" in data[:4096] else None
    return wide[1] if wide else None


def _marked(lines: list[bytes]) -> list[int]:
    return [n for n, line in enumerate(lines) if b"overlayws-redacted-" in line and PLACEHOLDER.search(line)]


def _merged(original: bytes, redacted_base: bytes, theirs: bytes) -> bytes | None:
    before, base, edited = original.split(b"\n"), redacted_base.split(b"\n"), theirs.split(b"\n")
    if len(before) != len(base):
        return None
    secret = [n for n, (a, b) in enumerate(zip(before, base, strict=True)) if a != b]
    if not all(_is_redacted(before[n], base[n]) for n in secret):
        return None
    own, unsure = _own_lines(base, edited, secret)
    if unsure:
        return None
    for at, n in own.items():
        if edited[at] == base[n]:
            edited[at] = before[n]
        else:
            lead, tail = _around(base[n])
            core = before[n][lead : len(before[n]) - tail]
            lead, tail = _around(edited[at])
            edited[at] = edited[at][:lead] + core + edited[at][len(edited[at]) - tail :]
    return b"\n".join(edited)


def _is_redacted(before: bytes, after: bytes) -> bool:
    """Whether ``after`` is the line ``before`` with placeholders: what is between them occurs in this order."""
    if PLACEHOLDER.search(after) is None:
        return False
    literals = PLACEHOLDER.split(after)[::2]
    if not before.startswith(literals[0]) or not before.endswith(literals[-1]):
        return False
    at = len(literals[0])
    for literal in literals[1:-1]:
        at = before.find(literal, at)
        if at < 0:
            return False
        at += len(literal)
    return at <= len(before) - len(literals[-1])


def _around(line: bytes) -> tuple[int, int]:
    """How many bytes of _ENDS are at both ends of a line."""
    return len(line) - len(line.lstrip(_ENDS)), len(line) - len(line.rstrip(_ENDS))


def _own_lines(base: list[bytes], edited: list[bytes], secret: list[int]) -> tuple[dict[int, int], bool]:
    """(line of ``edited`` -> the line of ``base`` that it is, for the lines in ``secret``; whether any is unsure)."""
    own: dict[int, int] = {}
    unsure = False
    done_base = done_edited = 0
    for begin_base, begin_edited, length in [*_same(base, edited), (len(base), len(edited), 0)]:
        gap = secret[bisect_left(secret, done_base) : bisect_left(secret, begin_base)]
        if gap:
            found, doubtful = _in_gap(base, edited, gap, done_edited, begin_edited)
            own.update(found)
            unsure = unsure or doubtful
        for n in range(bisect_left(secret, begin_base), bisect_left(secret, begin_base + length)):
            own[begin_edited + secret[n] - begin_base] = secret[n]
        done_base, done_edited = begin_base + length, begin_edited + length
    if own:
        known: dict[tuple[int, bytes], int] = {}
        of_base, of_edited = _contexts(base, known), _contexts(edited, known)
        for at, n in list(own.items()):
            if of_base[n] != of_edited[at]:
                del own[at]
                unsure = True
    return own, unsure


def _in_gap(
    base: list[bytes], edited: list[bytes], gap: list[int], begin: int, end: int
) -> tuple[dict[int, int], bool]:
    """The lines of ``gap`` among the edited lines from ``begin`` to ``end``, indentation and commas aside."""
    places: dict[bytes, list[int]] = {}
    for at in range(begin, end):
        if b"overlayws-redacted-" in edited[at]:
            places.setdefault(edited[at].strip(_ENDS), []).append(at)
    known = Counter(base[n].strip(_ENDS) for n in gap)
    own: dict[int, int] = {}
    for n in gap:
        core = base[n].strip(_ENDS)
        there = places.get(core, [])
        if len(there) > known[core]:
            return {}, True
        if there:
            # Equal lines have equal placeholders, so equal secrets: any order of them gives the same bytes.
            own[there.pop(0)] = n
            known[core] -= 1
    left = {number for lines in places.values() for at in lines for number in PLACEHOLDER.findall(edited[at])}
    kept = set(own.values())
    lost = {number for n in gap if n not in kept for number in PLACEHOLDER.findall(base[n])}
    return own, bool(left & lost)


def _same(base: list[bytes], edited: list[bytes]) -> list[tuple[int, int, int]]:
    """Blocks (begin in base, begin in edited, length) of equal lines, in order: what both ends share, and between them
    what grows from lines that occur once in both (as patience diff does), in O(n log n) for any content."""
    head = 0
    shorter = min(len(base), len(edited))
    while head < shorter and base[head] == edited[head]:
        head += 1
    tail = 0
    while tail < shorter - head and base[-1 - tail] == edited[-1 - tail]:
        tail += 1
    stop_base, stop_edited = len(base) - tail, len(edited) - tail
    blocks = [(0, 0, head)] if head else []
    done_base, done_edited = head, head
    for b, e in _once(base, edited, head, stop_base, stop_edited):
        if b < done_base or e < done_edited:
            continue
        first_b, first_e = b, e
        while first_b > done_base and first_e > done_edited and base[first_b - 1] == edited[first_e - 1]:
            first_b, first_e = first_b - 1, first_e - 1
        last_b, last_e = b + 1, e + 1
        while last_b < stop_base and last_e < stop_edited and base[last_b] == edited[last_e]:
            last_b, last_e = last_b + 1, last_e + 1
        blocks.append((first_b, first_e, last_b - first_b))
        done_base, done_edited = last_b, last_e
    if tail:
        blocks.append((stop_base, stop_edited, tail))
    return blocks


def _once(
    base: list[bytes], edited: list[bytes], begin: int, stop_base: int, stop_edited: int
) -> list[tuple[int, int]]:
    """The longest increasing sequence of pairs of lines that occur once on either side."""
    in_base, in_edited = Counter(base[begin:stop_base]), Counter(edited[begin:stop_edited])
    where = {line: at for at, line in enumerate(edited[begin:stop_edited], begin) if in_edited[line] == 1}
    pairs = [(n, where[line]) for n, line in enumerate(base[begin:stop_base], begin)
             if in_base[line] == 1 and line in where]  # fmt: skip
    tops: list[int] = []
    last: list[int] = []  # number of the pair that ends the best sequence of each length
    previous: list[int] = []
    for number, (_, at) in enumerate(pairs):
        length = bisect_left(tops, at)
        previous.append(last[length - 1] if length else -1)
        if length == len(tops):
            tops.append(at)
            last.append(number)
        else:
            tops[length], last[length] = at, number
    sequence = []
    number = last[-1] if last else -1
    while number >= 0:
        sequence.append(pairs[number])
        number = previous[number]
    return sequence[::-1]


_SECTION = re.compile(rb"\s*\[.*\]\s*\Z", re.S)


def _contexts(lines: list[bytes], known: dict[tuple[int, bytes], int]) -> list[int]:
    """What each line stands below, as a number: the nearest lines above with less indentation, up to the section (ini,
    TOML). Lists made with one ``known`` have equal numbers for equal lines above."""
    found = []
    section = 0
    above: list[tuple[int, int]] = []  # (indentation, number) of the lines that the next may stand below
    for line in lines:
        bare = line.strip(_ENDS)
        own = len(line) - len(line.lstrip(b" \t"))
        while bare and above and above[-1][0] >= own:
            above.pop()
        context = above[-1][1] if above else section
        found.append(context)
        if bare and _SECTION.match(bare):
            above.clear()
            section = known.setdefault((-1, bare), len(known) + 1)
        elif bare:
            above.append((own, known.setdefault((context, bare), len(known) + 1)))
    return found
