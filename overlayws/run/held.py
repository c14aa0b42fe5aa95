"""What processes hold open and no name leads to any more: it takes disk that nobody sees (proc(5))."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from overlayws.run.usage import BLOCK


@dataclass(frozen=True, slots=True)
class Unnamed:
    """Removed files that are still there."""

    size: int  # bytes of disk
    hidden: bool  # there may be more: descriptors on their way through a socket, or a process that lets nobody look


def held(others: Iterable[int] = ()) -> Unnamed:
    """The removed files that processes below this one, and ``others``, have open or mapped."""
    found: dict[tuple[int, int], int] = {}
    hidden = False
    for pid in (*_below(os.getpid()), *others):
        for kind in ("fd", "map_files"):
            try:
                names = os.listdir(f"/proc/{pid}/{kind}")
            except PermissionError:  # prctl(PR_SET_DUMPABLE); what belongs to somebody else is nothing of the program
                hidden = hidden or _is_ours(pid)
                continue
            except OSError:  # it has ended
                continue
            for name in names:
                with suppress(OSError):
                    st = os.stat(f"/proc/{pid}/{kind}/{name}")
                    if stat.S_ISREG(st.st_mode) and st.st_nlink == 0:
                        found[st.st_dev, st.st_ino] = st.st_blocks * BLOCK
                    elif stat.S_ISSOCK(st.st_mode) and _carries(f"/proc/{pid}/fdinfo/{name}"):
                        hidden = True
    return Unnamed(sum(found.values()), hidden)


def _is_ours(pid: int) -> bool:
    """By its real user: its directory in /proc is root's where nobody may look into it."""
    with suppress(OSError), open(f"/proc/{pid}/status", "rb") as file:
        return any(line.split()[1] == b"%d" % os.getuid() for line in file if line.startswith(b"Uid:"))
    return False


def _carries(about: str) -> bool:
    """Whether descriptors wait in a socket (unix(7), SCM_RIGHTS) that nobody may have open otherwise."""
    with open(about, "rb") as file:
        return any(int(line.split()[1]) > 0 for line in file if line.startswith(b"scm_fds:"))


def _below(top: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                # The second field is the program's name in parentheses, which may hold anything.
                parent = int(file.read().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    todo = list(children.get(top, ()))
    while todo:
        pid = todo.pop()
        yield pid
        todo += children.get(pid, ())
