"""Bases of one workspace share inodes, so a lowerdir's files have several links: what that means under a layer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from overlayws.base.judge import Judge
from overlayws.base.manifest import Manifest
from overlayws.base.shelf import Shelf
from overlayws.changes.scan import scan
from overlayws.filter.sources import load_filter
from overlayws.layer.all_backends import BACKENDS
from overlayws.layer.mount import Layer
from tests.base.test_shelf import settle
from tests.trees import make_tree, read_tree

PROGRAM = """
import os
with open("a/append", "a") as f: f.write("more")
with open("a/rewrite", "w") as f: f.write("new")
os.unlink("a/gone")
os.rename("a/moved", "b/moved")
os.chmod("a/mode", 0o755)
os.link("a/linked", "a/second name")
with open("a/linked", "a") as f: f.write("both")
os.setxattr("a/xattr", "user.note", b"v")
os.truncate("a/cut", 1)
fd = os.open("a/opened", os.O_RDWR); os.close(fd)
os.utime("a/touched", (1, 1))
print(os.stat("a/same").st_nlink)
"""
NAMES = "append rewrite gone moved mode linked xattr cut opened touched same edited".split()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[getattr(pytest.mark, name)] if name != "copy" else []) for name in BACKENDS]
)
def test_a_program_changes_no_base_and_all_its_changes_are_captured(tmp_path: Path, name: str) -> None:
    ws = make_tree(tmp_path / "ws", {**{f"a/{n}": f"{n} it was\n" for n in NAMES}, "b/x": "x"})
    shelf = Shelf(tmp_path / "bases")
    bases = []
    for text in ("first", "second"):
        (ws / "a/edited").write_text(text)
        settle()
        with shelf.locked(ws):
            bases.append(shelf.obtain(ws, Judge(load_filter(ws))).base)
    assert os.stat(bases[1].lowerdir / "a/append").st_nlink == 2
    before = [read_tree(base.lowerdir) for base in bases]
    layer = Layer(bases[1].lowerdir, *(tmp_path / n for n in ("upper", "work", "merged")))
    for directory in (layer.upperdir, layer.workdir, layer.merged):
        directory.mkdir(mode=0o700)
    with BACKENDS[name].mounted(layer) as mount:
        run = [*mount.enter, sys.executable, "-c", PROGRAM]
        said = subprocess.run(run, cwd=mount.merged, check=True, capture_output=True, text=True).stdout
        seen = [*mount.enter, sys.executable, "-c", "print(open('a/append').read(), open('a/second name').read())"]
        shown = subprocess.run(seen, cwd=mount.merged, check=True, capture_output=True, text=True).stdout
    assert shown == "append it was\nmore linked it was\nboth\n"
    assert said in ("1\n", "2\n")  # the number of links is the lowerdir's, as docs/base.md says
    assert [read_tree(base.lowerdir) for base in bases] == before
    with Manifest(bases[1].manifest) as manifest:
        found = scan(layer, manifest, BACKENDS[name].XATTR_PREFIX, own_git=False)
    assert not found.problems
    assert {c.path for c in found.changes} == {
        *(f"a/{n}" for n in ("append", "rewrite", "gone", "moved", "mode", "linked", "xattr", "cut", "second name")),
        "b/moved",
    }  # fmt: skip
    assert [(r.old, r.new) for r in found.renames] in ([], [("a/moved", "b/moved")])
