"""The frozen store: what was captured is read back, what was changed since is refused or has no effect."""

from __future__ import annotations

import json
import os
import random
from hashlib import sha256
from pathlib import Path

import pytest

from overlayws.base.manifest import Manifest
from overlayws.changes import freeze as module
from overlayws.changes.capture import keep_nothing
from overlayws.changes.change import ChangeSet
from overlayws.changes.freeze import drop_others, freeze
from overlayws.changes.frozen import DamagedCapture, thaw
from overlayws.changes.render import patch
from tests.changes.layers import Case, Whiteout, make_case
from tests.trees import Dir, File, Symlink, read_tree

LARGE = os.urandom(3 << 20)
BASE = {"f": "one\n", "gone/x": "x\n", "l": Symlink("f"), "same": "same\n"}
UPPER = {
    "f": "two\n",
    "gone": Whiteout(),
    "l": Symlink("/etc/passwd"),
    "b\udcff\n": "name\n",
    "large": LARGE,
    "twice/a": LARGE,
    "twice/b": "two\n",
    "empty": "",
    "e": Dir(0o700),
    "x.sh": File(b"#!/bin/sh\n", 0o755),
}


def frozen(case: Case, store: Path) -> str:
    with Manifest(case.manifest) as manifest:
        return freeze(case.layer, manifest, case.prefix, own_git=case.own_git, store=store)


def read_all(store: Path, capture: str) -> dict[str, bytes]:
    changeset, contents = thaw(store, capture)
    with contents:
        return {c.path: contents.read(c.path, c.after) for c in changeset.changes if c.after and c.after.digest}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path, BASE, UPPER)


@pytest.mark.parametrize("tree", [{}, BASE, {**BASE, ".git/refs/heads/main": "0" * 40 + "\n"}])
def test_the_capture_of_a_session_in_which_nothing_ran_is_that_of_an_empty_upperdir(
    tree: dict[str, object], tmp_path: Path
) -> None:
    case = make_case(tmp_path, tree, {})
    captures = {}
    for name, capture in (("looked", frozen(case, tmp_path / "looked")), ("not", keep_nothing(tmp_path / "not"))):
        captures[name] = capture, read_tree(tmp_path / name)
    assert captures["looked"] == captures["not"]
    assert read_all(tmp_path / "not", captures["not"][0]) == {}


def test_what_is_read_back_is_what_the_scan_found(case: Case, tmp_path: Path) -> None:
    capture = frozen(case, tmp_path / "store")
    changeset, contents = thaw(tmp_path / "store", capture)
    with contents, case.base() as base, case.theirs() as theirs:
        found = case.scan()
        assert changeset == found and changeset.digest == found.digest
        assert patch(changeset, base, contents) == patch(found, base, theirs)
    contained = read_all(tmp_path / "store", capture)
    assert contained["large"] == contained["twice/a"] == LARGE
    assert contained["f"] == contained["twice/b"] == b"two\n"
    assert sorted(os.listdir(tmp_path / "store" / capture / "large")) == [sha256(LARGE).hexdigest()]


def test_every_kind_of_difference_survives(tmp_path: Path) -> None:
    moved = File(b"x\n", xattrs=(("user.n", b"\0"),))
    case = make_case(tmp_path, {"a": "x\n", "p": "x\n"}, {"a": Whiteout(), "b": moved})
    os.mkfifo(case.layer.upperdir / "p")
    with open(case.layer.upperdir / "sparse", "wb") as f:
        f.truncate(1 << 40)
    capture = frozen(case, tmp_path / "store")
    changeset, contents = thaw(tmp_path / "store", capture)
    contents.close()
    assert changeset == case.scan()
    assert changeset.renames and changeset.problems
    assert {c.path: c.kind.value for c in changeset.changes}["p"] == "fifo"


def test_the_upperdir_has_no_effect_any_more(case: Case, tmp_path: Path) -> None:
    capture = frozen(case, tmp_path / "store")
    before = read_all(tmp_path / "store", capture)
    for path in ("f", "large", "twice/a", "twice/b", "x.sh"):
        with open(case.layer.upperdir / path, "r+b") as f:  # the same inode: a store of hard links would follow
            f.write(b"evil")
    (case.layer.upperdir / "new").write_text("evil")
    assert read_all(tmp_path / "store", capture) == before


def test_one_bit_anywhere_in_the_store_is_noticed(case: Case, tmp_path: Path) -> None:
    store = tmp_path / "store"
    capture = frozen(case, store)
    draw = random.Random(43)
    files = [path for path in (store / capture).rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"manifest", "pack"} and len(files) == 3
    for file in files:
        whole = file.read_bytes()
        for at in {0, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(10))}:
            broken = bytearray(whole)
            broken[at] ^= 1 << draw.randrange(8)
            file.write_bytes(broken)
            with pytest.raises(DamagedCapture):
                read_all(store, capture)
        for cut in (whole[:-1], whole + b"\n", b""):
            file.write_bytes(cut)
            if not (file.name == "pack" and len(cut) > len(whole)):  # bytes that nothing names are no content
                with pytest.raises(DamagedCapture):
                    read_all(store, capture)
        file.unlink()
        with pytest.raises(DamagedCapture):
            read_all(store, capture)
        file.write_bytes(whole)
    assert read_all(store, capture)


def named(store: Path, *lines: object) -> str:
    """The name of a capture whose manifest is ``lines``: by their true hash, as who wrote them can give it."""
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    directory = store / sha256(data).hexdigest()
    directory.mkdir()
    (directory / "manifest").write_bytes(data)
    (directory / "pack").touch()
    return directory.name


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a//b", "a/./b", "a/..", "", ".", "nul\0", "n" * 256, "a/" + "n" * 300, "lone\ud800"]
)
def test_a_path_that_none_can_be_is_no_manifest(path: str, tmp_path: Path) -> None:
    """With the right hash, too: whoever wrote it."""
    entry = ["file", 0o644, 0, sha256(b"").hexdigest(), None, []]
    header = {"schema": "overlayws.frozen/1", "digest": "sha256:", "counts": [1, 0, 0]}
    with pytest.raises(DamagedCapture):
        thaw(tmp_path, named(tmp_path, header, [path, None, entry, [], 0]))


@pytest.mark.parametrize(
    "row",
    [
        ["x", None, None, [], None],
        ["x", None, ["file", -1, 0, None, None, []], [], None],
        ["x", None, ["file", 0o100644, 0, None, None, []], [], None],
        ["x", None, ["file", 0o644, 0, "../../secret", None, []], [], None],
        ["x", None, ["file", 0o644, "0", None, None, []], [], None],
        ["x", None, ["spoon", 0o644, 0, None, None, []], [], None],
        ["x", None, ["file", 0o644, 0, "a" * 64, None, []], [], -1],
        ["x", None, ["file", 0o644, 0, "a" * 64, None, [["user.a", "zz"]]], [], 0],
        ["x", None],
        "x",
        {},
        7,
        None,
    ],
)
def test_a_row_that_says_the_impossible_is_no_manifest(row: object, tmp_path: Path) -> None:
    header = {"schema": "overlayws.frozen/1", "digest": "sha256:", "counts": [1, 0, 0]}
    lines = (header, row) if row is not None else (header,)  # fewer than it says
    with pytest.raises(DamagedCapture):
        thaw(tmp_path, named(tmp_path, *lines))


def test_a_sparse_file_takes_no_room_and_comes_back_whole(tmp_path: Path) -> None:
    case = make_case(tmp_path, {})
    with open(case.layer.upperdir / "sparse", "wb") as f:
        f.seek(256 << 20)
        f.write(b"end")
    capture = frozen(case, tmp_path / "store")
    used = sum(path.lstat().st_blocks * 512 for path in (tmp_path / "store").rglob("*"))
    assert used < 1 << 20
    changeset, contents = thaw(tmp_path / "store", capture)
    with contents, open(tmp_path / "out", "wb") as out:
        (change,) = changeset.changes
        assert change.after
        contents.copy("sparse", change.after, out.fileno())
    assert (tmp_path / "out").stat().st_size == (256 << 20) + 3
    assert (tmp_path / "out").stat().st_blocks * 512 < 2 << 20


def test_a_capture_that_fails_leaves_the_earlier_one(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    capture = frozen(case, store)
    before = read_tree(store)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_copy_large", full)
    with pytest.raises(OSError):
        frozen(case, store)
    assert read_tree(store) == before and read_all(store, capture)


def test_the_same_changes_make_a_damaged_capture_whole_again(case: Case, tmp_path: Path) -> None:
    store = tmp_path / "store"
    capture = frozen(case, store)
    (store / capture / "pack").write_bytes(b"")
    assert frozen(case, store) == capture
    assert read_all(store, capture)


def test_only_the_capture_in_use_is_kept(case: Case, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = frozen(case, store)
    (case.layer.upperdir / "f").write_text("three\n")
    (store / ".making-1-left").mkdir()
    second = frozen(case, store)
    drop_others(store, second)
    assert os.listdir(store) == [second] != [first]
    assert read_all(store, second)["f"] == b"three\n"


def test_what_is_not_read_is_named_and_not_confused_with_an_empty_file(tmp_path: Path) -> None:
    case = make_case(tmp_path, {})
    with open(case.layer.upperdir / "sparse", "wb") as f:
        f.truncate(1 << 40)
    changeset: ChangeSet
    changeset, contents = thaw(tmp_path / "store", frozen(case, tmp_path / "store"))
    (change,), (problem,) = changeset.changes, changeset.problems
    assert change.after and (change.after.size, change.after.digest) == (1 << 40, None)
    assert problem.path == "sparse" and "larger than a change may be" in problem.why
    with contents, pytest.raises(Exception, match="was not captured"):
        contents.read("sparse", change.after)
