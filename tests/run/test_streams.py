"""The standard streams of the caller are files: the program gets what is in them, never the files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REOPEN = """
import os
for fd in (0, 1, 2):
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        try:
            again = os.open(f"/proc/self/fd/{fd}", flags | os.O_NONBLOCK)
        except OSError:
            continue
        assert not os.path.isfile(f"/proc/self/fd/{again}"), fd
        if flags & 3:
            try:
                os.write(again, b"PWN")
            except OSError:
                pass
"""


@pytest.fixture
def session(tmp_path: Path) -> tuple[list[str], Path]:
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws/prompt").write_text("the prompt\n")
    command = [sys.executable, "-m", "overlayws"]
    subprocess.run([*command, "start", "--name", "s", "--no-run", tmp_path / "ws"], check=True, capture_output=True)
    return [*command, "run", "s", "--"], tmp_path


@pytest.mark.bwrap
@pytest.mark.parametrize("mode", [os.O_RDONLY, os.O_RDWR])
def test_a_file_that_is_standard_input_is_not_written(session: tuple[list[str], Path], mode: int) -> None:
    command, place = session
    fd = os.open(place / "ws/prompt", mode)
    subprocess.run([*command, "/usr/bin/python3", "-c", REOPEN], stdin=fd, capture_output=True)
    os.close(fd)
    assert (place / "ws/prompt").read_text() == "the prompt\n"


@pytest.mark.bwrap
@pytest.mark.parametrize("flags", [os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_APPEND])
def test_a_log_that_is_standard_output_is_only_added_to(session: tuple[list[str], Path], flags: int) -> None:
    command, place = session
    (place / "log").write_text("TOKEN of an earlier step\n")
    fd = os.open(place / "log", flags)
    script = "echo out; cat /proc/self/fd/1; : > /proc/self/fd/1; echo err >&2"
    subprocess.run([*command, "timeout", "2", "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=fd, stderr=fd)
    os.close(fd)
    log = (place / "log").read_text()
    assert log.startswith("TOKEN of an earlier step\n") and log.count("TOKEN") == 1


@pytest.mark.bwrap
def test_much_input_and_output_comes_through_whole_and_in_order(session: tuple[list[str], Path]) -> None:
    command, place = session
    data = b"".join(b"%d\n" % n for n in range(200_000))
    (place / "in").write_bytes(data)
    with open(place / "in", "rb") as source, open(place / "out", "wb") as out:
        subprocess.run([*command, "sh", "-c", "cat; echo end >&2"], stdin=source, stdout=out, stderr=out)
    assert (place / "out").read_bytes().startswith(data + b"end\n")


@pytest.mark.bwrap
def test_a_program_that_reads_little_of_a_large_input_ends(session: tuple[list[str], Path]) -> None:
    command, place = session
    (place / "in").write_bytes(b"line\n" * 1_000_000)
    with open(place / "in", "rb") as source:
        done = subprocess.run([*command, "head", "-n", "1"], stdin=source, capture_output=True, timeout=60)
    assert done.stdout == b"line\n" and done.returncode == 0
