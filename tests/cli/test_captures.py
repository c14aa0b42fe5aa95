"""Frozen when the command ends: what was shown is what is applied, whatever happens to the upperdir or the store."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.conftest import BACKEND, Program
from tests.cli.test_kill import kill, nothing_runs, reached, state
from tests.trees import read_tree, stamps

EVERY_BACKEND = pytest.mark.parametrize("backend", BACKEND)
SCRIPT = "echo x > new; echo more >> README.md; rm -r docs; head -c 2000000 /dev/zero > big"


def capture(program: Program) -> Path:
    directory = program.session("s")
    return directory / "captures" / str(json.loads((directory / "session.json").read_bytes())["capture"])


@EVERY_BACKEND
def test_the_upperdir_changed_after_the_run_has_no_effect(overlayws: Program, workspace: Path, backend: str) -> None:
    overlayws("start", "--name", "s", "--backend", backend, "--", "sh", "-c", SCRIPT)
    shown = overlayws("diff", "s").out
    digest = json.loads(overlayws("diff", "s", "--json").out)["digest"]
    upper = overlayws.session("s") / "upper"
    for name in ("new", "README.md", "big"):
        with open(upper / name, "r+b") as f:  # the same inode, as through a descriptor that outlived the sandbox
            f.write(b"EVIL")
    (upper / "evil").write_text("EVIL")
    (upper / "src").mkdir(exist_ok=True)
    (upper / "src/app.py").write_text("EVIL")
    assert overlayws("diff", "s").out == shown
    assert json.loads(overlayws("status", "s", "--json").out)["digest"] == digest
    overlayws("apply", "s", "--yes", "--digest", digest)
    assert not any(b"EVIL" in node.content for node in read_tree(workspace).values() if hasattr(node, "content"))
    assert (workspace / "new").read_text() == "x\n" and (workspace / "big").read_bytes() == bytes(2_000_000)
    assert not (workspace / "evil").exists()


@pytest.mark.parametrize("file", ["manifest", "pack", "large"])
def test_a_damaged_capture_is_refused_and_made_anew_by_a_run(overlayws: Program, workspace: Path, file: str) -> None:
    overlayws("start", "--name", "s", "--", "sh", "-c", SCRIPT)
    before, shown = stamps(workspace), overlayws("diff", "s").out
    damaged = capture(overlayws) / file
    if damaged.is_dir():
        (damaged,) = damaged.iterdir()
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 4
    damaged.write_bytes(data)
    assert "damaged" in overlayws("diff", "s", code=4).error
    assert "damaged" in overlayws("apply", "s", "--yes", code=4).error
    assert stamps(workspace) == before
    overlayws("run", "s", "--", "true")
    assert overlayws("diff", "s").out == shown
    overlayws("apply", "s", "--yes")
    assert (workspace / "new").read_text() == "x\n"


def test_another_run_makes_a_capture_of_everything_and_the_earlier_one_goes(overlayws: Program) -> None:
    overlayws("start", "--name", "s", "--", "sh", "-c", "echo x > new")
    first = capture(overlayws)
    overlayws("run", "s", "--", "sh", "-c", "echo y > other")
    assert overlayws("diff", "s", "--name-status").out == b"A\tnew\nA\tother\n"
    assert os.listdir(overlayws.session("s") / "captures") == [capture(overlayws).name] != [first.name]
    digest = json.loads(overlayws("status", "s", "--json").out)["digest"]
    overlayws("run", "s", "--", "true")
    assert json.loads(overlayws("status", "s", "--json").out)["digest"] == digest


def test_dropping_some_changes_captures_the_rest(overlayws: Program, workspace: Path) -> None:
    overlayws("start", "--name", "s", "--", "sh", "-c", SCRIPT)
    first = capture(overlayws)
    overlayws("discard", "s", "README.md", "docs", "--yes")
    assert overlayws("diff", "s", "--name-status").out == b"A\tbig\nA\tnew\n"
    assert state(overlayws) == "captured" and capture(overlayws) != first and not first.exists()


def test_killed_while_it_captures_the_next_command_does(overlayws: Program) -> None:
    script = "head -c 60000000 /dev/zero > big; echo x > new"
    child = overlayws.started("start", "--name", "s", "--", "sh", "-c", script)
    reached(child, overlayws.session("s") / "session.json", b'"doing": "capture"')
    kill(child)
    nothing_runs(overlayws)
    assert overlayws("diff", "s", "--name-status").out == b"A\tbig\nA\tnew\n"
    assert state(overlayws) == "interrupted"
    assert os.listdir(overlayws.session("s") / "captures") == [capture(overlayws).name]


def test_what_cannot_be_captured_blocks_apply_until_it_is_left_out_or_dropped(
    overlayws: Program, workspace: Path
) -> None:
    script = "truncate -s 1T sparse; echo x > new; echo y > other"
    done = overlayws("start", "--name", "s", "--", "sh", "-c", script)
    assert "1 could not be captured" in done.err
    before = stamps(workspace)
    shown = overlayws("diff", "s", "--stat")
    assert b"not shown: 1099511627776 bytes" in shown.out and "not captured: 'sparse'" in shown.err
    assert "sparse" in overlayws("apply", "s", "--yes", code=4).error
    assert "sparse" in overlayws("apply", "s", "--yes", "sparse", code=4).error
    assert stamps(workspace) == before
    overlayws("apply", "s", "--yes", "new")
    overlayws("discard", "s", "--yes", "sparse")
    overlayws("apply", "s", "--yes")
    assert (workspace / "other").read_text() == "y\n"
    assert not (workspace / "sparse").exists()
