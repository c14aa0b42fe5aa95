"""The parent of a sandbox: starts it, stops it, and ends only when nothing of it is left.

Run as a program of its own (``python -I -S supervise.py CONTROL``) inside the mount namespace of the layer; it
imports nothing of the package. CONTROL is a connected socket. In: one line of JSON, the plan (``runner.py`` writes
it), then lines ``signal N``, ``seen N`` (the terminal delivered it already) and ``kill N``. End of file there means
that overlayws is gone, and everything dies. Out: ``{}`` once the plan was read, then one line of JSON, how it ended.
Strings are bytes as latin-1, so that any name survives.

A child subreaper (prctl(2), PR_SET_CHILD_SUBREAPER) inherits every orphan below it, so a process that forked twice
and called setsid is still found; wait(2) says ECHILD only when the last one is gone.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import Any, NamedTuple, NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PARENT_DIED = signal.SIGUSR1
_FINISH = signal.SIGUSR2  # to the child: kill the program, then save what only it holds
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_GRACE = 5.0  # seconds between SIGTERM (or SIGHUP) and SIGKILL
_TIMEOUT_GRACE = 1.0
_TIMEOUT_CODE = 124  # as timeout(1)
_GIVE_UP = 30.0  # seconds after which a process that SIGKILL does not end is reported
_STDERR, _STARTED = 3, 4  # as in sandbox.EXEC

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)):
        raise OSError(ctypes.get_errno(), f"prctl({option})")


class Supervisor:
    """One run. ``main`` drives it."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._inbox = b""
        self._received: list[int] = []  # signals sent to this very process
        self._signals = [0] * 65
        self._kill_at: float | None = None
        self._killed_for = 0  # the signal that made us kill, or 0
        self._timed_out = False
        self._saving = 0.0  # seconds that the child gets to save what it holds
        self._asked = False  # it was told to
        self._passes_on = False  # the child gives its program every signal; what else is below it must get none
        self._started = False
        self.abandoned = False  # overlayws is gone
        self.child = 0

    # -- control ----------------------------------------------------------------------------------------------

    def line(self) -> bytes | None:
        """The next line of the control socket, b"" if there is none yet, None at its end."""
        while b"\n" not in self._inbox:
            try:
                data = self._control.recv(1 << 16)
            except BlockingIOError:
                return b""
            except OSError:
                return None
            if not data:
                return None
            self._inbox += data
        line, _, self._inbox = self._inbox.partition(b"\n")
        return line

    def note(self, number: int, _frame: object) -> None:
        self._received.append(number)

    # -- the run ----------------------------------------------------------------------------------------------

    def supervise(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Start the plan, wait for its end and for the end of all that came of it; returns the report."""
        wakeup, wakeup_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wakeup_in, warn_on_full_buffer=False)
        for number in (*_FORWARDED, _PARENT_DIED, signal.SIGCHLD):
            signal.signal(number, self.note)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        _prctl(_PR_SET_PDEATHSIG, _PARENT_DIED)
        complaints, complaints_in = os.pipe2(os.O_CLOEXEC)
        marker, marker_in = os.pipe2(os.O_CLOEXEC)
        self.child = os.fork()
        if self.child == 0:
            _become(plan, complaints_in, marker_in)
        for fd in (complaints_in, marker_in):
            os.close(fd)
        _forget_standard_streams()
        for fd in (complaints, marker):
            os.set_blocking(fd, False)
        self._control.setblocking(False)

        self._saving, self._passes_on = plan["saving"], plan["passes_on"]
        timeout = plan["timeout"]
        deadline = None if timeout is None else time.monotonic() + timeout
        poll = select.poll()
        poll.register(wakeup, select.POLLIN)
        poll.register(self._control, select.POLLIN)
        poll.register(marker, select.POLLIN)
        while (status := self._reap()) is None:
            ready = {fd for fd, _ in poll.poll(_milliseconds(deadline if self._kill_at is None else self._kill_at))}
            _drain(wakeup)
            if marker in ready:
                self._started = _drain(marker) != b""
                poll.unregister(marker)
            now = time.monotonic()
            if self._kill_at is not None and now >= self._kill_at:
                self._kill(self._killed_for)
            elif deadline is not None and now >= deadline and self._kill_at is None:
                self._timed_out, self._killed_for, self._kill_at = True, signal.SIGTERM, now + _TIMEOUT_GRACE
                self._send(signal.SIGTERM)
            if not self._obey() and self._control.fileno() in ready:
                poll.unregister(self._control)
        started = self._started or _drain(marker) != b""
        left = self._purge()
        code = 128 - status if status < 0 else status
        killed = status == -signal.SIGKILL or (self._asked and status == 128 + signal.SIGKILL)
        if self._killed_for and (killed or not started):
            code = 128 + self._killed_for
        interrupted = self._signals[signal.SIGINT] > 0 and code == 128 + signal.SIGINT
        return {
            "started": started or self._killed_for != 0,
            "complaint": _drain(complaints).decode("latin-1"),
            "code": _TIMEOUT_CODE if self._timed_out else code,
            "timed_out": self._timed_out,
            "interrupted": interrupted,
            "left": left,
            "killed": status < 0 and not self._killed_for,
        }

    def _obey(self) -> bool:
        """Do what the signals and the control socket ask; False when overlayws is gone."""
        orders: list[tuple[str, int]] = []
        while self._received:
            orders.append(("signal", self._received.pop(0)))
        while line := self.line():
            verb, _, word = line.decode("latin-1").partition(" ")
            orders.append((verb, int(word)))
        if line is None:
            self.abandoned = True
            orders.append(("kill", signal.SIGKILL))
        for verb, number in orders:
            if number == signal.SIGCHLD:
                continue
            if verb == "kill" or number == _PARENT_DIED:
                self._kill(number)
                continue
            self._signals[number] += 1
            if verb == "seen":
                continue
            again = number == signal.SIGINT and self._signals[number] > 1
            if again or not self._started:
                self._kill(number)
                continue
            self._send(number)
            if number in (signal.SIGTERM, signal.SIGHUP) and self._kill_at is None:
                self._send(signal.SIGCONT)  # a stopped process cannot handle it
                self._killed_for, self._kill_at = number, time.monotonic() + _GRACE
        return line is not None

    def _kill(self, number: int) -> None:
        now = time.monotonic()
        if self._saving and not self.abandoned and number != _PARENT_DIED:
            if not self._asked:
                self._asked, self._killed_for, self._kill_at = True, number, now + self._saving
                _signal(self.child, _FINISH)
                return
            if self._kill_at is not None and now < self._kill_at:
                return  # one more ^C must not lose what is being saved
        self._killed_for, self._kill_at = number, now + 1.0
        # The child first: when a guard dies, so does its pid namespace (pid_namespaces(7)).
        for process in _descendants():
            _signal(process.pid, signal.SIGKILL)

    def _send(self, number: int) -> None:
        """To every process group of the run, as a terminal does: what forks meanwhile does not escape.

        The sandbox's own processes outside are in our group, the one that is process 1 inside ignores what it does
        not handle (pid_namespaces(7)).
        """
        if self._passes_on:
            _signal(self.child, number)
            return
        for group in {process.group for process in _descendants()} - {os.getpgrp()}:
            try:
                os.killpg(group, number)
            except (ProcessLookupError, PermissionError):
                pass

    def _reap(self) -> int | None:
        """Collect what ended; the child's status once that is among it: its code, or minus its signal."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return None
            if pid == 0:
                return None
            if pid == self.child:
                return os.waitstatus_to_exitcode(status)

    def _purge(self) -> list[int]:
        """Kill every descendant and wait for it; the processes that would not go (none, ordinarily)."""
        stopped: set[int] = set()
        give_up = time.monotonic() + _GIVE_UP
        attempt = -1
        while True:
            attempt += 1
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return []
            alive = [process.pid for process in _descendants()]
            new = [pid for pid in alive if pid not in stopped]
            if attempt % 8 and new:
                # Something forks faster than it is killed: hold every one of them still first.
                for pid in new:
                    _signal(pid, signal.SIGSTOP)
                stopped.update(new)
                continue
            for pid in alive:
                _signal(pid, signal.SIGKILL)
            if time.monotonic() > give_up:
                return alive
            time.sleep(min(0.001 * (attempt + 1), 0.02))


def _become(plan: dict[str, Any], complaints: int, marker: int) -> NoReturn:
    """In the child: descriptors, signals and directory as the plan says, then execute it."""
    try:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if plan["no_new_privs"]:
            _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _limit(plan)
        os.chdir(_directory(plan))
        signal.set_wakeup_fd(-1)
        _arrange(plan, complaints, marker)
        complaints = 2
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            # An ignored signal stays ignored over execve(2): SIGPIPE by Python, SIGINT by a shell's `&`.
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        env = {key.encode("latin-1"): value.encode("latin-1") for key, value in plan["env"].items()}
        os.execve(plan["program"].encode("latin-1"), [word.encode("latin-1") for word in plan["argv"]], env)
    except BaseException as error:
        os.write(complaints, f"{error}\n".encode("utf-8", "surrogateescape"))
        os._exit(125)


def _limit(plan: dict[str, Any]) -> None:
    for path in plan["groups"]:
        group = os.open(path.encode("latin-1"), os.O_WRONLY | os.O_CLOEXEC)
        os.write(group, b"0")  # ourselves
        os.close(group)
    if plan["processors"]:
        os.sched_setaffinity(0, plan["processors"])
    for number, value in plan["rlimits"]:
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))


def _directory(plan: dict[str, Any]) -> bytes:
    directory: bytes = plan["directory"].encode("latin-1")
    if plan["same_as"] is not None:
        nicer: bytes = plan["same_as"].encode("latin-1")
        try:
            # Where nothing was mounted over the workspace, its own path is the user's real workspace.
            if os.path.samestat(os.stat(nicer), os.stat(directory)):
                return nicer
        except OSError:
            pass
    return directory


def _arrange(plan: dict[str, Any], complaints: int, marker: int) -> None:
    """0 and 1 as they are, 2 = complaints, 3 = the real standard error, 4 = marker, the plan's; no other."""
    wanted = {0: 0, 1: 1, 2: complaints, _STDERR: 2, _STARTED: marker}
    for number, content in plan["descriptors"].items():
        fd = os.memfd_create("overlayws", os.MFD_CLOEXEC)
        data = memoryview(content.encode("latin-1"))
        while data:
            data = data[os.write(fd, data) :]
        os.lseek(fd, 0, os.SEEK_SET)
        wanted[int(number)] = fd
    # First out of the way of every target number, then into place.
    parked = {target: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, max(wanted) + 1) for target, fd in wanted.items()}
    for target, fd in parked.items():
        os.dup2(fd, target, inheritable=True)
    after = 0
    for target in sorted(wanted):
        if after < target:  # closerange(0, 0) closes all that there is, by way of close_range(2)
            os.closerange(after, target)
        after = target + 1
    # Not up to the limit of descriptors: it may have been lowered after one was opened.
    os.closerange(after, 1 + max(map(int, os.listdir("/proc/self/fd"))))


def _forget_standard_streams() -> None:
    # Whoever reads the command's output must see its end when the command closes it, not when we do.
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


class _Process(NamedTuple):
    pid: int
    group: int


def _descendants() -> list[_Process]:
    """Every process below this one, parents before children; zombies too."""
    children: dict[int, list[_Process]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    # The second field is the program's name in parentheses, which may hold anything (proc(5)).
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue  # ended meanwhile
            children.setdefault(int(fields[1]), []).append(_Process(int(name), int(fields[2])))
    found = list(children.get(os.getpid(), ()))
    for process in found:
        found.extend(children.get(process.pid, ()))
    return found


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _drain(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 13)
    except BlockingIOError:
        return b""


def _milliseconds(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic()) * 1000 + 1


def main() -> int:
    """Read the plan from the control socket, carry it out, report."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    supervisor = Supervisor(control)
    line = supervisor.line()
    if not line:
        return 1
    try:
        control.sendall(b"{}\n")  # "the mount stands": from here on an end without a report is our own
        plan = json.loads(line)
        report = supervisor.supervise(plan)
        if supervisor.abandoned and plan["end"]:
            words = [word.encode("latin-1") for word in plan["end"]]
            os.waitpid(os.posix_spawn(words[0], words, {}), 0)
    except OSError as error:
        report = {"started": False, "complaint": str(error), "code": 125, "left": []}
    try:
        control.setblocking(True)
        control.sendall(json.dumps(report).encode("ascii") + b"\n")
    except OSError:
        return 1  # nobody is left to tell
    return 0


if __name__ == "__main__":
    sys.exit(main())
