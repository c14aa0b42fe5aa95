"""Filter: hidden or visible, by which rule, for one path after the other down a tree.

Docker's decision (rules 15 to 21 of ``docs/filter.md``) over rules of three origins, one after the other: the
user's, the repository's, the command line's. A repository's exceptions undo only what the repository itself hides.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from overlayws.filter.automaton import Automaton, State
from overlayws.filter.chars import Branch
from overlayws.filter.exceptions import Exceptions
from overlayws.filter.goregex import BadRegex
from overlayws.filter.ignorefile import Rule, bad_rule, parse
from overlayws.filter.keyfile import Read
from overlayws.filter.pattern import compile_pattern
from overlayws.filter.secrets import GIT, SecretNames, is_git, secret_names, suspicious
from overlayws.filter.verdict import Verdict, reopens

_VISIBLE = Verdict(False, None)


@dataclass(frozen=True, slots=True)
class _Outcome:
    verdict: Verdict
    by_user: bool  # hidden by a secret rule or the user's rules
    by_repository: Rule | None
    inside: _Above


class _Above:
    """What the folders above say about a path: the rules that matched one of them, and, where the repository's
    exceptions are no longer looked for, its rule that hides all. Remembers what was decided."""

    __slots__ = ("matched", "shut", "outcomes")

    def __init__(self, matched: tuple[int, ...], shut: Rule | None) -> None:
        self.matched = matched
        self.shut = shut
        self.outcomes: dict[tuple[object, ...], _Outcome] = {}


class Filter:
    """The rules of one session. ``top()`` begins a walk; ``hidden_path`` answers for one path.

    Without ``secrets`` the built-in rules are left out, and with ``repository`` rules only the answers are Docker's.
    """

    def __init__(
        self,
        repository: Sequence[Rule] = (),
        *,
        user: Sequence[Rule] = (),
        command: Sequence[Rule] = (),
        secrets: bool = True,
        warnings: Iterable[str] = (),
    ) -> None:
        self.rules = (*user, *repository, *command)
        self._parts = (len(user), len(user) + len(repository))
        bad = set()
        compiled: list[tuple[Branch, ...]] = []
        for number, rule in enumerate(self.rules):
            try:
                compiled.append(compile_pattern(rule.pattern))
            except BadRegex:  # an error only when it is tried on a path
                compiled.append(())
                bad.add(number)
        self._bad = frozenset(bad)
        self._automaton = Automaton(compiled)
        self._names = secret_names().begin() if secrets else None
        self._folders: dict[tuple[tuple[int, ...], Rule | None], _Above] = {}
        self._docker_exceptions = Exceptions(repository)
        self._user_exceptions = Exceptions(user)
        self._command_exceptions = Exceptions(command)
        self._said = tuple(warnings)
        self._reopened: dict[tuple[Rule, Rule], str] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user must be told: rules that ask for a secret and do not get it, or do. Those that are known
        only from the paths are there after the walk."""
        return (*self._said, *(text for text in self._reopened.values() if text not in self._said))

    def top(self) -> Scope:
        """The scope of the workspace itself."""
        names = self._names.top if self._names else None
        return Scope(self, "", self._automaton.start, names, self._above((), None), None, None, True)

    def hidden_path(self, path: str, directory: bool, read: Read | None = None) -> Verdict:
        """The verdict for one relative path, decided from the top. ``read`` as for ``Scope.child``.

        A directory that is hidden here may still be kept in a walk, for what is shown below it.
        """
        verdict, scope = _VISIBLE, self.top()
        parts = [part for part in path.split("/") if part]
        for part in parts[:-1]:
            _, scope = scope.child(part, True)
        if parts:
            verdict, _ = scope.child(parts[-1], directory, read)
        return verdict

    @property
    def origins(self) -> tuple[tuple[Rule, ...], tuple[Rule, ...], tuple[Rule, ...]]:
        """The user's rules, the repository's, the command line's."""
        first, second = self._parts
        return self.rules[:first], self.rules[first:second], self.rules[second:]

    def without_secrets(self) -> Filter:
        """The same rules of the same origins, without the built-in ones."""
        user, repository, command = self.origins
        return Filter(repository, user=user, command=command, secrets=False)

    def _above(self, matched: tuple[int, ...], shut: Rule | None) -> _Above:
        above = self._folders.get((matched, shut))
        if above is None:
            above = self._folders[matched, shut] = _Above(matched, shut)
        return above

    def _decide(self, above: _Above, hits: tuple[int, ...], secret: Rule | None) -> _Outcome:
        inherited = frozenset(above.matched)
        numbers = sorted(inherited.union(hits, self._bad))
        self._automaton.spend(len(numbers))
        first, second = (bisect_left(numbers, bound) for bound in self._parts)
        matched: list[int] = []
        by_user, shown_1 = self._pass(numbers[:first], inherited, secret, matched)
        by_repository, shown_2 = above.shut, None
        if by_repository is None:
            by_repository, shown_2 = self._pass(numbers[first:second], inherited, None, matched)
        hiding, shown_3 = self._pass(numbers[second:], inherited, by_user or by_repository, matched)
        if secret is not None and hiding is None and (opener := shown_3 or shown_1) is not None:
            self._reopened[opener, secret] = reopens(opener, secret)
        verdict = Verdict(hiding is not None, hiding or shown_3 or shown_2 or shown_1)
        return _Outcome(verdict, by_user is not None, by_repository, self._above(tuple(matched), above.shut))

    def _pass(
        self, numbers: Sequence[int], inherited: frozenset[int], hiding: Rule | None, matched: list[int]
    ) -> tuple[Rule | None, Rule | None]:
        """(the rule that hides after these rules, the exception that shows). Only rules that can matter are given:
        those that match the path or matched a folder above, and those that fail when they are tried."""
        showing = None
        for number in numbers:
            rule = self.rules[number]
            if number not in inherited:
                if rule.negated != (hiding is not None):
                    continue
                if number in self._bad:
                    raise bad_rule(rule)
            matched.append(number)
            hiding, showing = (None, rule) if rule.negated else (rule, None)
        return hiding, showing


class Scope:
    """The state of a walk in one folder. ``searched`` says whether the folder must be searched although it is
    hidden: an exception may show something below."""

    __slots__ = ("_filter", "_path", "_state", "_names", "_above", "_secret", "_closed", "searched")

    def __init__(
        self,
        rules: Filter,
        path: str,
        state: State,
        names: State | None,
        above: _Above,
        secret: Rule | None,
        closed: Verdict | None,
        searched: bool,
    ) -> None:
        self._filter = rules
        self._path = path  # '' or with a slash at the end
        self._state = state
        self._names = names
        self._above = above
        self._secret = secret  # the secret rule that a folder above matched
        self._closed = closed  # the verdict for everything below
        self.searched = searched

    def undecided(self, names: Collection[str]) -> Collection[str]:
        """Those of ``names`` in this folder for which ``child`` may say that they are hidden; it need not be asked
        for the others, unless they are directories."""
        if self._closed is not None or self._filter.rules or self._secret is not None or self._names is None:
            return names
        return suspicious(names)

    def child(self, name: str, directory: bool, read: Read | None = None) -> tuple[Verdict, Scope]:
        """The verdict for ``name`` in this folder and, for a directory, the scope of what is in it.

        A symlink is no directory. ``read(limit)`` returns at most ``limit`` bytes from the beginning of the file; it
        is called only where the content decides (``*.pem``), and without it such a file is hidden.
        Raises IgnoreSyntaxError for a pattern whose error shows only now, TooExpensiveError.
        """
        if self._closed is not None:
            return self._closed, self
        state = self._state
        for c in name:
            state = state[c]
        secret = self._secret
        if self._names is not None:
            if secret is None:
                secret = _names_of(self._filter).find(self._names, name, directory, read)
            if secret is GIT or (secret is not None and is_git(name)):
                return self._shut(Verdict(True, GIT))
        hits = state.hits
        key = hits if secret is None else (hits, secret)
        outcome = self._above.outcomes.get(key)
        if outcome is None:
            outcome = self._above.outcomes[key] = self._filter._decide(self._above, hits, secret)
        if not directory:
            return outcome.verdict, _NO_FOLDER
        return self._enter(name, state, secret, outcome)

    def _enter(self, name: str, state: State, secret: Rule | None, outcome: _Outcome) -> tuple[Verdict, Scope]:
        rules, path, verdict = self._filter, self._path + name, outcome.verdict
        above = outcome.inside
        searched = not verdict.hidden or rules._command_exceptions.reach_below(path)
        if verdict.hidden and outcome.by_user:
            searched = searched or rules._user_exceptions.reach_below(path)
        elif verdict.hidden and outcome.by_repository is not None:
            if above.shut is None and rules._docker_exceptions.pruned(path):
                above = rules._above(above.matched, outcome.by_repository)
            searched = searched or above.shut is None
        if not searched:
            return self._shut(verdict)
        names = _names_of(rules).below(self._names, name) if self._names is not None else None
        return verdict, Scope(rules, path + "/", state["/"], names, above, secret, None, True)

    def _shut(self, verdict: Verdict) -> tuple[Verdict, Scope]:
        return verdict, Scope(self._filter, "", self._state, None, self._above, None, verdict, False)


def _names_of(rules: Filter) -> SecretNames:
    assert rules._names is not None
    return rules._names


def kept(ignore_file: bytes, paths: list[str]) -> set[str]:
    """The paths that ``docker build`` (BuildKit) would keep under this ignore file; no built-in rule is applied.

    ``paths`` are relative as ``os.fsdecode`` gives them, directories end in ``/``. A directory is kept if it is not
    excluded or anything listed below it is kept. Raises IgnoreSyntaxError.
    """
    rules = Filter(parse(ignore_file, ".overlaywsignore"), secrets=False)
    scopes = {"": rules.top()}
    found: set[str] = set()
    for path in paths:
        directory = path.endswith("/")
        plain = path[:-1] if directory else path
        parent, _, name = plain.rpartition("/")
        scope = scopes.get(parent)
        if scope is None:
            scope = _opened(parent, scopes)
        verdict, inside = scope.child(name, directory)
        if directory:
            scopes[plain] = inside
        if verdict.hidden:
            continue
        found.add(path)
        while parent and f"{parent}/" not in found:
            found.add(f"{parent}/")
            parent = parent.rpartition("/")[0]
    return found.intersection(paths)


def _opened(folder: str, scopes: dict[str, Scope]) -> Scope:
    """The scope of a folder that the list names only later, or not at all."""
    path = ""
    for component in folder.split("/"):
        above, path = scopes[path], f"{path}/{component}" if path else component
        if path not in scopes:
            scopes[path] = above.child(component, True)[1]
    return scopes[path]


_NOTHING = Filter(secrets=False)
_NO_FOLDER = Scope(
    _NOTHING, "", _NOTHING._automaton.start, None, _NOTHING._above((), None), None, Verdict(True, None), False
)  # what is below a file: nothing that anybody may see
