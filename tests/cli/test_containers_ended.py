"""Containers: at a terminal, and ended by signals and by time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from overlayws.run.leftovers import cut_down
from tests.cli.conftest import Program
from tests.cli.containers import ISOLATED, client, environment, ours, sandbox
from tests.cli.test_terminals import Person

pytestmark = pytest.mark.docker
__all__ = ["client"]  # a fixture


@pytest.mark.parametrize("kind", ISOLATED)
def test_a_shell_at_a_terminal(kind: str, overlayws: Program) -> None:
    env = dict(environment(kind))
    shell = ["bash", "--norc", "--noediting"]  # whose line editing gVisor of 2022 cannot
    person = Person(overlayws, "start", "--name", "s", *sandbox(kind), "--", *shell, env=env)
    person.waits_for("# " if (kind, os.geteuid() == 0) == ("gvisor-alone", False) else "$ ")
    person.resizes(33, 99)
    person.types("echo $((6 * 7)) > new; [ -t 0 ] && echo at-a-$TERM; stty size; echo e\\nd\r")
    person.waits_for("\nend\r\n")
    assert b"at-a-xterm-256color" in person.seen and b"33 99" in person.seen
    person.types("sleep 100\r")
    time.sleep(1.0)
    person.types("\x03")
    person.types("echo interrupted-$?\r")
    person.waits_for("interrupted-130")
    person.types("exit 5\r")
    assert person.leaves() == 5
    assert overlayws("diff", "s", "--name-status").out == b"A\tnew\n"


@pytest.mark.parametrize("number, script, code, changes", [
    (signal.SIGINT, "echo x > new; echo ready; sleep 100; echo never", 130, b"A\tnew\n"),
    (signal.SIGTERM, "trap 'echo x > new; exit 9' TERM; echo ready; while :; do sleep 0.05; done", 9, b"A\tnew\n"),
], ids=["interrupted without a terminal", "handled by the program"])  # fmt: skip
@pytest.mark.parametrize("kind", ISOLATED)
def test_a_signal_ends_it_as_the_program_would_have_it(
    kind: str, number: int, script: str, code: int, changes: bytes, overlayws: Program
) -> None:
    child = overlayws.ready("start", "--name", "s", *sandbox(kind), "--", "sh", "-c", script, env=environment(kind))
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == code and b"never" not in out, err
    assert overlayws("diff", "s", "--name-status").out == changes


@pytest.mark.parametrize("kind", ISOLATED)
def test_a_time_limit_ends_a_container_that_ignores_it(kind: str, overlayws: Program) -> None:
    script = "trap '' TERM INT; echo x > new; setsid sleep 100 & while :; do sleep 1; done"
    words = [*sandbox(kind), "--timeout", "2", "--", "sh", "-c", script]
    began = time.monotonic()
    overlayws("start", "--name", "s", *words, env=environment(kind), code=124)
    assert time.monotonic() - began < 20
    assert overlayws("diff", "s", "--name-status").out == b"A\tnew\n"


ENGINES = ["docker", pytest.param("gvisor", marks=[pytest.mark.gvisor, pytest.mark.root])]  # gVisor's are root's


@pytest.mark.parametrize("kind", ENGINES)
def test_what_runs_in_a_container_is_cut_down_before_its_engine_is_asked(
    kind: str, overlayws: Program, client: Any
) -> None:
    """Under any name: the engine's own process beside the container is spared by where it is, not by its name."""
    script = "cp $(command -v sleep) containerd-shim; echo ready; exec ./containerd-shim 100"
    child = overlayws.ready("start", "--name", "s", *sandbox(kind), "--", "sh", "-c", script, env=environment(kind))
    (container,) = ours(client, overlayws)[:1]
    cut_down(container)
    child.communicate(timeout=60)  # less than its sleep
    assert child.returncode == 137
    assert overlayws("diff", "s", "--name-status").out == b"A\tcontainerd-shim\n"


# The engine's answer, as it is when it hears of a container's end before it hears why.
UNTOLD = """
import docker.api.container as api
asked = api.ContainerApiMixin.inspect_container
def untold(self, container):
    found = asked(self, container)
    found["State"]["OOMKilled"] = False
    return found
api.ContainerApiMixin.inspect_container = untold
"""


@pytest.mark.parametrize("kind", ["docker", "gvisor"])
def test_out_of_memory_is_said_when_the_engine_learns_it_late_and_only_then(
    kind: str, overlayws: Program, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(UNTOLD)
    env = {**environment(kind), "PYTHONPATH": str(tmp_path)}
    eat = ["python3", "-I", "-S", "-c", "x = b'x' * (600 << 20)"]
    done = overlayws("start", "--name", "s", *sandbox(kind), "--memory", "256m", "--", *eat, env=env, code=137)
    assert "out of memory" in done.err
    done = overlayws("run", "s", "--", "sh", "-c", "kill -9 $$", env=env, code=137)
    assert "out of memory" not in done.err
