"""The process that stands for a container: starts it, passes bytes and signals both ways, ends with its status.

Run as a program of its own under the supervisor (``python -I -S attach.py``); it imports nothing of the package. On
descriptor 10 is one JSON object:

socket      the engine's Unix socket
container   the id of a container that was made and not yet started, with standard input open
tty         whether it has a terminal; then standard input is a terminal of ours
word        what its gate (container.py) says: WORD:ok or WORD:unwritable, then, once answered, WORD:go
canary      where outside the gate's file must have appeared by then, or ""
unmount     where the layer is mounted outside, to be taken away once the container has it, or ""
must        whether "unwritable" is an error
signal      the command that, with the name of a signal after it, gives that signal to all processes inside

``attach.py end SOCKET CONTAINER`` instead removes the container, whatever it does.

Descriptors 0 to 4 are those of sandbox.EXEC: the command's streams are 0, 1 and 3, complaints go to 2, and a byte to 4
says that the command begins. Docker Engine API: "Attach to a container" for the stream's format.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import termios
import time
import tty
from collections.abc import Mapping
from typing import Any, NoReturn

_OUT, _COMPLAINTS, _ERR, _STARTED = 1, 2, 3, 4
_PLAN = 10
_API = "/v1.41"
_CHUNK = 1 << 15
_PIPE_BUF = 4096  # what poll(2) promises can be written to a pipe at once (POSIX)
_MNT_DETACH = 2
_PATIENCE = 60.0  # seconds for the gate to answer
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Refused(Exception):
    """What the engine says to a request."""


class Engine:
    """The engine's API, one connection for each request: only ``attach`` keeps its own."""

    def __init__(self, path: str, container: str) -> None:
        self._path = path
        self._container = container

    def attach(self) -> tuple[socket.socket, bytes]:
        """The container's streams, and what of them came already. Must be called before ``start``."""
        connection = self._send("POST", "/attach?stream=1&stdin=1&stdout=1&stderr=1", None, upgrade=True)
        status, _, rest = _head(connection)
        if status not in (101, 200):
            raise Refused(f"attach: status {status}")
        return connection, rest

    def remove(self) -> None:
        """End the container and remove it. Raises Refused, OSError."""
        with self._send("DELETE", "?force=1&v=1", 60.0) as connection:
            _head(connection)

    def post(self, what: str, timeout: float | None = 30.0, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The answer to a request about the container, or at "/exec/ID"; ``timeout`` in seconds.

        Raises Refused, OSError.
        """
        connection = self._send("POST", what, timeout, body=body)
        with connection:
            status, headers, said = _head(connection)
            while data := connection.recv(_CHUNK):
                said += data
        if headers.get("transfer-encoding") == "chunked":
            said = _unchunked(said)
        answer: dict[str, Any] = json.loads(said) if said.strip() else {}
        if status >= 400:
            raise Refused(answer.get("message", f"status {status}"))
        return answer

    def _send(
        self,
        method: str,
        what: str,
        timeout: float | None,
        upgrade: bool = False,
        body: Mapping[str, Any] | None = None,
    ) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        connection.connect(self._path)
        more = "Upgrade: tcp\r\nConnection: Upgrade\r\n" if upgrade else "Connection: close\r\n"
        path = what if what.startswith("/exec/") else f"/containers/{self._container}{what}"
        content = b"" if body is None else json.dumps(body).encode("ascii")
        more += "Content-Type: application/json\r\n" if content else ""
        head = f"{method} {_API}{path} HTTP/1.1\r\nHost: engine\r\n{more}Content-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode("ascii") + content)
        return connection


def _head(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(_CHUNK)
        if not chunk or len(data) > 1 << 20:
            raise Refused("the engine closed the connection")
        data += chunk
    head, _, rest = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines[1:])
    return int(lines[0].split()[1]), {name.lower(): value.strip().lower() for name, _, value in pairs}, rest


def _unchunked(data: bytes) -> bytes:
    whole = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        length = int(size.split(b";")[0] or b"0", 16)
        if length == 0:
            break
        whole, data = whole + rest[:length], rest[length + 2 :]
    return whole


class Streams:
    """The bytes of one attached container. Bounded both ways: who does not read makes the other side wait."""

    def __init__(self, connection: socket.socket, early: bytes, with_tty: bool) -> None:
        self._connection = connection
        self._raw = early  # received and not yet taken apart
        self._tty = with_tty
        self._to_program = b""
        self._outgoing: list[tuple[int, bytes]] = []  # (descriptor, bytes) in order
        self._reading = True  # standard input has not ended
        self._open = True  # the container's output has not ended
        self._shut = False

    def gate(self, plan: dict[str, Any]) -> None:
        """Wait until the container shows itself, look for the canary, let it go on. Raises Refused."""
        word: str = plan["word"]
        said = self._line_with(word)
        if f"{word}:covered".encode() in said:
            raise Refused("something of the image's or the engine's is mounted over the workspace or in it")
        if f"{word}:unwritable".encode() in said:
            if plan["must"]:
                raise Refused("the workspace cannot be written at its top, so nothing shows that writes are kept")
        elif plan["canary"]:
            try:
                with open(plan["canary"], encoding="ascii") as file:
                    found = file.read()
            except OSError:
                found = ""
            if found != word:
                raise Refused(
                    "what is written to the workspace is lost (the runtime keeps it to itself, as runsc does with "
                    "--overlay2=all, or the engine sees another file system)"
                )
        self._connection.sendall(b"\n")
        self._line_with(f"{word}:go")

    def _line_with(self, word: str) -> bytes:
        """What standard output says up to the end of a line that holds ``word``; what follows it stays.

        Standard error comes by another way, and may have overtaken it: that stays too.
        """
        deadline = time.monotonic() + _PATIENCE
        seen = b""
        while True:
            while (frame := self._said()) is not None:
                if frame[0] == _ERR:
                    self._outgoing.append(frame)
                    continue
                seen += frame[1]
                at = seen.find(word.encode())
                if at >= 0 and (end := seen.find(b"\n", at)) >= 0:
                    if seen[end + 1 :]:
                        self._outgoing.append((_OUT, seen[end + 1 :]))
                    return seen[: end + 1]
            if not select.select([self._connection], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise Refused("the container started and then said nothing")
            data = self._connection.recv(_CHUNK)
            if not data:
                told = seen + b"".join(content for _, content in self._outgoing)
                raise Refused(f"the container ended at once: {told.decode('utf-8', 'replace').strip()}".rstrip(": "))
            self._raw += data

    def _said(self) -> tuple[int, bytes] | None:
        """The next piece of output, and where it goes; or None."""
        if not self._tty:
            return self._frame()
        content, self._raw = self._raw, b""
        return (_OUT, content) if content else None

    def _frame(self) -> tuple[int, bytes] | None:
        if len(self._raw) < 8:
            return None
        kind, size = struct.unpack(">BxxxI", self._raw[:8])
        if len(self._raw) < 8 + size:
            return None
        content, self._raw = self._raw[8 : 8 + size], self._raw[8 + size :]
        return (_ERR if kind == 2 else _OUT), content

    def relay(self, wakeup: int, obey: Any) -> None:
        """Until the container's output has ended. ``obey`` is called when a signal came."""
        self._connection.setblocking(False)
        while True:
            self._take_apart()
            if not self._open and not self._outgoing:
                return
            poll = select.poll()
            poll.register(wakeup, select.POLLIN)
            wanted = 0
            if self._open and not self._outgoing:
                wanted |= select.POLLIN
            if self._to_program:
                wanted |= select.POLLOUT
            if self._open:
                poll.register(self._connection, wanted)
            if self._reading and not self._to_program:
                poll.register(0, select.POLLIN)
            if self._outgoing:
                poll.register(self._outgoing[0][0], select.POLLOUT)
            ready = dict(poll.poll())
            if wakeup in ready:
                os.read(wakeup, 64)
                obey()
            if 0 in ready:
                self._read_input()
            events = ready.get(self._connection.fileno(), 0)
            if self._to_program and events & (select.POLLOUT | select.POLLERR | select.POLLHUP):
                self._send_input()
            if events & (select.POLLIN | select.POLLERR | select.POLLHUP) and not self._outgoing:
                self._receive()
            if self._outgoing and self._outgoing[0][0] in ready:
                self._write_output()

    def _take_apart(self) -> None:
        if self._tty:
            if self._raw:
                self._outgoing.append((_OUT, self._raw))
                self._raw = b""
            return
        while (frame := self._frame()) is not None:
            if frame[1]:
                self._outgoing.append(frame)

    def _read_input(self) -> None:
        try:
            data = os.read(0, _CHUNK)
        except OSError:
            data = b""
        self._to_program = data
        if not data:
            self._reading = False
            self._end_input()

    def _send_input(self) -> None:
        try:
            self._to_program = self._to_program[self._connection.send(self._to_program) :]
        except BlockingIOError:
            return
        except OSError:
            self._to_program = b""  # nobody is there to read it

    def _end_input(self) -> None:
        if not self._shut:
            self._shut = True
            try:
                self._connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass

    def _receive(self) -> None:
        try:
            data = self._connection.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._raw += data
        self._open = bool(data)

    def _write_output(self) -> None:
        fd, data = self._outgoing[0]
        try:
            written = os.write(fd, data[:_PIPE_BUF])
        except OSError:
            # Nobody reads it any more: the program is told as it would be without us.
            self._outgoing.clear()
            os.kill(os.getpid(), signal.SIGPIPE)
            return
        if written == len(data):
            del self._outgoing[0]
        else:
            self._outgoing[0] = (fd, data[written:])


def _own_terminal() -> None:
    """Standard input is ours alone and raw: every key, ^C too, goes to the terminal inside."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    tty.setraw(0, termios.TCSANOW)


def _resize(engine: Engine) -> None:
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))
    if rows and columns:
        try:
            engine.post(f"/resize?h={rows}&w={columns}")
        except (Refused, OSError):
            pass  # it has ended, or begins just now


def _fail(message: str) -> NoReturn:
    os.write(_COMPLAINTS, (" ".join(message.split()) + "\n").encode("utf-8", "replace"))
    sys.exit(125)


def main() -> int:
    """Do what the module says; the command's exit status."""
    if sys.argv[1:2] == ["end"]:
        Engine(*sys.argv[2:4]).remove()
        return 0
    with open(_PLAN, encoding="ascii") as file:
        plan: dict[str, Any] = json.load(file)
    os.setsid()  # the supervisor gives signals to the groups of the run, of which its own is none
    engine = Engine(plan["socket"], plan["container"])
    received: list[int] = []
    wakeup, wakeup_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wakeup_in, warn_on_full_buffer=False)
    for number in (*_FORWARDED, signal.SIGPIPE, *((signal.SIGWINCH,) if plan["tty"] else ())):
        signal.signal(number, lambda number, _frame: received.append(number))

    def obey() -> None:
        while received:
            number = received.pop(0)
            if number == signal.SIGWINCH:
                _resize(engine)
                continue
            name = signal.Signals(number).name
            try:
                command = [*plan["signal"], name.removeprefix("SIG")]
                made = engine.post("/exec", body={"Cmd": command})
                engine.post(f"/exec/{made['Id']}/start", body={"Detach": True})
            except (Refused, OSError):
                pass  # it has ended, or has no room for one more process: then SIGKILL comes later

    try:
        if plan["tty"]:
            _own_terminal()
        connection, early = engine.attach()
        engine.post("/start")
        streams = Streams(connection, early, plan["tty"])
        streams.gate(plan)
    except (Refused, OSError, ValueError) as error:
        _fail(str(error))
    if plan["unmount"]:
        # The container has a mount of its own now, which goes with it: a crash of ours from here on leaves none.
        ctypes.CDLL(None).umount2(os.fsencode(plan["unmount"]), _MNT_DETACH)
    os.write(_STARTED, b"\n")
    os.close(_STARTED)
    if plan["tty"]:
        _resize(engine)
    streams.relay(wakeup, obey)
    while True:
        try:
            return int(engine.post("/wait", timeout=None)["StatusCode"])
        except InterruptedError:
            obey()
        except (Refused, OSError, ValueError, KeyError):
            # Nobody knows how the command ended: so do we, as if we were killed, which is no command's status.
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
