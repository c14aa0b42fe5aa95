"""Copying by two processes: what one makes, whichever of them ends, and nothing that a survey would not have shown."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from overlayws.base.build import build_base, copy_base, opened, surveyed
from overlayws.base.making import Making
from overlayws.base.manifest import Manifest
from overlayws.base.workers import _Other
from overlayws.filter.contents import Inspector
from overlayws.filter.sources import load_filter
from tests.base.test_contents import TOKEN, build, judge
from tests.base.test_shelf import settle
from tests.cli.containers import children
from tests.trees import make_tree, read_tree


@pytest.fixture(params=["forked", "started"])
def other_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """However few the files are, two processes copy them; the other one is a copy of this one, or a new one."""
    monkeypatch.setattr("overlayws.base.workers._WORTH_IT", 1)
    monkeypatch.setattr("overlayws.base.workers._WORTH_A_START", 1)
    monkeypatch.setattr("overlayws.base.workers._one_thread", lambda: request.param == "forked")
    return str(request.param)


@pytest.fixture(params=[True, False], ids=["early", "late"])
def early(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether files as new as those of a test are copied before all are known."""
    if request.param:
        monkeypatch.setattr("overlayws.base.fingerprint.LONGEST_TICK_NS", 0)
    return bool(request.param)


def test_two_processes_make_what_one_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_process: str, early: bool
) -> None:
    tree = {f"d{n % 7}/f{n}.py": f'n = {n}\nkey = "{TOKEN}"\n' if n % 5 == 0 else "x" * n for n in range(900)}
    ws = make_tree(tmp_path / "ws", tree)
    os.symlink("d1", ws / "link")
    os.chmod(ws / "d3/f3.py", 0o640)
    os.setxattr(ws / "d4/f4.py", "user.note", b"v")
    os.setxattr(ws / "d5", "user.note", b"v")
    os.chmod(ws / "d5", 0o750)
    os.link(ws / "d6/f6.py", ws / "another name")
    settle()
    bases = []
    for processes in ("two", "one"):
        if processes == "one":
            monkeypatch.setattr("overlayws.base.workers._WORTH_IT", 10_000)
            monkeypatch.setattr("overlayws.base.workers._WORTH_A_START", 10_000)
        (tmp_path / processes).mkdir()
        told: list[int] = []
        given = judge(ws)
        bases.append(
            build_base(
                ws, tmp_path / processes, given.rules, lambda what, done, total, told=told: told.append(done),  # type: ignore[misc]
                inspector=given.inspector,
            )
        )  # fmt: skip
        assert told
    assert read_tree(bases[0].lowerdir) == read_tree(bases[1].lowerdir) and len(read_tree(bases[0].lowerdir)) == 909
    with Manifest(bases[0].manifest) as one, Manifest(bases[1].manifest) as other:
        assert one.stored() == other.stored() and one.findings() == other.findings()
        assert one.meta("fingerprint") == other.meta("fingerprint")
    for left, right in zip(sorted(bases[0].lowerdir.rglob("*")), sorted(bases[1].lowerdir.rglob("*")), strict=True):
        assert os.lstat(left).st_mtime_ns == os.lstat(right).st_mtime_ns


@pytest.mark.skipif(not os.path.exists("/usr/share/i18n/charmaps/ISO-8859-1.gz"), reason="no locale can be made")
@pytest.mark.parametrize("other_process", ["started"], indirect=True)
def test_names_beyond_ascii_are_the_same_in_a_process_that_is_started_in_another_locale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_process: str
) -> None:
    made = tmp_path / "en_US.ISO-8859-1"
    subprocess.run(["localedef", "-i", "en_US", "-f", "ISO-8859-1", made], check=True, capture_output=True)
    monkeypatch.setenv("LOCPATH", str(tmp_path))
    monkeypatch.setenv("LC_ALL", made.name)
    monkeypatch.setattr(_Other, "take_back", lambda self: b"")  # what is in the queue is the other one's
    ws = make_tree(tmp_path / "ws", {f"thé/{n}é": str(n) for n in range(300)})
    (tmp_path / "base").mkdir()
    base = build_base(ws, tmp_path / "base", judge(ws).rules)
    assert read_tree(base.lowerdir) == read_tree(ws)


DIES = """
import pickle, socket, sys
sys.path.insert(0, sys.argv[1])
with open(int(sys.argv[2]), "rb") as given:
    given.seek(0)
    work = pickle.load(given)
socket.socket(fileno=work.queue).recv(1 << 20)
"""


def test_a_worker_that_dies_with_files_that_it_took_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_process: str, early: bool
) -> None:
    make_tree(tmp_path / "ws", {f"f{n}": str(n) for n in range(900)})
    settle()
    monkeypatch.setattr("overlayws.base.workers._PROGRAM", DIES)
    monkeypatch.setattr("overlayws.base.workers.main", lambda work, out: os.read(work.queue, 1 << 20))
    monkeypatch.setattr("overlayws.base.workers._Other.take_back", lambda self: b"")  # or it may come too late for any
    with pytest.raises(Exception, match="the process that copies files ended"):
        build(tmp_path)


def test_without_a_worker_all_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_process: str, early: bool
) -> None:
    ws = make_tree(tmp_path / "ws", {f"d{n % 3}/f{n}": str(n) for n in range(900)})
    settle()
    monkeypatch.setattr("overlayws.base.workers._PROGRAM", "")
    monkeypatch.setattr("overlayws.base.workers.main", lambda work, out: None)
    assert read_tree(build(tmp_path).lowerdir) == read_tree(ws)


@pytest.mark.parametrize("error", [BlockingIOError(), OSError(errno.EMSGSIZE, "too long")])
@pytest.mark.parametrize("every", [1, 3])
def test_what_the_queue_does_not_take_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_process: str, error: OSError, every: int
) -> None:
    told = _Other.tell
    count = iter(range(1 << 20))

    def tell(self: _Other, message: bytes) -> None:
        if next(count) % every == 0:
            raise error
        told(self, message)

    ws = make_tree(tmp_path / "ws", {f"d{n % 3}/f{n}": str(n) for n in range(900)})
    monkeypatch.setattr("overlayws.base.workers._Other.tell", tell)
    assert read_tree(build(tmp_path).lowerdir) == read_tree(ws)


def test_a_survey_that_is_broken_off_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_process: str
) -> None:
    monkeypatch.setattr("overlayws.base.fingerprint.LONGEST_TICK_NS", 0)
    ws = make_tree(tmp_path / "ws", {f"d{n % 30:02}/f{n}": str(n) for n in range(900)})
    settle()
    begun = []

    def progress(what: str, done: int, total: int) -> None:
        begun.extend(children(os.getpid()))
        if done > 600:
            raise KeyboardInterrupt

    (tmp_path / "base").mkdir()
    with pytest.raises(KeyboardInterrupt):
        build_base(ws, tmp_path / "base", load_filter(ws), progress, inspector=Inspector())
    assert begun and not set(children(os.getpid())) & set(begun)


@pytest.mark.timeout(60)
def test_names_of_any_length_block_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_process: str
) -> None:
    monkeypatch.setattr("overlayws.base.workers._PIPE", 4096)
    below = "/".join(["n" * 250] * 12)
    tree = {f"{below}/f{n}": f'key = "{TOKEN}"\n' for n in range(700)}
    make_tree(tmp_path / "ws", tree)
    base = build(tmp_path)
    with Manifest(base.manifest) as manifest:
        assert len(manifest.findings()) == 700


def paths(manifest: Path) -> set[str]:
    with Manifest(manifest) as opened:
        return {os.fsdecode(row[0]) for row in opened.stored()}


def test_only_files_that_can_no_longer_become_hidden_are_copied_before_all_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_process: str
) -> None:
    monkeypatch.setattr("overlayws.base.fingerprint.LONGEST_TICK_NS", 0)
    tree = {"a/one": "1\n", "a/two": "2\n", "z/.env": "KEY=1\n", "b/file": "3\n", "x/y/no": "4\n", "w/v/no": "5\n"}
    ws = make_tree(tmp_path / "ws", {**tree, "w/v/keep": "6\n", ".overlaywsignore": "x\nw\n!x/y/keep\n!w/v/keep\n"})
    os.link(ws / "z/.env", ws / "a/linked")
    os.symlink("../z/.env", ws / "a/symlink")
    settle()
    given = judge(ws)
    (tmp_path / "base").mkdir()
    with opened(ws) as root, Making(root, tmp_path / "base", given) as new:
        (ws / "b/new").write_text("x")  # after the clock was read
        found = surveyed(root, ws, given, ready=new.ready)
        assert set(new.copying.offered) == {"a/one", "a/two", "b/file", "w/v/keep", ".overlaywsignore"}
        base = copy_base(root, ws, found, None, new, given, lambda what, done, total: None)
    assert set(read_tree(base.lowerdir)) == paths(base.manifest) == {
        "a", "b", "z", "a/one", "a/two", "b/file", "b/new", "w", "w/v", "w/v/keep", ".overlaywsignore"
    }  # fmt: skip


def test_where_a_file_is_shown_by_name_nothing_is_copied_before_all_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("overlayws.base.fingerprint.LONGEST_TICK_NS", 0)
    ws = make_tree(tmp_path / "ws", {"a/one": "1\n"})
    settle()
    given = judge(ws, show=["a/one"])
    (tmp_path / "base").mkdir()
    with opened(ws) as root, Making(root, tmp_path / "base", given) as new:
        surveyed(root, ws, given, ready=new.ready)
        assert not new.copying.offered


@pytest.mark.parametrize("late", ["hidden", "gone", "emptied"])
def test_what_changes_between_the_beginning_and_the_end_of_a_survey_is_one_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_process: str, late: str
) -> None:
    """``hidden``: a name that the survey as a whole does not show, which a link that is made meanwhile can do."""
    monkeypatch.setattr("overlayws.base.fingerprint.LONGEST_TICK_NS", 0)
    ws = make_tree(tmp_path / "ws", {**{f"a/f{n}": str(n) for n in range(200)}, "b/deep/file": f'key = "{TOKEN}"\n'})
    settle()
    given = judge(ws)
    (tmp_path / "base").mkdir()
    with opened(ws) as root, Making(root, tmp_path / "base", given) as new:
        found = surveyed(root, ws, given, ready=new.ready)
        if late == "hidden":
            found.visible = [(path, st) for path, st in found.visible if path not in ("a/f7", "b/deep/file")]
        elif late == "gone":
            shutil.rmtree(ws / "b")
        else:
            shutil.rmtree(ws / "a")
            (ws / "a").mkdir()
        base = copy_base(root, ws, found, None, new, given, lambda what, done, total: None)
    tree = read_tree(base.lowerdir)
    assert set(tree) == paths(base.manifest)
    if late == "hidden":
        assert {"a/f7", "b/deep/file"}.isdisjoint(tree) and len(tree) == 202
