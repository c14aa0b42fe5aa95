"""The first process of a gVisor sandbox with ``--capture memory``: mounts the overlay there, later packs its upperdir.

It runs inside, as gVisor's root and with CAP_SYS_ADMIN of gVisor's kernel, which ends at that kernel; the program is
executed beside it (``runsc exec``) with another uid and no capability. So it stands as long as the sandbox, whatever
the program does, but what it says is believed no more than the sandbox: see layer/unpack.py.

Standard input: one line of JSON (an order: see ``Order``), a tape with the upperdir as it is so far, and later, or at
its end, the word to finish: every other process is killed, a last tape written, and the sandbox ends. Standard output:
tapes. It needs only the standard library and the few modules that memory.py copies into the sandbox.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from overlayws.layer.pack import Moved, pack
from overlayws.layer.tape import Reader, Truncated, Writer
from overlayws.layer.unpack import Most, unpack
from overlayws.layer.whiteout import TRUSTED_PREFIX, Marks

PLACE = "/run/overlayws"  # a tmpfs that only root may enter
BASE, MEMORY, CODE, HOST = (f"{PLACE}/{name}" for name in ("base", "memory", "code", "host"))
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MNT_DETACH = 1, 2, 4, 2
_MARKS = Marks(TRUSTED_PREFIX)  # as gVisor's overlayfs writes them (pkg/sentry/fsimpl/overlay)
_UNLIMITED = 1 << 62
_GIVE_UP = 20.0  # seconds until processes that SIGKILL does not end are left to the sandbox's end
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be mounted where."""

    key: str  # of the tapes, in hex
    workspace: str
    uid: int
    read_only: bool
    every: float | None  # seconds between checkpoints
    hosts: tuple[str, ...]  # below PLACE: what is to be taken away before the program starts

    def line(self) -> bytes:
        """As it is sent."""
        return json.dumps(asdict(self)).encode("ascii") + b"\n"


def main() -> int:
    """Do what the module says."""
    order = _order()
    upper = Path(MEMORY, "upper")
    try:
        upper.mkdir(0o755)
        Path(MEMORY, "work").mkdir(0o755)
        key = bytes.fromhex(order.key)
        unpack(Reader(_exactly, key), upper, _MARKS, Most(_UNLIMITED, _UNLIMITED), owner=order.uid)
        options = f"lowerdir={BASE},upperdir={MEMORY}/upper,workdir={MEMORY}/work"
        flags = _MS_NOSUID | _MS_NODEV | (_MS_RDONLY if order.read_only else 0)
        _mount("overlay", order.workspace, "overlay", flags, options)
        for path in order.hosts:
            if _libc.umount2(os.fsencode(path), _MNT_DETACH):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
        # gVisor lets everybody look at everybody's descriptors, and ours are the tapes.
        _mount("none", f"/proc/{os.getpid()}", "tmpfs", _MS_RDONLY, "mode=0000,size=4k")
    except (OSError, Truncated) as error:
        sys.stderr.write(f"the overlay cannot be made in the sandbox: {error}\n")
        return 1
    with open(1, "wb", buffering=1 << 18, closefd=False) as out:
        to = Writer(out.write, key)
        to.end("ready")
        free = _stand(order, to, out, upper)
        alone = _kill_all()
        pack(upper, _MARKS, to)
        to.end("final" if alone else "torn", min(free, _free(upper)))
    return 0


def _stand(order: Order, to: Writer, out: BinaryIO, upper: Path) -> int:
    """Until we are to finish, checkpoints; how many bytes were free when it was fullest."""
    out.flush()
    free = _free(upper)
    due = None if order.every is None else time.monotonic() + order.every
    while True:
        wait = 1.0 if due is None else max(0.0, min(1.0, due - time.monotonic()))
        if select.select([0], [], [], wait)[0]:
            return free
        free = min(free, _free(upper))
        _reap()
        if due is not None and time.monotonic() >= due:
            try:
                pack(upper, _MARKS, to, alive=True)
                to.end("checkpoint", free)
            except Moved:
                to.end("torn", free)
            out.flush()
            due = time.monotonic() + (order.every or 0.0)


def _order() -> Order:
    line = b""
    while not line.endswith(b"\n"):
        line += _exactly(1)
    words = json.loads(line)
    return Order(**{**words, "hosts": tuple(words["hosts"])})


def _exactly(number: int) -> bytes:
    data = bytearray()
    while len(data) < number:
        part = os.read(0, number - len(data))
        if not part:
            raise Truncated("nobody is there any more")
        data += part
    return bytes(data)


def _mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    words = [os.fsencode(word) for word in (source, target, kind)]
    if _libc.mount(*words, ctypes.c_ulong(flags), os.fsencode(options)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


def _free(upper: Path) -> int:
    about = os.statvfs(upper)
    return about.f_bavail * about.f_frsize


def _reap() -> None:
    with suppress(ChildProcessError):  # orphans come to the first process
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _kill_all() -> bool:
    """Kill every other process, so that nothing writes while the last tape is written; whether none is left."""
    end = time.monotonic() + _GIVE_UP
    while time.monotonic() < end:
        _reap()
        alive = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid != os.getpid() and _runs(pid)]
        if not alive:
            return True
        for number in (signal.SIGSTOP, signal.SIGKILL):  # held still first: one may fork faster than it is killed
            for pid in alive:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        time.sleep(0.002)
    return False


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (OSError, IndexError):
        return False
