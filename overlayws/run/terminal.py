"""A terminal of the run's own: a pty, its relay to the real terminal, and the real one's modes kept safe.

With a pty the program never holds the user's terminal: it cannot type into it (TIOCSTI), read its keystrokes after
the run or leave it in a strange mode. pty(7), termios(3), ioctl_tty(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import socket
import struct
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Order = Callable[[str, int], None]  # tells the supervisor: a verb and a signal number

_CHUNK = 1 << 14
_AGAIN = 2.0  # seconds in which a second ^C counts as impatience
_TIOCGSID = 0x5429
_LFLAG, _CC = 3, 6  # in the list that termios.tcgetattr returns


class Terminal:
    """The pty of one run; ``slave`` is what the program gets. Made by ``own_terminal``."""

    def __init__(self, master: int, slave: int, stdin: int, stdout: int) -> None:
        self.slave = slave
        self._master = master
        self._stdin = stdin
        self._stdout = stdout
        self._last_interrupt = -_AGAIN
        self._last_byte = b"\n"

    def close_slave(self) -> None:
        """Leave the slave to the program alone: when it is gone, reading the master says so."""
        if self.slave >= 0:
            os.close(self.slave)
            self.slave = -1

    def relay(self, control: socket.socket, order: Order) -> bytes:
        """Pass bytes both ways, unchanged, until ``control`` ends; returns what was received from it."""
        os.set_blocking(self._master, False)
        received, to_program, to_user = b"", b"", b""
        reading = True
        while True:
            # Bounded both ways: who does not read makes the other side wait, as on any terminal.
            wait_read: list[int | socket.socket] = [control]
            wait_write = []
            if reading and not to_program:
                wait_read.append(self._stdin)
            if to_user:
                wait_write.append(self._stdout)
            else:
                wait_read.append(self._master)
            if to_program:
                wait_write.append(self._master)
            readable, writable, _ = select.select(wait_read, wait_write, [])
            if self._stdin in readable:
                data = _read(self._stdin)
                to_program = data or self._end_of_file()
                reading = bool(data)
                self._watch_for_interrupt(data, order)
            if self._master in writable:
                to_program = to_program[self._write(to_program) :]
            if self._master in readable:
                to_user = _read(self._master)
            if self._stdout in writable:
                to_user = to_user[os.write(self._stdout, to_user[:4096]) :]
            if control in readable:
                data = control.recv(_CHUNK)
                if not data:
                    break
                received += data
            elif readable == [self._master] and not to_user:
                time.sleep(0.01)  # every slave is closed (EIO): only the report is still to come
        while to_user or (to_user := _read(self._master)):
            to_user = to_user[os.write(self._stdout, to_user) :]
        return received

    def resize(self, *_: object) -> None:
        """Give the pty the size of the real terminal (SIGWINCH to its foreground group comes with it)."""
        for fd in (self._stdout, self._stdin):
            try:
                size = fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))
            except OSError:
                continue
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)
            return

    def _write(self, data: bytes) -> int:
        try:
            written = os.write(self._master, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return len(data)  # nobody is there to read it
        self._last_byte = data[written - 1 : written]
        return written

    def _end_of_file(self) -> bytes:
        # The character that ends the input; twice where a line was begun, since the first one only submits it.
        end: bytes = termios.tcgetattr(self._master)[_CC][termios.VEOF]
        return end if self._last_byte == b"\n" else end * 2

    def _watch_for_interrupt(self, data: bytes, order: Order) -> None:
        """The terminal itself turns ^C into SIGINT; here it is only noticed.

        A second ^C within two seconds kills a program that the run itself started and that left the terminal in its
        ordinary mode. A shell at its prompt, a job of such a shell, or an editor uses ^C as it likes.
        """
        attributes = termios.tcgetattr(self._master)
        flags: int = attributes[_LFLAG]
        character: bytes = attributes[_CC][termios.VINTR]
        if not flags & termios.ISIG or character not in data:
            return
        order("seen", signal.SIGINT)
        now = time.monotonic()
        again = now - self._last_interrupt < _AGAIN or data.count(character) > 1
        self._last_interrupt = now
        if again and flags & termios.ICANON and self._number(termios.TIOCGPGRP) == self._number(_TIOCGSID):
            order("kill", signal.SIGINT)

    def _number(self, request: int) -> int:
        try:
            number: int = struct.unpack("i", fcntl.ioctl(self._master, request, bytes(4)))[0]
        except OSError:
            return -1 - request  # no session any more: equal to nothing
        return number


@contextmanager
def own_terminal(stdin: int = 0, stdout: int = 1) -> Iterator[Terminal]:
    """A pty like the real terminal (its modes, its size), which is in raw mode meanwhile and as before afterwards."""
    master, slave = os.openpty()
    terminal = Terminal(master, slave, stdin, stdout)
    try:
        saved = termios.tcgetattr(stdin) if os.isatty(stdin) else None
        if saved is not None:
            termios.tcsetattr(slave, termios.TCSANOW, saved)
        terminal.resize()
        with _handling(signal.SIGWINCH, terminal.resize):
            try:
                if saved is not None:
                    tty.setraw(stdin, termios.TCSADRAIN)
                yield terminal
            finally:
                if saved is not None:
                    termios.tcsetattr(stdin, termios.TCSADRAIN, saved)
    finally:
        terminal.close_slave()
        os.close(master)


@contextmanager
def modes_kept(fds: tuple[int, ...] = (0, 1, 2)) -> Iterator[None]:
    """Terminals among ``fds`` have the same modes afterwards, whatever a program that inherited them did."""
    saved = {fd: termios.tcgetattr(fd) for fd in fds if os.isatty(fd)}
    try:
        yield
    finally:
        for fd, attributes in saved.items():
            if termios.tcgetattr(fd) != attributes:
                termios.tcsetattr(fd, termios.TCSANOW, attributes)


@contextmanager
def _handling(number: int, handler: Callable[..., None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers: the size is then the one at the start
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        return b""
    except OSError as error:
        if error.errno != errno.EIO:  # on a pty's master: no slave is open
            raise
        return b""
