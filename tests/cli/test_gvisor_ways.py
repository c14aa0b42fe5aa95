"""gVisor by an engine, by runsc alone, or with its memory: which way it is, and what cannot go that way, is said."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Program
from tests.cli.containers import environment
from tests.cli.test_kill import state

pytestmark = pytest.mark.gvisor
GVISOR = ("start", "--name", "s", "--sandbox", "gvisor")
MEMORY = (*GVISOR, "--capture", "memory")


@pytest.fixture
def dead() -> Iterator[dict[str, str]]:
    """The environment of an engine that died: its socket is there, and nobody answers."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # a socket's path has 107 bytes at most (unix(7))
        path = f"{short}/engine"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
        yield {"DOCKER_HOST": f"unix://{path}"}


def runs(program: Program, env: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(program("status", "s", "--json", env=env).out)["runs"]
    return found


def test_that_a_dead_engine_was_passed_over_is_said_and_kept(overlayws: Program, dead: dict[str, str]) -> None:
    done = overlayws(*GVISOR, "--", "touch", "new", env=dead)
    (line,) = (line for line in done.err.splitlines() if "runsc alone" in line)
    assert line.startswith("warning: gvisor by runsc alone, not by an engine: ") and "does not answer" in line
    assert f"warning: {runs(overlayws, dead)[0]['notices'][0]}" == line
    env = environment("gvisor-alone")
    assert "not by an engine: no container engine: /nonexistent" in overlayws("run", "s", "--", "true", env=env).err


@pytest.mark.docker
def test_an_engine_that_answers_is_used_without_a_word(overlayws: Program) -> None:
    env = environment("gvisor")
    assert "alone" not in overlayws(*GVISOR, "--", "true", env=env).err
    assert runs(overlayws, env)[0]["notices"] == []


@pytest.mark.parametrize("capture", ["disk", "memory"])
def test_an_engines_image_is_never_a_directory_that_has_its_name(
    capture: str, overlayws: Program, workspace: Path, dead: dict[str, str]
) -> None:
    (workspace / "project/bin").mkdir(parents=True)
    words = [*GVISOR, "--capture", capture, "--image", "project", "--", "true"]
    done = overlayws(*words, env=dead, cwd=workspace, code=125)
    assert "so 'project' cannot be an engine's image" in done.error
    assert ("does not answer" if capture == "disk" else "needs runsc alone") in done.error
    assert overlayws("list", env=dead).out == b""


@pytest.mark.root
@pytest.mark.parametrize("capture", ["disk", "memory"])
def test_a_directory_is_an_image_by_its_path_wherever_the_next_command_is(
    capture: str, overlayws: Program, workspace: Path, root_file_system: Path
) -> None:
    env = environment("gvisor-alone")
    words = [*GVISOR[1:], "--capture", capture, "--image", f"./{root_file_system.name}", "--no-run"]
    overlayws("start", workspace, *words, env=env, cwd=root_file_system.parent)
    assert overlayws("run", "s", "--", "cat", "/etc/motd", env=env, cwd="/").out == b"an image of ours\n"


@pytest.mark.parametrize("words", [["--sandbox", "gvisor"], []])
def test_an_empty_name_is_no_image(words: list[str], overlayws: Program) -> None:
    assert "--image ''" in overlayws("start", *words, "--image", "", "--", "true", code=2).error
    assert overlayws("list").out == b""


@pytest.mark.root
@pytest.mark.parametrize("words, complaint", [
    (["--backend", "userns"], "needs the backend kernel, not userns"),
    (["--backend", "copy"], "needs the backend kernel, not copy"),
    (["--image", "project"], "cannot be an engine's image"),
    (["--image", "/nonexistent"], "is no directory"),
])  # fmt: skip
def test_what_memory_cannot_be_captured_with_is_refused_before_anything_is_made(
    words: list[str], complaint: str, overlayws: Program
) -> None:
    env = environment("gvisor-memory")
    for more, code in ((["--no-run"], 3), (["--", "true"], 125)):
        assert complaint in overlayws(*MEMORY, *words, *more, env=env, code=code).error
        assert overlayws("list", env=env).out == b""
        assert not any(path.is_dir() for path in overlayws.home.glob("bases/*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_an_ordinary_users_memory_is_refused_before_anything_is_made(overlayws: Program) -> None:
    env = environment("gvisor-memory")
    assert "needs root" in overlayws(*MEMORY, "--no-run", env=env, code=3).error
    assert overlayws("list", env=env).out == b""


@pytest.mark.root
@pytest.mark.parametrize("where", ["run.kept.remove_tree", "api.captured"])
def test_killed_after_the_last_of_it_came_all_is_kept_and_so_it_is_told(
    where: str, overlayws: Program, tmp_path: Path
) -> None:
    """Before the old upperdir is removed; before the command's end is written down."""
    env = environment("gvisor-memory")
    overlayws(*MEMORY, "--", "sh", "-c", "echo 1 > one", env=env)
    module, _, name = where.rpartition(".")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(
        f"import os, overlayws.{module} as module\nmodule.{name} = lambda *a, **k: os.kill(os.getpid(), 9)\n"
    )
    killed = {**env, "PYTHONPATH": str(tmp_path / "site")}
    overlayws("run", "s", "--", "sh", "-c", "echo 2 > two; rm one", env=killed, code=-9)
    done = overlayws("list", env=env)
    assert "session s was interrupted; all that it had changed is kept\n" in done.err
    assert state(overlayws) == "interrupted"
    assert overlayws("diff", "s", "--name-status", env=env).out == b"A\ttwo\n"
    left = {path.name for path in overlayws.session("s").iterdir()}
    assert not {"unpacking", "incomplete", "checkpoint"} & left and not [n for n in left if n.startswith("received")]
