"""What real mounts leave in the upperdir, read by scan."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from overlayws.base.manifest import Manifest
from overlayws.changes.change import ChangeSet, Rename
from overlayws.changes.scan import scan
from overlayws.layer.all_backends import BACKENDS
from overlayws.layer.mount import Layer
from tests.changes.layers import record
from tests.trees import Dir, File, Symlink, make_tree

LINES = "".join(f"line {n}\n" for n in range(50))
BASE = {
    "f": "one\ntwo\n",
    "g": LINES,
    "h": LINES,
    "d/a": "a\n",
    "d/b/c": "c\n",
    "e": Dir(),
    "l": Symlink("f"),
    "x.sh": File(b"#!/bin/sh\n", 0o755),
}
PRELUDE = """
import os, shutil
def put(path, text, how="w"):
    with open(path, how) as f: f.write(text)
"""
EVERY = [
    pytest.param("kernel", marks=pytest.mark.kernel),
    pytest.param("userns", marks=pytest.mark.userns),
    pytest.param("copy"),
]


def after(backend: str, top: Path, code: str) -> ChangeSet:
    """The change set of a program that ran ``code`` in the merged view of BASE."""
    layer = Layer(*(top / name for name in ("lower", "upper", "work", "merged")))
    make_tree(layer.lowerdir, BASE)
    record(layer.lowerdir, top / "manifest.db")
    with BACKENDS[backend].mounted(layer) as mount:
        words = [*mount.enter, sys.executable, "-I", "-S", "-c", f"{PRELUDE}\n{code}"]
        done = subprocess.run(words, cwd=mount.merged, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    with Manifest(top / "manifest.db") as manifest:
        changeset = scan(layer, manifest, BACKENDS[backend].XATTR_PREFIX, own_git=False)
    assert changeset.problems == ()
    return changeset


def statuses(changeset: ChangeSet) -> dict[str, str]:
    return {change.path: change.status for change in changeset.changes}


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("", {}),
        ("open('f').read(); os.listdir('d')", {}),
        ("os.close(os.open('f', os.O_RDWR))", {}),
        ("os.utime('f', (1, 1)); os.utime('d', (1, 1))", {}),
        ("os.chmod('f', 0o600); os.chmod('f', 0o644)", {}),
        ("t = open('f').read(); put('f', 'x'); put('f', t)", {}),
        ("put('d/new', ''); os.unlink('d/new'); os.mkdir('n'); os.rmdir('n')", {}),
        ("os.rename('f', 'z'); os.rename('z', 'f')", {}),
        ("shutil.rmtree('d'); os.makedirs('d/b'); put('d/a', 'a\\n'); put('d/b/c', 'c\\n')", {}),
        ("put('f', 'three\\n', 'a')", {"f": "modified"}),
        ("put('f', 'one\\nTWO\\n')", {"f": "modified"}),
        ("os.chmod('f', 0o755)", {"f": "mode-changed"}),
        ("os.unlink('f'); put('f', 'one\\ntwo\\n')", {}),
        ("shutil.rmtree('d')", {"d": "deleted", "d/a": "deleted", "d/b": "deleted", "d/b/c": "deleted"}),
        ("shutil.rmtree('d'); os.mkdir('d')", {"d/a": "deleted", "d/b": "deleted", "d/b/c": "deleted"}),
        ("os.mkdir('E'); os.rmdir('e')", {"E": "added", "e": "deleted"}),
        ("os.unlink('f'); os.mkdir('f'); put('f/x', '')", {"f": "type-changed", "f/x": "added"}),
        ("os.rmdir('e'); put('e', '')", {"e": "type-changed"}),
        ("os.unlink('l'); os.symlink('/etc', 'l')", {"l": "modified"}),
        ("os.link('f', 'second')", {"second": "added"}),
        ("os.mkfifo('p')", {"p": "added"}),
        ("put('.wh.f', ''); put('d/.wh..wh..opq', '')", {".wh.f": "added", "d/.wh..wh..opq": "added"}),
    ],
)  # fmt: skip
def test_what_a_program_did_is_what_is_found(backend: str, code: str, expected: dict[str, str], tmp_path: Path) -> None:
    assert statuses(after(backend, tmp_path, code)) == expected


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("prefix", ["user.overlay.", "user.overlay.overlay.", "user.fuseoverlayfs."])
def test_marks_that_the_program_sets_are_its_own_attributes(backend: str, prefix: str, tmp_path: Path) -> None:
    code = "".join(f"os.setxattr('{path}', '{prefix}{name}', b'y')\n" for path in ("d", ".") for name in ("opaque",))
    code += f"os.setxattr('f', '{prefix}whiteout', b''); os.setxattr('g', '{prefix}redirect', b'/h')\n"
    changeset = after(backend, tmp_path, code)
    assert statuses(changeset) == {"d": "modified", "f": "modified", "g": "modified"}
    names = {c.path: [name for name, _ in c.after.xattrs] for c in changeset.changes if c.after}
    assert names == {"d": [f"{prefix}opaque"], "f": [f"{prefix}whiteout"], "g": [f"{prefix}redirect"]}


@pytest.mark.kernel
def test_the_kernel_notes_where_a_renamed_file_came_from(tmp_path: Path) -> None:
    code = "os.rename('h', 'a'); os.rename('g', 'b'); os.rename('f', 'c'); put('c', 'rewritten')"
    changeset = after("kernel", tmp_path, code)
    assert changeset.renames == (Rename("h", "a", 100), Rename("g", "b", 100), Rename("f", "c", 0))
