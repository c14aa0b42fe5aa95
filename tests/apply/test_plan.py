"""What a plan says: drift and merges, modes, refused classes, selections, directories that stay."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from overlayws.apply.conflicts import ConflictError
from overlayws.apply.refuse import fold, is_git, leads_outside
from overlayws.apply.step import Action, ApplyPlan, Source
from overlayws.changes.change import Change
from overlayws.changes.contents import ChangedSince
from overlayws.errors import UntrustedError, UsageError
from overlayws.filter.redact import placeholder
from overlayws.source.entry import Entry, Kind
from tests.apply.build import Case, entry, make_case, snapshot, tree
from tests.trees import Dir, File, Symlink, make_tree

TEXT = "".join(f"line {n}\n" for n in range(20))
THEIRS_TEXT = TEXT.replace("line 2\n", "line two\n")
OURS_TEXT = TEXT.replace("line 17\n", "line seventeen\n")


def reasons(plan: ApplyPlan) -> dict[str, str]:
    return {c.path: c.reason for c in (*plan.conflicts, *plan.refused)}


def added(case: Case, path: str, content: bytes = b"new\n", **values: object) -> Change:
    """An added file that the program's result really has."""
    make_tree(case.theirs, {path: content})
    return Change(path, None, replace(entry(case.theirs / path), **values))  # type: ignore[arg-type]


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


def test_a_redacted_file_can_be_deleted_unless_it_was_edited(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "token = s3cret\n"}, {})
    (case.base / "f").write_text("token = redacted\n")
    case = _again(case)
    case.undo(case.apply())
    (case.workspace / "f").write_text("token = another\n")
    assert reasons(case.plan()) == {"f": "edited"}


def _again(case: Case) -> Case:
    """The case with its manifest and changes made anew from what the base has now."""
    from overlayws.base.manifest import Recorded, write_manifest
    from overlayws.source.entry import Stamp
    from tests.apply.build import differences, paths

    case.manifest.unlink()
    recorded = [
        Recorded(path, entry(case.base / path), Stamp.of(os.lstat(case.workspace / path)), redacted=path == "f")
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


# Refused classes.


@pytest.mark.parametrize(
    "path",
    [
        ".git",
        ".git/hooks/pre-commit",
        "sub/.git/config",
        ".GIT/config",
        ".Git",
        ".git ",
        ".git.",
        ".git . .",
        "git~1",
        "GIT~1/config",
        ".g\u200cit",
        ".git\ufeff/x",
        "\u202e.git",
        ".git::$INDEX_ALLOCATION/x",
        "a\\.git\\config",
    ],
)
def test_git_in_every_spelling_is_refused(tmp_path: Path, path: str) -> None:
    assert is_git(path)
    case = make_case(tmp_path, {}, {})
    assert reasons(case.plan([added(case, path)], on_conflict="theirs")) == {path: "git"}


@pytest.mark.parametrize("path", [".github/workflows/x", ".gitignore", "git", "x.git", "git~2", ".git2", "digit"])
def test_other_names_with_git_in_them_are_not(path: str) -> None:
    assert not is_git(path)


@pytest.mark.parametrize("kind", [k for k in Kind if k.special])
def test_special_files_are_refused(tmp_path: Path, kind: Kind) -> None:
    case = make_case(tmp_path, {"f": "x"}, {"f": "x"})
    for before in (None, entry(case.workspace / "f")):
        assert reasons(case.plan([Change("f", before, Entry(kind, 0o644))])) == {"f": "special"}


@pytest.mark.parametrize(
    ("path", "target", "outside"),
    [
        ("l", "f", False),
        ("l", "./d/f", False),
        ("a/b/l", "../../f", False),
        ("l", "/etc/passwd", True),
        ("l", "..", True),
        ("a/l", "../../x", True),
        ("a/l", "x/../../../y", True),
        ("l", "a/../..", True),  # a -> b/c makes that the root's parent
        ("l", "", True),
    ],
)
def test_where_a_symlink_leads(path: str, target: str, outside: bool) -> None:
    assert leads_outside(path, target) == outside


def test_an_escaping_symlink_is_refused_and_can_be_admitted(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "x"}, {"f": "x", "l": Symlink("/etc/hostname")})
    assert reasons(case.plan(on_conflict="theirs")) == {"l": "symlink-outside"}
    case.apply(allow=frozenset({"symlink-outside"}))
    assert os.readlink(case.workspace / "l") == "/etc/hostname"


@pytest.mark.parametrize("name", ["git", "hidden-original", "special", "twins", "nonsense"])
def test_no_other_class_can_be_admitted(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        make_case(tmp_path, {}, {}).plan(allow=frozenset({name}))


def test_skip_refused_applies_the_rest_and_nothing_below_what_is_refused(tmp_path: Path) -> None:
    theirs = {"ok": "1", "d": Symlink("/etc")}
    case = make_case(tmp_path, {"d/x": "x"}, theirs)
    plan = case.plan()
    assert reasons(plan) == {"d": "symlink-outside"}
    with pytest.raises(ConflictError, match="symlink-outside") as error:
        case.execute(plan)
    assert "--skip-refused" in error.value.hint
    case.execute(plan, skip_refused=True)
    assert sorted(tree(case.workspace)) == ["d", "ok"]


def test_what_is_below_a_refused_directory_is_refused_with_it(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"d": "hides"}, {})
    file = added(case, "e/x")
    special = Change("e", None, Entry(Kind.FIFO, 0o644))
    assert reasons(case.plan([special, file])) == {"e": "special", "e/x": "special"}


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a//b", "a/./b", "a/../b", "", ".", "..", "a/", "nul\0", "n" * 300, "d/" + "n" * 256]
)
def test_a_path_that_is_not_plain_is_not_to_be_trusted(tmp_path: Path, path: str) -> None:
    case = make_case(tmp_path, {}, {})
    with pytest.raises(UntrustedError):
        case.plan([Change(path, None, Entry(Kind.FILE, 0o644, 0, "0" * 64))])


def test_a_path_twice_is_not_to_be_trusted(tmp_path: Path) -> None:
    case = make_case(tmp_path, {}, {})
    change = Change("f", None, Entry(Kind.DIRECTORY, 0o755))
    with pytest.raises(UntrustedError):
        case.plan([change, replace(change)])


def test_contents_that_changed_since_the_scan_are_not_applied(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "a\n", "g": "1"}, {"f": "b\n", "g": "2"})
    before = snapshot(case.workspace)
    plan = case.plan()
    (case.theirs / "g").write_text("3")
    with pytest.raises(ChangedSince):
        case.execute(plan)
    assert snapshot(case.workspace) == before
    assert not list(case.journals.iterdir())


# Twins.


def test_twins_are_refused_where_names_fold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(tmp_path, {}, {"Makefile": "1", "makefile": "2", "caf\u00e9": "3", "cafe\u0301": "4", "x": "x"})
    assert not reasons(case.plan())
    monkeypatch.setattr("overlayws.apply.look.Look.folds", lambda self, path: True)
    assert reasons(case.plan()) == dict.fromkeys(["Makefile", "makefile", "caf\u00e9", "cafe\u0301"], "twins")


def test_a_name_that_is_found_but_not_listed_is_a_twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(tmp_path, {}, {"Makefile": "1"})
    make_tree(case.workspace, {"Makefile": "1"})
    monkeypatch.setattr("overlayws.apply.look.Look.has_name", lambda self, path: False)
    assert reasons(case.plan(on_conflict="theirs")) == {"Makefile": "twins"}


def test_a_directory_that_is_found_but_not_listed_is_a_twin_for_what_is_added_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(tmp_path, {"Src/a": "1"}, {"Src/a": "1", "Src/deep/b": "2"})
    real = os.listdir
    monkeypatch.setattr("overlayws.apply.look.Look.folds", lambda self, path: True)
    assert not reasons(case.plan())
    monkeypatch.setattr(os, "listdir", lambda fd: [name.replace("Src", "src") for name in real(fd)])
    only = [c for c in case.changes if c.path == "Src/deep/b"]
    assert reasons(case.plan(only, on_conflict="theirs")) == {"Src/deep/b": "twins"}


def test_what_folds_to_the_same() -> None:
    assert fold("Stra\u00dfe") == fold("STRASSE")
    assert fold("caf\u00e9") == fold("CAFE\u0301")
    assert fold("a") != fold("b")


@pytest.mark.root
def test_twins_are_refused_on_a_folding_file_system(tmp_path: Path) -> None:
    """On a real tmpfs with casefold (Linux 6.13+), in a child with a mount namespace of its own."""
    if _in_namespace(tmp_path, lambda mount: None) != 0:
        pytest.skip("this kernel has no folding tmpfs")

    def work(mount: Path) -> None:
        case = make_case(mount, {}, {})
        outside = make_tree(tmp_path / "theirs", {"Makefile": "1", "makefile": "2", "sub/Readme": "3"})
        case = replace(case, theirs=outside)
        from tests.apply.build import differences

        changes = differences(case.base, outside)
        assert reasons(case.plan(changes)) == {"Makefile": "twins", "makefile": "twins"}
        (case.workspace / "MAKEFILE").write_text("mine")
        only = [c for c in changes if c.path == "Makefile"]
        assert reasons(case.plan(only)) == {"Makefile": "twins"}

    assert _in_namespace(tmp_path, work) == 0


def _in_namespace(tmp_path: Path, work) -> int:  # type: ignore[no-untyped-def]
    mount = tmp_path / "folding"
    mount.mkdir(exist_ok=True)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert ctypes.CDLL(None, use_errno=True).unshare(0x00020000) == 0  # CLONE_NEWNS
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", "casefold", "x", mount], capture_output=True)
            code = 77
            if done.returncode == 0 and subprocess.run(["chattr", "+F", mount], capture_output=True).returncode == 0:
                code = 1
                work(mount)
                code = 0
        finally:
            if code == 1:
                import traceback

                traceback.print_exc()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# Modes.


@pytest.mark.parametrize(
    ("base", "theirs", "umask", "expected"),
    [
        (None, 0o666, 0o022, 0o644),
        (None, 0o777, 0o022, 0o755),
        (None, 0o777, 0o077, 0o700),
        (None, 0o4755, 0o022, 0o755),
        (None, 0o6777, 0o022, 0o755),
        (0o666, 0o666, 0o022, 0o666),
        (0o664, 0o775, 0o022, 0o775),
        (0o644, 0o777, 0o022, 0o755),
        (0o600, 0o600, 0o022, 0o600),
        (0o644, 0o4755, 0o022, 0o755),
        (0o4755, 0o4755, 0o022, 0o755),
    ],
)
def test_the_mode_of_a_written_file(tmp_path: Path, base: int | None, theirs: int, umask: int, expected: int) -> None:
    given = {} if base is None else {"f": File(b"a", base)}
    case = make_case(tmp_path, given, {"f": File(b"b", theirs)})
    case.apply(umask=umask)
    assert os.stat(case.workspace / "f").st_mode & 0o7777 == expected


def test_a_mode_that_the_user_changed_stays_where_the_program_did_not(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "a\n", "g": "a\n"}, {"f": "b\n", "g": File(b"b\n", 0o755)})
    os.chmod(case.workspace / "f", 0o600)
    case.apply([c for c in case.changes if c.path == "f"])
    assert os.stat(case.workspace / "f").st_mode & 0o777 == 0o600
    os.chmod(case.workspace / "g", 0o600)
    assert reasons(case.plan()) == {"g": "mode"}


def test_set_id_bits_are_named(tmp_path: Path) -> None:
    case = make_case(tmp_path, {}, {"f": File(b"b", 0o4755)})
    assert any("set-id" in note for note in case.plan().notes)


def test_a_mode_alone_is_set_in_place(tmp_path: Path) -> None:
    case = make_case(tmp_path, {"f": "a\n"}, {"f": File(b"a\n", 0o755)})
    before = snapshot(case.workspace)
    inode = os.stat(case.workspace / "f").st_ino
    journal = case.apply()
    assert os.stat(case.workspace / "f").st_mode & 0o777 == 0o755
    assert os.stat(case.workspace / "f").st_ino == inode
    case.undo(journal)
    assert snapshot(case.workspace) == before


def test_user_attributes_are_merged_name_by_name(tmp_path: Path) -> None:
    base = {"f": File(b"a", xattrs=(("user.a", b"1"), ("user.b", b"1"), ("user.c", b"1")))}
    theirs = {"f": File(b"b", xattrs=(("user.a", b"2"), ("user.c", b"1"), ("user.n", b"n")))}
    case = make_case(tmp_path, base, theirs)
    os.setxattr(case.workspace / "f", "user.c", b"mine")
    case.apply()
    names = {name: os.getxattr(case.workspace / "f", name) for name in os.listxattr(case.workspace / "f")}
    assert names == {"user.a": b"2", "user.c": b"mine", "user.n": b"n"}
    case = make_case(tmp_path / "again", base, theirs)
    os.setxattr(case.workspace / "f", "user.a", b"mine")
    assert reasons(case.plan()) == {"f": "xattrs"}


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
