"""What a plan says: drift and merges, parents, hidden files, directories that stay."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from overlayws.apply.conflicts import ConflictError
from overlayws.apply.step import Action, Source
from overlayws.changes.change import Change
from overlayws.errors import UsageError
from overlayws.filter.redact import placeholder
from tests.apply.build import Case, added, entry, make_case, reasons, snapshot, tree
from tests.trees import Dir, File, Symlink, make_tree

TEXT = "".join(f"line {n}\n" for n in range(20))
THEIRS_TEXT = TEXT.replace("line 2\n", "line two\n")
OURS_TEXT = TEXT.replace("line 17\n", "line seventeen\n")


# Drift.


def test_nothing_of_an_untouched_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(tmp_path, {"f": "a\n"}, {"f": "b\n"})
    monkeypatch.setattr("overlayws.apply.look.Look.digest", None)
    assert [str(step) for step in case.plan().steps] == ["write f"]


def test_an_edit_elsewhere_in_the_file_is_merged(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": TEXT}, {"f": THEIRS_TEXT})
    (case.workspace / "f").write_text(OURS_TEXT)
    plan = case.plan()
    assert [(step.action, step.source) for step in plan.steps] == [(Action.WRITE, Source.MERGED)]
    case.execute(plan)
    assert (case.workspace / "f").read_text() == OURS_TEXT.replace("line 2\n", "line two\n")


def test_an_edit_with_the_same_size_and_mtime_is_seen(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "aaa\n"}, {"f": "bbb\n"})
    st = os.stat(case.workspace / "f")
    (case.workspace / "f").write_text("ccc\n")
    os.utime(case.workspace / "f", ns=(st.st_atime_ns, st.st_mtime_ns))
    assert reasons(case.plan()) == {"f": "content"}


def test_a_conflict_writes_nothing_and_says_where(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": TEXT, "g": "1\n"}, {"f": THEIRS_TEXT, "g": "2\n"})
    (case.workspace / "f").write_text(TEXT.replace("line 2\n", "line zwei\n"))
    before = snapshot(case.workspace)
    with pytest.raises(ConflictError) as error:
        case.apply()
    assert error.value.exit_code == 1
    assert "'" not in error.value.message.split(":")[0] and "f: " in error.value.message
    assert [c.path for c in error.value.conflicts] == ["f"]
    assert snapshot(case.workspace) == before


def test_markers_are_written_where_they_are_asked_for(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": File(TEXT.encode(), 0o640)}, {"f": File(THEIRS_TEXT.encode(), 0o640)})
    (case.workspace / "f").write_text(TEXT.replace("line 2\n", "line zwei\n"))
    case.apply(on_conflict="markers")
    text = (case.workspace / "f").read_text()
    assert "<<<<<<<" in text and "line zwei\n=======\nline two\n" in text and ">>>>>>>" in text
    assert os.stat(case.workspace / "f").st_mode & 0o777 == 0o640


def test_a_binary_file_is_never_merged(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": TEXT + "\0"}, {"f": THEIRS_TEXT + "\0"})
    (case.workspace / "f").write_text(OURS_TEXT + "\0")
    for how in ("fail", "markers"):
        assert reasons(case.plan(on_conflict=how)) == {"f": "content"}


def test_a_touched_file_is_no_drift(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "a\n", "g": "g"}, {"f": "b\n"})
    for name in "fg":
        os.utime(case.workspace / name)
    case.apply()
    assert tree(case.workspace) == tree(case.theirs)


def test_a_redacted_file_is_merged_and_never_replaced(tmp_path: Path) -> None:
    mark = placeholder(b"s3cret", b"key").decode()
    secret = TEXT.replace("line 9\n", "token = s3cret\n")
    shown = secret.replace("s3cret", mark)
    case = make_case(tmp_path, {"f": secret}, {"f": shown.replace("line 2\n", "line two\n")})
    (case.base / "f").write_text(shown)
    case = _again(case)
    journal = case.apply()
    assert (case.workspace / "f").read_text() == secret.replace("line 2\n", "line two\n")
    again = case.plan()
    assert not again.steps and not again.conflicts
    case.undo(journal)
    # Where it cannot be merged, also --on-conflict theirs does not write the placeholder over the secret.
    for edit in (shown.replace("token = ", "url = https://evil.example/"), shown.replace(mark, "gone " + mark)):
        (case.theirs / "f").write_text(edit)
        case = _again(case)
        for how in ("fail", "theirs", "markers"):
            assert reasons(case.plan(on_conflict=how)) == {"f": "redacted"}


@pytest.mark.parametrize("edited", [False, True])
def test_a_redacted_file_is_never_opened_to_others(edited: bool, tmp_path: Path) -> None:
    """As a program does that knows nothing: it writes another file and renames that."""
    mark = placeholder(b"s3cret", b"key").decode()
    new = TEXT.replace("line 2\n", "line two\n") if edited else TEXT
    case = make_case(
        tmp_path,
        {"f": File(f"{TEXT}token = s3cret\n".encode(), 0o600)},
        {"f": File(f"{new}token = {mark}\n".encode(), 0o755)},
    )
    (case.base / "f").write_text(f"{TEXT}token = {mark}\n")
    case = _again(case)
    assert any("f: stays closed to others (0600)" in note for note in case.plan().notes)
    case.apply()
    assert (case.workspace / "f").read_text() == f"{new}token = s3cret\n"
    assert os.stat(case.workspace / "f").st_mode & 0o777 == 0o711
    again = case.plan()
    assert not again.steps and not again.conflicts
    os.chmod(case.workspace / "f", 0o755)  # by the user, who may
    assert not case.plan().conflicts and not case.plan().steps


def test_a_redacted_file_can_be_deleted_unless_it_was_edited(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "token = s3cret\n"}, {})
    (case.base / "f").write_text("token = redacted\n")
    case = _again(case)
    case.undo(case.apply())
    (case.workspace / "f").write_text("token = another\n")
    assert reasons(case.plan()) == {"f": "edited"}


def test_a_redacted_file_that_nobody_edited_is_not_said_to_be_edited(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "token = s3cret\n"}, {"f": Symlink("elsewhere")})
    (case.base / "f").write_text("token = redacted\n")
    case = _again(case)
    for how in ("fail", "theirs", "markers"):
        (conflict,) = case.plan(on_conflict=how).conflicts
        assert (conflict.reason, conflict.choices) == ("redacted", ())
        assert "edited" not in conflict.detail and "secrets in it were hidden" in conflict.detail


@pytest.mark.parametrize("what", ["hidden", "redacted", "nothing"])
def test_a_directory_that_guards_a_secret_is_not_opened_without_a_word(tmp_path: Path, what: str) -> None:
    base = {"d": Dir(0o700), "d/e": Dir(), "d/e/f": "token = s3cret\n"}
    case = make_case(tmp_path, base, {**base, "d": Dir(0o755)}, {"d/e/.env": "KEY=1\n"} if what == "hidden" else None)
    if what == "redacted":
        (case.base / "d/e/f").write_text("token = redacted\n")
        (case.theirs / "d/e/f").write_text("token = redacted\n")
        case = _again(case, "d/e/f")
    notes = case.plan().notes
    said = "d: opened to others (0700 -> 0755), and what is hidden from the program is in it"
    assert notes == ((said,) if what != "nothing" else ())
    case.apply()
    assert case.plan().notes == ()  # it is open now


def test_a_placeholder_that_is_written_literally_is_told_with_its_line(tmp_path: Path) -> None:
    mark, other = (placeholder(secret, b"key").decode() for secret in (b"s3cret", b"t4cret"))
    shown = f"token = {mark}\n"
    case = make_case(
        tmp_path,
        {"f": "token = s3cret\n", "has": f"x\n{other}\n"},
        {
            "f": f"{shown}more\n", "copy": f"one\n{shown}two\n{other} {mark}\n", "wide": f"\n{mark}\n".encode("utf-16"),
            "has": f"x\n{other}\nedited\n", "odd\nname": shown, "many": shown * 9,
        },
    )  # fmt: skip
    (case.base / "f").write_text(shown)
    case = _again(case)
    assert not case.plan().notes  # without the flag a content is not read for it
    case = replace(case, changes=tuple(replace(c, flags=("secret",)) for c in case.changes))
    assert set(case.plan().notes) == {
        "copy: placeholders are written literally, in lines 2, 4: the secret is not put there",
        "many: placeholders are written literally, in lines 1, 2, 3, 4, 5 and 4 more: the secret is not put there",
        "odd\nname: a placeholder is written literally, in line 1: the secret is not put there",
        "wide: a placeholder is written literally, in line 2: the secret is not put there",
    }
    flood = tuple(replace(added(case, f"n{n}", shown.encode()), flags=("secret",)) for n in range(50))
    notes = case.plan(flood).notes
    assert len(notes) == 21 and notes[-1] == "placeholders are written literally to more paths"


def _again(case: Case, redacted: str = "f") -> Case:
    """The case with its manifest and changes made anew from what the base has now."""
    from overlayws.base.manifest import Recorded
    from overlayws.base.manifest_write import write_manifest
    from overlayws.source.entry import Stamp
    from tests.apply.build import differences, paths

    case.manifest.unlink()
    recorded = [
        Recorded(path, entry(case.base / path), Stamp.of(os.lstat(case.workspace / path)), redacted=path == redacted)
        for path in paths(case.base)
    ]
    write_manifest(case.manifest, recorded, [], [])
    return replace(case, changes=differences(case.base, case.theirs))


# Parents.


@pytest.mark.parametrize("change", ["added", "modified", "deleted"])
def test_a_parent_that_is_a_symlink_now_is_a_conflict(tmp_path: Path, change: str) -> None:
    base, theirs = {"d/f": "a\n", "k": "k"}, {"d/f": "a\n", "k": "k"}
    victim = make_tree(tmp_path / "victim", {"f": "a\n"})
    if change == "added":
        theirs = {**base, "d/new": "n"}
    elif change == "modified":
        theirs = {**base, "d/f": "b\n"}
    else:
        theirs = {"d": Dir(), "k": "k"}  # type: ignore[dict-item]
    case = make_case(tmp_path / "case", base, theirs)
    shutil.rmtree(case.workspace / "d")
    (case.workspace / "d").symlink_to(victim)
    for how in ("fail", "theirs", "markers"):
        assert set(reasons(case.plan(on_conflict=how)).values()) == {"parent-symlink"}
    assert not case.plan(on_conflict="ours").steps
    assert tree(victim) == tree(make_tree(tmp_path / "same", {"f": "a\n"}))


def test_a_directory_that_vanished_is_a_conflict_for_what_is_added_in_it(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"d/f": "a\n"}, {"d/f": "a\n", "d/new": "n"})
    shutil.rmtree(case.workspace / "d")
    assert reasons(case.plan()) == {"d/new": "parent-vanished"}


def test_a_file_can_be_chosen_without_its_new_directory(tmp_path: Path) -> None:
    case = make_case(tmp_path, {}, {"new": Dir(0o700), "new/deep/f": "x"})
    chosen = [c for c in case.changes if c.path == "new/deep/f"]
    journal = case.apply(chosen)
    assert os.stat(case.workspace / "new").st_mode & 0o7777 == 0o755
    assert (case.workspace / "new/deep/f").read_text() == "x"
    case.undo(journal)
    assert tree(case.workspace) == {}


def test_a_file_below_an_unchosen_type_change_is_a_conflict(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"d": Symlink("k"), "k": "k"}, {"d/f": "x", "k": "k"})
    chosen = [c for c in case.changes if c.path == "d/f"]
    assert reasons(case.plan(chosen)) == {"d/f": "parent-symlink"}


# Hidden files.


def test_a_hidden_original_is_never_touched_whatever_is_asked(tmp_path: Path) -> None:
    base = {"app": "a", "conf/shown": "s"}
    theirs = {"app": "a", ".env": "STOLEN=1\n", "conf": "a file now", "keys/x": "k"}
    hidden = {".env": "SECRET=1\n", "conf/prod.key": "key", "keys/id": "id"}
    case = make_case(tmp_path, base, theirs, hidden)
    changes = [*case.changes, Change("keys/id", None, entry(case.theirs / "app"))]
    before = snapshot(case.workspace)
    for how in ("fail", "ours", "theirs", "markers"):
        plan = case.plan(changes, on_conflict=how, allow=frozenset({"symlink-outside"}))
        found = reasons(plan)
        assert {p: r for p, r in found.items() if r == "hidden-original"} == dict.fromkeys(
            (".env", "conf", "keys/id"), "hidden-original"
        )
        with pytest.raises(ConflictError):
            case.execute(plan)
    assert snapshot(case.workspace) == before


def test_a_hidden_original_is_refused_even_where_it_is_gone_by_now(tmp_path: Path) -> None:
    case = make_case(tmp_path, {}, {".env": "x"}, {".env": "y"})
    (case.workspace / ".env").unlink()
    assert reasons(case.plan()) == {".env": "hidden-original"}


def test_a_deleted_directory_stays_with_what_is_hidden_in_it(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"d/sub/f": "1", "d/g": "2", "k": "k"}, {"k": "k"}, {"d/sub/prod.key": "key"})
    before = snapshot(case.workspace)
    plan = case.plan()
    assert not plan.conflicts and len(plan.notes) == 2
    journal = case.execute(plan)
    assert sorted(tree(case.workspace)) == ["d", "d/sub", "d/sub/prod.key", "k"]
    case.undo(journal)
    assert snapshot(case.workspace) == before


def test_an_unknown_value_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        make_case(tmp_path, {}, {}).plan(on_conflict="maybe")


def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": TEXT, "d/x": "1"}, {"f": THEIRS_TEXT, "n/m": "x"})
    (case.workspace / "f").write_text(OURS_TEXT)
    before = snapshot(case.workspace)
    case.plan()
    assert snapshot(case.workspace) == before
    assert not case.journals.exists()
