"""kill -9 while a container stands at its gate: what the gate wrote into the workspace is no change of the session."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Program
from tests.cli.containers import CONTAINED, children, client, command_line, environment, ours, sandbox
from tests.cli.test_kill import kill, nothing_runs, state, wait_until

__all__ = ["client"]
pytestmark = pytest.mark.docker

# In the process of overlayws: its helpers are these instead, which never let the command begin.
HELD = """
import pathlib, re
import overlayws.run.docker as docker, overlayws.run.gvisor as gvisor
def held(program, text):
    path = pathlib.Path(__file__).with_name(program.name)
    source, held = re.subn(f"( +)({re.escape(text)})", r"\\1time.sleep(1000); \\2", program.read_text())
    assert held == 1
    path.write_text(source)
    return path
docker._ATTACH = held(docker._ATTACH, 'self._connection.sendall(b"\\\\n")')
gvisor._STANDALONE = held(gvisor._STANDALONE, 'os.close(os.open("gate/go"')
"""


def opened(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/fd")
    except FileNotFoundError:
        return []


@pytest.mark.parametrize("backend", ["auto"] if os.geteuid() == 0 else ["auto", "copy"])  # root's container: no copy
@pytest.mark.parametrize("disk", [[], pytest.param(["--disk", "8m"], marks=pytest.mark.loop)])
@pytest.mark.parametrize("kind", CONTAINED)
def test_what_the_gate_wrote_is_no_change(
    kind: str, backend: str, disk: list[str], overlayws: Program, tmp_path: Path, client: Any
) -> None:
    env = environment(kind)
    proxy = tmp_path / "python"
    proxy.mkdir()
    (proxy / "sitecustomize.py").write_text(HELD)
    words = [*sandbox(kind), "--backend", backend, *disk, "--", "touch", "never"]
    child = overlayws.started("start", "--name", "s", *words, env={**env, "PYTHONPATH": str(proxy)})
    top = overlayws.session("s") / ("merged" if backend == "copy" else "upper")

    def left() -> list[str]:
        tops = [top, *(Path("/proc", str(child.pid), "fd", fd, "upper") for fd in opened(child.pid))] if disk else [top]
        names: list[str] = []
        for place in tops:
            with suppress(OSError):  # what it has open changes while we look
                names += os.listdir(place)
        return [name for name in names if name.startswith(".overlayws-")]

    wait_until(lambda: bool(left()) or child.poll() is not None, "a canary")
    for pid in children(child.pid):
        if "supervise.py" in command_line(pid):
            os.kill(pid, signal.SIGKILL)
    there = left()
    kill(child)
    assert there and (disk or left())
    assert "session s was interrupted" in overlayws("list", env=env).err and state(overlayws) == "interrupted"
    assert ours(client, overlayws) == []
    nothing_runs(overlayws)
    assert overlayws("diff", "s", "--name-status").out == b"" and left() == []
