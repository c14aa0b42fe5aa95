"""How much faster is gVisor's ``--capture memory`` than ``docker run --runtime=runsc -v`` of the same tree?

Both sandboxes stand at the same time, the same program runs in both, and they take turns, pass by pass, after one pass
that does not count: what else the machine does hits both alike. The program makes the fewest system calls that do it
(create: open, write, close). Told are the best pass and the median of all, in microseconds an operation, and their
ratios; "typical" is the median operation of a pass, which a process that comes in between does not move, and getppid
what a system call costs by itself. All passes are in the JSON as ``extra_info``. Rows "one processor": each side is
bound to the same one (``--cpuset-cpus``, taskset). As root, with docker.io, runsc and git.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.sandboxed import NO_ENGINE, host_image, overlayws
from overlayws.source.remove import remove_tree

PASSES, TOOL_PASSES = 20, 3

PROGRAM = """
import compileall, gc, json, os, subprocess, sys, time
names = []
while (line := sys.stdin.readline()) != "\\n":
    names.append(line[:-1])
made = [f"made/f{n}" for n in range(len(names) // 4)]
content = b"x" * 4096

def create(name):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(fd, content)
    os.close(fd)

def open_and_close(name):
    os.close(os.open(name, os.O_RDONLY))

def nothing(name):
    os.getppid()

def operations():
    os.mkdir("made")
    took = {}
    for what, do, each in (
        ("create", create, made), ("open", open_and_close, names), ("stat", os.stat, names),
        ("getppid", nothing, names),
    ):
        times = [time.perf_counter()]
        for name in each:
            do(name)
            times.append(time.perf_counter())
        took[what] = (times[-1] - times[0]) / len(each) * 1e6
        took[what + ", typical"] = sorted(b - a for a, b in zip(times, times[1:]))[len(each) // 2] * 1e6
    for name in made:
        os.unlink(name)
    os.rmdir("made")
    return took

def tools():
    took = {}
    for what, do in (
        ("git status", lambda: subprocess.run(["git", "status", "--short"], check=True, stdout=subprocess.DEVNULL)),
        ("compileall", lambda: compileall.compile_dir("src", quiet=2, force=True)),
    ):
        began = time.perf_counter()
        do()
        took[what] = time.perf_counter() - began
    return took

gc.disable()
for line in sys.stdin:
    print(json.dumps(globals()[line.strip()]()), flush=True)
"""
COMPARED = (
    "capture memory", "capture memory, one processor", "capture memory, 1,000 names", "capture disk, alone",
    "capture disk, engine",
)  # fmt: skip
# gVisor's own size of the cache of names, for each mount.
FORGETFUL = "import overlayws.run.memory as memory\nmemory._names = lambda: 1000\n"


@pytest.fixture(scope="module")
def tree(quick: bool) -> Iterator[Path]:
    """2,000 modules of 2 KiB in a git repository: ``ws``, and ``copy`` for the competitor."""
    place = Path(tempfile.mkdtemp(prefix="overlayws-bench-"))
    try:
        for n in range(200 if quick else 2000):
            path = place / f"ws/src/p{n // 50}/m{n}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"def f{k}(a, b={k}):\n    return a * {n} + b\n" for k in range(50)))
        own = ["-c", "user.name=u", "-c", "user.email=u@e"]
        for words in (["init", "-q"], ["add", "-A"], [*own, "commit", "-qm", "x"]):
            subprocess.run(["git", *words], cwd=place / "ws", check=True)
        shutil.copytree(place / "ws", place / "copy", symlinks=True)
        yield place
    finally:
        remove_tree(place)


class Side:
    """One sandbox in which PROGRAM waits to be asked."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.passes: list[dict[str, float]] = []

    def ask(self, what: str) -> dict[str, float]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(what.encode() + b"\n")
        self._process.stdin.flush()
        self.passes.append(json.loads(self._process.stdout.readline()))
        return self.passes[-1]


@contextmanager
def side(words: list[str], env: dict[str, str], tree: Path) -> Iterator[Side]:
    names = "".join(f"{path.relative_to(tree / 'ws')}\n" for path in sorted((tree / "ws/src").rglob("*.py")))
    pipe: Any = subprocess.PIPE
    with subprocess.Popen(
        words, cwd=tree / "ws", env=env, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin
        try:
            process.stdin.write(names.encode() + b"\n")
            yield Side(process)
        finally:
            process.stdin.close()  # its program ends
            process.wait()


def docker_run(host: str, tree: Path, *more: str) -> list[str]:
    return [
        "docker", "-H", host, "run", "--rm", "-i", "--runtime=runsc", "--network=none",
        "--security-opt", "seccomp=unconfined", *more, "-v", "/usr:/usr:ro", "-v", f"{tree}/copy:/workspace",
        "-w", "/workspace", host_image(host), *COMMAND,
    ]  # fmt: skip


COMMAND = ["python3", "-I", "-S", "-c", PROGRAM]


@contextmanager
def both(kind: str, tree: Path, host: str) -> Iterator[tuple[Side, Side]]:
    """The competitor, and the kind of ours."""
    engine_host = host if kind.endswith("engine") else NO_ENGINE
    with tempfile.TemporaryDirectory(prefix="overlayws-bench-") as place:
        env = {**os.environ, "OVERLAYWS_HOME": f"{place}/state", "DOCKER_HOST": engine_host}
        if kind.endswith("names"):
            Path(place, "sitecustomize.py").write_text(FORGETFUL)
            env["PYTHONPATH"] = place
        one = kind.endswith("one processor")
        start = ["start", "--name", "s", "--sandbox", "gvisor", "--capture", kind.split()[1].rstrip(","), "--no-run"]
        overlayws(env, tree / "ws", *start)
        bound = ["taskset", "--cpu-list", "0"] if one else []
        theirs = docker_run(host, tree, *(["--cpuset-cpus", "0"] if one else []))
        with ExitStack() as stack:
            found = [
                stack.enter_context(side(words, environment, tree))
                for words, environment in (
                    (theirs, dict(os.environ)),
                    ([*bound, sys.executable, "-m", "overlayws", "run", "s", "--", *COMMAND], env),
                )
            ]
            yield found[0], found[1]
        remove_tree(Path(place, "state"))


def compared(benchmark: BenchmarkFixture, what: str, passes: int, theirs: Side, ours: Side, unit: str) -> Iterator[str]:
    """Let them take turns; the lines to print."""
    for one in (theirs, ours):
        one.ask(what)
        one.passes.clear()

    def theirs_first() -> None:
        theirs.ask(what)

    benchmark.pedantic(ours.ask, (what,), setup=theirs_first, rounds=passes)  # type: ignore[no-untyped-call]
    digits = 0 if unit == "us" else 2
    for name in ours.passes[0]:
        columns = [[one[name] for one in who.passes] for who in (theirs, ours)]
        best, median = ([how(column) for column in columns] for how in (min, statistics.median))
        pairs = sorted(a / b for a, b in zip(*columns, strict=True))
        times = {"best": best[0] / best[1], "median": median[0] / median[1]}
        benchmark.extra_info[name] = {
            "docker run -v": [round(x, 2) for x in columns[0]], "ours": [round(x, 2) for x in columns[1]],
            "times faster": {how: round(x, 2) for how, x in times.items()},
        }  # fmt: skip
        yield (
            f"{name:16} {unit}: best {best[0]:.{digits}f} and {best[1]:.{digits}f}, median {median[0]:.{digits}f} and "
            f"{median[1]:.{digits}f}; times faster: best {times['best']:.1f}, median {times['median']:.1f}, "
            f"turn by turn {pairs[0]:.1f} to {pairs[-1]:.1f}"
        )


@pytest.mark.parametrize("kind", COMPARED)
def test_operations_on_files(
    benchmark: BenchmarkFixture, kind: str, tree: Path, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark.group = "create, open and close, stat"
    with both(kind, tree, host) as (theirs, ours):
        lines = list(compared(benchmark, "operations", PASSES, theirs, ours, "us"))
    with capsys.disabled():
        print("", f"docker run -v, and {kind}:", *lines, sep="\n")


@pytest.mark.parametrize("kind", COMPARED[:2])
def test_tools_on_a_tree(
    benchmark: BenchmarkFixture, kind: str, tree: Path, host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark.group = "git status and compileall"
    with both(kind, tree, host) as (theirs, ours):
        lines = list(compared(benchmark, "tools", TOOL_PASSES, theirs, ours, "s"))
    with capsys.disabled():
        print("", f"docker run -v, and {kind}:", *lines, sep="\n")
