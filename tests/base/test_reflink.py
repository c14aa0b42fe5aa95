"""Bases on file systems that share blocks between files (FICLONE): btrfs and xfs, on loop devices of our own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from overlayws.base.build import build_base
from overlayws.base.making import Base
from overlayws.base.manifest import Manifest
from overlayws.filter.contents import ContentPolicy, Inspector
from overlayws.filter.sources import load_filter
from tests.base.test_shelf import settle
from tests.trees import make_tree, read_tree

pytestmark = pytest.mark.reflink

TOKEN = "ghp_" + "x7Kq2mVb9LpR4tWz8NcY1sDf6HgJ3aEu5oQi"
BIG = 32 << 20


@pytest.fixture(params=["btrfs", "xfs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    kind = request.param
    image, mounted = tmp_path / "image", tmp_path / "mounted"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(512 << 20)
    subprocess.run([f"mkfs.{kind}", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", "-l", mounted], check=True)


def workspace(place: Path) -> Path:
    tree = {f"d{n % 5}/f{n}.py": f"n = {n}\n" * 300 for n in range(200)}
    tree |= {".env": "K=HIDDEN-BYTES", "app.py": f'key = "{TOKEN}"\n', "conf/secrets.json": "HIDDEN-BYTES" * 50}
    ws = make_tree(place / "ws", tree)
    (ws / "big.bin").write_bytes(os.urandom(BIG))
    settle()
    return ws


def build(ws: Path, directory: Path) -> Base:
    directory.mkdir()
    return build_base(ws, directory, load_filter(ws), inspector=Inspector(ContentPolicy(key=b"k" * 32)))


def used(place: Path) -> int:
    subprocess.run(["sync", "-f", place], check=True)
    st = os.statvfs(place)
    return (st.f_blocks - st.f_bfree) * st.f_frsize


def in_bytes(source: int, target: int, *_: object) -> None:
    while chunk := os.read(source, 1 << 20):
        os.write(target, chunk)


def test_blocks_are_shared_with_the_workspace_and_the_base_is_the_same(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = workspace(place)
    before = used(place)
    shared = build(ws, place / "shared")
    assert used(place) - before < BIG // 4
    monkeypatch.setattr("overlayws.base.files.may_reflink", lambda one, other: False)
    monkeypatch.setattr("overlayws.base.files.copy_file", in_bytes)
    copied = build(ws, place / "copied")
    assert used(place) - before > BIG * 3 // 4
    assert read_tree(shared.lowerdir) == read_tree(copied.lowerdir) and shared.warnings == copied.warnings
    with Manifest(shared.manifest) as one, Manifest(copied.manifest) as other:
        assert one.stored() == other.stored() and one.findings() == other.findings()
        assert one.hidden_below("") == other.hidden_below("") and one.meta("fingerprint") == other.meta("fingerprint")


def test_nothing_hidden_or_redacted_is_in_a_base_of_shared_blocks(place: Path) -> None:
    base = build(workspace(place), place / "base")
    files = [path for path in base.lowerdir.rglob("*") if path.is_file()]
    assert len(files) == 202 and base.lowerdir / "app.py" in files
    everything = b"".join(path.read_bytes() for path in files)
    assert b"HIDDEN-BYTES" not in everything and TOKEN.encode() not in everything


def test_an_edit_in_place_on_either_side_does_not_reach_the_other(place: Path) -> None:
    ws = workspace(place)
    base = build(ws, place / "base")
    given = (base.lowerdir / "d1/f1.py").read_bytes()
    with (ws / "d1/f1.py").open("r+b") as file:
        file.write(b"EDITED")
    assert (base.lowerdir / "d1/f1.py").read_bytes() == given
