"""The process that stands for a gVisor sandbox without an engine: starts runsc, opens the gate, passes signals on.

Run as a program of its own under the supervisor (``python -I -S standalone.py``); it imports nothing of the package.
On descriptor 10 is one JSON object:

runsc       the program, its options, and where it keeps its state: all that comes before the verb
name        of the container; of all of them on this machine
bundle      a directory (bundle.py); the file "go" in its "gate" lets the command begin
image       a directory that is to be the root, without being written to; or ""
canary      where outside the gate's file must appear first, with "word" in it; or ""
tty         whether standard input is a terminal, of which runsc gets none but makes one of its own
user        uid:gid of the program
signal      the command that, with the name of a signal after it, gives that signal to all processes inside
memory      null, or (memory.py): the sandbox's first process is ours, and the program is executed in it. "orders" and
            "answers" are its standard input and output (FIFOs), "go" and "no" files of which one appears when it is
            ready or cannot be, "process" says what to execute (JSON: the runtime's specification of a process)

Descriptors 0 to 4 are those of sandbox.EXEC. The sandbox inherits the command's streams; runsc complains to a log.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
import tty
from typing import Any

_COMPLAINTS, _ERR, _STARTED, _PLAN = 2, 3, 4, 10
_PR_SET_PDEATHSIG = 1
_NOSUID_NODEV = 2 | 4  # MS_NOSUID | MS_NODEV
_PATIENCE = 60.0  # seconds for the gate to answer
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_CHUNK = 1 << 14
_FINISH = signal.SIGUSR2  # of the supervisor: end the program now, then save what it changed
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_LOST = (
    "what is written to the workspace is lost (runsc keeps it to itself, as with --overlay2=all), or the workspace "
    "cannot be written at its top"
)


def main() -> int:
    """Do what the module says; the command's exit status."""
    with open(_PLAN, encoding="utf-8", errors="surrogateescape") as file:
        plan: dict[str, Any] = json.load(file)
    os.setsid()  # the supervisor gives signals to the groups of the run, of which its own is none
    pending: list[int] = []
    for number in _FORWARDED:
        signal.signal(number, lambda number, _frame: pending.append(number))
    os.chdir(plan["bundle"])
    if plan["image"] and (reason := _over_image(plan["image"])):
        os.write(_COMPLAINTS, f"the image's directory cannot be shown: {reason}\n".encode("utf-8", "replace"))
        return 125
    if plan["memory"]:
        return _in_memory(plan, pending)
    words = _runsc(plan, "run")
    listener = _listening() if plan["tty"] else None
    if listener is not None:
        words += ["--console-socket", "console"]
    # A group of its own: what the terminal or the supervisor sends to ours is passed on by us, once.
    child = subprocess.Popen(
        [*words, "--bundle", ".", plan["name"]], stderr=_ERR, env=_ENVIRONMENT, preexec_fn=_alone
    )  # fmt: skip
    relay = None
    if listener is not None:
        relay = threading.Thread(target=_relay, args=(listener,), daemon=True)
        relay.start()
    if not _gate(plan, child):
        child.kill()
        child.wait()
        os.write(_COMPLAINTS, (_reason() or _LOST).encode("utf-8", "replace") + b"\n")
        return 125
    os.write(_STARTED, b"\n")
    os.close(_STARTED)
    while child.poll() is None:
        while pending:
            _signal(plan, pending.pop(0))
        time.sleep(0.01)
    if relay is not None:
        relay.join(2.0)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _over_image(image: str) -> str:
    """Mount an overlay of ours over it at "root", in our mount namespace only; why that failed, or ""."""
    try:
        fd = os.open(image, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        return str(error.strerror)
    # By descriptor: a path may hold what separates options.
    options = f"lowerdir=/proc/self/fd/{fd},upperdir=image-upper,workdir=image-work".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.mount(b"overlay", b"root", b"overlay", ctypes.c_ulong(_NOSUID_NODEV), options)
    reason = os.strerror(ctypes.get_errno()) if failed else ""
    os.close(fd)
    return reason


def _alone() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # runsc's own children die with it likewise


def _runsc(plan: dict[str, Any], verb: str, log: str = "runsc.log") -> list[str]:
    return [*plan["runsc"], "--log", log, "--log-format", "json", verb]


def _in_memory(plan: dict[str, Any], pending: list[int]) -> int:
    """The sandbox with our own first process, the program beside it, and at its end the time to save; its status."""
    memory = plan["memory"]
    finish: list[int] = []
    signal.signal(_FINISH, lambda number, _frame: finish.append(number))
    orders = os.open(memory["orders"], os.O_RDONLY | os.O_CLOEXEC)  # the other ends are open: nothing waits here
    answers = os.open(memory["answers"], os.O_WRONLY | os.O_CLOEXEC)
    ours = os.open(memory["orders"], os.O_WRONLY | os.O_CLOEXEC)
    sandbox = subprocess.Popen(
        [*_runsc(plan, "run"), "--bundle", ".", plan["name"]], stdin=orders, stdout=answers, stderr=_COMPLAINTS,
        env=_ENVIRONMENT, preexec_fn=_alone,
    )  # fmt: skip
    os.close(orders)
    os.close(answers)
    if not _ready(memory, sandbox, finish):
        sandbox.kill()
        sandbox.wait()
        if reason := _said(memory["no"]) or _reason():
            os.write(_COMPLAINTS, reason.encode("utf-8", "replace") + b"\n")
        return 125
    words = [*_runsc(plan, "exec", "exec.log"), "--pid-file", "exec.pid", "--process", memory["process"], plan["name"]]
    own = _own_terminal if plan["tty"] else _alone
    program = subprocess.Popen(words, stderr=_ERR, env=_ENVIRONMENT, preexec_fn=own)
    while program.poll() is None and not os.path.exists("exec.pid"):
        time.sleep(0.002)
    if not os.path.exists("exec.pid"):
        reason = _reason("exec.log") or "runsc exec failed"
        os.write(_COMPLAINTS, reason.encode("utf-8", "replace") + b"\n")
        return 125
    os.write(_STARTED, b"\n")
    os.close(_STARTED)
    while program.poll() is None and sandbox.poll() is None and not finish:
        while pending:
            _signal(plan, pending.pop(0))
        time.sleep(0.01)
    if sandbox.poll() is None:
        os.write(ours, b"\n")
    sandbox.wait()  # all that it has to say was said: it ends when the last tape was read
    program.wait()
    return program.returncode if program.returncode >= 0 else 128 - program.returncode


def _ready(memory: dict[str, Any], sandbox: subprocess.Popen[bytes], finish: list[int]) -> bool:
    while not os.path.exists(memory["go"]):
        if sandbox.poll() is not None or os.path.exists(memory["no"]) or finish:
            return False
        time.sleep(0.005)
    return True


def _own_terminal() -> None:
    """runsc passes on what the terminal tells its foreground process: ^C, a new size."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGHUP))  # which we pass on
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 1)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _signal(plan: dict[str, Any], number: int) -> None:
    words = [*plan["signal"], signal.Signals(number).name.removeprefix("SIG")]
    how = ["--user", plan["user"]]  # else it would be gVisor's root, whom no process of the program's need obey
    if plan["memory"]:  # by default it would run with what our own first process may do
        with open(plan["memory"]["process"], encoding="utf-8") as file:
            process = {**json.load(file), "args": words, "terminal": False, "cwd": "/"}
        with open("signal.json", "w", encoding="utf-8") as file:
            json.dump(process, file)
        how, words = ["--process", "signal.json"], []
    try:
        subprocess.run(
            [*plan["runsc"], "exec", *how, plan["name"], *words], env={}, check=False, timeout=30,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pass  # then SIGKILL comes


def _gate(plan: dict[str, Any], child: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + _PATIENCE
    while plan["canary"]:
        try:
            with open(plan["canary"], encoding="ascii") as file:
                if file.read() == plan["word"]:
                    break
        except OSError:
            pass
        if child.poll() is not None or time.monotonic() > end:
            return False
        time.sleep(0.005)
    os.close(os.open("gate/go", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    return True


def _listening() -> socket.socket:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("console")  # relative: a path of this kind ends at 107 bytes (unix(7))
    listener.listen(1)
    return listener


def _relay(listener: socket.socket) -> None:
    """Between our terminal, which is raw meanwhile, and the one that runsc made, until that is closed."""
    connection, _ = listener.accept()
    _, descriptors, _, _ = socket.recv_fds(connection, 4096, 1)
    master = descriptors[0]
    tty.setraw(0, termios.TCSANOW)

    size = b""
    try:
        while True:
            now = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
            if now != size:
                size = now
                fcntl.ioctl(master, termios.TIOCSWINSZ, size)
            ready, _, _ = select.select([0, master], [], [], 0.25)
            if master in ready:
                data = os.read(master, _CHUNK)
                if not data:
                    return
                while data:
                    data = data[os.write(1, data) :]
            if 0 in ready:
                data = os.read(0, _CHUNK)
                while data:
                    data = data[os.write(master, data) :]
    except OSError:
        return  # EIO: nobody has it open any more


def _said(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 12)
    except OSError:
        return ""


def _reason(log: str = "runsc.log") -> str:
    """The last thing that runsc said."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            lines = [json.loads(line) for line in file.read(1 << 20).splitlines()]
        errors = [str(line["msg"]) for line in lines if line["level"] in ("error", "fatal")]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f"runsc: {errors[-1]}" if errors else ""


if __name__ == "__main__":
    sys.exit(main())
