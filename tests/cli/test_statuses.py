"""The command's own exit status and output pass through; what overlayws itself says is on stderr."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import BACKEND, Program, heeding_interrupts

EVERY_BACKEND = pytest.mark.parametrize("backend", BACKEND)


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 3", 3), ("exit 126", 126), ("exit 255", 255), ("kill -9 $$", 137), ("kill -15 $$", 143)],
)
def test_the_status_of_the_command_is_the_status(overlayws: Program, script: str, code: int) -> None:
    done = overlayws(
        "start", "--name", "s", "--", "sh", "-c", f"echo out; echo err >&2; echo x > new; {script}", code=code
    )
    assert done.out == b"out\n"
    assert "err\n" in done.err and "1 file changed: 1 added" in done.err and "overlayws diff s" in done.err
    assert overlayws("run", "s", "--", "sh", "-c", f"printf more; {script}", code=code).out == b"more"
    runs = json.loads(overlayws("status", "--json").out)["runs"]
    assert [run["exit_code"] for run in runs] == [code, code]


def test_a_command_that_is_not_there_is_127_and_one_that_cannot_be_executed_126(overlayws: Program) -> None:
    overlayws("start", "--name", "s", "--", "no-such-program", code=127)
    overlayws("run", "s", "--", "./README.md", code=126)


def test_a_command_that_takes_too_long_is_ended_and_what_it_changed_is_kept(overlayws: Program) -> None:
    began = time.monotonic()
    done = overlayws("start", "--timeout", "1.5", "--", "sh", "-c", "echo x > new; sleep 60", code=124)
    assert time.monotonic() - began < 30
    assert "its time was over" in done.err and "1 file changed" in done.err


def test_interrupting_ends_the_command_and_keeps_what_it_changed(overlayws: Program) -> None:
    child = overlayws.ready("start", "--name", "s", "--", "sh", "-c", "echo x > new; echo ready; exec sleep 60")
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130 and b"1 file changed: 1 added" in err and b"Traceback" not in err
    status = json.loads(overlayws("status", "--json").out)
    assert status["state"] == "captured" and status["runs"][0]["exit_code"] == 130


def test_no_run_prints_the_name_and_nothing_else_on_stdout(overlayws: Program) -> None:
    name = overlayws("start", "--no-run").out.decode()
    assert name.endswith("\n") and json.loads(overlayws("status", name.strip(), "--json").out)["state"] == "new"
    assert overlayws("start", "--name", "mine", "--no-run").out == b"mine\n"


@EVERY_BACKEND
def test_a_second_command_works_on_what_the_first_one_changed(overlayws: Program, backend: str) -> None:
    overlayws("start", "--name", "s", "--backend", backend, "--", "sh", "-c", "echo 1 > new; rm docs/guide.txt")
    overlayws("run", "s", "--", "sh", "-c", "test ! -e docs/guide.txt; echo 2 >> new; cat new")
    overlayws("run", "s", "--", "sh", "-euc", 'test "$(cat new)" = "$(printf "1\\n2")"')
    assert overlayws("diff", "--name-status").out == b"D\tdocs/guide.txt\nA\tnew\n"


def test_closed_standard_streams_are_no_obstacle(overlayws: Program) -> None:
    def closing(*fds: int):  # type: ignore[no-untyped-def]
        return lambda: [os.close(fd) for fd in fds]

    for fds in ((0,), (1,), (2,), (0, 1, 2)):
        name = "s" + "".join(map(str, fds))
        options = {{0: "stdin", 1: "stdout", 2: "stderr"}[fd]: None for fd in fds}
        script = "echo x > new; echo out; echo err >&2; exit 3"
        overlayws("start", "--name", name, "--", "sh", "-c", script, code=3, preexec_fn=closing(*fds), **options)
        overlayws("diff", name, "--stat", preexec_fn=closing(*fds), **options)
        overlayws("list", preexec_fn=closing(*fds), **options)
        overlayws("nonsense", code=2, preexec_fn=closing(*fds), **options)
    assert b"?? " not in overlayws("list").out


def test_a_full_disk_behind_stdout_is_an_error_and_not_a_traceback(overlayws: Program) -> None:
    overlayws("start", "--name", "s", "--", "sh", "-c", "echo x > new")
    with open("/dev/full", "wb") as full:
        for command in (["list"], ["status"], ["diff"], ["diff", "--json"], ["--help"]):
            assert "No space left" in overlayws(*command, code=3, stdout=full).error


def test_output_that_a_full_disk_does_not_take_is_told_once(overlayws: Program, tmp_path: Path) -> None:
    """Unlike /dev/full a file is buffered: the interpreter would try again at its end, and fail again."""
    overlayws("start", "--name", "s", "--no-run")

    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    with (tmp_path / "out").open("wb") as out:
        for command in (["list"], ["--help"], ["list", "--json"]):
            assert "File too large" in overlayws(*command, code=3, stdout=out, preexec_fn=no_room).error


def test_a_reader_that_goes_away_is_no_traceback(overlayws: Program) -> None:
    overlayws("start", "--name", "s", "--", "sh", "-c", "seq 200000 > new; seq 200000 > new2")
    for command in (["diff"], ["diff", "--json"], ["status"], ["list"]):
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "wb") as pipe:
            overlayws(*command, code=128 + signal.SIGPIPE, stdout=pipe)


def test_nobody_reading_stderr_does_not_stop_an_apply(overlayws: Program, workspace: Path) -> None:
    overlayws("start", "--name", "s", "--", "sh", "-c", "echo x > new")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        overlayws("apply", "--yes", stderr=pipe)
        overlayws("nonsense", code=2, stderr=pipe)
    assert (workspace / "new").read_text() == "x\n"


ENCODINGS = [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}]
LOCALES = [{"LANG": "C", "LC_ALL": "C"}, {"LC_ALL": "nonsense"}, *ENCODINGS]


@pytest.mark.parametrize("env", LOCALES, ids=str)
def test_any_locale_will_do(overlayws: Program, workspace: Path, env: dict[str, str]) -> None:
    (workspace / "é").write_text("ü\n")
    done = overlayws("start", "--name", "s", "--", "sh", "-c", "echo ö >> é; echo x > ł; echo out", env=env)
    assert done.out == b"out\n"
    for command in (["diff"], ["diff", "--stat"], ["diff", "--name-status"], ["diff", "--json"], ["status"], ["list"]):
        overlayws(*command, env=env)
    overlayws("diff", "nosuch-ł", env=env, code=2)
    overlayws("apply", "--yes", "é", env=env)
    assert (workspace / "é").read_text() == "ü\nö\n"


def test_an_interrupt_while_the_program_is_loaded_ends_it_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n")
    done = subprocess.run(
        [sys.executable, "-m", "overlayws", "list"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        preexec_fn=heeding_interrupts,
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")


@pytest.mark.bwrap
def test_a_low_limit_of_descriptors_is_enough_and_keeps_none_beyond_it(overlayws: Program) -> None:
    def few() -> None:
        heeding_interrupts()
        os.dup2(os.open("/etc/hostname", os.O_RDONLY), 200, inheritable=True)  # opened while more were allowed
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))

    command = ("start", "--name", "s", "--sandbox", "bwrap", "--", "sh", "-c", "ls /proc/$$/fd")
    assert overlayws(*command, preexec_fn=few).out.split() == [b"0", b"1", b"2"]
