"""The numbered acceptance list of capture and review, on every backend: bad input -> required result.

One program does all of it in one mount; then it is frozen, read back and shown. The number of an item is in the name of
its test. Elsewhere: 64 (test_looking: 60,000 lines; no backend has a part in it), 66 and 68 (tests/cli/
test_reviewing.py), 67 also over the random corpus (tests/test_random_operations.py), and the kinds of a path in all
combinations (test_scan, test_mounted).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from overlayws.base.manifest import Manifest
from overlayws.changes.change import Change, ChangeSet
from overlayws.changes.contents import Contents, TreeContents
from overlayws.changes.freeze import freeze
from overlayws.changes.frozen import thaw
from overlayws.changes.listing import Row, rows
from overlayws.changes.looking import looking
from overlayws.changes.render import name_status, patch
from overlayws.changes.shown import select
from overlayws.changes.terminal import of_sections
from overlayws.layer.all_backends import BACKENDS
from overlayws.layer.mount import Layer
from overlayws.source.remove import remove_tree
from tests.changes.layers import record
from tests.changes.test_mounted import EVERY
from tests.trees import Dir, Symlink, make_tree, read_tree

LINES = "".join(f"line {n}\n" for n in range(60))
BASE = {
    "43/f": "aaaa\n",
    "44/f": "x\n",
    "45/f": "x\n",
    "46/d/a": "a\n",
    "46/d/b/c": "c\n",
    "47/file": "x\n",
    "47/dir/in": "x\n",
    "47/other": "x\n",
    **{f"48/old/{n:04}": f"{n}\n" for n in range(1000)},
    "49/d/a": "a\n",
    "50/foo": "x\n",
    "53/d/a": "a\n",
    "53/d/b": "b\n",
    "58/app.py": "x\n",
    "59/f.py": LINES,
    "60/f.ps1": LINES.replace("\n", "\r\n").encode("utf-16"),
    "61/f.py": "ok()\n",
    "62/f.py": LINES,
    "69/f": "x\n",
    "70/node_modules/p/index.js": "ok()\n",
    "link": Symlink("43/f"),
    "empty": Dir(),
}
NAMES = ["a\nb", "esc\x1b[2J", "cr\rx", "bs\x08x", "c1\x9bx", "del\x7f", "\u202egpj.exe", 'q"\\', "b\udcff"]
PROGRAM = f"""
import os, shutil, time
LINES, NAMES = {LINES!r}, {NAMES!r}
def put(path, text, how="w"):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, how, **({{}} if "b" in how else {{"newline": "", "encoding": "utf-8"}})) as f: f.write(text)
st = os.stat("43/f"); put("43/f", "bbbb\\n"); os.utime("43/f", ns=(st.st_atime_ns, st.st_mtime_ns))
os.chmod("44/f", 0o755)
os.utime("45/f"); os.close(os.open("45/f", os.O_RDWR))
shutil.rmtree("46/d"); os.mkdir("46/d")
os.unlink("47/file"); put("47/file/in", "x\\n"); shutil.rmtree("47/dir"); put("47/dir", "x\\n")
os.unlink("47/other"); os.symlink("/etc/passwd", "47/other")
shutil.move("48/old", "48/new")
for mark in ("user.overlay.opaque", "user.overlay.whiteout"):
    try: os.setxattr("49/d", mark, b"y")
    except OSError: pass
put("50/.wh.foo", ""); put("50/.wh..wh..opq", "")
os.makedirs("52"); fd = os.open("52", os.O_RDONLY)
for n in range(100):
    os.mkdir("d" * 50, dir_fd=fd); below = os.open("d" * 50, os.O_RDONLY, dir_fd=fd); os.close(fd); fd = below
os.close(os.open("deep", os.O_WRONLY | os.O_CREAT, dir_fd=fd)); os.close(fd)
put("53/d/new", "x\\n"); os.unlink("53/d/a"); os.chmod("53/d", 0)
for name in NAMES: put(f"54/{{name}}", "x\\n")
put("56/f", "\\x1b[2J\\x1b]52;c;aGk=\\x07 a\\rb\\n")
put("57/f.py", "if a: \\u202e }} x\\n")
put("58/\\u0430\\u0440\\u0440.py", "x\\n"); put("58/\\u0430pp.py", "x\\n")
put("59/f.py", LINES.replace("line 30\\n", "evil() \\0\\n"))
put("60/f.ps1", LINES.replace("line 30\\n", "Evil\\n").replace("\\n", "\\r\\n").encode("utf-16"), "wb")
put("61/.gitattributes", "*.py -diff\\n"); put("61/f.py", "evil()\\n"); put("61/.gitignore", "*\\n")
put("62/f.py", LINES.replace("line 30", "evil()").replace("\\n", "\\r\\n"))
put("63/f", "y" * 1_000_000 + "\\n")
put("65/sparse", ""); os.truncate("65/sparse", 1 << 40)
put("69/f", "other\\n"); put("69/f", "x\\n")
put("70/node_modules/p/index.js", "evil()\\n"); put("70/node_modules/q/index.js", "x\\n")
if DEVICES: os.makedirs("51"); os.mknod("51/dev", 0o20644, 0)
os.makedirs("47/w", exist_ok=True); os.mkfifo("47/w/fifo")
"""


@dataclass
class Review:
    """What a program did, frozen, and as it is shown."""

    backend: str
    changeset: ChangeSet
    base: Contents
    theirs: Contents
    listed: list[Row]
    shown: str
    seconds: float
    root: Path

    def statuses(self, item: str) -> dict[str, str]:
        found = {c.path: c.status for c in self.changeset.changes if c.path.startswith(f"{item}/")}
        return {path[len(item) + 1 :]: status for path, status in found.items()}

    def flags(self, path: str) -> tuple[str, ...]:
        return self.change(path).flags

    def change(self, path: str) -> Change:
        (change,) = [c for c in self.changeset.changes if c.path == path]
        return change

    def section(self, path: str) -> list[str]:
        """The lines that are shown of a file."""
        (found,) = [part for part in self.shown.split("diff --git ") if part.startswith(f"a/{path} ")]
        return found.splitlines()


@pytest.fixture(scope="module", params=EVERY)
def review(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Review]:
    backend, top = str(request.param), tmp_path_factory.mktemp("acceptance")
    layer = Layer(*(top / name for name in ("lower", "upper", "work", "merged")))
    make_tree(layer.lowerdir, BASE)
    record(layer.lowerdir, top / "manifest.db")
    devices = backend == "copy" and os.geteuid() == 0  # no overlay lets a program make a whiteout
    try:
        with BACKENDS[backend].mounted(layer) as mount:
            words = [*mount.enter, sys.executable, "-I", "-S", "-c", f"DEVICES = {devices}\n{PROGRAM}"]
            done = subprocess.run(words, cwd=mount.merged, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
        start = time.monotonic()
        with Manifest(top / "manifest.db") as manifest:
            prefix = BACKENDS[backend].XATTR_PREFIX
            capture = freeze(layer, manifest, prefix, own_git=False, store=top / "store")
        seconds = time.monotonic() - start
        changeset, theirs = thaw(top / "store", capture)
        with theirs, TreeContents(layer.lowerdir) as base:
            with looking(changeset, base, theirs) as looked:
                shown = of_sections(looked.sections(), False)
                listed = rows(changeset, looked.repository)
            yield Review(backend, changeset, base, theirs, listed, shown, seconds, top)
    finally:
        remove_tree(top)


def test_43_an_edit_that_keeps_size_and_time_is_listed(review: Review) -> None:
    assert review.statuses("43") == {"f": "modified"}


def test_44_a_mode_alone_is_a_mode_change(review: Review) -> None:
    assert review.statuses("44") == {"f": "mode-changed"} and review.flags("44/f") == ("executable",)


def test_45_a_touch_is_not_listed(review: Review) -> None:
    assert review.statuses("45") == {}


def test_46_a_directory_made_anew_has_lost_its_files(review: Review) -> None:
    assert review.statuses("46") == {"d/a": "deleted", "d/b": "deleted", "d/b/c": "deleted"}


def test_47_what_became_something_else_is_typed(review: Review) -> None:
    assert review.statuses("47") == {
        "file": "type-changed", "file/in": "added", "dir": "type-changed", "dir/in": "deleted", "other": "type-changed",
        "w": "added", "w/fifo": "added",
    }  # fmt: skip
    assert review.flags("47/other") == ("symlink-outside",) and review.flags("47/w/fifo") == ("special",)


def test_48_a_directory_of_1000_files_is_renamed_whole(review: Review) -> None:
    found = review.statuses("48")
    assert {path for path, status in found.items() if status == "deleted"} == {
        "old", *(f"old/{n:04}" for n in range(1000)),
    }  # fmt: skip
    assert {path for path, status in found.items() if status == "added"} == {
        "new", *(f"new/{n:04}" for n in range(1000)),
    }  # fmt: skip
    assert len([row for row in review.listed if row.path.startswith("48/") and row.status == "renamed"]) == 1000


def test_49_marks_of_the_program_delete_nothing(review: Review) -> None:
    assert "deleted" not in review.statuses("49").values()


def test_50_names_of_other_formats_are_files(review: Review) -> None:
    assert review.statuses("50") == {".wh.foo": "added", ".wh..wh..opq": "added"}


def test_51_a_device_is_no_deletion(review: Review) -> None:
    if review.backend == "copy" and os.geteuid() == 0:
        assert review.statuses("51") == {"dev": "added"} and review.flags("51/dev") == ("special",)
    else:
        assert review.statuses("51") == {}


def test_52_a_path_beyond_path_max_is_captured(review: Review) -> None:
    path = "/".join(["52", *["d" * 50] * 100, "deep"])
    after = review.change(path).after
    assert len(path) > 5000 and after is not None and review.theirs.read(path, after) == b""


def test_53_a_locked_directory_is_not_empty(review: Review) -> None:
    assert review.statuses("53") == {"d": "mode-changed", "d/a": "deleted", "d/new": "added"}


def test_54_55_a_name_is_one_line_and_steers_nothing(review: Review) -> None:
    assert set(review.statuses("54")) == set(NAMES)
    lines = [line for line in name_status(review.listed).split("\n") if "54/" in line]
    assert len(lines) == len(NAMES) and all(line.isascii() and line.replace("\t", "").isprintable() for line in lines)
    assert "54/a\\nb" in lines[0] or any("54/a\\nb" in line for line in lines)
    made, _ = patch(select(review.changeset, ["54"]), review.base, review.theirs)
    assert made.isascii() and b"\x1b" not in made
    assert not any(c in review.shown for c in "\x1b\r\x08\x9b\x7f\u202e")
    assert all("invisible-text" in review.flags(f"54/{name}") for name in NAMES[:7])


def test_56_content_is_escaped_for_eyes_and_exact_in_the_patch(review: Review) -> None:
    assert "+\\x1b[2J\\x1b]52;c;aGk=\\x07 a\\x0db" in review.section("56/f")
    made, _ = patch(select(review.changeset, ["56"]), review.base, review.theirs)
    assert b"+\x1b[2J\x1b]52;c;aGk=\x07 a\rb\n" in made


def test_57_a_text_that_turns_its_direction_is_a_finding(review: Review) -> None:
    assert "invisible-text" in review.flags("57/f.py")
    assert "+if a: <U+202E> } x" in review.section("57/f.py")


def test_58_a_twin_of_a_name_is_a_finding(review: Review) -> None:
    assert "confusable" in review.flags("58/\u0430pp.py")


def test_59_a_nul_hides_nothing(review: Review) -> None:
    assert "+evil() \\x00" in review.section("59/f.py") and "invisible-text" in review.flags("59/f.py")


def test_60_utf_16_is_decoded(review: Review) -> None:
    assert "+Evil\\x0d" in review.section("60/f.ps1") and "invisible-text" in review.flags("60/f.ps1")


def test_61_attributes_hide_nothing(review: Review) -> None:
    assert "+evil()" in review.section("61/f.py")


def test_62_a_flip_of_line_ends_does_not_hide_an_edit(review: Review) -> None:
    lines = review.section("62/f.py")
    assert [line for line in lines if line[:1] in "+-" and line[:3] not in ("---", "+++")] == [
        "-line 30", "+evil()\\x0d",
    ]  # fmt: skip
    assert any("-59 +59 lines differ only in white space" in line and "-1 +1 others" in line for line in lines)


def test_63_a_long_line_is_cut_with_its_length(review: Review) -> None:
    (line,) = [line for line in review.section("63/f") if line.startswith("+y")]
    assert len(line) < 2100 and line.endswith("[and 998001 more characters]")


def test_65_a_sparse_terabyte_is_told_and_takes_no_time(review: Review) -> None:
    (problem,) = review.changeset.problems
    assert problem.path == "65/sparse" and "larger than a change may be" in problem.why
    assert "large" in review.flags("65/sparse") and review.seconds < 10
    used = sum(f.lstat().st_blocks * 512 for f in (review.root / "store").rglob("*"))
    assert used < 32 << 20


def test_67_the_exported_patch_gives_the_same_tree(review: Review, tmp_path: Path) -> None:
    changes = [c for c in review.changeset.changes if not c.path.startswith(("52", "65"))]
    made, _ = patch(ChangeSet(tuple(changes)), review.base, review.theirs)
    clean = make_tree(tmp_path / "clean", BASE)
    done = subprocess.run(["git", "apply", "-"], cwd=clean, input=made, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    found = read_tree(clean)
    for change in changes:
        if change.after is None or change.after.digest is None and change.kind.value != "symlink":
            continue
        node = found[change.path]
        if isinstance(node, Symlink):
            assert node.target == change.after.target
        else:
            assert getattr(node, "content", None) == review.theirs.read(change.path, change.after), change.path
    assert all(c.path not in found for c in changes if c.after is None and c.kind.value != "directory")
    remove_tree(clean)


def test_69_what_was_put_back_is_not_listed(review: Review) -> None:
    assert review.statuses("69") == {}


def test_70_dependencies_are_listed(review: Review) -> None:
    assert review.statuses("70") == {
        "node_modules/p/index.js": "modified", "node_modules/q": "added", "node_modules/q/index.js": "added",
    }  # fmt: skip
    assert "+evil()" in review.section("70/node_modules/p/index.js")
