"""--disk where it is watched: a program that fills the disk is ended, that is said, and what it wrote can be reviewed.

Where the limit is a file system, root's, is test_disk_enforced.py; what these tests ask for is more than there can be.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from overlayws.run.usage import Usage, usage
from tests.cli.conftest import BACKEND, Done, Program
from tests.cli.containers import CONTAINED, environment, sandbox
from tests.trees import make_tree

# With --capture memory the changes are in memory, which is limited: tests/run and test_memory.
EVERY = [pytest.param("bwrap", marks=pytest.mark.bwrap), *CONTAINED]
LIMIT = 32 << 20
BYTES = f"{LIMIT},{10**12}"  # no disk has an inode for each
FILES = "500t,500"
MUCH = 1 << 30  # what nothing may come to: the look comes after the writing, but not that long after
# What only the engine may end writes as fast as a disk, not as memory: the engine takes its time.
_PAUSE = 0 if os.geteuid() == 0 else 0.002
MEGABYTES = f"""
import time
for n in range(1 << 20):
    open(f'big{{n}}', 'wb').write(bytes(1 << 20))
    time.sleep({_PAUSE})
"""
# The kernel's (gVisor's) own limit, which is exact: the program is told.
ONE_LARGE = """
import errno, os
fd = os.open("big", os.O_CREAT | os.O_WRONLY)
written = os.lseek(fd, 24 << 20, os.SEEK_SET)  # a hole takes nothing: it is not ended for what it takes
try:
    while True: written += os.write(fd, bytes(1 << 20))
except OSError as error:
    assert error.errno == errno.EFBIG
print(written, flush=True)
"""
INODES = "import os\nfor n in range(1 << 20): os.close(os.open(f'f{n}', os.O_CREAT, 0o644))"


def filled(overlayws: Program, kind: str, disk: str, program: str, *more: str, code: int | None = 137) -> Done:
    words = [*sandbox(kind), "--disk", disk, "--timeout", "60", *more, "--", "python3", "-c", program]
    done = overlayws("start", "--name", "s", *words, env=environment(kind), code=code)
    assert "warning: --disk is watched, not enforced: " in done.err
    assert json.loads(overlayws("status", "s", "--json").out)["runs"][0]["disk"] == "watched"
    return done


def left(overlayws: Program, top: str = "upper") -> Usage:
    return usage(overlayws.session("s") / top)


@pytest.mark.parametrize("kind", [*EVERY, "none"])
def test_a_program_that_writes_without_end(kind: str, overlayws: Program, workspace: Path) -> None:
    program = f"{ONE_LARGE}os.unlink('big')\nos.close(fd)\nopen('README.md', 'a').write('more')\n{MEGABYTES}"
    done = filled(overlayws, kind, BYTES, program)
    assert done.out == f"{LIMIT}\n".encode()
    assert "the disk limit of 32 MiB was reached: the command was ended" in done.err
    assert LIMIT < left(overlayws).size < MUCH
    names = overlayws("diff", "s", "--name-status").out.splitlines()
    assert names[0] == b"M\tREADME.md" and b"A\tbig0" in names
    overlayws("apply", "s", "README.md", "--yes")
    assert (workspace / "README.md").read_text().endswith("more")


@pytest.mark.parametrize("kind", EVERY)
def test_a_program_that_makes_files_without_end(kind: str, overlayws: Program) -> None:
    done = filled(overlayws, kind, FILES, INODES)
    assert "the disk limit of 500 files was reached: the command was ended" in done.err
    assert 500 < left(overlayws).files < 1 << 20


@pytest.mark.userns
def test_files_are_limited_without_a_number_too(overlayws: Program) -> None:
    """An empty file takes no block, and yet an inode: as many as there are blocks in the limit."""
    done = filled(overlayws, "bwrap", "4m", INODES, "--backend", "userns")
    assert "the disk limit of 1,024 files was reached" in done.err


def test_one_large_file_ends_at_the_limit(overlayws: Program) -> None:
    done = filled(overlayws, "bwrap", BYTES, ONE_LARGE, code=0)
    assert done.out == f"{LIMIT}\n".encode() and left(overlayws).longest == LIMIT
    assert "the disk limit of 32 MiB was reached: no file may be longer" in done.err


@pytest.mark.parametrize("kind", EVERY)
def test_files_that_are_removed_while_they_are_open_count(kind: str, overlayws: Program) -> None:
    if kind == "gvisor" and os.geteuid() != 0:
        pytest.skip("there the engine's runtime, which is root's, has them open: see docs/sandboxes.md")
    program = (
        "import os, time\nfor n in range(1 << 10):\n  fd = os.open('x', os.O_CREAT | os.O_WRONLY)\n"
        "  os.unlink('x')\n  for _ in range(16): os.write(fd, bytes(1 << 20))\n  time.sleep(0.05)"
    )
    assert "32 MiB was reached: the command was ended" in filled(overlayws, kind, BYTES, program).err


ALLOCATED = "os.posix_fallocate(fd, 0, 31 << 20)"
# FS_IOC_RESVSP64, which gives the file no new size: the kernel's limit of one does not see it.
RESERVED = """
  try: fcntl.ioctl(fd, 0x4030582A, struct.pack("hhqqiI4i", 0, 0, 0, 1 << 30, 0, 0, 0, 0, 0, 0))
  except PermissionError: os.write(fd, bytes(1 << 20))
"""


@pytest.mark.parametrize("taken", [ALLOCATED, RESERVED])
@pytest.mark.parametrize("kind", ["bwrap", CONTAINED[0]])
def test_space_is_not_taken_without_writing(kind: str, taken: str, overlayws: Program) -> None:
    """fallocate(2) takes it at once: gigabytes between two looks. C libraries write instead where it is refused."""
    program = (
        "import fcntl, os, struct\nfor n in range(4096):\n  fd = os.open(f'f{n}', os.O_CREAT | os.O_RDWR)\n"
        f"  {taken.strip()}\n  os.close(fd)"
    )
    assert "32 MiB was reached: the command was ended" in filled(overlayws, kind, BYTES, program).err
    assert left(overlayws).size < MUCH


IN_FLIGHT = "socket.send_fds(ours, [b'x'], [fd])\n  os.close(fd)"
NOT_SHOWN = "ctypes.CDLL(None).prctl(4, 0)  # PR_SET_DUMPABLE: what is ours in /proc is root's"


@pytest.mark.parametrize("kind", ["bwrap", CONTAINED[0]])
@pytest.mark.parametrize("how", [IN_FLIGHT, NOT_SHOWN])
def test_removed_files_that_nobody_can_be_seen_to_hold_end_the_run(how: str, kind: str, overlayws: Program) -> None:
    program = (
        "import ctypes, os, socket, time\nours, theirs = socket.socketpair()\nfor n in range(1 << 6):\n"
        "  fd = os.open('x', os.O_CREAT | os.O_WRONLY)\n  os.unlink('x')\n"
        f"  for _ in range(16): os.write(fd, bytes(1 << 20))\n  {how}\n  time.sleep(0.05)"
    )
    done = filled(overlayws, kind, BYTES, program)
    why = "cannot be watched (a process hides which files it has open)"
    if how == NOT_SHOWN and os.geteuid() == 0:  # who sees all the same
        why = "32 MiB was reached"
    assert f"{why}: the command was ended" in done.err


@pytest.mark.parametrize("backend", BACKEND)
def test_the_limit_is_of_the_session_and_room_is_made_by_discarding(backend: str, overlayws: Program) -> None:
    program = "d = bytes(1 << 20)\nfor n in range(20): open(f'{n}', 'wb').write(d)"
    filled(overlayws, "bwrap", BYTES, program, "--backend", backend, code=0)
    again = [
        "run",
        "s",
        "--",
        "sh",
        "-c",
        "mkdir -p more; for n in $(seq 0 19); do cp $n more/$n || exit; done; sleep 50",
    ]
    if backend == "copy":  # which has no upperdir while a command runs: each command has the whole limit
        overlayws(*again[:-1], "mkdir more; cp 1 2 3 more")
        return
    assert "the command was ended" in overlayws(*again, code=137).err
    refused = overlayws("run", "s", "--", "touch", "never", code=125)
    assert "the disk limit of 32 MiB was reached before the command ran" in refused.error
    overlayws("discard", "s", "more", "--yes")
    overlayws("run", "s", "--", "touch", "new")
    assert b"A\tnew\n" in overlayws("diff", "s", "--name-status").out


def test_what_the_workspace_has_does_not_count(overlayws: Program, workspace: Path) -> None:
    make_tree(workspace, {f"many/{n}": "x" * 5000 for n in range(400)})
    for backend in ("auto", "copy"):
        name = f"s-{backend}"
        words = ["--name", name, "--backend", backend, "--disk", "1m,300", "--", "sh", "-c", "echo x > new"]
        assert "limit" not in overlayws("start", *words).err
        assert overlayws("diff", name, "--name-status").out == b"A\tnew\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every directory")
def test_what_cannot_be_counted_ends_the_run_too(overlayws: Program) -> None:
    done = filled(overlayws, "bwrap", "1g", "import os, time; os.mkdir('dark', 0o300); time.sleep(50)")
    assert "the disk limit cannot be watched (no permission to read 'dark'): the command was ended" in done.err


@pytest.mark.parametrize("words", [["0"], ["1000"], ["x"], ["1g,"], ["1g,0x5"], ["1g,3"], ["-1"], ["9" * 40], [""]])
def test_limits_that_are_none_are_wrong_usage(words: Sequence[str], overlayws: Program) -> None:
    assert overlayws("start", "--disk", *words, "--", "true", code=2).error
    assert overlayws("list").out == b""
