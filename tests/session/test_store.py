from __future__ import annotations

import base64
import errno
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from overlayws.errors import UnableError, UsageError
from overlayws.locking import flock
from overlayws.session.record import DamagedSession, as_dict, from_bytes, to_bytes
from overlayws.session.session import Run, Session
from overlayws.session.store import BusySession, Store


def a_session(directory: Path, workspace: Path, name: str = "calm-otter", created: str = "2026-01-01") -> Session:
    return Session(
        name=name, directory=directory, workspace=workspace, created=created, backend="copy", sandbox="bwrap",
        own_git=False,
    )  # fmt: skip


def make(store: Store, workspace: Path, name: str = "calm-otter", created: str = "2026-01-01") -> Session:
    with store.creating(name) as (final, scratch):
        store.save(a_session(scratch, workspace, final, created))
    return store.load(name)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state")


def test_a_session_survives_being_written_and_read(tmp_path: Path) -> None:
    workspace = Path("/work/na\udcffme\n")
    session = replace(
        a_session(tmp_path / "calm-otter", workspace),
        runs=(Run(("a", "b\udcff"), "2026-01-01", 3, 0.5),), tools=("/opt/x",), state="captured", doing="apply",
        journal="0002", then="applied", warnings=("n\udcff",),
    )  # fmt: skip
    assert from_bytes(to_bytes(session), tmp_path / "calm-otter") == session


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"null", b"{}", b'{"schema": "overlayws.session/2"}', b"\xff\xfe", b'{"schema": 1, "runs": 3}'],
)
def test_a_damaged_session_is_told_apart_and_the_others_stay_usable(
    store: Store, tmp_path: Path, damage: bytes
) -> None:
    broken = make(store, tmp_path, "broken")
    whole = make(store, tmp_path, "whole")
    (broken.directory / "session.json").write_bytes(damage)
    with pytest.raises(DamagedSession) as error:
        store.load("broken")
    assert error.value.exit_code == 4 and "broken" in error.value.message and error.value.hint
    sessions, damaged = store.all()
    assert sessions == [whole] and len(damaged) == 1


def test_a_field_of_the_wrong_value_is_damage(store: Store, tmp_path: Path) -> None:
    session = make(store, tmp_path)
    data = to_bytes(session)
    for wrong in (
        data.replace(b'"state": "new"', b'"state": "odd"'),
        data.replace(b'"calm-otter"', b'"other"'),
        data.replace(b'"created"', b'"extra": 1, "created"'),
        data.replace(b'"doing": ""', b'"doing": "odd"'),
        data.replace(b'"journal": ""', b'"journal": "../x"'),
        data.replace(b'"then": ""', b'"then": "odd"'),
        data.replace(b'"own_git": false', b'"own_git": 0'),
        data.replace(b'"tools": []', b'"tools": [1]'),
        data.replace(b'"tools": []', b'"tools": ["/a\\u0000b"]'),
        data.replace(b'"runs": []', b'"runs": [{"command": ["x"], "started": "", "exit_code": "0", "duration": 1}]'),
        data.replace(b'"backend": "copy"', b'"backend": 7'),
        re.sub(rb'"workspace": "[^"]*"', b'"workspace": "relative"', data),
        re.sub(rb'"workspace": "[^"]*"', rb'"workspace": "/\\ud800"', data),
    ):
        assert wrong != data
        with pytest.raises(DamagedSession):
            from_bytes(wrong, session.directory)


def test_scripts_are_told_valid_json_whatever_the_names_are(tmp_path: Path) -> None:
    run = Run(("a", "b\udcff"), "2026-01-01")
    session = replace(a_session(tmp_path / "s", Path("/n\udcff")), runs=(run,), warnings=("'n\udcff'",))
    told = json.loads(json.dumps(as_dict(session)).encode("ascii"))
    json.dumps(told, ensure_ascii=False).encode("utf-8")  # no lone surrogate in it
    assert told["workspace"] == "/n\\xff" and base64.b64decode(told["workspace_b64"]) == b"/n\xff"
    assert told["runs"][0]["command"] == ["a", "b\\xff"]


def test_state_directories_are_private(store: Store, tmp_path: Path) -> None:
    session = make(store, tmp_path)
    for directory in (store.home, store.sessions, session.directory):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_a_name_is_taken_once(store: Store, tmp_path: Path) -> None:
    make(store, tmp_path)
    with pytest.raises(UsageError):
        make(store, tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", "A", "x" * 65, "a\n", "é", ".starting-x"])
def test_a_name_that_could_be_a_path_or_an_option_is_refused(store: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        make(store, tmp_path, name)
    with pytest.raises(UsageError):
        store.load(name)


def test_a_session_that_fails_while_it_is_made_leaves_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), store.creating("x"):
        raise RuntimeError
    assert os.listdir(store.sessions) == []


def test_what_a_killed_start_left_is_swept_but_not_a_running_start(store: Store, tmp_path: Path) -> None:
    store.prepare()
    script = (
        "import os, sys, time; from pathlib import Path; from overlayws.session.store import Store\n"
        "with Store(Path(sys.argv[1])).creating('x') as (n, d):\n"
        "    (d / 'deep').mkdir(); print('ready', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(store.home)], stdout=subprocess.PIPE)
    assert child.stdout and child.stdout.readline()
    assert store.sweep() == []
    child.kill()
    child.wait()
    child.stdout.close()
    assert len(store.sweep()) == 1
    assert os.listdir(store.sessions) == []


def test_the_newest_session_of_the_innermost_workspace_is_meant(store: Store, tmp_path: Path) -> None:
    outer, inner = tmp_path / "a", tmp_path / "a/b"
    (inner / "src").mkdir(parents=True)
    make(store, outer, "one", "2026-01-03")
    make(store, inner, "two", "2026-01-01")
    make(store, inner, "three", "2026-01-02")
    assert store.newest(inner / "src").name == "three"
    assert store.newest(outer).name == "one"
    with pytest.raises(UsageError):
        store.newest(tmp_path)


def test_what_a_killed_diff_or_probe_left_is_swept_but_not_that_of_a_running_one(store: Store, tmp_path: Path) -> None:
    session = make(store, tmp_path)
    left, old, new = session.directory / "overlayws-diff-x", store.home / ".probe-old", store.home / ".probe-new"
    for path in (left, old, new):
        (path / "deep").mkdir(parents=True)
    os.utime(old, (0, 0))
    with store.locked(session):
        assert store.sweep() == [old]
    assert store.sweep() == [left] and new.exists()


def test_a_probe_is_in_use_while_it_is_locked_whatever_its_age(store: Store, tmp_path: Path) -> None:
    make(store, tmp_path)
    left, used = store.home / ".probe-left", store.home / ".doctor-used"
    for path in (left, used):
        path.mkdir()
        (path / "lock").touch()
        (path / "outside").write_text("{}")
    os.utime(used, (0, 0))
    with flock(used / "lock"):
        assert store.sweep() == [left]
        assert (used / "outside").exists()
    assert store.sweep() == [used]


def test_what_cannot_be_removed_is_left_and_fails_no_command(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make(store, tmp_path)
    damaged = store.home / ".probe-damaged"
    left = [store.sessions / ".removed-x", session.directory / "overlayws-diff-x", store.home / ".probe-x", damaged]
    for path in left:
        path.mkdir()
        os.utime(path, (0, 0))
    (damaged / "outside").write_text("{")

    def busy(path: Path) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), "merged")

    with monkeypatch.context() as patched:
        patched.setattr("overlayws.session.store.remove_tree", busy)
        assert store.sweep() == []
    assert sorted(store.sweep()) == sorted(left[:3])
    assert damaged.exists()  # who knows what it still holds


def test_a_session_that_was_removed_cannot_be_locked(store: Store, tmp_path: Path) -> None:
    session = make(store, tmp_path)
    store.remove(session.name)
    for lock in (store.locked(session), store.locked_now(session.name)):
        with pytest.raises(UsageError, match="no session named"), lock:
            pass
    assert os.listdir(store.sessions) == []


def test_a_directory_that_is_used_for_other_things_is_not_closed_to_others(tmp_path: Path) -> None:
    home = tmp_path / "shared"
    home.mkdir()
    home.chmod(0o777)
    (home / "of-somebody").write_text("")
    with pytest.raises(UnableError, match="holds other files"):
        Store(home).prepare()
    assert home.stat().st_mode & 0o777 == 0o777
    (home / "of-somebody").unlink()
    Store(home).prepare()
    assert home.stat().st_mode & 0o777 == 0o700


def test_a_lock_is_held_by_one(store: Store, tmp_path: Path) -> None:
    session = make(store, tmp_path)
    with store.locked(session):
        assert store.is_locked(session)
        with pytest.raises(BusySession), store.locked_now(session.name):
            pass
        store.save(replace(session, doing="run", state="running"))
        with pytest.raises(BusySession, match="running"), store.locked(session):
            pass
    assert not store.is_locked(session)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_state_directory_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "ro").mkdir(mode=0o500)
    with pytest.raises(UnableError) as error:
        Store(tmp_path / "ro/state").prepare()
    assert error.value.hint


def test_a_state_directory_below_a_file_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnableError):
        Store(tmp_path / "file/state").prepare()


def test_a_removed_session_is_gone_even_with_directories_that_nobody_may_enter(store: Store, tmp_path: Path) -> None:
    session = make(store, tmp_path)
    closed = session.directory / "upper/a/b"
    closed.mkdir(parents=True)
    (closed / "f").write_text("x")
    closed.chmod(0)
    closed.parent.chmod(0)
    store.remove(session.name)
    assert os.listdir(store.sessions) == []
