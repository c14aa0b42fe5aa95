"""What does a sandbox cost? A command that does nothing, and file operations in the workspace, in each sandbox.

Beside them `none`, the same layer without a sandbox. The first rows are whole runs (`overlayws run -- true`, Python's
start included); the operations are timed by the program inside, microseconds each, the best of several passes, and are
in the JSON as ``extra_info`` and on the terminal. As root, with docker.io and runsc: the engine is the tests' own.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.sandboxed import NO_ENGINE, overlayws
from overlayws.source.remove import remove_tree

KINDS = ("none", "bwrap", "docker", "gvisor", "gvisor-alone")
PASSES = 5

OPERATIONS = """
import json, os, sys, time
number, passes = int(sys.argv[1]), int(sys.argv[2])
names = [f"made/f{n}" for n in range(number)]
content = b"x" * 4096

def create(name):
    with open(name, "wb", buffering=0) as file:
        file.write(content)

def read(name):
    with open(name, "rb", buffering=0) as file:
        file.read()

best = {}
for _ in range(passes):
    os.mkdir("made")
    for do in (create, lambda name: os.close(os.open(name, os.O_RDONLY)), os.stat, read, os.unlink):
        began = time.perf_counter()
        for name in names:
            do(name)
        took = (time.perf_counter() - began) / number * 1e6
        what = {"<lambda>": "open+close"}.get(do.__name__, do.__name__)
        best[what] = min(took, best.get(what, took))
    os.rmdir("made")
print(json.dumps({what: round(took, 1) for what, took in best.items()}))
"""


@pytest.fixture(scope="module", params=KINDS)
def session(request: pytest.FixtureRequest, host: str) -> Iterator[tuple[str, dict[str, str], Path]]:
    """(kind, environment, workspace) of a session named "s"."""
    kind = request.param
    place = Path(tempfile.mkdtemp(prefix="overlayws-bench-"))
    (place / "ws").mkdir()
    (place / "ws" / "file").write_text("x\n")
    found = NO_ENGINE if kind == "gvisor-alone" else host
    env = {**os.environ, "OVERLAYWS_HOME": str(place / "state"), "DOCKER_HOST": found}
    try:
        start = ["start", "--name", "s", "--sandbox", kind.removesuffix("-alone"), "--pids", "1000", "--no-run"]
        overlayws(env, place / "ws", *start)
        yield kind, env, place / "ws"
    finally:
        remove_tree(place)


def test_a_command_that_does_nothing(benchmark: BenchmarkFixture, session: tuple[str, dict[str, str], Path]) -> None:
    _, env, workspace = session
    benchmark.group = "overlayws run -- true"
    benchmark.pedantic(overlayws, (env, workspace, "run", "s", "--", "true"), rounds=5, warmup_rounds=1)


def test_operations_on_files(
    benchmark: BenchmarkFixture,
    session: tuple[str, dict[str, str], Path],
    quick: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kind, env, workspace = session
    words = ["run", "s", "--", "python3", "-I", "-S", "-c", OPERATIONS, "50" if quick else "500", str(PASSES)]
    benchmark.group = "operations on files, with the start"
    said = benchmark.pedantic(overlayws, (env, workspace, *words), rounds=1)
    benchmark.extra_info.update(json.loads(said))
    with capsys.disabled():
        print(f"\n{kind}: {said.decode().strip()} us")
