"""A racer that swaps directories and symlinks while changes are applied."""

from __future__ import annotations

import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from overlayws import beneath
from overlayws.apply.journal import all_journals
from overlayws.errors import OverlaywsError
from tests.apply.build import make_case, snapshot
from tests.trees import Symlink, make_tree


@pytest.mark.parametrize("openat2", [True, False])
def test_a_racer_swapping_directories_for_symlinks_never_reaches_the_victim(
    openat2: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 applies while another thread swaps the directory for a symlink to a victim with the same names; also
    component by component, as under gVisor, which has no openat2(2)."""
    monkeypatch.setattr(beneath, "_have_openat2", openat2)
    base = {f"d/s/{n}": f"{n}\n" for n in range(3)}
    theirs = {"d/s/0": "changed\n", "d/s/1": "1\n", "d/s/new": "n\n", "d/s/sub/x": "x\n"}
    home = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        case = make_case(home, base, theirs)
        victim = make_tree(home / "victim", {**{f"s/{n}": f"{n}\n" for n in range(3)}})
        untouched = snapshot(victim)
        stop = threading.Event()

        def race() -> None:
            real, link = case.workspace / "d", case.workspace / "swapped"
            link.symlink_to(victim)
            with beneath.Directories(case.workspace) as directories:
                while not stop.is_set():
                    beneath.exchange(directories.root, "d", directories.root, "swapped")
                if real.is_symlink():
                    beneath.exchange(directories.root, "d", directories.root, "swapped")
            link.unlink()

        racer = threading.Thread(target=race)
        racer.start()
        applied = refused = 0
        try:
            for _ in range(1000):
                try:
                    journal = case.apply()
                    applied += 1
                    case.undo(journal)
                except OverlaywsError:
                    refused += 1
                    with suppress(OverlaywsError):
                        case.recover()
                        for journal in all_journals(case.journals):
                            case.undo(journal.directory)
        finally:
            stop.set()
            racer.join()
        assert snapshot(victim) == untouched
        assert applied and refused, "the racer never won, or never lost"
    finally:
        shutil.rmtree(home)


def test_a_symlink_in_the_place_of_a_file_is_swapped_not_followed(tmp_path: Path) -> None:
    victim = make_tree(tmp_path / "victim", {"v": "a\n"})
    case = make_case(tmp_path / "case", {"f": "a\n"}, {"f": "b\n"})
    (case.workspace / "f").unlink()
    (case.workspace / "f").symlink_to(victim / "v")
    assert [c.reason for c in case.plan().conflicts] == ["kind"]
    case.apply(on_conflict="theirs")
    assert (victim / "v").read_text() == "a\n"
    assert not (case.workspace / "f").is_symlink()


def test_a_changed_symlink_is_a_conflict(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"l": Symlink("a")}, {"l": Symlink("b")})
    (case.workspace / "l").unlink()
    (case.workspace / "l").symlink_to("c")
    assert [c.reason for c in case.plan().conflicts] == ["content"]
