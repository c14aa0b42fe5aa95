"""What holds for every sandbox."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid

import pytest

from tests.run.confined import Place, eventually, kill_quietly, processes_with

pytestmark = [pytest.mark.parametrize("sandbox", [pytest.param("bwrap", marks=pytest.mark.bwrap), "none"])]


@pytest.mark.parametrize("status", [0, 1, 2, 42, 124, 125, 126, 127, 128, 255])
def test_the_exit_status_is_the_commands_own(here: Place, sandbox: str, status: int) -> None:
    assert here.run("sh", "-c", f"exit {status}", sandbox=sandbox).code == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGINT])
def test_a_signal_is_128_and_its_number(here: Place, sandbox: str, number: signal.Signals) -> None:
    assert here.run("sh", "-c", f"kill -{number.value} $$", sandbox=sandbox).code == 128 + number


def test_a_command_that_is_missing_or_not_executable_is_127_or_126(here: Place, sandbox: str) -> None:
    (here.merged / "data").write_text("no program")
    here.give()
    missing = here.run("no-such-command", sandbox=sandbox)
    assert (missing.code, "no-such-command" in missing.err) == (127, True)
    refused = here.run("./data", sandbox=sandbox)
    assert (refused.code, "./data" in refused.err) == (126, True)


def test_a_script_without_an_interpreter_line_runs_as_in_a_shell(here: Place, sandbox: str) -> None:
    (here.merged / "script").write_text("exit 9\n")
    (here.merged / "script").chmod(0o755)
    assert here.run("./script", sandbox=sandbox).code == 9


def test_words_reach_the_command_as_they_are(here: Place, sandbox: str) -> None:
    words = ("", " ", "a b", "$HOME", "*", "--", "-x", "new\nline", "'\"\\", os.fsdecode(b"\xff\xfe"))
    ended = here.run("printf", "%s|", *words, sandbox=sandbox, popen={"errors": "surrogateescape"})
    assert ended.out == "".join(word + "|" for word in words)


def test_the_environment_is_that_of_the_spec(here: Place, sandbox: str) -> None:
    given = {"PATH": "/usr/bin:/bin", "HOME": "/home", "ODD": "a=b\nc $x", "EMPTY": ""}
    ended = here.run("env", "-0", sandbox=sandbox, env=given, caller_env={"AWS_SECRET_ACCESS_KEY": "hush"})
    found = dict(line.split("=", 1) for line in ended.out.split("\0") if line)
    for name in ("PWD", "OLDPWD", "SHLVL", "_"):  # set by the shell that becomes the command
        found.pop(name, None)
    assert found == given


def test_standard_streams_are_the_callers(here: Place, sandbox: str) -> None:
    ended = here.run("sh", "-c", "cat; echo err >&2", sandbox=sandbox, input="in\n")
    assert (ended.out, ended.err) == ("in\n", "err\n")


def test_only_the_standard_streams_are_open(here: Place, sandbox: str) -> None:
    lister = (
        "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/'+n)))"
    )
    assert here.probe(lister, sandbox=sandbox, leak="/etc").out == "[0, 1, 2]\n"
    leaky = here.probe(lister, sandbox=sandbox, leak="/etc", without={"closed_descriptors": True})
    assert leaky.out != "[0, 1, 2]\n"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_standard_streams_are_dev_null(here: Place, sandbox: str, closed: tuple[int, ...]) -> None:
    script = "exec 5>seen; for n in 0 1 2; do is=$(readlink /proc/$$/fd/$n); echo $is >&5; done; exit 5"
    ended = here.run("sh", "-c", script, sandbox=sandbox, popen={"preexec_fn": lambda: [os.close(fd) for fd in closed]})
    seen = (here.merged / "seen").read_text().splitlines()
    assert ended.code == 5
    assert [seen[fd] for fd in closed] == ["/dev/null"] * len(closed)


def test_a_command_may_close_its_streams(here: Place, sandbox: str) -> None:
    assert here.run("sh", "-c", "exec <&- >&- 2>&-; exit 6", sandbox=sandbox).code == 6


def test_ignored_signals_of_the_caller_are_not_handed_on(here: Place, sandbox: str) -> None:
    def ignore() -> None:
        for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN)

    ended = here.run("grep", "-E", "SigIgn|SigBlk", "/proc/self/status", sandbox=sandbox, popen={"preexec_fn": ignore})
    assert ended.out.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]


def test_setuid_programs_give_no_privilege(here: Place, sandbox: str) -> None:
    # Without a sandbox too: what runs as another user could not be killed, and could write after the capture.
    assert here.run("grep", "NoNewPrivs", "/proc/self/status", sandbox=sandbox).out.split() == ["NoNewPrivs:", "1"]


def test_the_timeout_ends_the_command(here: Place, sandbox: str) -> None:
    began = time.monotonic()
    ended = here.run("sh", "-c", "trap '' TERM; while :; do sleep 1; done", sandbox=sandbox, spec={"timeout": 0.5})
    assert (ended.code, ended.said["timed_out"]) == (124, True)
    assert time.monotonic() - began < 10


def test_a_daemon_is_gone_before_run_returns(here: Place, sandbox: str) -> None:
    mark = uuid.uuid4().hex
    daemon = f"exec >/dev/null 2>&1; while :; do echo {mark} >>log; done"
    script = f"(setsid sh -c '{daemon}' &) ; while ! test -s log; do :; done"
    ended = here.run("sh", "-c", script, sandbox=sandbox)
    size = (here.merged / "log").stat().st_size
    assert ended.code == 0 and size > 0
    assert processes_with(mark) == []
    time.sleep(0.3)
    assert (here.merged / "log").stat().st_size == size


def test_children_that_fork_faster_than_they_are_killed_are_gone(here: Place, sandbox: str) -> None:
    mark = uuid.uuid4().hex
    # Every process is replaced by its child all the time, eight lines of them, each in a session of its own.
    source = f"""
import os, sys, time
sys.argv.append({mark!r})
for _ in range(8):
    if os.fork() == 0:
        os.setsid()
        while True:
            if os.fork(): os._exit(0)
time.sleep(0.5)
"""
    try:
        assert here.probe(source, sandbox=sandbox).code == 0
        assert processes_with(mark) == []
    finally:
        kill_quietly(processes_with(mark))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_caller_is_killed(here: Place, sandbox: str, number: int) -> None:
    mark = uuid.uuid4().hex
    script = f": {mark}; (setsid sh -c ': {mark}; sleep 300; :' &); echo up; sleep 300; :"
    with here.start("sh", "-c", script, sandbox=sandbox) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        process.send_signal(number)
        process.wait(20)
    assert eventually(lambda: not processes_with(mark)), processes_with(mark)


def test_a_stopped_command_dies_with_the_caller(here: Place, sandbox: str) -> None:
    mark = uuid.uuid4().hex
    with here.start("sh", "-c", f": {mark}; echo up; kill -STOP $$; :", sandbox=sandbox) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        process.kill()
    assert eventually(lambda: not processes_with(mark)), processes_with(mark)


def test_the_first_interrupt_reaches_the_command_and_its_status_passes(here: Place, sandbox: str) -> None:
    with here.start("sh", "-c", "trap 'exit 33' INT; echo up; while :; do sleep 0.1; done", sandbox=sandbox) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert '"exit_code": 33' in here.report.read_text()
    assert '"interrupted": false' in here.report.read_text()


def test_an_interrupt_that_ends_the_command_is_130(here: Place, sandbox: str) -> None:
    with here.start("sh", "-c", "echo up; exec sleep 300", sandbox=sandbox) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert '"exit_code": 130' in here.report.read_text()
    assert '"interrupted": true' in here.report.read_text()


def test_a_second_interrupt_kills_the_command(here: Place, sandbox: str) -> None:
    mark = uuid.uuid4().hex
    with here.start(
        "sh", "-c", f": {mark}; trap '' INT; echo up; while :; do sleep 0.1; done", sandbox=sandbox
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        time.sleep(0.4)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert '"exit_code": 130' in here.report.read_text()
    assert processes_with(mark) == []


def test_a_command_that_ignores_sigterm_is_killed_after_a_while(here: Place, sandbox: str) -> None:
    with here.start("sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done", sandbox=sandbox) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert '"exit_code": 143' in here.report.read_text()


def test_a_killed_supervisor_is_an_error_and_not_a_result(here: Place, sandbox: str) -> None:
    mark = uuid.uuid4().hex
    with here.start("sh", "-c", f": {mark}; echo up; while :; do sleep 1; done", sandbox=sandbox) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        supervisor = [pid for pid in processes_with("supervise.py") if _parent(pid) == process.pid]
        os.kill(supervisor[0], signal.SIGKILL)
        process.wait(20)
    assert '"RunLost"' in here.report.read_text()
    assert eventually(lambda: not processes_with(mark)), processes_with(mark)


def test_a_mount_that_fails_is_not_started(here: Place, sandbox: str) -> None:
    for enter in (("/bin/false",), ("/nonexistent/enter",)):
        said = here.run("true", sandbox=sandbox, enter=enter).said
        assert said["error"] == "NotStartedError" and "supervisor" in said["message"]


def test_the_workspace_is_the_working_directory(here: Place, sandbox: str) -> None:
    (here.merged / "here").touch()
    ended = here.run("sh", "-c", "pwd; ls", sandbox=sandbox)
    # Without a sandbox and without a mount over it, the name /workspace would be something else: merged it is.
    assert ended.out.splitlines() == ["/workspace" if sandbox == "bwrap" else str(here.merged), "here"]


def _parent(pid: int) -> int:
    stat = subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True).stdout
    return int(stat or 0)
