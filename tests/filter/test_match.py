"""Rules of several origins together: who may hide and show what, and where a walk must look."""

from __future__ import annotations

import subprocess
import sys

import pytest

from overlayws.filter import IgnoreSyntaxError, kept
from overlayws.filter.ignorefile import Rule, parse
from overlayws.filter.match import Filter, Scope
from overlayws.filter.verdict import Verdict, describe


def rules(text: str, file: str = ".overlaywsignore") -> tuple[Rule, ...]:
    return parse(text.encode(), file)


def make(repository: str = "", *, user: str = "", hide: str = "", show: str = "", secrets: bool = True) -> Filter:
    shown = "\n".join("!" + line for line in show.split())
    command = (*rules(hide.replace(" ", "\n"), "--hide"), *rules(shown, "--show"))
    return Filter(rules(repository), user=rules(user, "user"), command=command, secrets=secrets)


def walk(made: Filter, paths: list[str]) -> set[str]:
    """What a walker shows: it enters folders that are visible or to be searched, and nothing else."""
    children: dict[str, list[str]] = {}
    for path in paths:
        parts = path.split("/")
        for n in range(1, len(parts) + 1):
            siblings = children.setdefault("/".join(parts[: n - 1]), [])
            if (own := "/".join(parts[:n])) not in siblings:
                siblings.append(own)
    shown = set()
    todo: list[tuple[str, Scope]] = [("", made.top())]
    while todo:
        folder, scope = todo.pop()
        for path in children[folder]:
            verdict, inside = scope.child(path.rpartition("/")[2], path in children)
            if path in children and (not verdict.hidden or inside.searched):
                todo.append((path, inside))
            elif path not in children and not verdict.hidden:
                shown.add(path)
    return shown


TREE = """.env src/.env src/a.py src/b.log build/x build/y/z .aws/config .aws/credentials .git/config docs/a.md
build/.env node_modules/m/index.js node_modules/m/.env""".split()


def hidden(made: Filter) -> list[str]:
    return [path for path in TREE if path not in walk(made, TREE)]


SECRET = [".env", "src/.env", ".aws/config", ".aws/credentials", ".git/config", "build/.env", "node_modules/m/.env"]


def test_without_rules_only_secrets_are_hidden() -> None:
    assert hidden(make()) == SECRET


def test_a_path_is_hidden_if_a_secret_rule_or_the_repository_hides_it() -> None:
    assert set(hidden(make("build\n*.md\n**/*.log"))) == {*SECRET, "src/b.log", "build/x", "build/y/z"}


@pytest.mark.parametrize(
    "exception", ["!.env", "!**/.env", "!**", "!*", "!.aws", "!.aws/**", "*\n!**", "**/.env\n!**/.env"]
)
def test_the_repository_never_shows_a_secret(exception: str) -> None:
    assert set(SECRET) <= set(hidden(make(exception)))


@pytest.mark.parametrize("exception", ["!.git", "!**/.git", "!.git/**", "!**", "!.GIT"])
def test_nothing_shows_the_repository(exception: str) -> None:
    for made in (make(exception), make(user=exception), make(show=exception.removeprefix("!"))):
        assert ".git/config" in hidden(made)
        for name in (".git", ".GIT", ".Git", "git~1"):
            assert made.hidden_path(f"sub/{name}/hooks/pre-commit", False).hidden
            assert made.hidden_path(f".aws/{name}", False).hidden


def test_the_user_shows_a_secret() -> None:
    assert ".env" not in hidden(make(user="!.env"))
    assert ".env" not in hidden(make(show=".env"))
    assert {".aws/config", "node_modules/m/.env"}.isdisjoint(hidden(make(user="!.aws/config\n!node_modules/m/.env")))
    assert "build/x" not in hidden(make(user="build\n!build/x"))
    assert "src/.env" in hidden(make(show=".env"))  # Docker's syntax: only at the top
    assert not {".env", "src/.env"} & set(hidden(make(show="**/.env")))
    assert ".aws/config" not in hidden(make(show=".aws/config"))
    assert ".aws/credentials" in hidden(make(show=".aws/config"))
    assert not {".aws/config", ".aws/credentials"} & set(hidden(make(show=".aws")))


def test_a_shown_secret_is_a_warning() -> None:
    made = make(show="**/.env", user="!.aws/config")
    assert made.warnings == ()
    walk(made, TREE)
    assert sorted(made.warnings) == [
        "`--show` line 1: `!**/.env` shows what the built-in secret rule `env` hides",
        "`user` line 1: `!.aws/config` shows what the built-in secret rule `cloud-directory` hides",
    ]
    quiet = make("!src/**", show="src")
    walk(quiet, TREE)
    assert quiet.warnings == ()


def test_the_repository_does_not_show_what_the_user_hides() -> None:
    made = make("build\n!build/x\n!src/a.py", user="src/*.py\ndocs")
    assert set(hidden(made)) == {*SECRET, "src/a.py", "docs/a.md", "build/y/z"}


def test_the_command_line_has_the_last_word() -> None:
    assert "src/a.py" in hidden(make("!src/a.py", hide="src/*.py"))
    assert "src/a.py" not in hidden(make("src", user="**/*.py", show="src/a.py"))
    assert "src/b.log" in hidden(make("src", user="**/*.py", show="src/a.py"))
    assert "src/a.py" not in hidden(make(hide="src", show="src/a.py"))


@pytest.mark.parametrize(
    "show", ["node_modules/m/index.js", "node_modules/*/**", "node_modules/m/*", "**/index.js", "xyz|*/m/i*"]
)
def test_show_finds_what_is_below_a_hidden_folder(show: str) -> None:
    assert "node_modules/m/index.js" not in hidden(make("node_modules", show=show))
    assert "node_modules/m/.env" in hidden(make("node_modules", show="node_modules/m/index.js"))


def test_docker_loses_paths_and_so_do_we() -> None:
    assert kept(b"*\n!a/*/**", ["a/", "a/x/", "a/x/y"]) == set()
    assert walk(make("*\n!a/*/**"), ["a/x/y"]) == set()


def test_a_folder_is_searched_only_where_an_exception_may_match_below() -> None:
    def searched(made: Filter, path: str) -> bool:
        scope = made.top()
        for name in path.split("/"):
            _, scope = scope.child(name, True)
        return scope.searched

    assert not searched(make("d"), "d")
    assert not searched(make("d\n!e/x"), "d")
    assert searched(make("d\n!d/x"), "d")
    assert not searched(make("d\n!d/x/y"), "d/z")
    assert searched(make("d\n!**/x"), "d")
    assert not searched(make(), ".aws") and not searched(make("!**"), ".aws")
    assert searched(make(show=".aws/config"), ".aws") and not searched(make(show="x/config"), ".aws")
    assert not searched(make(show="**"), ".git")
    assert searched(make("x"), "d")  # visible


def test_everything_below_a_pruned_folder_is_hidden_by_its_rule() -> None:
    made = make("d")
    assert made.hidden_path("d/a/b", False) == Verdict(True, Rule("d", False, ".overlaywsignore", 1))
    assert made.hidden_path(".aws/x/y", True).hidden


def test_the_scope_of_a_file_shows_nothing() -> None:
    _, below = make().top().child("a", False)
    assert not below.searched and below.child("b", False)[0].hidden


def test_a_verdict_names_the_rule_that_decided() -> None:
    made = make("*.log\n!keep.log\n\nd", hide="x", show="d/y")
    said = {
        path: describe(made.hidden_path(path, False).rule)
        for path in ("a.log", "keep.log", "d", "x", "d/y", "z", ".env")
    }
    assert said == {
        "a.log": "`.overlaywsignore` line 1: `*.log`",
        "keep.log": "`.overlaywsignore` line 2: `!keep.log`",
        "d": "`.overlaywsignore` line 4: `d`",
        "x": "`--hide` line 1: `x`",
        "d/y": "`--show` line 1: `!d/y`",
        "z": "no rule",
        ".env": "built-in secret rule `env`",
    }
    assert describe(Rule("a*", True, "--show", 0)) == "`--show a*`"
    assert describe(Rule("\x1b\udcff", False, "f\n", 2)) == "`f\\n` line 2: `\\x1b\\udcff`"


def test_rules_alone_are_docker_s_rules() -> None:
    assert kept(b"d\n!d/f\nd", ["d/", "d/f", "d/g"]) == {"d/", "d/f"}
    assert kept(b"**/*.log\n!k", ["k/", "k/x.log"]) == {"k/"}
    assert kept(b"", [".env", ".git/", ".git/config"]) == {".env", ".git/", ".git/config"}


def test_kept_needs_no_parents_and_no_order() -> None:
    assert kept(b"d\n!d/e/f", ["d/e/f", "d/e/g", "d/"]) == {"d/e/f", "d/"}
    assert kept(b"d", ["d/e/f"]) == set()
    assert kept(b"x", []) == set()


def test_an_error_below_a_pruned_folder_is_not_met() -> None:
    assert kept(b"d\na*[", ["d/", "d/b"]) == set()
    with pytest.raises(IgnoreSyntaxError):
        kept(b"d\na*[", ["e"])


def test_importing_the_package_loads_nothing() -> None:
    program = "import sys, overlayws.filter; print([m for m in sys.modules if m.startswith('overlayws.filter.')])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
