"""What processes hold open and no name leads to any more: it takes disk that nobody sees (proc(5))."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress

_BLOCK = 512  # of st_blocks: stat(2)


def held(others: Iterable[int] = ()) -> int:
    """The bytes of disk of removed files that processes below this one, and ``others``, have open or mapped."""
    found: dict[tuple[int, int], int] = {}
    for pid in (*_below(os.getpid()), *others):
        for kind in ("fd", "map_files"):
            with suppress(OSError):  # it has ended; or it is nobody's whom we may look at
                for name in os.listdir(f"/proc/{pid}/{kind}"):
                    with suppress(OSError):
                        st = os.stat(f"/proc/{pid}/{kind}/{name}")
                        if stat.S_ISREG(st.st_mode) and st.st_nlink == 0:
                            found[st.st_dev, st.st_ino] = st.st_blocks * _BLOCK
    return sum(found.values())


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
