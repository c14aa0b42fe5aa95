"""Containers: none is left behind, and nothing is taken for an end that is none, whatever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import engine
from tests.cli.conftest import Program, mounts
from tests.cli.containers import CONTAINED, children, client, command_line, environment, ours, sandbox
from tests.cli.test_kill import kill, nothing_runs, state, wait_until

pytestmark = pytest.mark.docker
__all__ = ["client"]  # a fixture


@pytest.mark.parametrize("kind", CONTAINED)
def test_after_kill_9_nothing_is_left_and_the_changes_are_kept(
    kind: str, overlayws: Program, workspace: Path, client: Any
) -> None:
    env = environment(kind)
    script = "echo x > new; rm -r docs; setsid sleep 100 & echo ready; while :; do sleep 0.1; done"
    child = overlayws.ready("start", "--name", "s", *sandbox(kind), "--", "sh", "-c", script, env=env)
    if os.geteuid() == 0:  # an ordinary user's engine keeps its own until the container ends
        assert mounts(overlayws.home) == []
    assert bool(ours(client, overlayws)) == (kind != "gvisor-alone")
    # The supervisor too: nobody is there who could end the container.
    supervisors = [pid for pid in children(child.pid) if "supervise.py" in command_line(pid)]
    assert supervisors
    for pid in supervisors:
        os.kill(pid, signal.SIGKILL)
    kill(child)
    done = overlayws("list", env=env)
    assert "session s was interrupted" in done.err and state(overlayws) == "interrupted"
    assert ours(client, overlayws) == []
    nothing_runs(overlayws)
    assert overlayws("diff", "s", "--name-status").out == b"D\tdocs/guide.txt\nA\tnew\n"
    overlayws("run", "s", "--", "sh", "-c", "cat new", env=env)


def test_after_kill_9_of_doctor_the_next_command_takes_its_trial_away(overlayws: Program, client: Any) -> None:
    env = environment("docker")
    overlayws("list", env=env)

    def probes() -> list[Path]:
        return [path for path in overlayws.home.glob(".*-*") if path.is_dir()]

    def containers() -> list[str]:
        found = client.containers(all=True, filters={"label": "overlayws.session"})
        return [one["Id"] for one in found if one["Labels"]["overlayws.session"].startswith(str(overlayws.home))]

    child = overlayws.started("doctor", env=env)
    wait_until(lambda: any(b"container" in path.read_bytes() for path in overlayws.home.glob(".probe-*/outside")), "it")
    kill(child)
    assert probes()
    for path in probes():
        os.utime(path, (0, 0))
    overlayws("list", env=env)
    assert probes() == [] and containers() == []
    assert mounts(overlayws.home) == []


def test_when_overlayws_alone_is_killed_its_container_ends_at_once(overlayws: Program, client: Any) -> None:
    env = environment("docker")
    script = "echo ready; while :; do sleep 0.1; done"
    child = overlayws.ready("start", "--name", "s", "--sandbox", "docker", "--", "sh", "-c", script, env=env)
    kill(child)
    filters = {"label": f"overlayws.session={overlayws.session('s')}"}
    wait_until(lambda: not client.containers(all=True, quiet=True, filters=filters), "the end of the container")
    overlayws("list", env=env)
    assert ours(client, overlayws) == []


@pytest.fixture
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of an engine of the test's own, to be killed (``kill_engine``)."""
    place = tmp_path_factory.mktemp("engine") / "own"
    with subprocess.Popen([engine.SCRIPT, place, str(os.getpid())]) as started:
        try:
            wait_until(lambda: (place / "ready").exists(), "an engine")
            yield place
        finally:
            (place / "stop").touch()
            started.wait(30)


def kill_engine(place: Path) -> None:
    (place / "restart").touch()  # so that the engine's script does not mind
    os.kill(int((place / "pid").read_text()), signal.SIGKILL)


@contextmanager
def engine_again(place: Path) -> Iterator[Any]:
    """The engine that was killed, once more, and a client of it."""
    import docker

    (place / "pid").unlink(missing_ok=True)
    words = ["dockerd", "--config-file", place / "daemon.json"]
    with open(place / "log2", "wb") as log, subprocess.Popen(words, stdout=log, stderr=log) as again:
        try:
            wait_until(lambda: b"API listen on" in (place / "log2").read_bytes(), "an engine")
            found = docker.APIClient(f"unix://{place}/socket", version="auto")
            yield found
            found.close()
        finally:
            again.terminate()
            again.wait(30)


def what_the_engine_still_knows_is_removed_when_it_is_back(overlayws: Program, place: Path) -> None:
    env = {"DOCKER_HOST": f"unix://{place}/socket"}
    owed = overlayws.session("s") / "owed"
    assert overlayws("list", env=env).err == "" and owed.exists()
    overlayws("discard", "s", "--yes", env=env)
    done = overlayws("gc", "--yes", env=env)
    assert "warning: session s: its engine does not answer" in done.err and owed.exists()
    with engine_again(place) as client:
        assert len(ours(client, overlayws)) == 1, "the engine kept nothing that could be removed"
        overlayws("list", env=env)
        assert ours(client, overlayws) == [] and not owed.exists()
        assert "removed s" in overlayws("gc", "--yes", env=env).err


@pytest.mark.root
def test_when_the_engine_is_killed_its_container_is_ended_without_it(overlayws: Program, mortal: Path) -> None:
    env = {"DOCKER_HOST": f"unix://{mortal}/socket"}
    script = "echo x > new; echo ready; while :; do sleep 0.1; done"
    child = overlayws.ready("start", "--name", "s", "--sandbox", "docker", "--", "sh", "-c", script, env=env)
    kill_engine(mortal)
    child.kill()
    child.communicate(timeout=30)
    overlayws("list", env=env)
    assert state(overlayws) == "interrupted"
    nothing_runs(overlayws)
    assert overlayws("diff", "s", "--name-status").out == b"A\tnew\n"
    what_the_engine_still_knows_is_removed_when_it_is_back(overlayws, mortal)


def test_a_connection_that_is_lost_is_no_status_of_the_command(overlayws: Program, client: Any) -> None:
    env = environment("docker")
    script = "echo x > new; echo ready; sleep 100"
    child = overlayws.ready("start", "--name", "s", "--sandbox", "docker", "--", "sh", "-c", script, env=env)
    below = [pid for one in children(child.pid) for pid in (one, *children(one))]
    attached = [pid for pid in below if command_line(pid).split("\0")[-2].endswith("attach.py")]
    assert len(attached) == 1
    os.kill(attached[0], signal.SIGKILL)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 4 and b"end is not known" in err
    overlayws("list", env=env)
    assert state(overlayws) == "interrupted" and ours(client, overlayws) == []


@pytest.mark.root
def test_an_engine_that_dies_during_a_run_is_no_status_of_the_command(overlayws: Program, mortal: Path) -> None:
    env = {"DOCKER_HOST": f"unix://{mortal}/socket"}
    words = ["--sandbox", "docker", "--", "sh", "-c", "echo ready; sleep 100"]
    child = overlayws.ready("start", "--name", "s", *words, env=env)
    kill_engine(mortal)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 4, err
    overlayws("list", env=env)
    assert state(overlayws) == "interrupted"
    what_the_engine_still_knows_is_removed_when_it_is_back(overlayws, mortal)
