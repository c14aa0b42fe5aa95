"""At a terminal: a shell, questions, colours, a pager; and none of it where it is not wanted."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

from tests.cli.conftest import PROGRAM, Program, heeding_interrupts


def _at_the_terminal() -> None:
    heeding_interrupts()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Person:
    """Somebody at a terminal."""

    def __init__(self, program: Program, *arguments: str, env: dict[str, str] | None = None) -> None:
        self._master, slave = pty.openpty()
        self.seen = b""
        environment = program.environment({"TERM": "xterm-256color", "PAGER": "cat", "NO_COLOR": None, **(env or {})})
        self._child = subprocess.Popen(
            [*PROGRAM, *arguments], cwd=program.cwd, env=environment, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=_at_the_terminal,
        )  # fmt: skip
        os.close(slave)

    def waits_for(self, text: str) -> None:
        deadline = time.monotonic() + 30
        start = len(self.seen)
        while text.encode() not in self.seen[start:]:
            assert self._read(deadline), f"{text!r} never came:\n{self.seen.decode(errors='replace')}"

    def types(self, text: str) -> None:
        os.write(self._master, text.encode())

    def resizes(self, rows: int, columns: int) -> None:
        """Gives the terminal another size, and the program the moment that it needs to hear of it."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        time.sleep(0.5)

    def interrupts(self) -> None:
        """^C until it is heeded: between a prompt and the read(2) behind it Python can miss one."""
        while self._child.poll() is None:
            self.types("\x03")
            patience = time.monotonic() + 3
            while self._child.poll() is None and time.monotonic() < patience:
                self._read(time.monotonic() + 0.1)

    def leaves(self) -> int:
        deadline = time.monotonic() + 30
        while self._read(deadline):
            pass
        os.close(self._master)
        return self._child.wait(timeout=30)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0, deadline - time.monotonic()))
        try:
            data = os.read(self._master, 1 << 16) if ready else b""
        except OSError:  # EIO: the other side is closed
            data = b""
        self.seen += data
        return bool(data)


@pytest.fixture
def session(overlayws: Program) -> Program:
    overlayws("start", "--name", "s", "--", "sh", "-c", "echo x > new; echo more >> README.md")
    return overlayws


def test_start_without_a_command_gives_a_shell(overlayws: Program) -> None:
    person = Person(overlayws, "start", "--name", "s")
    person.waits_for("$")
    person.types("echo in-the-shell > new; tty; exit 7\n")
    assert person.leaves() == 7
    assert b"1 file changed: 1 added" in person.seen and b"not a tty" not in person.seen
    assert overlayws("diff", "--name-status").out == b"A\tnew\n"


def test_apply_asks_and_takes_no_for_an_answer(session: Program, workspace: Path) -> None:
    person = Person(session, "apply")
    person.waits_for("2 files changed: 1 added, 1 modified. Apply to ")
    person.types("n\n")
    assert person.leaves() == 1 and b"nothing applied" in person.seen and not (workspace / "new").exists()
    person = Person(session, "apply")
    person.waits_for("[y/N]")
    person.types("y\n")
    assert person.leaves() == 0 and (workspace / "new").exists()
    person = Person(session, "undo")
    person.waits_for("[y/N]")
    person.interrupts()
    assert person.leaves() == 130 and (workspace / "new").exists()


def test_what_is_confirmed_is_what_is_applied(session: Program, workspace: Path) -> None:
    person = Person(session, "apply")
    person.waits_for("[y/N]")
    session("run", "s", "--", "sh", "-c", "echo other > new")
    person.types("y\n")
    assert person.leaves() == 4 and not (workspace / "new").exists()


def test_colours_only_where_they_are_wanted(session: Program) -> None:
    for command in (["diff"], ["diff", "--stat"], ["doctor"], ["status"]):
        person = Person(session, *command)
        assert person.leaves() == 0 and b"\x1b[" in person.seen
        for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            person = Person(session, *command, env=env)
            assert person.leaves() == 0 and b"\x1b[" not in person.seen, (command, env)


def test_what_a_file_holds_cannot_steer_the_terminal(overlayws: Program) -> None:
    script = r"""printf 'a\033]0;owned\007\033[2Jb\342\200\256c\n' > new; printf x > "$(printf 'n\033[31mame')" """
    overlayws("start", "--name", "s", "--", "sh", "-c", script)
    for command in (["diff"], ["diff", "--stat"], ["diff", "--name-status"], ["status"], ["apply", "--dry-run"]):
        person = Person(overlayws, *command)
        person.leaves()
        rest = re.sub(rb"\x1b\[[0-9;]*m", b"", person.seen)  # our own colours
        assert b"\x1b" not in rest and b"\x07" not in rest and "\u202e".encode() not in rest
        assert b"\x1b[2J" not in person.seen and b"\x1b[31mame" not in person.seen


def test_a_long_patch_goes_through_the_pager(session: Program, tmp_path: Path) -> None:
    session("run", "s", "--", "sh", "-c", "seq 500 > long")
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho PAGED; cat > /dev/null\n")
    pager.chmod(0o755)
    person = Person(session, "diff", env={"PAGER": str(pager)})
    assert person.leaves() == 0 and b"PAGED" in person.seen and b"+499" not in person.seen
    person = Person(session, "diff", "new", env={"PAGER": str(pager)})
    assert person.leaves() == 0 and b"PAGED" not in person.seen and b"+x" in person.seen


def test_the_shell_completes_commands_and_sessions(session: Program) -> None:
    def completed(*words: str) -> list[str]:
        env = {
            "_OVERLAYWS_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["overlayws", *words]),
            "COMP_CWORD": str(len(words)),
        }
        return session(env=env).out.decode().split()

    session("start", "--name", "second", "--no-run")
    assert completed("sta") == ["plain,start", "plain,status"]
    assert completed("diff", "se") == ["plain,second"]
    assert completed("run", "s") == ["plain,s", "plain,second"]
    assert completed("start", "sr") == ["dir,sr"]
    assert completed("diff", "s", "REA") == ["file,REA"]
    assert "complete" in session(env={"_OVERLAYWS_COMPLETE": "bash_source"}).out.decode()


def test_the_names_are_told_even_while_a_state_directory_is_missing(overlayws: Program) -> None:
    env = {"_OVERLAYWS_COMPLETE": "bash_complete", "COMP_WORDS": "overlayws diff x", "COMP_CWORD": "2"}
    assert overlayws(env=env).out == b"file,x\n"
    assert json.loads(overlayws("list", "--json").out)["sessions"] == []
