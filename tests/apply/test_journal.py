"""The journal is read back with distrust: a flipped bit, a path that leads out, a field that is not what it says."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from overlayws.apply.execute import undo
from overlayws.apply.record import JournalError, load, sealed
from overlayws.apply.recover import recover
from tests.apply.build import Case, make_case, tree
from tests.apply.test_crash import BASE, THEIRS

HOSTILE = ["../x", "/x", "a//b", "a/./b", "a/../b", "", ".", "..", "a/", "nul\0", "n" * 300, 7, None]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path, BASE, THEIRS)


def test_a_flipped_bit_anywhere_is_found(case: Case) -> None:
    journal = case.apply()
    after = tree(case.workspace)
    chance = random.Random(3)
    for name in ("apply.json", "applied.json", "state.json"):
        good = (journal / name).read_bytes()
        for _ in range(40):
            data = bytearray(good)
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            (journal / name).write_bytes(data)
            with pytest.raises(JournalError):
                undo(journal)
        for data in (b"", good[:-1], good + b"x", good[:40]):
            (journal / name).write_bytes(data)
            with pytest.raises(JournalError) as error:
                undo(journal)
            assert error.value.exit_code == 4
        (journal / name).write_bytes(good)
    assert tree(case.workspace) == after
    undo(journal)


@pytest.mark.parametrize("path", HOSTILE)
def test_a_path_that_is_not_plain_is_refused_at_load(case: Case, path: object) -> None:
    journal = case.apply()
    after = tree(case.workspace)
    document = json.loads((journal / "apply.json").read_bytes().split(b"\n")[0])
    document["moves"][0][1] = path
    (journal / "apply.json").write_bytes(sealed(document))
    with pytest.raises(JournalError):
        undo(journal)
    assert tree(case.workspace) == after


@pytest.mark.parametrize("path", [p for p in HOSTILE if p != ""])
def test_nor_in_times_and_stages(case: Case, path: object) -> None:
    journal = case.apply()
    good = (journal / "apply.json").read_bytes()
    document = json.loads(good.split(b"\n")[0])
    document["times"][0][0] = path
    (journal / "apply.json").write_bytes(sealed(document))
    with pytest.raises(JournalError):
        load(journal / "apply.json")
    (journal / "apply.json").write_bytes(good)
    state = json.loads((journal / "state.json").read_bytes().split(b"\n")[0])
    state["stages"].append([path, 0])
    (journal / "state.json").write_bytes(sealed(state))
    with pytest.raises(JournalError):
        recover(case.journals)


def test_a_stage_must_have_the_name_of_one(case: Case) -> None:
    journal = case.apply()
    state = json.loads((journal / "state.json").read_bytes().split(b"\n")[0])
    state["stages"].append(["new", 0])
    (journal / "state.json").write_bytes(sealed(state))
    with pytest.raises(JournalError):
        recover(case.journals)
    assert (case.workspace / "new/file").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["moves"][0].__setitem__(0, "erase"),
        lambda d: d["moves"][0].__setitem__(2, "0"),
        lambda d: d["moves"][0].__setitem__(2, -1),
        lambda d: d["moves"][0].__setitem__(3, -1),
        lambda d: d["moves"][0].__setitem__(4, None),
        lambda d: d["moves"][0][4].__setitem__(0, "mystery"),
        lambda d: d["moves"][0][4].pop(),
        lambda d: d["moves"].append([]),
        lambda d: d.pop("moves"),
        lambda d: d.pop("times"),
    ],
)
def test_fields_are_what_they_should_be(case: Case, change) -> None:  # type: ignore[no-untyped-def]
    journal = case.apply()
    after = tree(case.workspace)
    document = json.loads((journal / "apply.json").read_bytes().split(b"\n")[0])
    change(document)
    (journal / "apply.json").write_bytes(sealed(document))
    with pytest.raises(JournalError):
        undo(journal)
    assert tree(case.workspace) == after


def test_a_stage_that_is_none_is_refused_by_recover(case: Case) -> None:
    journal = case.apply()
    state = json.loads((journal / "state.json").read_bytes().split(b"\n")[0])
    (journal / "state.json").write_bytes(sealed({**state, "state": "applying"}))
    document = json.loads((journal / "apply.json").read_bytes().split(b"\n")[0])
    document["moves"][0][2] = 9
    (journal / "apply.json").write_bytes(sealed(document))
    after = tree(case.workspace)
    with pytest.raises(JournalError):
        recover(case.journals)
    assert tree(case.workspace) == after


def test_a_record_without_a_state_is_damaged_and_an_unborn_journal_is_removed(case: Case) -> None:
    journal = case.apply()
    (journal / "state.json").unlink()
    with pytest.raises(JournalError):
        recover(case.journals)
    for name in os.listdir(journal):
        if name.endswith(".json"):
            (journal / name).unlink()
    assert recover(case.journals) == ()
    assert not journal.exists()


def test_the_journal_is_for_its_owner_alone(case: Case) -> None:
    journal = case.apply()
    for path in (journal, journal / "stage"):
        assert os.stat(path).st_mode & 0o777 == 0o700
    for path in journal.glob("*.json"):
        assert os.stat(path).st_mode & 0o777 == 0o600
