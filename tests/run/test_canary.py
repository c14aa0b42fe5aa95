"""What the next command takes out of a layer where a run was killed at its gate: our own file and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from overlayws.run import leftovers
from overlayws.run.canary import Canary, hatched
from tests.trees import Symlink, make_tree, read_tree

CANARY = Canary(".overlayws-0123456789abcdef", "0123456789abcdef" * 2)


def test_each_run_has_one_of_its_own_and_one_that_cannot_write_has_none() -> None:
    assert len({hatched().name for _ in range(9)} | {hatched().word for _ in range(9)}) == 18
    assert hatched(read_only=True).name == ""


def swept(session: Path, name: str = CANARY.name, word: str = CANARY.word) -> None:
    (session / "outside").write_text(json.dumps({"canary": name, "word": word}))
    assert leftovers.clean(session / "outside")


@pytest.mark.parametrize("top", ["upper", "merged"])
@pytest.mark.parametrize("written", [0, 7, len(CANARY.word)])
def test_the_file_of_a_gate_that_was_killed_is_removed(top: str, written: int, tmp_path: Path) -> None:
    make_tree(tmp_path, {f"{top}/{CANARY.name}": CANARY.word[:written], f"{top}/kept": "x"})
    swept(tmp_path)
    assert list(read_tree(tmp_path / top)) == ["kept"]


@pytest.mark.parametrize("content", [CANARY.word + "\n", "x", CANARY.word[1:], CANARY.word * 1000])
def test_a_file_of_the_programs_by_that_name_stays(content: str, tmp_path: Path) -> None:
    top = make_tree(tmp_path / "upper", {CANARY.name: content})
    before = read_tree(top)
    swept(tmp_path)
    assert read_tree(top) == before


def test_whatever_else_the_program_puts_there_stays(tmp_path: Path) -> None:
    """A symlink to a file like ours is not followed, a FIFO is not waited for, a directory is not entered."""
    place = make_tree(tmp_path / "upper", {"same": CANARY.word}) / CANARY.name
    place.symlink_to("same")
    swept(tmp_path)
    assert place.is_symlink() and (tmp_path / "upper/same").exists()
    place.unlink()
    os.mkfifo(place)
    swept(tmp_path)
    assert place.is_fifo()
    place.unlink()
    make_tree(place, {"below": CANARY.word, "link": Symlink("../same")})
    swept(tmp_path)
    assert (place / "below").exists() and (tmp_path / "upper/same").exists()


@pytest.mark.parametrize("name", ["", "kept", "../kept", f"d/{CANARY.name}", f"{CANARY.name}/../../kept"])
def test_a_record_names_nothing_but_a_file_of_ours(name: str, tmp_path: Path) -> None:
    tree = {"kept": CANARY.word, f"upper/d/{CANARY.name}": CANARY.word, "upper/kept": CANARY.word}
    make_tree(tmp_path, tree)
    swept(tmp_path, name)
    assert all((tmp_path / path).exists() for path in tree)
