"""Whatever a program does: what is captured and applied to a copy of the workspace is what the program saw.

Hundreds of seeds on every backend. Each seed also shows the laws: accepting nothing is the start, undo after apply
is the start to the last timestamp, applying twice is applying once. Of every fourth the exported patch is given to
``git apply``, of every eighth to ``patch -p1``: they make what apply makes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from overlayws.apply.execute import execute, undo
from overlayws.apply.plan import plan_apply
from overlayws.base.build import build_base
from overlayws.base.manifest import Manifest
from overlayws.changes.change import Change, ChangeSet
from overlayws.changes.contents import Contents, TreeContents
from overlayws.changes.render import patch
from overlayws.changes.scan import scan
from overlayws.filter.sources import load_filter
from overlayws.layer.all_backends import BACKENDS
from overlayws.layer.mount import Layer
from overlayws.source.entry import Entry, Kind
from overlayws.source.remove import remove_tree
from tests import operations
from tests.trees import Dir, File, Symlink, make_tree, read_tree

SEEDS = int(os.environ.get("OVERLAYWS_SEEDS", "200"))
PER_TEST = 20
Files = dict[str, tuple[bytes, bool] | str]
START = {
    "README": "hello\n",
    "src/app.py": "one\ntwo\nthree\n" * 50,
    "src/deep/er/file": "x\n",
    "src/run.sh": File(b"#!/bin/sh\n", 0o755),
    "docs/a b/-c": "dash\n",
    "docs/new\nline": "nl\n",
    "n\udcff\udcfe": b"\0\1\2",
    "empty": "",
    "emptydir": Dir(0o700),
    "tagged": File(b"t", 0o600, (("user.note", b"\0v"),)),
    "taggeddir": Dir(0o755, (("user.x", b"y"),)),
    "link": Symlink("src/app.py"),
    "dangling": Symlink("nowhere"),
}

BACKEND = [
    pytest.param("kernel", marks=pytest.mark.kernel),
    pytest.param("userns", marks=pytest.mark.userns),
    pytest.param("copy"),
]


@pytest.mark.parametrize("first", range(0, SEEDS, PER_TEST))
@pytest.mark.parametrize("backend", BACKEND)
def test_apply_gives_what_the_program_saw(backend: str, first: int, tmp_path: Path) -> None:
    original = make_tree(tmp_path / "original", START)
    (tmp_path / "base").mkdir()
    base = build_base(original, tmp_path / "base", load_filter(original))
    for seed in range(first, first + PER_TEST):
        where = tmp_path / str(seed)
        try:
            _one(backend, seed, where, original, base.lowerdir, base.manifest)
        except BaseException as error:
            error.add_note(f"seed {seed} on backend {backend}")
            raise
        remove_tree(where)  # overlayfs leaves a directory that only root may enter


def _one(backend: str, seed: int, where: Path, original: Path, lowerdir: Path, manifest_file: Path) -> None:
    layer = Layer(lowerdir, where / "upper", where / "work", where / "merged")
    for directory in (layer.upperdir, layer.workdir, layer.merged):
        directory.mkdir(parents=True)
    workspace = where / "workspace"
    shutil.copytree(original, workspace, symlinks=True)
    start = operations.Operations(os.fspath(workspace), 0).view()
    with BACKENDS[backend].mounted(layer) as mount:
        program = [sys.executable, operations.__file__, os.fspath(mount.merged), str(seed), "40"]
        done = subprocess.run([*mount.enter, *program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    saw = json.loads(done.stdout)
    allow = frozenset({"symlink-outside"})
    with Manifest(manifest_file) as manifest, TreeContents(lowerdir) as base, TreeContents(layer.upperdir) as theirs:
        changeset = scan(layer, manifest, BACKENDS[backend].XATTR_PREFIX, own_git=False)
        assert not changeset.problems

        def plan(changes):  # type: ignore[no-untyped-def]
            made = plan_apply(workspace, changes, manifest, base, theirs, umask=0, allow=allow)
            assert not made.conflicts and not made.refused
            return made

        assert plan([]).steps == ()
        before = _times(workspace)
        execute(plan(changeset.changes), where / "journal/1", theirs)
        assert operations.Operations(os.fspath(workspace), 0).view() == saw
        assert plan(changeset.changes).steps == ()
        if seed % 4 == 0:
            made = whole_patch(changeset.changes, base, theirs)
            git = ["git", "apply", "--whitespace=nowarn", "-"]
            assert _patched(made, original, where / "git", *git) == _files(workspace)
        undo(where / "journal/1")
        assert operations.Operations(os.fspath(workspace), 0).view() == start
        assert _times(workspace) == before
        if seed % 8 == 4:
            carried = _for_patch(changeset.changes)
            execute(plan(carried), where / "journal/2", theirs)
            made = whole_patch(carried, base, theirs)
            assert _patched(made, original, where / "gnu", "patch", "-p1", "-s", "-f") == _files(workspace)


def whole_patch(changes: Sequence[Change], base: Contents, theirs: Contents) -> bytes:
    made, left_out = patch(ChangeSet(tuple(changes)), base, theirs)
    assert left_out == []
    return made


def _patched(made: bytes, original: Path, clean: Path, *command: str) -> Files:
    """What a program that reads patches makes of ``original``."""
    shutil.copytree(original, clean, symlinks=True)
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": os.fspath(clean.parent)}
    done = subprocess.run(command, cwd=clean, input=made, env=environment, capture_output=True, check=False)
    assert done.returncode == 0 or not made, (done.stdout + done.stderr).decode(errors="replace")
    return _files(clean)


def _files(root: Path) -> Files:
    """What a patch can say of a tree: contents, the owner's execute bit, and where symlinks lead."""
    nodes = read_tree(root).items()
    found: Files = {path: (node.content, bool(node.mode & 0o100)) for path, node in nodes if isinstance(node, File)}
    return found | {path: node.target for path, node in nodes if isinstance(node, Symlink)}


def _for_patch(changes: Sequence[Change]) -> list[Change]:
    """The changes that GNU patch 2.7 can carry, of those that it is there for: changes of regular files.

    It cannot: binary differences; names of more than 240 bytes, since its temporary files have longer ones; names with
    a space at the end, and any with white space where no ``---`` and ``+++`` lines say them (a mode alone, an empty
    file, a pure rename); what is below a path that was no directory, or is none any more.
    """
    others = {change.path for change in changes if any(e.kind is not Kind.DIRECTORY for e in _sides(change))}
    digests = Counter((e.digest, change.before is None) for change in changes for e in _sides(change) if e.digest)
    return [change for change in changes if _is_for_patch(change, others, digests)]


def _is_for_patch(change: Change, others: set[str], digests: Counter[tuple[str, bool]]) -> bool:
    sides, names = _sides(change), change.path.split("/")
    if any(e.kind is not Kind.FILE for e in sides) or "binary" in change.flags:
        return False
    if any(len(os.fsencode(name)) > 240 or name.endswith(" ") for name in names):
        return False
    if not others.isdisjoint("/".join(names[:n]) for n in range(1, len(names))):
        return False
    if not any(char.isspace() for char in change.path):
        return True
    one, other = sides[0], sides[-1]
    if len(sides) == 2:
        return one.digest != other.digest
    return bool(one.size) and not digests[one.digest or "", change.before is not None]


def _sides(change: Change) -> list[Entry]:
    return [entry for entry in (change.before, change.after) if entry is not None]


def _times(root: Path) -> dict[str, int]:
    paths = [os.path.join(d, n) for d, names, files in os.walk(root) for n in [*names, *files]]
    return {path: os.lstat(path).st_mtime_ns for path in [os.fspath(root), *paths]}
