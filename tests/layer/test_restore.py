"""Dropping some changes gives the base's entries there and leaves every other change exactly as it was."""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from overlayws import beneath
from overlayws.base.build import build_base
from overlayws.base.manifest import Manifest
from overlayws.changes.change import Change, ChangeSet
from overlayws.changes.scan import scan
from overlayws.changes.shown import listed, select
from overlayws.filter.sources import load_filter
from overlayws.layer import restore as restoring
from overlayws.layer.all_backends import BACKENDS
from overlayws.layer.mount import Layer
from overlayws.layer.restore import Replaced, restore
from overlayws.layer.whiteout import Marks
from overlayws.source.remove import remove_below, remove_tree
from tests import operations
from tests.test_random_operations import BACKEND, SEEDS, START
from tests.trees import Dir, File, Node, Special, Symlink, make_tree, read_tree

PER_TEST = 5
EVERY_BACKEND = pytest.mark.parametrize("backend", BACKEND)


class Session:
    """A layer over a base, and what was changed in it."""

    def __init__(self, where: Path, backend: str, original: Path, base: Path) -> None:
        self.backend = BACKENDS[backend]
        self.original = original
        self.layer = Layer(base / "lower", where / "upper", where / "work", where / "merged")
        self.manifest = base / "manifest.db"
        for directory in (self.layer.upperdir, self.layer.workdir, self.layer.merged):
            directory.mkdir(parents=True)

    def run(self, *command: str) -> bytes:
        with self.backend.mounted(self.layer) as mount:
            done = subprocess.run([*mount.enter, *command], cwd="/", capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def change(self, script: str) -> None:
        self.run("sh", "-euc", f'cd "$1"; {script}', "sh", os.fspath(self.layer.merged))

    def view(self) -> dict[str, list[object]]:
        program = [sys.executable, operations.__file__, os.fspath(self.layer.merged), "0", "0"]
        return {row[0]: row[1:] for row in json.loads(self.run(*program))}

    def scan(self) -> ChangeSet:
        with Manifest(self.manifest) as manifest:
            return scan(self.layer, manifest, self.backend.XATTR_PREFIX, own_git=False)

    def discard(self, *paths: str) -> None:
        chosen = select(self.scan(), paths)
        restore(self.layer, Marks(self.backend.XATTR_PREFIX), [change.path for change in chosen.changes])


def start(where: Path, backend: str, tree: dict[str, Node]) -> Session:
    original = make_tree(where / "original", tree)
    (where / "base").mkdir()
    build_base(original, where / "base", load_filter(original))
    return Session(where / "layer", backend, original, where / "base")


@pytest.mark.parametrize("first", range(0, max(PER_TEST, SEEDS // 10), PER_TEST))
@EVERY_BACKEND
def test_a_random_half_of_random_changes_goes_and_the_rest_stays(backend: str, first: int, tmp_path: Path) -> None:
    original = make_tree(tmp_path / "original", START)
    (tmp_path / "base").mkdir()
    build_base(original, tmp_path / "base", load_filter(original))
    for seed in range(first, first + PER_TEST):
        where = tmp_path / str(seed)
        try:
            _one(Session(where, backend, original, tmp_path / "base"), seed)
        except BaseException as error:
            error.add_note(f"seed {seed} on backend {backend}")
            raise
        remove_tree(where)


def _one(session: Session, seed: int) -> None:
    session.run(sys.executable, operations.__file__, os.fspath(session.layer.merged), str(seed), "40")
    before, saw = session.scan(), session.view()
    draw = random.Random(seed)
    shown = [change.path for change in listed(before)]
    wanted = draw.sample(shown, len(shown) // 2)
    if not wanted:
        return
    chosen = select(before, wanted)
    try:
        session.discard(*wanted)
    except Replaced:
        assert session.scan() == before, "refused, and yet something was changed"
        assert session.view() == saw
        return
    after = session.scan()
    assert not after.problems
    _the_rest_stays(before, after, {change.path for change in chosen.changes})
    # What a program sees then: the base where changes were dropped, what it saw where they were not.
    base = {row[0]: row[1:] for row in operations.Operations(os.fspath(session.original), 0).view()}
    changed = {_name(change.path) for change in after.changes}
    now = session.view()
    assert {n: row for n, row in now.items() if n not in changed} == {n: r for n, r in base.items() if n not in changed}
    assert {n: row for n, row in now.items() if n in changed} == {n: row for n, row in saw.items() if n in changed}


def _the_rest_stays(before: ChangeSet, after: ChangeSet, dropped: set[str]) -> None:
    kept = {change.path: _identity(change) for change in after.changes}
    had = {change.path: _identity(change) for change in before.changes}
    assert not kept.keys() & dropped
    assert kept.items() <= had.items(), "a change appeared that nobody made"
    for path in had.keys() - kept.keys() - dropped:
        # Only a deleted directory may go too, when something below it came back.
        assert any(other.startswith(f"{path}/") for other in dropped), path


def _identity(change: Change) -> tuple[object, object]:
    return change.before, change.after


def _name(path: str) -> str:
    return base64.b64encode(os.fsencode(path)).decode()


@EVERY_BACKEND
def test_one_file_comes_back_from_a_deleted_directory(backend: str, tmp_path: Path) -> None:
    session = start(tmp_path, backend, {"d/a": "a\n", "d/b": "b\n", "d/e/c": File(b"c", 0o755), "keep": "k"})
    session.change("rm -r d; echo new > new")
    session.discard("d/e/c")
    assert [(c.path, c.status) for c in session.scan().changes] == [
        ("d/a", "deleted"), ("d/b", "deleted"), ("new", "added"),
    ]  # fmt: skip
    session.change("test ! -e d/a; test -x d/e/c; echo more >> d/e/c")
    assert [(c.path, c.status) for c in session.scan().changes if c.path == "d/e/c"] == [("d/e/c", "modified")]


@EVERY_BACKEND
def test_every_kind_of_change_can_be_dropped(backend: str, tmp_path: Path) -> None:
    tree: dict[str, Node] = {
        "modified": "1\n", "deleted": "2\n", "moved": "3\n" * 30, "mode": "4\n", "dirmode/f": "5\n", "gone/x/y": "6\n",
        "link": Symlink("modified"), "becomes-dir": "7\n", "becomes-link/z": "8\n", "made-again/old": "9\n",
    }  # fmt: skip
    session = start(tmp_path, backend, tree)
    session.change(
        "echo x > modified; rm deleted; mv moved moved-to; chmod 755 mode; chmod 700 dirmode; rm -r gone;"
        "ln -sfn / link; rm becomes-dir; mkdir becomes-dir; echo n > becomes-dir/n; rm -r becomes-link;"
        "ln -s / becomes-link; rm -r made-again; mkdir made-again; echo m > made-again/m; mkfifo fifo;"
        "mkdir -p added/deep; echo a > added/deep/f"
    )
    while changes := listed(session.scan()):
        session.discard(changes[0].path)
        assert changes[0].path not in {c.path for c in session.scan().changes}
    assert session.scan().changes == ()
    session.change("test -f moved; test -f gone/x/y; test -f becomes-link/z; test ! -e fifo; test ! -e added")


@EVERY_BACKEND
def test_a_path_below_what_became_a_file_is_refused_rather_than_dropping_that_file(
    backend: str, tmp_path: Path
) -> None:
    session = start(tmp_path, backend, {"d/a": "a\n", "d/b": "b\n"})
    session.change("rm -r d; echo precious > d; echo x > other")
    before = session.scan()
    with pytest.raises(Replaced) as error:
        session.discard("d/a", "other")
    assert "'d'" in error.value.hint and error.value.exit_code == 2
    assert session.scan() == before
    session.discard("d")
    assert [c.path for c in session.scan().changes] == ["other"]


@EVERY_BACKEND
def test_attributes_that_the_program_took_or_set_are_put_back(backend: str, tmp_path: Path) -> None:
    mine = (("user.mine", b"1"),)
    session = start(tmp_path, backend, {"d": Dir(0o755, mine), "d/f": File(b"f", 0o644, mine)})
    session.run(
        sys.executable, "-c",
        "import os, sys; os.chdir(sys.argv[1])\n"
        "for p in ('d', 'd/f'):\n"
        "    os.removexattr(p, 'user.mine')\n"
        "    os.setxattr(p, 'user.overlay.opaque', b'y'); os.setxattr(p, 'user.x', b'')\n",
        os.fspath(session.layer.merged),
    )  # fmt: skip
    assert {c.path for c in session.scan().changes} == {"d", "d/f"}
    session.discard("d")
    assert session.scan().changes == ()
    session.change("test -f d/f")


@EVERY_BACKEND
def test_an_attribute_of_a_directory_alone_stays_away_when_a_command_runs_again(backend: str, tmp_path: Path) -> None:
    session = start(tmp_path, backend, {"d/f": "f\n"})
    set_one = "import os, sys; os.setxattr(sys.argv[1] + '/d', 'user.x', b'1')"
    session.run(sys.executable, "-c", set_one, os.fspath(session.layer.merged))
    session.discard("d")
    session.change("echo x > new")
    assert [c.path for c in session.scan().changes] == ["new"]


@EVERY_BACKEND
def test_directories_that_the_program_locked_are_no_obstacle_and_stay_locked(backend: str, tmp_path: Path) -> None:
    session = start(tmp_path, backend, {"d/e/a": "a\n", "d/e/b": "b\n"})
    session.change("echo x > d/e/a; rm d/e/b; echo n > d/e/n; chmod 0 d/e; chmod 500 d")
    session.discard("d/e/a", "d/e/b", "d/e/n")
    assert [(c.path, c.status) for c in session.scan().changes] == [("d", "mode-changed"), ("d/e", "mode-changed")]
    session.discard("d")
    assert session.scan().changes == ()


def test_a_crash_in_between_leaves_each_path_as_it_was_or_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each step that changes a name the process could end: what is there then is looked at."""
    for number in range(100):
        where = tmp_path / str(number)
        session = start(where, "copy", {"d/a": "a\n", "d/b": "b\n", "d/e/c": "c\n", "f": "f\n", "g/h": "h\n"})
        session.change("rm -r d; echo x > f; rm -r g; mkdir g; echo new > g/i; echo h2 > g/h")
        before = {c.path: _identity(c) for c in session.scan().changes}
        with monkeypatch.context() as patch:
            _die_before(number, patch)
            try:
                session.discard("d/a", "f", "g/h")
                survived = True
            except KeyboardInterrupt:
                survived = False
        after = {c.path: _identity(c) for c in session.scan().changes}
        assert after.items() <= before.items()
        assert before.keys() - after.keys() <= {"d", "d/a", "d/e", "f", "g/h"} and {"d/b", "g/i"} <= after.keys()
        if survived:
            assert number > 3
            return
    raise AssertionError("never finished")


def _die_before(number: int, patch: pytest.MonkeyPatch) -> None:
    count = 0

    def dying(real: Callable[..., None]) -> Callable[..., None]:
        def step(*arguments: object) -> None:
            nonlocal count
            count += 1
            if count > number:
                raise KeyboardInterrupt
            real(*arguments)

        return step

    patch.setattr(restoring, "remove_below", dying(remove_below))
    for name in ("exchange", "move"):
        patch.setattr(beneath, name, dying(getattr(beneath, name)))


def test_special_files_are_removed_unopened(tmp_path: Path) -> None:
    session = start(tmp_path, "copy", {"f": "f\n"})
    session.change("rm f; mkfifo f; mkfifo g")
    assert isinstance(read_tree(session.layer.merged)["g"], Special)
    session.discard("f", "g")
    assert session.scan().changes == ()
