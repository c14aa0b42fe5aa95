"""The Python that we are, for a place where only its files are shown, below another directory than their own.

An image may have no Python, or another C library. So the interpreter is started by its own dynamic linker, with its
own libraries, named one by one (ld.so(8): ``--library-path``; musl's takes the same option).
"""

from __future__ import annotations

import os
import struct
import sys
import sysconfig
from pathlib import Path

_PT_INTERP = 3  # elf(5)


def directories() -> tuple[str, ...]:
    """The directories that hold the interpreter, its libraries and its standard library, none below another."""
    found: list[str] = []
    needed = {os.path.dirname(path) for path in (_executable(), *_mapped())}
    linker = _linker()
    needed |= {os.path.dirname(linker)} if linker else set()
    needed |= {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    if any(path.startswith("/usr/") for path in needed):
        needed.add("/usr")  # one mount instead of many
    for path in sorted(needed):
        if not any(path == above or path.startswith(above + "/") for above in found):
            found.append(path)
    return tuple(found)


def command(below: str) -> tuple[str, ...]:
    """The words that start the interpreter where ``directories`` are shown below ``below``."""
    program = below + _executable()
    linker = _linker()
    if not linker:
        return (program,)
    libraries = dict.fromkeys(below + os.path.dirname(path) for path in _mapped())
    return (below + linker, "--library-path", ":".join(libraries), program)


def _executable() -> str:
    return os.path.realpath(sys.executable)


def _mapped() -> list[str]:
    """The shared libraries that this process has open."""
    found: dict[str, None] = {}
    for line in Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines():
        path = line.split(maxsplit=5)[-1]
        packaged = "/site-packages/" in path or "/dist-packages/" in path  # of others, which are not needed
        if path.startswith("/") and ".so" in os.path.basename(path) and not packaged:
            found[path] = None
    return list(found)


def _linker() -> str:
    """The interpreter of the interpreter, "" where it needs none. ELF, 64 bit: elf(5)."""
    with open(_executable(), "rb") as file:
        head = file.read(64)
        order = "<" if head[5] == 1 else ">"
        offset, size, count = struct.unpack_from(order + "Q", head, 32)[0], *struct.unpack_from(order + "HH", head, 54)
        for number in range(count):
            file.seek(offset + number * size)
            entry = file.read(size)
            if struct.unpack_from(order + "I", entry)[0] == _PT_INTERP:
                at, length = struct.unpack_from(order + "Q", entry, 8)[0], struct.unpack_from(order + "Q", entry, 32)[0]
                file.seek(at)
                return os.path.realpath(os.fsdecode(file.read(length).rstrip(b"\0")))
    return ""
