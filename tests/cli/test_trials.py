"""What start finds out by trying goes on beside it; it is asked before anything is made, and leaves nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from overlayws import api, starting
from overlayws.errors import NotStartedError, UsageError
from overlayws.run import bwrap
from overlayws.session.store import Store
from tests.cli.conftest import Program
from tests.trees import make_tree

pytestmark = pytest.mark.bwrap


@pytest.fixture
def anew() -> Iterator[None]:
    """As in a process that has not tried anything yet."""
    bwrap._answers.clear()
    yield
    bwrap._answers.clear()


def children() -> set[bytes]:
    """The names of the programs that this process has begun; of those that ended too, until they are waited for."""
    found = set()
    for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
        words = Path(f"/proc/{pid}/stat").read_bytes()
        found.add(words[words.index(b"(") + 1 : words.rindex(b")")])
    return found


def broken(directory: Path, script: str) -> str:
    """A PATH whose bwrap is ``script``."""
    directory.mkdir(exist_ok=True)
    program = directory / "bwrap"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


def test_both_trials_go_on_while_the_rules_are_read_and_nothing_is_left_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew: None
) -> None:
    seen: list[set[bytes]] = []
    real = starting._judge
    monkeypatch.setattr(starting, "_judge", lambda *arguments: seen.append(children()) or real(*arguments))
    workspace, store = make_tree(tmp_path / "ws", {"f": ""}), Store(tmp_path / "home")
    before = children()
    session = api.start(workspace, store=store)
    (during,) = seen
    assert b"bwrap" in during - before
    assert session.backend == "copy" or len(during - before) == 2
    assert children() == before
    assert {name for name in os.listdir(store.home) if name.startswith(".")} == set()


def test_a_start_that_is_refused_meanwhile_leaves_nothing_of_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew: None
) -> None:
    monkeypatch.setenv("PATH", broken(tmp_path / "bin", "exec sleep 300"))
    workspace, store = make_tree(tmp_path / "ws", {"f": ""}), Store(tmp_path / "home")
    before = children()
    with pytest.raises(UsageError):
        api.start(workspace, store=store, ignore_files=[tmp_path / "missing"])
    assert children() == before
    assert os.listdir(store.home) == ["sessions"] and os.listdir(store.sessions) == []


def test_nothing_is_made_where_no_sandbox_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew: None) -> None:
    path = broken(tmp_path / "bin", "echo bwrap: no user namespaces for you >&2; exit 1")
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr("overlayws.run.bwrap_program._packaged", lambda: None)
    workspace, store = make_tree(tmp_path / "ws", {"f": ""}), Store(tmp_path / "home")
    with pytest.raises(NotStartedError, match="before the command ran: bwrap: no user namespaces for you"):
        api.start(workspace, store=store)
    assert os.listdir(store.home) == ["sessions"] and os.listdir(store.sessions) == []


@pytest.mark.parametrize(
    "script, said",
    [
        ("echo >&4; exit 3", "`true` ended with status 3 in it"),
        ("exit 0", "the sandbox failed before the command ran: no reason was given"),
        ("kill -9 $$", "the sandbox failed before the command ran: no reason was given"),
        ("printf 'one\\033[2Jtwo\\n' >&2; exit 1", "the sandbox failed before the command ran: one?[2Jtwo"),
    ],
)
def test_a_bwrap_that_does_not_run_a_command_says_why(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anew: None
) -> None:
    monkeypatch.setenv("PATH", broken(tmp_path, script))
    with bwrap.trying() as settle:
        settle()
    assert list(bwrap._answers.values()) == [said]


def test_a_start_whose_caller_ignores_its_children_finds_the_same(overlayws: Program, workspace: Path) -> None:
    plain = overlayws("start", "--name", "a", "--no-run").err.splitlines()[0]

    def ignoring() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    assert overlayws("start", "--name", "b", "--no-run", preexec_fn=ignoring).err.splitlines()[0] == plain
