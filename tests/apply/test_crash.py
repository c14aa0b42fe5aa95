"""kill -9 before every call that changes something, and an error of every such call: before or after, never
between, and nothing left behind. With the journal on the workspace's mount, and on another."""

from __future__ import annotations

import errno
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from overlayws import beneath
from tests.apply.build import Case, make_case, snapshot, tree
from tests.apply.crash import in_child
from tests.trees import Dir, File, Symlink

BASE = {
    "mod": "a\n",
    "xattr": File(b"x", 0o640, (("user.k", b"1"),)),
    "exe": "run\n",
    "gone/one": "1",
    "link": Symlink("mod"),
    "f2d": "file",
    "d2f/x": "x",
    "lock": Dir(0o755),
}
THEIRS = {
    "mod": "b\n",
    "xattr": File(b"y", 0o640, (("user.k", b"2"),)),
    "exe": File(b"run\n", 0o755),
    "link": Symlink("xattr"),
    "f2d/in": "i",
    "d2f": "file now",
    "lock": Dir(0o500),
    "new/file": "n",
}


@pytest.fixture(params=["same-mount", "cross-mount"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """A case whose journal is on the workspace's mount (in memory where that will do: thousands of syncs), or not."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        if request.param == "same-mount":
            yield make_case(Path(memory) if _has_xattrs(memory) else tmp_path, BASE, THEIRS)
        elif os.stat(memory).st_dev == os.stat(tmp_path).st_dev:
            pytest.skip("/dev/shm is on the mount of the temporary files")
        else:
            yield make_case(tmp_path, BASE, THEIRS, state=Path(memory))


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed process leaves what it wrote to the kernel, so that syncs are only counted here, not done: they are
    for a power failure, and thousands of them would wait for everybody else's data."""
    monkeypatch.setattr(beneath, "syncfs", lambda fd: None)
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def _has_xattrs(directory: str) -> bool:
    try:
        os.setxattr(directory, "user.test", b"")
    except OSError:
        return False
    os.removexattr(directory, "user.test")
    return True


def settle(case: Case, before: dict[str, tuple[object, ...]], after: dict[str, tuple[object, ...]]) -> str:
    """Recover, check that the workspace is all before or all after, and bring it back to before."""
    case.recover()
    if snapshot(case.workspace) == before:
        outcome = "before"
    else:
        assert tree(case.workspace) == after
        outcome = "after"
        for journal in case.journals.iterdir():
            case.undo(journal)
        assert snapshot(case.workspace) == before
    assert not case.journals.exists() or not list(case.journals.iterdir())
    assert case.recover() == ()
    return outcome


def test_kill_before_every_call_of_an_apply(case: Case) -> None:
    before, after = snapshot(case.workspace), tree(case.theirs)
    outcomes = []
    for nth in itertools.count(1):
        how = in_child(lambda: case.apply(), nth)
        outcomes.append(settle(case, before, after))
        if how == "unreached":
            break
        assert how == "killed"
    assert len(outcomes) > 60
    assert outcomes == sorted(outcomes, key=("before", "after").index), "once committed, always after"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_every_call_of_an_apply_fails_once(case: Case, number: int) -> None:
    before, after = snapshot(case.workspace), tree(case.theirs)
    for nth in itertools.count(1):
        how = in_child(lambda: case.apply(), nth, number)
        names = [name for name in os.listdir(case.workspace) if name.startswith(".overlayws")]
        if how == "failed":
            # The error came from the apply itself: it has rolled back before it said so.
            assert tree(case.workspace) == tree(case.base) and not names, f"call {nth}"
        outcome = settle(case, before, after)
        assert (outcome == "before") == (how == "failed"), f"call {nth}: {how}, {outcome}"
        if how == "unreached":
            break


def test_kill_before_every_call_of_an_undo(case: Case) -> None:
    before, after = snapshot(case.workspace), tree(case.theirs)
    for nth in itertools.count(1):
        journal = case.apply()
        how = in_child(lambda j=journal: case.undo(j), nth)  # type: ignore[misc]
        settle(case, before, after)
        if how == "unreached":
            break
        assert how == "killed"
    assert nth > 40


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_every_call_of_an_undo_fails_once(case: Case, number: int) -> None:
    before, after = snapshot(case.workspace), tree(case.theirs)
    for nth in itertools.count(1):
        journal = case.apply()
        how = in_child(lambda j=journal: case.undo(j), nth, number)  # type: ignore[misc]
        if how == "failed":
            assert tree(case.workspace) == after, f"call {nth}"
        outcome = settle(case, before, after)
        assert (outcome == "after") == (how == "failed"), f"call {nth}: {how}, {outcome}"
        if how == "unreached":
            break


def _calls_of_apply(case: Case) -> int:
    """How many calls change something in an apply, found by halving."""
    low, high = 1, 1024
    before, after = snapshot(case.workspace), tree(case.theirs)
    while low < high:
        nth = (low + high) // 2
        how = in_child(lambda: case.apply(), nth)
        settle(case, before, after)
        low, high = (nth + 1, high) if how == "killed" else (low, nth)
    return low - 1


def test_kill_before_every_call_of_a_recover(case: Case) -> None:
    before, after = snapshot(case.workspace), tree(case.theirs)
    calls = _calls_of_apply(case)
    # Every place in the apply, with one place in the recover each; then, after the applies that left the most to
    # do, every place in the recover.
    for nth in range(1, calls + 1):
        assert in_child(lambda: case.apply(), nth) == "killed"
        in_child(lambda: case.recover(), 1 + nth % 23)
        settle(case, before, after)
    for back in (2, 6, 9, 14):
        for nth in itertools.count(1):
            assert in_child(lambda: case.apply(), calls - back) == "killed"
            how = in_child(lambda: case.recover(), nth)
            settle(case, before, after)
            if how == "unreached":
                break


def test_kill_before_every_call_of_the_recover_of_an_undo(case: Case) -> None:
    before, after = snapshot(case.workspace), tree(case.theirs)
    for nth in itertools.count(1):
        journal = case.apply()
        how = in_child(lambda j=journal: case.undo(j), nth)  # type: ignore[misc]
        for again in (2, 5, 11, 1 + nth % 17):
            in_child(lambda: case.recover(), again)
        settle(case, before, after)
        if how == "unreached":
            break


@pytest.mark.parametrize("number", [None, errno.ENOSPC])
def test_several_names_of_one_file_are_all_before_or_all_after(number: int | None, tmp_path: Path) -> None:
    names = ("a", "b", "d/c", "gone", "d/gone")
    case = make_case(tmp_path, dict.fromkeys(names, "one\n"), {"a": "1\n", "b": "2\n", "d/c": "3\n"})
    for name in names[1:]:
        (case.workspace / name).unlink()
        os.link(case.workspace / "a", case.workspace / name)
    before, after = snapshot(case.workspace), tree(case.theirs)
    for nth in itertools.count(1):
        how = in_child(lambda: case.apply(), nth, *([number] if number else []))
        settle(case, before, after)
        if how == "unreached":
            break
    assert nth > 30
