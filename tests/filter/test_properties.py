"""The fast matcher against the slow transcription of the rules, on files and trees that nobody thought of."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from overlayws.filter import kept
from overlayws.filter.ignorefile import parse
from overlayws.filter.match import Filter
from tests.filter import reference

TOKENS = ["a", "b", "ab", ".", "/", "*", "**", "?", "**/", "/**", "[ab]", "[^a]", "..", "./"]
NAMES = ["a", "b", "ab", "aa", ".a", "a.b", "bab"]

patterns = st.builds(
    lambda mark, tokens: mark + "".join(tokens),
    st.sampled_from(["", "", "!"]),
    st.lists(st.sampled_from(TOKENS), min_size=1, max_size=6),
).filter(lambda line: reference._clean("/" + line.strip("!")) != "/")  # a bare '!' is an error
ignore_files = st.lists(patterns, min_size=1, max_size=6).map("\n".join)


def _tree(leaves: list[list[str]]) -> list[str]:
    folders = {"/".join(leaf[:n]) + "/" for leaf in leaves for n in range(1, len(leaf))}
    return sorted(folders | {path for leaf in leaves if (path := "/".join(leaf)) + "/" not in folders})


trees = st.lists(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4), min_size=1, max_size=12).map(_tree)


@settings(max_examples=600, deadline=None)
@given(ignore_files, trees)
def test_matches_as_the_rules_say(ignore_file: str, tree: list[str]) -> None:
    assert kept(ignore_file.encode(), tree) == reference.kept(ignore_file, tree)


@settings(max_examples=150, deadline=None)
@given(ignore_files, trees)
def test_the_order_of_the_paths_does_not_matter(ignore_file: str, tree: list[str]) -> None:
    assert kept(ignore_file.encode(), tree[::-1]) == kept(ignore_file.encode(), tree)


@settings(max_examples=150, deadline=None)
@given(ignore_files, trees)
def test_one_path_from_scratch_is_as_in_a_walk(ignore_file: str, tree: list[str]) -> None:
    rules = parse(ignore_file.encode(), "")
    whole = Filter(rules, secrets=False)
    walked = kept(ignore_file.encode(), [path for path in tree if not path.endswith("/")])
    for path in tree:
        if not path.endswith("/"):
            assert whole.hidden_path(path, False).hidden == (path not in walked)
            assert Filter(rules, secrets=False).hidden_path(path, False) == whole.hidden_path(path, False)
