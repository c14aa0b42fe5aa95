"""Is matching 100,000 paths against 30 patterns no slower than pathspec, and 4 times faster than docker-py?

All matchers get the same patterns and the same list of paths in one run::

    pytest benchmarks/bench_filter.py

pathspec reads ``.gitignore`` syntax, which means other things by some patterns; these 30 it reads in its own way.
docker-py (``pip install docker``) and pathspec are skipped where they are not installed.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from overlayws.filter import kept
from overlayws.filter.ignorefile import parse
from overlayws.filter.match import Filter

PATTERNS = """
.git
.github
**/node_modules
**/__pycache__
**/*.pyc
**/*.pyo
**/.DS_Store
*.log
**/*.log
build
dist
**/target
coverage/**
docs/_build
**/.pytest_cache
**/.mypy_cache
**/*.egg-info
src/**/generated
src/**/*.tmp
test?/fixtures
**/*~
**/.#*
**/[Tt]humbs.db
vendor/*/examples
assets/**/*.psd
*.md
!README.md
**/secrets.*
!docs/secrets.md
tmp*
""".split()


def _paths(count: int) -> list[str]:
    """Directories end in '/', parents come first. Seeded: the same list in every run."""
    choose = random.Random(1)
    words = "app core lib util index main test data model view src docs api auth build types hooks store".split()
    ends = ".py .js .ts .tsx .go .md .json .css .html .log .pyc .png".split()
    folders = [""]
    found: list[str] = []
    while len(found) < count:
        if choose.random() < 0.12:
            folder = choose.choice(folders)
            if folder.count("/") < 8:
                path = f"{folder}{choose.choice(words)}{len(found)}/"
                folders.append(path)
                found.append(path)
                continue
        name = f"{choose.choice(words)}_{choose.choice(words)}{len(found) % 977}{choose.choice(ends)}"
        found.append(choose.choice(folders) + name)
    return sorted(dict.fromkeys(found))


@pytest.fixture(scope="module")
def paths(quick: bool) -> list[str]:
    return _paths(10_000 if quick else 100_000)


def _overlayws(paths: list[str]) -> int:
    return len(kept("\n".join(PATTERNS).encode(), paths))


def _overlayws_with_secrets(paths: list[str]) -> int:
    """The walker's way, with the built-in secret rules: one ``Scope`` a folder, one ``child`` a name."""
    scopes = {"": Filter(parse("\n".join(PATTERNS).encode(), "")).top()}
    visible = 0
    for path in paths:
        folder, _, name = path.rstrip("/").rpartition("/")
        verdict, inside = scopes[folder].child(name, path.endswith("/"))
        if path.endswith("/"):
            scopes[path[:-1]] = inside
        visible += not verdict.hidden
    return visible


def _pathspec(paths: list[str]) -> int:
    from pathspec import PathSpec

    spec = PathSpec.from_lines("gitignore", PATTERNS)
    return len(paths) - sum(1 for _ in spec.match_files(paths))


def _docker_py(paths: list[str]) -> int:
    from docker.utils.build import PatternMatcher  # type: ignore[import-untyped]

    matcher = PatternMatcher(PATTERNS)
    return sum(not matcher.matches(path.rstrip("/")) for path in paths)


MATCHERS = {
    "overlayws": _overlayws,
    "overlayws-with-secrets": _overlayws_with_secrets,
    "pathspec": _pathspec,
    "docker-py": _docker_py,
}


@pytest.mark.parametrize("name", MATCHERS)
def test_matching(benchmark: Callable[..., object], paths: list[str], name: str) -> None:
    needs = {"pathspec": "pathspec", "docker-py": "docker.utils.build"}.get(name)
    if needs is not None:
        pytest.importorskip(needs)
    benchmark.extra_info["paths"] = len(paths)  # type: ignore[attr-defined]
    benchmark.pedantic(MATCHERS[name], args=(paths,), rounds=3, warmup_rounds=0)  # type: ignore[attr-defined]
