"""Hard links that a program makes: told, and of no effect."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import overlayws
from overlayws import api
from overlayws.changes import bounds
from overlayws.changes.change import ChangeSet
from overlayws.changes.links import told
from overlayws.changes.shown import select
from overlayws.session.store import Store
from tests.changes.layers import make_case
from tests.changes.test_mounted import EVERY, after
from tests.trees import make_tree


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("os.link('f', 'second')", [("f", "second")]),
        ("put('n', 'new'); os.link('n', 'd/n'); os.link('n', 'd/b/n')", [("d/b/n", "d/n", "n")]),
        ("put('n', ''); os.link('n', 'm'); put('x', ''); os.link('x', 'x y')", [("m", "n"), ("x", "x y")]),
        ("os.link('g', 'h2'); put('h2', 'written through', 'a')", [("g", "h2")]),
        ("os.unlink('h'); os.link('g', 'h')", []),  # both as they were
        ("os.link('f', 'second'); os.unlink('second'); put('f', '2')", []),
        ("os.link('l', 'l2', follow_symlinks=False); os.unlink('f'); os.unlink('g'); os.unlink('h')", []),
    ],
)
def test_the_names_of_one_file_are_a_group(
    backend: str, code: str, expected: list[tuple[str, ...]], tmp_path: Path
) -> None:
    assert list(after(backend, tmp_path, code).links) == expected


def test_a_selection_names_the_whole_group(tmp_path: Path) -> None:
    changeset = after("copy", tmp_path, "put('n', '1'); os.link('n', 'm'); put('o', '2'); os.link('o', 'p')")
    assert select(changeset, ["m"]).links == (("m", "n"),)


def test_links_are_no_part_of_the_digest(tmp_path: Path) -> None:
    changeset = after("copy", tmp_path, "put('n', '1'); os.link('n', 'm')")
    assert changeset.links and changeset.digest == ChangeSet(changeset.changes).digest


def test_names_of_links_steer_nothing_and_are_few() -> None:
    line = told((("a\nb", "\x1b[2J", "\u202e"), tuple(f"f{n}" for n in range(1000)), *[("x", "y")] * 1000))
    assert line.isascii() and line.isprintable() and len(line) < 300
    assert line.startswith('"a\\nb" = "\\033[2J" = ') and "f4 = 995 more" in line
    assert line.endswith("; and 997 more files")


def test_links_beyond_what_is_remembered_are_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    case = make_case(tmp_path, {}, {"a": "1\n"})
    for n in range(100):
        os.link(case.layer.upperdir / "a", case.layer.upperdir / f"b{n}")
    monkeypatch.setattr(bounds, "_NAMES", 10_000)
    assert any("more changes than" in problem.why for problem in case.scan().problems)


@pytest.mark.bwrap
@pytest.mark.parametrize("backend", EVERY)
def test_a_link_to_something_outside_pulls_nothing_in(backend: str, tmp_path: Path) -> None:
    """Whoever could write to the upperdir itself: what is applied is bytes that were frozen, in files of their own."""
    store = Store(tmp_path / "state")
    outside = make_tree(tmp_path / "outside", {"small": "then\n", "large": "then\n" * 300_000})
    session = overlayws.start(make_tree(tmp_path / "ws", {"a": "a\n"}), store=store, backend=backend, git="none")
    assert overlayws.run(session, ["sh", "-c", "echo 1 > n; ln n m"], store=store).exit_code == 0
    upper = store.load(session.name).layer.upperdir
    for name in ("small", "large"):
        os.link(outside / name, upper / name)
    os.link(session.layer.lowerdir / "a", upper / "b")
    assert overlayws.run(session, ["true"], store=store).exit_code == 0
    assert overlayws.scan(session, store=store).links == (("m", "n"),)
    for path in ("small", "large"):
        (outside / path).write_text("now\n")
    (outside / "small").chmod(0o600)
    plan = overlayws.apply(session, store=store)
    assert plan.notes == ("hard links become files of their own: m = n",)
    for path, content in (("small", "then\n"), ("large", "then\n" * 300_000), ("b", "a\n"), ("m", "1\n"), ("n", "1\n")):
        made = session.workspace / path
        assert made.read_text() == content and made.stat().st_nlink == 1
    assert (outside / "small").read_text() == "now\n" and (outside / "small").stat().st_mode & 0o777 == 0o600
    assert (session.layer.lowerdir / "a").read_text() == "a\n"
    assert not api.apply(session, store=store).notes
