"""A command that is not found, or cannot be executed, is followed by what to do about it; its status stays."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from overlayws.cli.missing import _installation
from tests.cli.conftest import Program
from tests.trees import File, Symlink, make_tree

TOOL = File(b"#!/bin/sh\necho ran\n", 0o755)


def hint(err: str) -> str:
    (found,) = [line for line in err.splitlines() if line.startswith("hint: ")] or [""]
    return found


def followed(overlayws: Program, advice: str) -> bytes:
    """What the command says where the hint's own words are used."""
    words = shlex.split(advice.partition(": overlayws ")[2].partition(" …")[0])
    return overlayws(*words).out


def on_path(directory: Path) -> dict[str, str]:
    return {"PATH": f"{os.environ['PATH']}:{directory}"}


def test_a_program_that_this_machine_does_not_have(overlayws: Program) -> None:
    said = hint(overlayws("start", "--", "no-such-program", code=127).err)
    assert "spelled right" in said and "--tools" not in said


def test_a_program_elsewhere_is_shown_by_the_option_that_is_named(overlayws: Program, tmp_path: Path) -> None:
    make_tree(tmp_path, {"a b/programs/tool": TOOL})
    place = tmp_path / "a b/programs"
    for name in ("tool", str(place / "tool")):
        advice = hint(overlayws("start", "--", name, env=on_path(place), code=127).err)
        assert followed(overlayws, advice) == b"ran\n"


def test_a_program_behind_a_symlink_needs_both_or_what_holds_them(overlayws: Program, tmp_path: Path) -> None:
    make_tree(tmp_path / "node", {"lib/tool/cli": TOOL, "bin/tool": Symlink("../lib/tool/cli")})
    make_tree(tmp_path, {"shims/other": Symlink("../real/other"), "real/other": TOOL})
    advice = hint(overlayws("start", "--", "tool", env=on_path(tmp_path / "node/bin"), code=127).err)
    assert f"--tools {tmp_path}/node --" in advice and followed(overlayws, advice) == b"ran\n"
    advice = hint(overlayws("start", "--", "other", env=on_path(tmp_path / "shims"), code=127).err)
    assert advice.count("--tools") == 2 and followed(overlayws, advice) == b"ran\n"


def test_a_virtual_environment_is_shown_as_a_whole(overlayws: Program, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", venv], check=True)
    make_tree(venv, {"bin/tool": File(f"#!{venv}/bin/python3\nimport sys; print(sys.prefix)\n".encode(), 0o755)})
    advice = hint(overlayws("start", "--", "tool", env=on_path(venv / "bin"), code=127).err)
    assert followed(overlayws, advice) == f"{venv}\n".encode()


def test_programs_of_the_workspace(overlayws: Program, workspace: Path) -> None:
    make_tree(workspace, {"bin/tool": TOOL, "gone": File(b"#!/no/such/shell\n", 0o755), "private/tool": TOOL})

    def said(name: str, code: int) -> str:
        return hint(overlayws("start", "--hide", "private", "--", name, env=on_path(workspace / "bin"), code=code).err)

    assert "call it by its path, ./bin/tool" in said("tool", 127)
    assert "chmod +x" in said("./README.md", 126)
    assert "first line" in said("./gone", 127)
    assert "overlayws explain private/tool" in said("./private/tool", 127)
    assert "has no such file" in said("./none", 127)
    assert overlayws("start", "--", "./bin/tool").out == b"ran\n"


@pytest.mark.parametrize("script", ["exit 127", "exit 126", "no-such-program", "echo x > new; exit 127"])
def test_a_status_of_the_commands_own_is_left_alone(script: str, overlayws: Program) -> None:
    assert hint(overlayws("start", "--", "sh", "-c", script, code=None).err) == ""


def test_a_command_that_changed_something_was_there(overlayws: Program, tmp_path: Path) -> None:
    make_tree(tmp_path, {"tools/tool": File(b"#!/bin/sh\necho x > new; exit 127\n", 0o755)})
    place = str(tmp_path / "tools")
    assert hint(overlayws("start", "--name", "s", "--tools", place, "--", "tool", code=127).err) == ""
    said = hint(overlayws("run", "s", "--", "no-such-program", code=127).err)
    assert "spelled right" in said  # also where an earlier command changed something


def test_a_name_that_would_steer_the_terminal_is_written_out(overlayws: Program, tmp_path: Path) -> None:
    make_tree(tmp_path, {"to\x1b[2Jols/tool": TOOL})
    err = overlayws("start", "--", "tool", env=on_path(tmp_path / "to\x1b[2Jols"), code=127).err
    assert "\\x1b[2Jols" in hint(err) and "\x1b[2J" not in err


def test_a_user_without_a_home_gets_a_hint_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_000)  # of which the machine knows nothing
    assert _installation("/opt/tool/bin") == "/opt/tool"
