"""Whether an exception may show something below a hidden folder: as Docker guesses it, and as it is."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

from overlayws.filter.ignorefile import Rule

_WILD = frozenset("*[]?^\\")
_SPECIAL = re.compile("[][*?^\\\\|{}\ufffd\udc80-\udcff]")


class Exceptions:
    """The exceptions among the rules of one origin."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        patterns = [rule.pattern for rule in rules if rule.negated]
        texts = [pattern.removesuffix("/**").removesuffix("/*") for pattern in patterns]
        self._wild = any(_WILD.intersection(text) for text in texts)
        self._texts = sorted(text + "/" for text in texts)
        self._literals = sorted(map(_literal_beginning, patterns))
        self._literal_set = frozenset(self._literals)

    def pruned(self, folder: str) -> bool:
        """Docker's answer (rule 20): it loses paths, so ``*`` and ``!a/*/**`` drop ``a/x/y``, and so do we."""
        return not self._wild and not _one_begins_with(self._texts, folder + "/")

    def reach_below(self, folder: str) -> bool:
        """Whether a path below the folder may match: the right answer, for rules that Docker does not know."""
        if not self._literals:
            return False
        folder += "/"
        return _one_begins_with(self._literals, folder) or any(
            folder[:size] in self._literal_set for size in range(len(folder) + 1)
        )


def _one_begins_with(texts: list[str], beginning: str) -> bool:
    """Whether one of the sorted texts does; the first that sorts not before it would."""
    at = bisect_left(texts, beginning)
    return at < len(texts) and texts[at].startswith(beginning)


def _literal_beginning(pattern: str) -> str:
    """What every path that the pattern matches begins with, as far as that is plain to see."""
    special = _SPECIAL.search(pattern)
    if special is None:
        return pattern + "/"
    # A brace may repeat the character before it; an alternative or a byte order mark changes the beginning itself.
    return "" if "|" in pattern or pattern[0] == "\ufeff" else pattern[: max(special.start() - 1, 0)]
