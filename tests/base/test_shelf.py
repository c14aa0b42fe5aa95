from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from overlayws.base import fingerprint
from overlayws.base.judge import Judge
from overlayws.base.manifest import Manifest
from overlayws.base.shelf import Shelf, Shelved
from overlayws.filter.sources import load_filter
from overlayws.source.entry import Stamp
from tests.trees import Symlink, make_tree, read_tree, stamps

TREE = {"a/one": "1\n", "a/two": "2\n", "b/three": "3\n", "link": Symlink("a/one"), ".env": "K=1", "run.sh": "#!"}


@pytest.fixture
def ws(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "ws", TREE)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    (tmp_path / "state").mkdir()
    return Shelf(tmp_path / "state" / "bases")


def obtain(shelf: Shelf, ws: Path, *, own_git: bool = False, **options: object) -> Shelved:
    settle()
    with shelf.locked(ws):
        return shelf.obtain(ws, Judge(load_filter(ws, **options)), own_git=own_git)  # type: ignore[arg-type]


def settle() -> None:
    """Until what was written before has a ctime that a later write cannot have."""
    time.sleep(2.5 * fingerprint.TICK_NS / 1e9)


def visible(ws: Path) -> dict[str, object]:
    return {path: node for path, node in read_tree(ws).items() if path != ".env"}


def test_the_second_session_on_an_unchanged_workspace_gets_the_same_base(shelf: Shelf, ws: Path) -> None:
    first = obtain(shelf, ws)
    before = stamps(shelf.directory / first.id)
    second = obtain(shelf, ws)
    assert second == Shelved(first.id, first.base, reused=True)
    assert stamps(shelf.directory / first.id) == before and read_tree(first.base.lowerdir) == visible(ws)


def test_an_unchanged_workspace_is_not_read(shelf: Shelf, ws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    obtain(shelf, ws)

    def read(*_: object) -> bytes:
        raise AssertionError("a file was read")

    monkeypatch.setattr("overlayws.base.files._read", read)
    assert obtain(shelf, ws).reused


@pytest.mark.parametrize(
    "edit",
    [
        lambda ws: (ws / "a/one").write_text("x\n"),
        lambda ws: os.chmod(ws / "run.sh", 0o755),
        lambda ws: os.setxattr(ws / "a/two", "user.note", b"v"),
        lambda ws: os.utime(ws / "a/one", (1, 1)),
        lambda ws: (ws / "a/new").write_text("new"),
        lambda ws: (ws / "a/one").unlink(),
        lambda ws: os.rename(ws / "a/one", ws / "b/one"),
        lambda ws: [(ws / "link").unlink(), (ws / "link").symlink_to("a/two")],
        lambda ws: (ws / ".npmrc").write_text("secret"),
        lambda ws: os.mkfifo(ws / "fifo"),
        lambda ws: os.chmod(ws, 0o750),
        lambda ws: (ws / "empty").mkdir(),
    ],
    ids="content mode xattr times new gone renamed link hidden fifo top directory".split(),
)
def test_a_changed_workspace_gets_a_base_of_its_own_and_the_old_one_stays(shelf: Shelf, ws: Path, edit: object) -> None:
    first = obtain(shelf, ws)
    given = read_tree(first.base.lowerdir)
    edit(ws)  # type: ignore[operator]
    second = obtain(shelf, ws)
    assert not second.reused and second.id != first.id
    assert read_tree(first.base.lowerdir) == given
    whole = Judge(load_filter(ws))
    fresh = Shelf(shelf.directory.parent / "fresh")
    with fresh.locked(ws):
        cold = fresh.obtain(ws, whole)
    assert read_tree(second.base.lowerdir) == read_tree(cold.base.lowerdir)
    with Manifest(second.base.manifest) as ours, Manifest(cold.base.manifest) as theirs:
        assert ours.stored() == theirs.stored() and ours.hidden_below("") == theirs.hidden_below("")
        assert ours.skipped() == theirs.skipped() and ours.meta("fingerprint") == theirs.meta("fingerprint")
    assert obtain(shelf, ws).id == second.id


def test_only_what_changed_is_copied_the_rest_is_linked_from_the_older_base(shelf: Shelf, ws: Path) -> None:
    first = obtain(shelf, ws)
    (ws / "a/one").write_text("other\n")
    second = obtain(shelf, ws)

    def inode(base: Shelved, path: str) -> int:
        return os.lstat(base.base.lowerdir / path).st_ino

    assert inode(first, "b/three") == inode(second, "b/three") and inode(first, "a/one") != inode(second, "a/one")
    users = {os.lstat(path).st_ino for path in ws.rglob("*")}
    assert all(os.lstat(path).st_ino not in users for path in second.base.lowerdir.rglob("*"))


def test_an_edit_with_size_and_mtime_put_back_is_seen(shelf: Shelf, ws: Path) -> None:
    obtain(shelf, ws)
    st = os.stat(ws / "a/one")
    (ws / "a/one").write_text("X\n")
    os.utime(ws / "a/one", ns=(st.st_atime_ns, st.st_mtime_ns))
    assert (obtain(shelf, ws).base.lowerdir / "a/one").read_text() == "X\n"


def test_a_file_written_in_the_tick_of_its_copying_is_copied_again(
    shelf: Shelf, ws: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git's racy timestamps: its next edit could leave the very same stamp."""
    now = os.stat(ws / "a/one").st_ctime_ns
    monkeypatch.setattr("overlayws.base.fingerprint.wait_until_settled", lambda newest: None)
    monkeypatch.setattr("overlayws.base.fingerprint.now_ns", lambda: now)
    with shelf.locked(ws):
        first = shelf.obtain(ws, Judge(load_filter(ws)))
    monkeypatch.undo()
    with Manifest(first.base.manifest) as manifest:
        recorded = manifest.get("a/one")
        # Nor does apply take such a stamp for a proof that the user did not edit the file.
        assert recorded is not None and recorded.stamp != Stamp.of(os.stat(ws / "a/one"))
    second = obtain(shelf, ws)
    assert not second.reused
    assert os.stat(second.base.lowerdir / "a/one").st_ino != os.stat(first.base.lowerdir / "a/one").st_ino
    assert obtain(shelf, ws).id == second.id


def test_stamps_in_whole_seconds_are_trusted_only_after_two_of_them() -> None:
    second = 1_700_000_000 * 10**9
    assert not fingerprint.settled(second, second + 10**9)
    assert fingerprint.settled(second, second + 2 * 10**9)
    assert not fingerprint.settled(second + 1, second + 2) and fingerprint.settled(second + 1, second + 2 * 10**7)


def test_what_other_rules_hide_is_not_taken_over_from_an_older_base(shelf: Shelf, ws: Path) -> None:
    first = obtain(shelf, ws)
    second = obtain(shelf, ws, hide=["a"])
    assert first.id != second.id and set(read_tree(second.base.lowerdir)) == {"b", "b/three", "run.sh"}
    third = obtain(shelf, ws)
    assert third.id == first.id and third.reused


def test_a_base_from_before_a_reboot_is_not_used(shelf: Shelf, ws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files were never flushed: after a power loss they may be empty."""
    first = obtain(shelf, ws)
    monkeypatch.setattr("overlayws.base.fingerprint.boot", lambda: "another")
    second = obtain(shelf, ws)
    assert not second.reused and os.stat(second.base.lowerdir / "run.sh").st_nlink == 1
    assert first.id != second.id


def test_with_and_without_a_repository_of_its_own_are_two_bases(shelf: Shelf, ws: Path) -> None:
    first, second = obtain(shelf, ws), obtain(shelf, ws, own_git=True)
    assert first.id != second.id
    assert not (first.base.lowerdir / ".git").exists() and (second.base.lowerdir / ".git").exists()


def test_an_error_leaves_no_half_base(shelf: Shelf, ws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("overlayws.base.build.ManifestWriter.finish", full)
        with pytest.raises(Exception, match="No space left"):
            obtain(shelf, ws)
    assert [name for name in os.listdir(shelf.directory) if not name.startswith(".lock-")] == []
    assert read_tree(obtain(shelf, ws).base.lowerdir) == visible(ws)


CRASH = """
import os, sys
from pathlib import Path
from overlayws.base.judge import Judge
from overlayws.base.shelf import Shelf
from overlayws.filter.sources import load_filter
nth, ws, shelf = int(sys.argv[1]), Path(sys.argv[2]), Shelf(Path(sys.argv[3]))
count = 0
def die(event, arguments):
    global count
    if event in ("os.rename", "os.mkdir", "os.link", "os.symlink") or event == "open" and arguments[2] & os.O_CREAT:
        if str(arguments[0]).endswith(".pyc") or "__pycache__" in str(arguments[0]):
            return
        count += 1
        if count == nth:
            os._exit(99)
sys.addaudithook(die)
with shelf.locked(ws):
    shelf.obtain(ws, Judge(load_filter(ws)))
"""


def test_a_crash_anywhere_leaves_whole_bases_only(shelf: Shelf, ws: Path) -> None:
    obtain(shelf, ws)
    (ws / "a/one").write_text("other\n")
    settle()
    for nth in range(1, 100):
        done = subprocess.run([sys.executable, "-c", CRASH, str(nth), ws, shelf.directory])
        for name in os.listdir(shelf.directory):
            if not name.startswith("."):
                with Manifest(shelf.directory / name / "manifest.db") as manifest:
                    assert {r.path for r in manifest.below("")} == set(read_tree(shelf.directory / name / "lower"))
        if done.returncode == 0:
            break
        assert done.returncode == 99
    assert nth > 5, "nothing crashed"
    left = [name for name in os.listdir(shelf.directory) if name.startswith((".making", ".removed"))]
    assert left == [] and read_tree(obtain(shelf, ws).base.lowerdir) == visible(ws)


def test_two_starts_at_once_make_one_base(shelf: Shelf, ws: Path) -> None:
    settle()
    made: list[Shelved] = []
    waited: list[bool] = []

    def start() -> None:
        with shelf.locked(ws, lambda: waited.append(True)):
            time.sleep(0.1)
            made.append(shelf.obtain(ws, Judge(load_filter(ws))))

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.id for one in made}) == 1 and sorted(one.reused for one in made) == [False, True, True]
    assert waited


def test_unused_bases_are_dropped_and_used_ones_are_not(shelf: Shelf, ws: Path) -> None:
    first = obtain(shelf, ws)
    (ws / "a/one").write_text("other\n")
    second = obtain(shelf, ws)
    (ws / "a/one").write_text("third\n")
    third = obtain(shelf, ws)
    with shelf.locked(ws):
        assert shelf.drop(lambda name: name == first.id, ws) == [second.id]
    assert (third.base.lowerdir / "b/three").read_text() == "3\n"
    with shelf.locked(ws):
        assert shelf.drop(lambda name: False) == []  # somebody is choosing one of them just now
    assert set(shelf.drop(lambda name: name == third.id)) == {first.id}
    assert shelf.drop(lambda name: False) == [third.id]


def test_a_damaged_base_is_not_used(shelf: Shelf, ws: Path) -> None:
    first = obtain(shelf, ws)
    first.base.manifest.write_bytes(b"x" * 5000)
    second = obtain(shelf, ws)
    assert not second.reused and read_tree(second.base.lowerdir) == visible(ws)


def test_the_state_is_private(shelf: Shelf, ws: Path) -> None:
    first = obtain(shelf, ws)
    key = shelf.key(ws)
    assert shelf.key(ws) == key and len(key) == 32
    assert os.stat(shelf.directory).st_mode & 0o777 == os.stat(shelf.directory / first.id).st_mode & 0o777 == 0o700
    hidden = [name for name in os.listdir(shelf.directory) if name.startswith(".")]
    assert hidden and all(os.stat(shelf.directory / name).st_mode & 0o077 == 0 for name in hidden)
