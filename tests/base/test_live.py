"""look: the same answers as the survey, from the names alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from overlayws.base.judge import Judge
from overlayws.base.live import Found, look, look_one
from overlayws.base.survey import survey
from overlayws.filter.contents import Inspector
from overlayws.filter.secrets import SECRETS
from overlayws.filter.sources import load_filter
from tests.trees import Dir, Node, Special, Symlink, make_tree

KEY = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
TREE: dict[str, Node] = {
    ".env": "a", "Read.me": "r", "src/.ENV.bak": "a", "src/app.py": "x", "src/deep/er/id_rsa": "k", "src/score.py": "s",
    "keys/a.pem": KEY, "keys/b.pem": CERTIFICATE, "keys/server.pem": Dir(), "keys/server.pem/x": "x",
    ".npmrc": "engine=1\n", "pip.conf": "[global]\n", "settings.xml": "<settings/>", ".aws/credentials": "c",
    "link": Symlink("src/app.py"), "to-secret": Symlink("src/.ENV.bak"), "away": Symlink("../elsewhere"),
    "through": Symlink("src/deep/er/id_rsa"), "pipe": Special("fifo"), "sock": Special("socket"), ".git/config": "g",
    "sub/.GIT": "gitdir: x", "empty": Dir(), "a/b/c/keep.log": "k", "a/b/c/drop.log": "d", "a/b/other": "o",
    "caf\u00e9/\u00c9.env": "n", "\udcff/\udcfe.pem": KEY, "secrets.yaml": "s", "terraform.tfstate.backup": "t",
    "example/.env.example": "e", "n\new/.env": "n",
}  # fmt: skip
RULES = [
    "", "a\n!a/b/c/keep.log\n", "**/*.log\n!**/keep.log\n", "*\n!src\n!a/*/c\n", "!.env\nsrc/deep\n!src/deep/er\n",
    "empty\n**/other\nlink\n", "a/**\n!a/b\n",
]  # fmt: skip


def opened(workspace: Path) -> int:
    return os.open(workspace, os.O_RDONLY | os.O_DIRECTORY)


def visible(found: Found) -> set[str]:
    hidden = {h.path for h in found.hidden}
    names = {f"{d.path}/{name}" if d.path else name for d in found.directories for name in d.names}
    below = {name for name in names if not any(name.startswith(f"{h}/") for h in hidden)}
    return below - hidden


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("show", [(), (".env", "src/deep/er/id_rsa"), ("a",)])
def test_it_says_what_the_survey_says(tmp_path: Path, rules: str, show: tuple[str, ...]) -> None:
    workspace = make_tree(tmp_path / "w", {**TREE, ".overlaywsignore": rules})
    (workspace / "src/twin").hardlink_to(workspace / ".env")
    (workspace / "of-git").hardlink_to(workspace / ".git/config")
    (workspace / "harmless").hardlink_to(workspace / "src/app.py")
    judge = Judge(load_filter(workspace, show=show), Inspector(), {"src/score.py": "because"})
    root = opened(workspace)
    try:
        want = survey(root, workspace, judge.rules, redacts=judge.redacts, also=judge.also)
        found = look(root, workspace, judge)
        assert visible(found) == {path for path, _ in want.visible}
        assert {(h.path, h.kind) for h in found.hidden} == {(h.path, h.kind) for h in want.hidden}
        said = {h.path: h.rule for h in want.hidden}
        assert all(h.rule == said[h.path] for h in found.hidden if "hard link" not in h.rule)
        assert sorted(found.skipped, key=str) == sorted(want.skipped, key=str)
        assert sorted(found.leaving) == sorted(want.leaving)
        directories = {
            path for path in visible(found) if (workspace / path).is_dir() and not (workspace / path).is_symlink()
        }
        assert found.count() == len(visible(found) - directories)
        hidden = {h.path for h in found.hidden} | {path for path, _ in found.skipped}
        for path in visible(found) | hidden:  # each for itself
            one = look_one(root, judge, path, found.inodes)
            # A directory waits for what is in it, and what a link points to is not looked at: it dangles.
            below = path.startswith(tuple(f"{h}/" for h in hidden))
            if below or (workspace / path).is_dir() or (workspace / path).is_symlink():
                continue
            assert (path in {h.path for h in one.hidden} | {path for path, _ in one.skipped}) == (path in hidden), path
    finally:
        os.close(root)


def names() -> list[str]:
    """Names that a built-in rule hides, and copies of them."""
    plain = [name.rpartition("/")[2] for secret in SECRETS for name in secret.names.split()]
    plain = [name.replace("[0-9]", "7").replace("*", stem) for name in plain for stem in ("", "x", "a.b")]
    copies = ["{}", "{}~", "{}.bak", "#{}#", ".#{}", "._{}", "Copy of {}", "{} (1)", "{}.swp", ".{}.swp", "{}.1"]
    return [copy.format(way(name)) for name in plain for copy in copies for way in (str, str.upper)]


def test_no_name_that_is_hidden_is_passed_over(tmp_path: Path) -> None:
    workspace = make_tree(tmp_path / "w", {})
    rules = load_filter(workspace)
    asked = names()
    hidden = 0
    for name in asked:
        for directory in (False, True):
            verdict, _ = rules.top().child(name, directory)
            if verdict.hidden:
                hidden += 1
                assert name in rules.top().undecided((name, "ordinary.py")), name
    assert hidden > 2000
    assert rules.top().undecided(("ordinary.py", "README.md", "Makefile")) == []


def test_no_name_that_is_redacted_is_passed_over() -> None:
    from overlayws.filter.redact_formats import _NAMES, redactable, redactable_among

    asked = [
        *(name.rpartition("/")[2] for name in _NAMES),
        "x.kubeconfig",
        "X.KUBECONFIG.YML",
        ".env",
        "a.env",
        ".env.b",
    ]
    for name in asked:
        for path in (name, name.upper()):
            below = f".kube/{path}" if name == "config" else f".docker/{path}" if name == "config.json" else path
            assert redactable(below), below
            assert path in redactable_among((path, "ordinary.py"))


def test_a_file_that_was_hidden_is_known_under_another_name(tmp_path: Path) -> None:
    workspace = make_tree(tmp_path / "w", {".env": "a", "b": "b"})
    judge = Judge(load_filter(workspace), Inspector())
    root = opened(workspace)
    try:
        known = look(root, workspace, judge).inodes
        (workspace / ".env").rename(workspace / "c")
        assert visible(look(root, workspace, judge, inodes=known)) == {"b"}
        assert visible(look(root, workspace, judge)) == {"b", "c"}
        (workspace / "c").write_text("another file that took its place")
        assert visible(look(root, workspace, judge, inodes=known)) == {"b", "c"}
    finally:
        os.close(root)
