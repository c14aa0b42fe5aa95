"""kill -9 at any moment: no process, no mount, no stray file is left, and the next command of any kind recovers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import BACKEND, Program, mounts, processes
from tests.trees import make_tree, read_tree, stamps

EVERY_BACKEND = pytest.mark.parametrize("backend", BACKEND)
DEADLINE = 30.0


def wait_until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, f"{what} never happened"
        time.sleep(0.002)


def reached(child: subprocess.Popen[bytes], mark: Path, text: bytes = b"") -> None:
    """Waits until ``mark`` exists (and holds ``text``), or the child has ended."""
    wait_until(
        lambda: child.poll() is not None or (mark.exists() and (not text or text in mark.read_bytes())), str(mark)
    )


def kill(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.communicate(timeout=30)


def nothing_runs(program: Program) -> None:
    places = (program.cwd.parent, program.home)
    wait_until(lambda: not processes(*places), f"the end of {processes(*places)}")
    assert mounts(*places) == []


def state(program: Program, name: str = "s") -> str:
    sessions = json.loads(program("list", "--json").out)["sessions"]
    return str(next(session["state"] for session in sessions if session["name"] == name))


def test_while_the_workspace_is_copied(overlayws: Program, workspace: Path) -> None:
    make_tree(workspace, {f"many/{n}": f"{n}\n" * 50 for n in range(2000)})
    before = stamps(workspace)
    for delay in (0.0, 0.1):
        child = overlayws.started("start", "--name", "s", "--no-run")
        wait_until(lambda: any("many" in names for _, names, _ in os.walk(overlayws.home)), "a copy")
        time.sleep(delay)
        kill(child)
        nothing_runs(overlayws)
        if not overlayws.session("s").exists():
            assert overlayws("list").out == b""
        assert [n for n in os.listdir(overlayws.home / "sessions") if n.startswith(".")] == []
        assert stamps(workspace) == before
        overlayws("discard", "s", "--yes", code=None)
        overlayws("gc", "--yes")
        assert not any("many" in names for _, names, _ in os.walk(overlayws.home)), "half a base is left"
    overlayws("start", "--name", "s", "--", "sh", "-c", "rm -r many")
    assert b" 2000 deleted" in overlayws("status").out


@EVERY_BACKEND
@pytest.mark.parametrize("then", ["list", "status s", "diff s", "run s -- true", "apply s --yes", "start --no-run"])
def test_while_the_command_runs(overlayws: Program, workspace: Path, backend: str, then: str) -> None:
    """The program ends with it, `setsid` or not, and what it changed until then can be seen and applied."""
    if backend != "copy" and then != "list":
        pytest.skip("as with copy, which has the most to recover")
    before = stamps(workspace)
    script = (
        "setsid sleep 100 & echo x > new; echo more >> README.md; rm -r docs; echo ready; while :; do sleep 0.1; done"
    )
    child = overlayws.ready("start", "--name", "s", "--backend", backend, "--", "sh", "-c", script)
    assert state(overlayws) == "running"
    kill(child)
    nothing_runs(overlayws)
    assert stamps(workspace) == before
    done = overlayws(*then.split())
    assert "session s was interrupted" in done.err
    assert state(overlayws) == {"run s -- true": "captured", "apply s --yes": "applied"}.get(then, "interrupted")
    assert overlayws("diff", "s", "--name-status").out == b"M\tREADME.md\nD\tdocs/guide.txt\nA\tnew\n"
    assert overlayws("list").err == ""  # said once
    overlayws("apply", "s", "--yes")
    assert (workspace / "new").read_text() == "x\n"


def test_while_the_copy_backend_captures(overlayws: Program, workspace: Path) -> None:
    make_tree(workspace, {f"many/{n}": f"{n}\n" for n in range(600)})
    script = "echo x > new; for f in many/*; do echo more >> $f; done; echo ready; read line"
    for delay in (0.0, 0.02, 0.08):
        read, write = os.pipe()
        child = overlayws.ready("start", "--name", "s", "--backend", "copy", "--", "sh", "-c", script, stdin=read)
        os.close(read)
        os.close(write)  # the command ends
        reached(child, overlayws.session("s") / ".upper-next")
        time.sleep(delay)
        kill(child)
        nothing_runs(overlayws)
        assert state(overlayws) in ("interrupted", "captured")
        assert b" 1 added, 600 modified" in overlayws("status", "s").out
        assert not (overlayws.session("s") / ".upper-next").exists()
        overlayws("discard", "s", "--yes")
        overlayws("gc", "--yes")


@pytest.mark.parametrize(("verb", "then"), [("apply", "list"), ("apply", "apply s --yes"), ("undo", "status s")])
def test_during_an_apply_and_an_undo(overlayws: Program, workspace: Path, verb: str, then: str) -> None:
    """All or nothing at whatever moment, and the state says which. (Every single step: tests/apply.)"""
    script = "for n in $(seq 400); do echo $n > new$n; done; echo more >> README.md; rm -r docs; mv src moved"
    overlayws("start", "--name", "s", "--", "sh", "-c", script)
    unapplied = read_tree(workspace)
    overlayws("apply", "--yes")
    applied = read_tree(workspace)
    seen = set()
    for delay in (0.0, 0.02, 0.05):
        if verb == "apply" and read_tree(workspace) == applied:
            overlayws("undo", "s", "--yes")
        if verb == "undo" and read_tree(workspace) == unapplied:
            overlayws("apply", "s", "--yes")
        session = overlayws.session("s") / "session.json"
        child = overlayws.started(verb, "s", "--yes")
        reached(child, session, f'"doing": "{verb}"'.encode())
        time.sleep(delay)
        kill(child)
        overlayws(*then.split())
        assert [name for name in os.listdir(workspace) if name.startswith(".overlayws")] == []
        tree = read_tree(workspace)
        if then.startswith("apply"):
            assert tree == applied
        assert tree in (applied, unapplied)
        assert state(overlayws) == ("applied" if tree == applied else "captured")
        seen.add(tree == applied)
    if state(overlayws) == "applied":
        overlayws("undo", "s", "--yes")
    assert read_tree(workspace) == unapplied


def test_after_an_apply_was_done_and_before_that_was_noted(overlayws: Program, workspace: Path) -> None:
    """The journal decides: what is applied is called applied, and can be undone."""
    overlayws("start", "--name", "s", "--", "sh", "-c", "echo x > new; echo y > other")
    file = overlayws.session("s") / "session.json"
    for words, then in (
        ("apply s --yes", "applied"),
        ("undo s --yes", "captured"),
        ("apply s other --yes", "partly-applied"),
    ):
        old = json.loads(file.read_bytes())
        overlayws(*words.split())
        (journal,) = os.listdir(overlayws.session("s") / "journal") or ["0001"]
        noted = {**old, "doing": words.split()[0], "journal": journal, "then": then}
        file.write_bytes(json.dumps(noted).encode())
        assert state(overlayws) == then
    overlayws("undo", "s", "--yes")
    assert not (workspace / "other").exists()


@EVERY_BACKEND
def test_during_a_discard_of_paths(overlayws: Program, workspace: Path, backend: str) -> None:
    script = "for n in $(seq 100); do echo $n > new$n; done; rm -r docs src; echo more >> README.md"
    for delay in (0.0, 0.02):
        overlayws("start", "--name", "s", "--backend", backend, "--", "sh", "-c", script)
        before = set(overlayws("diff", "s", "--name-status").out.splitlines())
        child = overlayws.started("discard", "s", *(f"new{n}" for n in range(1, 101)), "src/app.py", "--yes")
        reached(child, overlayws.session("s") / "work/discarding")
        time.sleep(delay)
        kill(child)
        after = set(overlayws("diff", "s", "--name-status").out.splitlines())
        assert after <= before and {b"D\tdocs/guide.txt", b"D\tsrc/deep/util.py", b"M\tREADME.md"} <= after
        overlayws("run", "s", "--", "sh", "-euc", "test ! -e docs/guide.txt; grep -q more README.md")
        assert set(overlayws("diff", "s", "--name-status").out.splitlines()) == after
        overlayws("discard", "s", "--yes")
        overlayws("gc", "--yes")


def test_during_a_discard_of_everything_and_during_gc(overlayws: Program, workspace: Path) -> None:
    make_tree(workspace, {f"many/{n}": f"{n}\n" for n in range(600)})
    before = stamps(workspace)
    for delay in (0.0, 0.01):
        overlayws(
            "start", "--name", "s", "--backend", "copy", "--", "sh", "-c", "for f in many/*; do echo x >> $f; done"
        )
        file = overlayws.session("s") / "session.json"
        child = overlayws.started("discard", "s", "--yes")
        reached(child, file, b'"discarded"')
        time.sleep(delay)
        kill(child)
        assert state(overlayws) == "discarded"
        assert not (overlayws.session("s") / "upper").exists(), "the next command finishes it"
        child = overlayws.started("gc", "--yes")
        wait_until(lambda: not overlayws.session("s").exists(), "gc")
        time.sleep(delay / 10)
        kill(child)
        assert overlayws("list").out == b"" and os.listdir(overlayws.home / "sessions") == []
    assert stamps(workspace) == before


def test_the_scratch_of_a_killed_diff_is_swept(overlayws: Program, workspace: Path) -> None:
    overlayws("start", "--name", "s", "--", "sh", "-c", "for n in $(seq 300); do seq 1000 > new$n; done")
    child = overlayws.started("diff", "s", stdout=subprocess.DEVNULL)
    wait_until(lambda: any(n.startswith("overlayws-diff-") for n in os.listdir(overlayws.session("s"))), "a diff")
    kill(child)
    overlayws("list")
    assert not any(n.startswith("overlayws-diff-") for n in os.listdir(overlayws.session("s")))


def test_a_signal_that_asks_nicely_ends_the_command_and_keeps_its_changes(overlayws: Program, workspace: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        name = f"s{number}"
        child = overlayws.ready("start", "--name", name, "--", "sh", "-c", "echo x > new; echo ready; exec sleep 60")
        child.send_signal(number)
        child.communicate(timeout=30)
        assert child.returncode == 128 + number and state(overlayws, name) == "captured"
        assert overlayws("diff", name, "--name-status").out == b"A\tnew\n"
