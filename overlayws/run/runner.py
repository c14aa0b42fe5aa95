"""The one place that starts the program: a supervisor inside the mount, and the wait for its report."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from overlayws.errors import NotStartedError, UntrustedError, UsageError
from overlayws.layer.mount import Mount, MountError, check_entered
from overlayws.run.disk import Watch, limiting
from overlayws.run.gauge import Gauge
from overlayws.run.sandbox import Launch, RunResult, RunSpec, Sandbox
from overlayws.run.streams import relayed
from overlayws.source.remove import remove_tree

_SUPERVISE = Path(__file__).with_name("supervise.py")
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# Mounting over these, or what they hold, would take away what every program needs.
_NOT_A_WORKSPACE = (
    "/",
    "/bin",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/sbin",
    "/sys",
    "/usr",
)
_NOT_A_TOOL = ("/dev", "/proc", "/run", "/sys", "/var/run")
_DOCTOR = "overlayws doctor says what this machine can use"

Listen = Callable[[socket.socket], bytes]


class RunLost(UntrustedError):
    """The supervisor was killed, or processes of the run could not be: nobody knows whether all of it has ended."""


def run(
    spec: RunSpec,
    mount: Mount,
    sandbox: Sandbox,
    *,
    interactive: bool | None = None,
    notice: Callable[[str], None] = lambda text: None,
) -> RunResult:
    """Run ``spec`` in ``sandbox`` on ``mount``; when it returns, every process of it is gone.

    ``interactive``: give the program a terminal of its own; None does so where standard input and output are one.
    Standard streams that are closed become /dev/null. ^C and SIGTERM, SIGHUP, SIGQUIT go to the program; a second ^C,
    or five seconds after SIGTERM or SIGHUP, kill it. ``notice`` is told which limits are not enforced.

    Raises UsageError for a spec that makes no sense, NotStartedError where mount or sandbox failed before the
    command ran (or its limit of disk is used up), RunLost where its end cannot be vouched for.
    """
    check(spec)
    watch, by, said = limiting(mount, spec.limits, in_memory=spec.capture == "memory")
    for line in said:
        notice(line)
    if mount.space is not None:  # the kernel sees to it: nothing more is to be limited or refused
        spec = replace(spec, limits=replace(spec.limits, disk=0, inodes=0))
    spec = replace(spec, terminal=_on_a_terminal() if interactive is None else interactive)
    with ExitStack() as stack:
        try:
            prepared = stack.enter_context(sandbox.prepared(spec, mount))
            for line in prepared.notices:
                notice(line)
            launch = prepared.launch
            if watch is not None:
                watch.others = prepared.others
            if launch.own_home and not os.path.isdir(launch.env.get("HOME", "")):
                home = tempfile.mkdtemp(prefix="overlayws-home-")
                stack.callback(remove_tree, Path(home))
                launch = replace(launch, env={**launch.env, "HOME": home})
            result = start(
                launch, enter=prepared.enter, timeout=spec.timeout, terminal=spec.terminal, quiet=False, watch=watch,
                cut_down=prepared.cut_down,
            )  # fmt: skip
        except NotStartedError as error:
            try:
                check_entered(mount)
            except MountError as why:
                raise NotStartedError(why.message, hint=why.hint) from error
            if spec.image and "/bin/sh" in error.message and "no such file" in error.message:
                error.hint = f"the command is started by a shell: choose an image with a /bin/sh, not {spec.image}"
            raise
        result = prepared.concluded(result)
    disk = "" if watch is None else watch.conclude(result.exit_code)
    return replace(result, disk_limit=by, notes=(*result.notes, *((disk,) if disk else ())))


def start(
    launch: Launch,
    *,
    enter: tuple[str, ...] = (),
    timeout: float | None = None,
    terminal: bool = False,
    quiet: bool = True,
    watch: Watch | Gauge | None = None,
    cut_down: Callable[[], None] = lambda: None,
) -> RunResult:
    """Carry out ``launch`` under a supervisor and wait for its end; ``quiet``: on /dev/null, signals not forwarded.
    ``watch`` may end it: by the supervisor, and where that takes long also by ``cut_down``.

    Raises NotStartedError, RunLost.
    """
    from overlayws.run.terminal import modes_kept, own_terminal

    ours, theirs = (_above_standard_streams(end) for end in socket.socketpair())
    streams = [subprocess.DEVNULL if quiet or _is_closed(fd) else fd for fd in (0, 1, 2)]
    began = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(ours)
        stack.enter_context(theirs)
        listen: Listen = _listen
        pty = stack.enter_context(own_terminal()) if terminal else None
        if pty is not None:
            own = pty.slave
            streams = [own, own, own if os.isatty(2) else streams[2]]
            listen = lambda control: pty.relay(control, _orders(control))  # noqa: E731
        else:
            stack.enter_context(modes_kept())
        relays = stack.enter_context(relayed(streams))
        process = _popen(
            [*enter, sys.executable, "-I", "-S", str(_SUPERVISE), str(theirs.fileno())],
            relays.streams,
            theirs.fileno(),
        )
        theirs.close()
        relays.begin()
        if pty is not None:
            pty.close_slave()
        try:
            with _forwarding(ours, quiet), watch.watching(_killer(ours, cut_down)) if watch else nullcontext():
                said = _converse(ours, _plan(launch, timeout), listen)
        finally:
            ours.close()  # whatever happened here: at the end of this socket the supervisor ends everything
            process.wait()
    result = _result(said, process.returncode, time.monotonic() - began)
    if launch.stands_in and said[1]["killed"]:
        raise RunLost(
            "the container's end is not known: its engine or our connection to it was lost",
            hint="run the command again before you trust the changes",
        )
    return result


def _popen(argv: list[str], streams: list[int], control: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv,
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            env={},
            cwd="/",
            pass_fds=(control,),
            start_new_session=True,  # ^C is forwarded, once, and the terminal is not its controlling one
        )
    except OSError as error:
        raise NotStartedError(f"the sandbox's supervisor did not start: {error}", hint=_DOCTOR) from error


def check(spec: RunSpec) -> None:
    """Raises UsageError for what no sandbox could run."""
    hint = "overlayws run SESSION -- COMMAND"
    words = (*spec.command, *spec.tools, *spec.hidden, spec.workspace, *spec.env, *spec.env.values())
    if any("\0" in word for word in words):
        raise UsageError("a NUL byte in the command, a path or the environment", hint=hint)
    if not spec.command or not spec.command[0] or spec.command[0].startswith("-"):
        raise UsageError(f"not a command: {' '.join(spec.command[:1])!r}", hint=hint)
    if spec.network not in ("none", "host"):
        raise UsageError(f"unknown network {spec.network!r}", hint="one of: none, host")
    workspace = spec.workspace
    if os.path.normpath(workspace) != workspace or not workspace.startswith("/") or _at(workspace, "/proc", "/sys"):
        raise UsageError(f"not a place for a workspace: {workspace!r}", hint="an absolute path without . and ..")
    if workspace in _NOT_A_WORKSPACE:
        raise UsageError(f"{workspace} cannot be a workspace: every program needs it", hint="choose a directory below")
    for tool in spec.tools:
        if not tool.startswith("/") or tool == "/" or os.path.normpath(tool) != tool or not os.path.isdir(tool):
            raise UsageError(
                f"not a directory that can be shown: {tool!r}", hint="give an absolute path of a directory"
            )
        if _at(tool, *_NOT_A_TOOL):
            raise UsageError(f"{tool} is never shown: it reaches the host's services", hint="copy what is needed")


def _at(path: str, *directories: str) -> bool:
    return any(path == directory or path.startswith(directory + "/") for directory in directories)


def _on_a_terminal() -> bool:
    return not any(_is_closed(fd) or not os.isatty(fd) for fd in (0, 1))


def _is_closed(fd: int) -> bool:
    # By what Python found when it started: the number may since belong to a file of ours, which is not to be handed on.
    return (sys.__stdin__, sys.__stdout__, sys.__stderr__)[fd] is None


def _above_standard_streams(end: socket.socket) -> socket.socket:
    """With standard streams closed, a new descriptor gets their number, and the child would lose it."""
    import fcntl

    if end.fileno() > 2:
        return end
    with end:
        return socket.socket(fileno=fcntl.fcntl(end.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))


def _plan(launch: Launch, timeout: float | None) -> bytes:
    def text(word: str) -> str:
        return os.fsencode(word).decode("latin-1")

    plan = {
        "program": text(launch.program),
        "argv": [text(word) for word in launch.argv],
        "env": {text(name): text(value) for name, value in launch.env.items()},
        "directory": text(launch.directory),
        "same_as": None if launch.same_as is None else text(launch.same_as),
        "descriptors": {number: content.decode("latin-1") for number, content in launch.descriptors.items()},
        "no_new_privs": launch.no_new_privs,
        "end": [text(word) for word in launch.end],
        "groups": [text(file) for file in launch.groups],
        "rlimits": launch.rlimits,
        "processors": launch.processors,
        "saving": launch.saving,
        "passes_on": launch.passes_on,
        "timeout": timeout,
    }
    return json.dumps(plan).encode("ascii") + b"\n"


def _converse(control: socket.socket, plan: bytes, listen: Listen) -> list[dict[str, Any]]:
    try:
        control.sendall(plan)
    except OSError:
        return []  # it ended before it read the plan; the caller asks why
    return [json.loads(line) for line in listen(control).splitlines()]


def _listen(control: socket.socket) -> bytes:
    received = b""
    try:
        while data := control.recv(1 << 16):
            received += data
    except ConnectionResetError:
        pass  # it ended with the plan unread
    return received


def _orders(control: socket.socket) -> Callable[[str, int], None]:
    def order(verb: str, number: int) -> None:
        try:
            control.send(f"{verb} {number}\n".encode("ascii"))
        except OSError:
            pass  # it ends at this moment

    return order


def _killer(control: socket.socket, cut_down: Callable[[], None]) -> Callable[[], None]:
    def kill() -> None:
        _orders(control)("kill", signal.SIGKILL)
        cut_down()

    return kill


@contextmanager
def _forwarding(control: socket.socket, quiet: bool) -> Iterator[None]:
    """Signals to us go to the program meanwhile, and overlayws goes on: the run must still be captured."""
    if quiet or threading.current_thread() is not threading.main_thread():
        yield
        return
    order = _orders(control)

    def forward(number: int, _frame: FrameType | None) -> None:
        order("signal", number)

    before: Mapping[int, Any] = {number: signal.getsignal(number) for number in _FORWARDED}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # as under nohup: it stays ignored
                signal.signal(number, forward)
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def _result(said: list[dict[str, Any]], status: int, duration: float) -> RunResult:
    if not said:
        raise NotStartedError(f"the sandbox's supervisor did not start (status {status})", hint=_DOCTOR)
    if len(said) < 2:
        raise RunLost("the supervisor of the run was killed", hint="run the command again before you trust the changes")
    report = said[1]
    if report["left"]:
        raise RunLost(
            f"processes of the run cannot be ended: {', '.join(map(str, report['left']))}",
            hint="end them, then run a command (`true` will do) in the session again",
        )
    if not report["started"]:
        lines = [line for line in report["complaint"].splitlines() if line.strip()] or ["no reason was given"]
        reason = "".join(c if c.isprintable() else "?" for c in lines[-1])
        raise NotStartedError(f"the sandbox failed before the command ran: {reason}", hint=_DOCTOR)
    return RunResult(report["code"], duration, report["timed_out"], report["interrupted"])
