"""Many patterns matched at once, one step a character, with the state of a folder shared by all that is in it.

The patterns are one nondeterministic automaton (a trie as far as they begin alike), laid out only where a path
really leads, and made deterministic only along the paths that are asked for. So a step costs a dict lookup once it
was taken before; when it is new, it costs at most one visit of each position that is alive: no pattern makes it
backtrack. What is remembered is bounded, and so is the whole work of hostile patterns (``MOST_WORK``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from overlayws.errors import UsageError
from overlayws.filter.chars import Branch, Chars, CharSet, Folders, Item, Look, Loop, Repeat, is_word

MOST_STATES = 20_000  # deterministic states remembered; then they are forgotten and made again
MOST_MEMBERS = 2_000_000  # positions in all remembered states together
MOST_WORK = 300_000_000  # visits of positions; an ordinary workspace needs some thousands


class TooExpensiveError(UsageError):
    """The patterns take too much work to match (exit code 2)."""


_Pending = tuple[Branch, int, int, int]  # a branch, an item in it, an offset in the item, the pattern's number


class _Position:
    """A place between two items of one or more patterns that begin alike."""

    __slots__ = ("pending", "by_char", "by_set", "free", "looks", "ends")

    pending: Sequence[_Pending]  # patterns that are not laid out yet behind here
    by_char: Mapping[str, _Position]
    by_set: Sequence[tuple[CharSet, _Position]]
    free: Sequence[_Position]  # reached without a character
    looks: Sequence[tuple[Look, _Position]]
    ends: Sequence[int]  # patterns that match when the path ends here

    def __init__(self) -> None:
        # Hostile files make millions of positions, most of which stay empty.
        self.pending = self.by_set = self.free = self.looks = self.ends = ()
        self.by_char = _NOWHERE


class State(dict[str, "State"]):
    """All positions after some characters of a path: ``state[c]`` is the state after one more.

    ``hits`` are the numbers of the patterns that match if the path ends here, ascending.
    """

    __slots__ = ("automaton", "positions", "before", "hits")

    automaton: Automaton
    positions: frozenset[_Position]
    before: str | None  # the character before, where a look depends on it; '' at the beginning
    hits: tuple[int, ...]

    def __missing__(self, c: str) -> State:
        return self.automaton.step(self, c)

    def after(self, text: str) -> State:
        """The state after all characters of ``text``."""
        state = self
        for c in text:
            state = state[c]
        return state


class Automaton:
    """``start.after(path).hits`` says which of the patterns match a path as a whole."""

    def __init__(self, patterns: Iterable[Sequence[Branch]]) -> None:
        self.work = 0
        self._known: dict[tuple[frozenset[_Position], str | None], State] = {}
        self._members = 0
        root = _Position()
        pending: list[_Pending] = []
        for number, branches in enumerate(patterns):
            pending.extend((branch, 0, 0, number) for branch in branches)
        root.pending = pending
        self.start = self._state({root}, "")

    def step(self, state: State, c: str) -> State:
        """The state after ``c``, made if need be. Raises TooExpensiveError."""
        positions: Iterable[_Position] = state.positions
        if state.before is not None:
            positions = self._closure(state.positions, state.before, c)
        reached = set()
        work = 0
        for position in positions:
            following = position.by_char.get(c)
            if following is not None:
                reached.add(following)
            work += 1 + len(position.by_set)
            for chars, following in position.by_set:
                if chars.has(c):
                    reached.add(following)
        self.spend(work)
        made = self._state(reached, "a" if is_word(c) else "-")  # all that a look asks about it
        state[c] = made
        return made

    def _state(self, reached: set[_Position], before: str) -> State:
        positions = self._closure(reached)
        looking = any(position.looks for position in positions)
        key = (frozenset(positions), before if looking else None)
        state = self._known.get(key)
        if state is not None:
            return state
        if len(self._known) >= MOST_STATES or self._members >= MOST_MEMBERS:
            self._forget()
        state = State()
        state.automaton = self
        state.positions, state.before = key
        ending = self._closure(positions, before, None) if looking else positions
        state.hits = tuple(sorted({number for position in ending for number in position.ends}))
        self.spend(len(state.hits))
        self._known[key] = state
        self._members += len(positions)
        return state

    def _forget(self) -> None:
        for state in self._known.values():
            state.clear()  # whoever still holds one goes on with it
        self._known.clear()
        self._members = 0

    def spend(self, work: int) -> None:
        """Count visits. Raises TooExpensiveError."""
        self.work += work
        if self.work > MOST_WORK:
            raise TooExpensiveError(
                "the ignore patterns are too expensive to match on these paths",
                hint="remove patterns with many wildcards or repetitions, or split the workspace",
            )

    def _closure(self, positions: Iterable[_Position], before: str = "", after: str | None = "") -> set[_Position]:
        """All positions reached without a character. Looks are passed only where ``before`` and ``after`` are said:
        '' for ``after`` is unknown, None is the end of the path."""
        found = set(positions)
        todo = list(found)
        while todo:
            position = todo.pop()
            if position.pending:
                self.spend(4 * len(position.pending))
                _lay_out(position)
            following = list(position.free)
            if after != "":
                following += (to for look, to in position.looks if _holds(look, before, after))
            for to in following:
                if to not in found:
                    found.add(to)
                    todo.append(to)
        self.spend(len(found))
        return found


def _holds(look: Look, before: str, after: str | None) -> bool:
    if look is Look.BEGIN:
        return before == ""
    if look is Look.END:
        return after is None
    edge = (before != "" and is_word(before)) != (after is not None and is_word(after))
    return edge == (look is Look.EDGE)


def _lay_out(position: _Position) -> None:
    """Make the positions that follow one, one item further; patterns that go on alike share them."""
    by_char: dict[str, _Position] = {}
    waiting: dict[_Position, list[_Pending]] = {}
    followers: dict[Item, _Position] = {}
    ends = []
    pending, position.pending = list(position.pending), ()
    while pending:
        branch, at, offset, number = pending.pop()
        if at == len(branch):
            ends.append(number)
            continue
        item = branch[at]
        if isinstance(item, Repeat):
            pending += _unrolled(item, branch[at + 1 :], number)
            continue
        if isinstance(item, str):
            following = by_char.get(item[offset])
            if following is None:
                following = by_char[item[offset]] = _Position()
            offset += 1
            if offset < len(item):
                waiting.setdefault(following, []).append((branch, at, offset, number))
                continue
        else:
            known = followers.get(item)
            following = followers[item] = known or _follower(position, item)
        waiting.setdefault(following, []).append((branch, at + 1, 0, number))
    if by_char:
        position.by_char = {**position.by_char, **by_char}
    position.ends = ends or ()
    for following, behind in waiting.items():
        following.pending = behind


def _unrolled(item: Repeat, rest: Branch, number: int) -> list[_Pending]:
    """A repetition with one copy taken out of it: what may come first, then the repetition of what is left."""
    ways: list[_Pending] = []
    if item.low == 0:
        ways.append((rest, 0, 0, number))
        if item.high == 0:
            return ways
        if item.high is None and isinstance(item.item, Chars):
            return [((Loop(item.item), *rest), 0, 0, number)]
    left = Repeat(item.item, max(item.low - 1, 0), None if item.high is None else item.high - 1)
    ways.append(((item.item, left, *rest), 0, 0, number))
    return ways


def _follower(position: _Position, item: Item) -> _Position:
    following = _Position()
    if isinstance(item, Loop):
        position.free = (*position.free, following)
        following.by_set = ((item.chars, following),)
    elif isinstance(item, Folders):
        inside = _Position()
        position.free = (*position.free, inside, following)
        inside.by_set = ((item.chars, inside),)
        inside.by_char = {"/": following}
    elif isinstance(item, Look):
        position.looks = (*position.looks, (item, following))
    elif not isinstance(item, (str, Repeat)):
        position.by_set = (*position.by_set, (item, following))
    return following


_NOWHERE: Mapping[str, _Position] = {}
