"""Whatever a program does: what is captured and applied to a copy of the workspace is what the program saw.

Hundreds of seeds on every backend. Each seed also shows the laws: accepting nothing is the start, undo after apply
is the start to the last timestamp, applying twice is applying once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from overlayws.apply.execute import execute, undo
from overlayws.apply.plan import plan_apply
from overlayws.base.build import build_base
from overlayws.base.manifest import Manifest
from overlayws.changes.change import ChangeSet
from overlayws.changes.contents import Contents, TreeContents
from overlayws.changes.render import patch
from overlayws.changes.scan import scan
from overlayws.filter.sources import load_filter
from overlayws.layer.all_backends import BACKENDS
from overlayws.layer.mount import Layer
from overlayws.source.entry import Kind
from overlayws.source.remove import remove_tree
from tests import operations
from tests.trees import Dir, File, Symlink, make_tree, read_tree

SEEDS = int(os.environ.get("OVERLAYWS_SEEDS", "200"))
PER_TEST = 20
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
        if seed % 4 == 0:
            _patched(changeset, base, theirs, original, where / "patched")

        def plan(changes):  # type: ignore[no-untyped-def]
            made = plan_apply(workspace, changes, manifest, base, theirs, umask=0, allow=allow)
            assert not made.conflicts and not made.refused
            return made

        assert plan([]).steps == ()
        before = _times(workspace)
        execute(plan(changeset.changes), where / "journal/1", theirs)
        assert operations.Operations(os.fspath(workspace), 0).view() == saw
        assert plan(changeset.changes).steps == ()
        undo(where / "journal/1")
        assert operations.Operations(os.fspath(workspace), 0).view() == start
        assert _times(workspace) == before


def _patched(changeset: ChangeSet, base: Contents, theirs: Contents, original: Path, clean: Path) -> None:
    """``git apply`` of the exported patch gives the files and links that the program made."""
    made, left_out = patch(changeset, base, theirs)
    assert left_out == []
    shutil.copytree(original, clean, symlinks=True)
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": os.fspath(clean.parent)}
    command = ["git", "apply", "--whitespace=nowarn", "-"]
    done = subprocess.run(command, cwd=clean, input=made, env=environment, capture_output=True, check=False)
    assert done.returncode == 0 or not made, done.stderr.decode(errors="replace")
    found = read_tree(clean)
    for change in changeset.changes:
        node = found.get(change.path)
        if change.after is None:
            assert node is None or isinstance(node, Dir)
        elif change.after.kind is Kind.SYMLINK:
            assert isinstance(node, Symlink) and node.target == change.after.target
        elif change.after.kind is Kind.FILE:
            assert getattr(node, "content", None) == theirs.read(change.path, change.after), change.path


def _times(root: Path) -> dict[str, int]:
    paths = [os.path.join(d, n) for d, names, files in os.walk(root) for n in [*names, *files]]
    return {path: os.lstat(path).st_mtime_ns for path in [os.fspath(root), *paths]}
