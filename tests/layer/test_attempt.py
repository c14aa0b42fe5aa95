"""begun: what a process that tries something has and has not, and that it is gone with the context."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlayws.layer.attempt import TIMED_OUT, begun, last_line
from overlayws.layer.mount import Layer
from tests.cli.test_kill import wait_until
from tests.layer.conftest import PYTHON, backend_params, make_layer
from tests.trees import File

SELF = "import os, sys, signal; print({}, file=sys.stderr)"


def asked(expression: str, **options: object) -> str:
    with begun([*PYTHON, "-c", SELF.format(expression)], seconds=30, **options) as attempt:  # type: ignore[arg-type]
        assert attempt.wait() == 0, attempt.said()
        return attempt.said().decode().strip()


def alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def ended(pid: int) -> bool:
    """As not ``alive``, or not yet waited for by init, whose child it has become."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


@contextmanager
def taken(*numbers: int) -> Iterator[None]:
    """The descriptors ``numbers`` are ours meanwhile, and inherited by whatever we execute."""
    kept = {number: os.dup(number) for number in numbers if os.path.lexists(f"/proc/self/fd/{number}")}
    source = os.open("/etc/hostname", os.O_RDONLY)
    try:
        for number in numbers:
            os.dup2(source, number, inheritable=True)
        yield
    finally:
        os.close(source)
        for number in numbers:
            os.dup2(kept[number], number, inheritable=False) if number in kept else os.close(number)
        for fd in kept.values():
            os.close(fd)


def test_it_begins_where_few_descriptors_are_allowed() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with taken(200):  # opened while more were
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, before[1]))
        try:
            assert asked("os.read(12, 9)", given={12: b"twelve"}) == "b'twelve'"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_it_has_no_descriptor_of_ours_and_each_of_its_own_at_the_number_that_was_asked_for() -> None:
    content = "{n: os.read(n, 9) for n in (10, 11, 12)}"
    given = {10: b"ten", 11: b"eleven", 12: b"twelve"}
    with taken(10, 11, 12, 40, 64, 65, 200):
        assert asked(content, given=given) == str(given)
        listed = "[n for n in range(1000) if os.path.lexists(f'/proc/self/fd/{n}')]"
        assert asked(listed, given={10: b""}, heard=(2, 4)) == "[0, 1, 2, 4, 10]"


def test_what_is_put_in_place_takes_the_place_of_nothing_that_still_is_to_be_put() -> None:
    next_ones = [os.dup(2) for _ in range(6)]
    for fd in next_ones:
        os.close(fd)
    numbers = [next_ones[n] for n in (3, 2, 4, 1, 0, 5)]  # where the contents would be, had they not been moved away
    given = {number: b"%d" % number for number in numbers}
    assert asked(f"{{n: os.read(n, 9) for n in {numbers}}}", given=given) == str(given)


def test_it_has_no_environment_of_ours_a_session_of_its_own_and_the_signals_of_a_new_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    assert "planted" not in asked("open('/proc/self/environ').read()")
    assert asked("os.getsid(0) == os.getpid()") == "True"
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        assert asked("signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL") == "True"
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_one_that_nobody_asks_is_gone_with_the_context() -> None:
    with begun(["/bin/sleep", "300"], seconds=300) as attempt:
        pid = attempt._pid
        assert alive(pid)
    assert not alive(pid)


def test_one_that_takes_too_long_is_ended() -> None:
    with begun(["/bin/sleep", "300"], seconds=0.05) as attempt:
        pid = attempt._pid
        assert attempt.wait() == TIMED_OUT and attempt.wait() == TIMED_OUT
        assert not alive(pid)


def test_what_it_has_begun_itself_is_ended_with_it(tmp_path: Path) -> None:
    """A bwrap on PATH may be a script around the real one."""
    said = tmp_path / "pid"
    with begun(["/bin/sh", "-c", f"sleep 300 & echo $! > {said}.new; mv {said}.new {said}; wait"], seconds=30):
        wait_until(said.exists, "it has begun one")
        pid = int(said.read_text())
        assert alive(pid)
    wait_until(lambda: ended(pid), "it is ended")


def test_one_that_somebody_else_waited_for_between_two_looks_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with begun(["/bin/true"], seconds=30) as attempt:
        os.waitpid(attempt._pid, 0)
        looks = [(0, 0)]
        real = os.waitpid
        monkeypatch.setattr(os, "waitpid", lambda pid, how: looks.pop() if looks else real(pid, how))
        attempt.end()
    assert not looks


def test_one_that_is_killed_says_by_which_signal() -> None:
    with begun(["/bin/sh", "-c", "kill -9 $$"], seconds=30) as attempt:
        assert attempt.wait() == 128 + signal.SIGKILL


def test_where_children_are_not_waited_for_its_status_is_unknown_and_what_it_said_is_not() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with begun(["/bin/sh", "-c", "echo why >&2; exit 3"], seconds=30) as attempt:
            assert attempt.wait() == 0 and last_line(attempt.said()) == "why"
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_program_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileNotFoundError):
        with begun([str(tmp_path / "missing")], seconds=30):
            raise AssertionError("it was begun")
    assert os.listdir("/proc/self/fd") == before


def test_of_what_is_said_the_last_line_counts_without_what_a_terminal_obeys() -> None:
    assert last_line(b"bwrap: one\nbwrap: \x1b[2Jtwo\n\n") == "bwrap: ?[2Jtwo"
    assert last_line(b"\n") == ""


def tried(mode: str, layer: Layer) -> tuple[int, str]:
    """How the trial of ``enter`` in the mount of ``layer`` ends, and the last line that it says."""
    for directory in (layer.upperdir, layer.workdir, layer.merged):
        directory.mkdir()
    names = {"lower": layer.lowerdir, "upper": layer.upperdir, "work": layer.workdir, "merged": layer.merged}
    words = [f"{name}={path}" for name, path in names.items()]
    enter = str(Path(__file__).resolve().parents[2] / "overlayws/layer/enter.py")
    command = [*PYTHON, enter, f"mode={mode}", f"parent={os.getpid()}", *words, "try=yes", "--"]
    with begun(command, seconds=30) as attempt:
        return attempt.wait(), last_line(attempt.said())


@pytest.mark.parametrize("mode", backend_params("kernel", "userns"))
def test_a_mount_that_cannot_be_used_as_one_would_fails_the_trial(mode: str, tmp_path: Path) -> None:
    layer = make_layer(tmp_path, {"f": "some", "d/y": ""})  # no d/x to delete
    assert tried(mode, layer) == (1, "d/x: No such file or directory")


@pytest.mark.userns
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every file")
def test_the_trial_may_no_more_than_a_command_that_is_executed_in_the_mount(tmp_path: Path) -> None:
    """Who has just made a user namespace has every capability in it, until execve(2)."""
    layer = make_layer(tmp_path, {"f": File(b"some", 0o444), "d/x": ""})
    assert tried("userns", layer) == (1, "f: Permission denied")
