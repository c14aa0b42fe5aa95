"""Runs on a terminal, with a person at it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import select
import signal
import struct
import termios
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.run.confined import PYTHON, Place, eventually, processes_with

both = pytest.mark.parametrize("sandbox", [pytest.param("bwrap", marks=pytest.mark.bwrap), "none"])


class Person:
    """At a terminal where the driver was started as a shell starts a job: leader of the session, in front."""

    def __init__(self, place: Place, master: int, slave: int) -> None:
        self.place, self.master, self.slave = place, master, slave
        self.seen = b""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def waits_for(self, text: str, seconds: float = 20) -> None:
        """Until ``text`` is on the screen, after what was waited for before."""
        end = time.monotonic() + seconds
        while text.encode() not in self.seen:
            assert time.monotonic() < end, f"no {text!r} in {self.seen!r}"
            self._read(0.1)
        self.seen = self.seen.partition(text.encode())[2]

    def _read(self, seconds: float) -> None:
        if select.select([self.master], [], [], seconds)[0]:
            try:
                self.seen += os.read(self.master, 65536)
            except OSError as error:
                assert error.errno == errno.EIO
                time.sleep(seconds)

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self.slave)

    def ended(self, process: Any, seconds: float = 20) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while process.poll() is None:
            assert time.monotonic() < end, f"still running: {self.seen!r}"
            self._read(0.05)
        self._read(0.05)
        said: dict[str, Any] = json.loads(self.place.report.read_text())
        return said


def _control(slave: int) -> None:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


@pytest.fixture
def person(here: Place) -> Iterator[Person]:
    master, slave = pty.openpty()
    try:
        yield Person(here, master, slave)
    finally:
        os.close(master)
        os.close(slave)


@contextmanager
def at(person: Person, *command: str, **options: Any) -> Iterator[Any]:
    streams = {"stdin": person.slave, "stdout": person.slave, "stderr": person.slave}
    streams.update(options.pop("streams", {}))
    popen = {**streams, "preexec_fn": lambda: _control(person.slave)}
    with person.place.start(*command, popen=popen, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@both
def test_the_program_gets_a_terminal_of_its_own(person: Person, sandbox: str) -> None:
    fcntl.ioctl(person.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    script = "test -t 0 && test -t 1 && test -t 2 && stty size && stat -L -c %t:%T:%i /dev/stdin; exit 3"
    with at(person, "sh", "-c", script, sandbox=sandbox) as process:
        person.waits_for("33 101\r\n")
        person.waits_for("\r\n")
        assert person.ended(process)["exit_code"] == 3


@both
def test_the_size_follows_the_real_terminal(person: Person, sandbox: str) -> None:
    script = "trap 'stty size; exit 0' WINCH; echo up; while :; do sleep 0.1; done"
    with at(person, "sh", "-c", script, sandbox=sandbox) as process:
        person.waits_for("up")
        fcntl.ioctl(person.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 34, 0, 0))
        person.waits_for("12 34")
        assert person.ended(process)["exit_code"] == 0


@both
def test_bytes_pass_unchanged_both_ways(person: Person, sandbox: str) -> None:
    script = "stty raw -echo; printf up; head -c 6 | od -An -tx1; printf '\\033]0;t\\007\\377\\000end'"
    with at(person, "sh", "-c", script, sandbox=sandbox) as process:
        person.waits_for("up")
        os.write(person.master, b"\x00\x03\x1a\xff\r\n")
        person.waits_for("00 03 1a ff 0d 0a")
        person.ended(process)
        assert person.seen.endswith(b"\x1b]0;t\x07\xff\x00end")


@both
def test_much_output_arrives_whole(person: Person, sandbox: str) -> None:
    with at(person, "sh", "-c", "seq 1 20000; echo the-end", sandbox=sandbox) as process:
        person.waits_for("19999\r\n20000\r\nthe-end\r\n")
        assert person.ended(process)["exit_code"] == 0


@both
def test_the_real_terminal_is_raw_meanwhile_and_as_before_afterwards(person: Person, sandbox: str) -> None:
    before = person.modes()
    with at(person, "sh", "-c", "stty -echo -icanon; echo up; read x; exit 0", sandbox=sandbox) as process:
        person.waits_for("up")
        assert not person.modes()[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
        person.type("go\r")
        assert person.ended(process)["exit_code"] == 0
    assert person.modes() == before


@both
def test_modes_are_restored_when_overlayws_is_terminated(person: Person, sandbox: str) -> None:
    before, mark = person.modes(), uuid.uuid4().hex
    with at(person, "sh", "-c", f": {mark}; echo up; while :; do sleep 1; done", sandbox=sandbox) as process:
        person.waits_for("up")
        process.send_signal(signal.SIGTERM)
        assert person.ended(process)["exit_code"] == 143
    assert person.modes() == before
    assert processes_with(mark) == []


@both
def test_an_inherited_terminal_keeps_its_modes(person: Person, sandbox: str) -> None:
    before = person.modes()
    with at(person, "stty", "-F", "/dev/stdin", "raw", "-echo", sandbox=sandbox, interactive=False) as process:
        person.ended(process)
    assert person.modes() == before


@both
@pytest.mark.parametrize("interactive", [True, False])
def test_an_interrupt_reaches_the_program_only(person: Person, sandbox: str, interactive: bool) -> None:
    script = "trap 'echo caught; exit 44' INT; echo up; while :; do sleep 0.1; done"
    with at(person, "sh", "-c", script, sandbox=sandbox, interactive=interactive) as process:
        person.waits_for("up")
        person.type("\x03")
        person.waits_for("caught")
        assert person.ended(process)["exit_code"] == 44


@both
@pytest.mark.parametrize("interactive", [True, False])
def test_an_interrupted_program_is_130(person: Person, sandbox: str, interactive: bool) -> None:
    with at(person, "sh", "-c", "echo up; exec sleep 300", sandbox=sandbox, interactive=interactive) as process:
        person.waits_for("up")
        time.sleep(0.1)
        person.type("\x03")
        said = person.ended(process)
        assert (said["exit_code"], said["interrupted"]) == (130, True)


@both
@pytest.mark.parametrize("interactive", [True, False])
def test_a_second_interrupt_kills(person: Person, sandbox: str, interactive: bool) -> None:
    mark = uuid.uuid4().hex
    script = f": {mark}; trap 'echo no' INT; echo up; while :; do sleep 0.1; done"
    with at(person, "sh", "-c", script, sandbox=sandbox, interactive=interactive) as process:
        person.waits_for("up")
        person.type("\x03")
        person.waits_for("no")
        person.type("\x03")
        said = person.ended(process)
        assert (said["exit_code"], said["interrupted"]) == (130, True)
    assert eventually(lambda: not processes_with(mark))


@both
def test_interrupts_at_a_program_that_reads_keys_itself_do_not_kill(person: Person, sandbox: str) -> None:
    script = "trap 'echo one' INT; stty -icanon; echo up; while ! test -e stop; do sleep 0.05; done; echo bye"
    with at(person, "sh", "-c", script, sandbox=sandbox) as process:
        person.waits_for("up")
        for _ in range(3):
            person.type("\x03")
            person.waits_for("one")
        (person.place.merged / "stop").touch()
        person.waits_for("bye")
        assert person.ended(process)["exit_code"] == 0


@both
def test_a_shell_has_job_control(person: Person, sandbox: str) -> None:
    if not os.path.exists("/bin/bash"):
        pytest.skip("no bash")
    with at(person, "bash", "--norc", "-i", sandbox=sandbox, env={"PATH": "/usr/bin:/bin", "PS1": "% "}) as process:
        person.waits_for("% ")
        assert b"job control" not in person.seen
        person.type("sleep 300\r")
        time.sleep(0.5)
        person.type("\x1a")
        person.waits_for("Stopped")
        # `wait` may return before the job is gone, and bash does not exit while one is stopped.
        person.type('kill -9 %1; while [ -n "$(jobs -s)" ]; do sleep 0.1; done; echo is=$((6*7))\r')
        person.waits_for("is=42")
        person.type("exit 5\r")
        assert person.ended(process)["exit_code"] == 5


@both
def test_standard_error_elsewhere_stays_elsewhere(person: Person, sandbox: str) -> None:
    log = person.place.root / "log"
    with log.open("w") as file:
        with at(person, "sh", "-c", "echo out; echo err >&2", sandbox=sandbox, streams={"stderr": file}) as process:
            person.waits_for("out")
            person.ended(process)
    assert log.read_text() == "err\n"


@both
def test_without_a_terminal_there_is_none_unless_asked_for(here: Place, sandbox: str) -> None:
    script = "test -t 0 && echo terminal; cat; exit 0"
    assert here.run("sh", "-c", script, sandbox=sandbox, input="in\n").out == "in\n"
    asked = here.run("sh", "-c", script, sandbox=sandbox, input="in\n", interactive=True)
    assert asked.out.replace("\r", "").startswith("in\nterminal\nin\n") or "terminal\r\n" in asked.out
    assert asked.code == 0


TIOCSTI = """
import fcntl, os, sys, termios
for fd in (0, 1, 2, '/dev/tty', '/dev/console'):
    try:
        if isinstance(fd, str): fd = os.open(fd, os.O_RDWR)
        if not os.isatty(fd): continue
        for request in (0x5412, 0x5412 | 1 << 32, 0x541c):
            import ctypes
            result = ctypes.CDLL(None, use_errno=True).ioctl(fd, ctypes.c_ulong(request), b'#')
            print('refused' if result < 0 else 'INJECTED', end=' ')
    except OSError as error: print('refused', end=' ')
print('done', flush=True)
"""


@pytest.mark.bwrap
@pytest.mark.parametrize("interactive", [True, False])
def test_nothing_can_be_typed_into_a_terminal(person: Person, interactive: bool) -> None:
    with at(person, PYTHON, "-I", "-S", "-c", TIOCSTI, interactive=interactive) as process:
        person.ended(process)
        assert b"refused" in person.seen and b"done" in person.seen
        assert b"INJECTED" not in person.seen


@pytest.mark.bwrap
@pytest.mark.parametrize("interactive", [True, False])
def test_the_probe_can_type_where_the_filter_and_the_session_are_missing(person: Person, interactive: bool) -> None:
    with open("/proc/sys/dev/tty/legacy_tiocsti") as setting:
        if setting.read().strip() == "0":
            pytest.skip("this kernel refuses TIOCSTI to everyone")
    without: dict[str, Any] = {"options": [["--seccomp", "11"]]}
    if not interactive:
        # Three defences deep: the supervisor's session, bwrap's, and the filter.
        without = {"options": [["--seccomp", "11"], ["--new-session"]], "session": True}
    with at(person, PYTHON, "-I", "-S", "-c", TIOCSTI, interactive=interactive, without=without) as process:
        person.ended(process)
        assert b"INJECTED" in person.seen
