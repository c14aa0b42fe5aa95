"""Crashes of the copy backend: the process ends before its nth call, for every n."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from overlayws.layer import plaincopy
from overlayws.source.remove import remove_tree
from tests.layer.conftest import Case, make_layer
from tests.layer.dying import dying, in_child
from tests.layer.uppers import plain_tree, upper_tree


def captured(case: Case) -> dict[str, object]:
    return upper_tree(case.layer.upperdir, case.prefix)


def test_what_a_crash_left_uncaptured_is_captured_by_the_next_entry(copied: Case) -> None:
    pid = os.fork()
    if pid == 0:
        context = copied.backend.mounted(copied.layer)
        context.__enter__()
        (copied.layer.merged / "f").write_text("written before the crash")
        os._exit(0)
    os.waitpid(pid, 0)
    assert captured(copied) == {}
    with copied.mounted():
        pass
    assert captured(copied)["f"][3] == b"written before the crash"  # type: ignore[index]


def test_what_a_crash_left_uncaptured_outlives_a_discard_of_other_changes(copied: Case) -> None:
    copied.run("open('new', 'w').write('n')")
    pid = os.fork()
    if pid == 0:
        context = copied.backend.mounted(copied.layer)
        context.__enter__()
        (copied.layer.merged / "f").write_text("written before the crash")
        os._exit(0)
    os.waitpid(pid, 0)
    (copied.layer.upperdir / "new").unlink()
    with copied.mounted():
        pass
    assert captured(copied)["f"][3] == b"written before the crash"  # type: ignore[index]


CALLS = ("open", "mkdir", "mknod", "symlink", "unlink", "rmdir", "rename", "fsync", "fchmod", "utime", "setxattr")


def _die_before_call(nth: int) -> None:
    """Kill this process before its nth change, in whichever module."""
    counted = dying(nth)
    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    plaincopy._libc = type("", (), {"renameat2": counted(plaincopy._libc.renameat2), "syncfs": plaincopy._libc.syncfs})


PROGRAM = "open('f', 'w').write('2'); os.path.exists('d/x') and os.unlink('d/x'); os.path.exists('n') or os.mkdir('n')"


def test_a_crash_at_any_call_leaves_the_old_upperdir_or_the_new_one(copied: Case, tmp_path: Path) -> None:
    copied.run("open('f', 'w').write('1')")
    old = captured(copied)
    copied.run(PROGRAM)
    new = captured(copied)
    seen = set()
    for nth in range(10_000):
        case = Case("copy", make_layer(tmp_path / str(nth)))
        case.run("open('f', 'w').write('1')")

        def again(case: Case = case, nth: int = nth) -> None:
            with case.mounted() as mount:
                os.chdir(mount.merged)
                exec(PROGRAM)
                _die_before_call(nth)

        survived = in_child(again)
        after = captured(case)
        assert after in (old, new), f"crash before call {nth}"
        seen.add(after == new)
        with case.mounted() as mount:
            assert (mount.merged / "f").read_text() == "2"
        assert captured(case) == new, f"not completed after a crash before call {nth}"
        assert not any(name.startswith(".") for name in os.listdir(case.layer.upperdir.parent))
        remove_tree(tmp_path / str(nth))
        if survived:
            break
    assert seen == {True, False}
    assert nth > 20


def test_a_crash_while_the_copy_is_made_leaves_no_copy(copied: Case, tmp_path: Path) -> None:
    for nth in range(10_000):
        case = Case("copy", make_layer(tmp_path / str(nth)))

        def first(case: Case = case, nth: int = nth) -> None:
            _die_before_call(nth)
            with case.mounted():
                os._exit(0)

        survived = in_child(first)
        with case.mounted() as mount:
            assert plain_tree(mount.merged) == plain_tree(case.layer.lowerdir), f"crash before call {nth}"
        assert captured(case) == {}, f"crash before call {nth}"
        remove_tree(tmp_path / str(nth))
        if survived:
            break


@pytest.mark.parametrize("why", ["a discard", "a lost copy"])
def test_a_crash_while_the_copy_is_made_anew_leaves_no_copy(tmp_path: Path, why: str) -> None:
    for nth in range(10_000):
        case = Case("copy", make_layer(tmp_path / str(nth)))
        case.run("open('f', 'w').write('1'); open('new', 'w').write('n')")
        if why == "a lost copy":
            remove_tree(case.layer.merged)  # the new one may well get the same inode
        else:
            (case.layer.upperdir / "new").unlink()

        def again(case: Case = case, nth: int = nth) -> None:
            _die_before_call(nth)
            with case.mounted():
                os._exit(0)

        survived = in_child(again)
        kept = {"f", "new"} if why == "a lost copy" else {"f"}
        assert case.run("print(sorted(os.listdir('d')), open('f').read())") == "['x', 'y'] 1"
        assert set(captured(case)) == kept, f"crash before call {nth}"
        remove_tree(tmp_path / str(nth))
        if survived:
            break
