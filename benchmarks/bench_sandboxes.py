"""What does a sandbox cost? A command that does nothing, and file operations in the workspace, in each sandbox.

Beside them `none`, the same layer without a sandbox. The first rows are whole runs (`overlayws run -- true`, Python's
start included); the operations are timed by the program inside, microseconds each, the best of several passes, and are
in the JSON as ``extra_info`` and on the terminal. As root, with docker.io and runsc: the engine is the tests' own.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from overlayws.source.remove import remove_tree
from tests import engine

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


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    if reason := engine.gvisor_missing():
        pytest.skip(reason)
    engine.prepare()
    try:
        yield engine.host()
    finally:
        engine.finish()


@pytest.fixture(scope="module", params=KINDS)
def session(request: pytest.FixtureRequest, host: str) -> Iterator[tuple[str, dict[str, str], Path]]:
    """(kind, environment, workspace) of a session named "s"."""
    kind = request.param
    place = Path(tempfile.mkdtemp(prefix="overlayws-bench-"))
    (place / "ws").mkdir()
    (place / "ws" / "file").write_text("x\n")
    found = "unix:///nonexistent" if kind == "gvisor-alone" else host
    env = {**os.environ, "OVERLAYWS_HOME": str(place / "state"), "DOCKER_HOST": found}
    try:
        start = ["start", "--name", "s", "--sandbox", kind.removesuffix("-alone"), "--pids", "1000", "--no-run"]
        overlayws(env, place / "ws", *start)
        yield kind, env, place / "ws"
    finally:
        remove_tree(place)


def overlayws(env: dict[str, str], cwd: Path, *words: str) -> bytes:
    command = [sys.executable, "-m", "overlayws", *words]
    done = subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


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


TOOLS = """
import compileall, json, os, subprocess, sys, time
names = [line for line in sys.stdin.read().split("\\n") if line]
best = {}

def timed(what, do, number=1):
    began = time.perf_counter()
    do()
    took = (time.perf_counter() - began) / number * (1e6 if number > 1 else 1)
    best[what] = min(took, best.get(what, took))

def create():
    for n in range(len(names)):
        with open(f"made/f{n}", "wb", buffering=0) as file:
            file.write(content)

def each(do):
    return lambda: [do(name) for name in names]

content = b"x" * 4096
for _ in range(3):
    os.mkdir("made")
    timed("create 4 KiB", create, len(names))
    subprocess.run(["rm", "-r", "made"], check=True)
    timed("open and close", each(lambda name: os.close(os.open(name, os.O_RDONLY))), len(names))
    timed("stat", each(os.stat), len(names))
    timed("git status", lambda: subprocess.run(["git", "status", "--short"], check=True, stdout=subprocess.DEVNULL))
for _ in range(2):
    timed("compileall", lambda: compileall.compile_dir("src", quiet=2, force=True))
print(json.dumps({what: round(took, 2) for what, took in best.items()}))
"""
COMPARED = (
    "docker run -v", "capture disk, engine", "capture disk, alone", "capture memory", "capture memory, 1,000 names",
)  # fmt: skip
# gVisor's own size of the cache of names, for each mount.
FORGETFUL = "import overlayws.run.memory as memory\nmemory._names = lambda: 1000\n"


@pytest.fixture(scope="module")
def tree(quick: bool) -> Iterator[Path]:
    """2,000 modules of 2 KiB in a git repository."""
    place = Path(tempfile.mkdtemp(prefix="overlayws-bench-"))
    try:
        for n in range(200 if quick else 2000):
            path = place / f"ws/src/p{n // 50}/m{n}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"def f{k}(a, b={k}):\n    return a * {n} + b\n" for k in range(50)))
        own = ["-c", "user.name=u", "-c", "user.email=u@e"]
        for words in (["init", "-q"], ["add", "-A"], [*own, "commit", "-qm", "x"]):
            subprocess.run(["git", *words], cwd=place / "ws", check=True)
        yield place
    finally:
        remove_tree(place)


@pytest.mark.parametrize("kind", COMPARED)
def test_tools_on_a_tree(
    benchmark: BenchmarkFixture, kind: str, tree: Path, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "\n".join(str(path.relative_to(tree / "ws")) for path in sorted((tree / "ws/src").rglob("*.py"))).encode()
    command = ["python3", "-I", "-S", "-c", TOOLS]
    if kind == "docker run -v":
        shutil.copytree(tree / "ws", tree / "copy", symlinks=True)
        image = _host_image(host)
        words = [
            "docker",
            "-H",
            host,
            "run",
            "--rm",
            "-i",
            "--runtime=runsc",
            "--network=none",
            "--security-opt",
            "seccomp=unconfined",
            "-v",
            "/usr:/usr:ro",
        ]
        words += ["-v", f"{tree}/copy:/workspace", "-w", "/workspace", image, *command]
        env = dict(os.environ)
    else:
        engine_host = host if kind.endswith("engine") else "unix:///nonexistent"
        env = {**os.environ, "OVERLAYWS_HOME": str(tree / f"state-{COMPARED.index(kind)}"), "DOCKER_HOST": engine_host}
        if kind.endswith("names"):
            (tree / "sitecustomize.py").write_text(FORGETFUL)
            env["PYTHONPATH"] = os.fspath(tree)
        start = ["start", "--name", "s", "--sandbox", "gvisor", "--capture", kind.split()[1].rstrip(","), "--no-run"]
        overlayws(env, tree / "ws", *start)
        words = [sys.executable, "-m", "overlayws", "run", "s", "--", *command]
    benchmark.group = "tools on 2,000 files, with the start and the capture"

    def run() -> bytes:
        done = subprocess.run(words, cwd=tree / "ws", env=env, input=names, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = benchmark.pedantic(run, rounds=1)
    benchmark.extra_info.update(json.loads(said))
    with capsys.disabled():
        print(f"\n{kind}: {said.decode().strip()} (us; git status and compileall: s)")


def _host_image(host: str) -> str:
    """An image with nothing in it but places for this machine's own programs."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name in ("usr", "tmp", "workspace", "etc", "proc", "dev"):
            about = tarfile.TarInfo(name)
            about.type, about.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(about)
        for name in ("bin", "sbin", "lib", "lib64"):
            about = tarfile.TarInfo(name)
            about.type, about.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(about)
    words = ["docker", "-H", host, "import", "-", "overlayws-bench:host"]
    subprocess.run(words, input=data.getvalue(), check=True, capture_output=True)
    return "overlayws-bench:host"
