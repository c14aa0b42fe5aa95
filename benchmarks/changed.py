"""A workspace of many files and a program that changes some of them, on a real layer: what the benchmarks measure."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from overlayws.base.build import build_base
from overlayws.filter.contents import Inspector
from overlayws.filter.sources import load_filter
from overlayws.layer.all_backends import BACKENDS, choose
from overlayws.layer.mount import Layer

_PER_DIRECTORY = 50

_PROGRAM = """
import os, sys
root, modified, added, deleted, step = sys.argv[1], *map(int, sys.argv[2:])
def path(n):
    return f"{root}/d{n // 2500}/e{n // 50}/file{n}.py"
for i in range(modified):
    with open(path(i * step), "a") as f:
        f.write(f"changed = {i}\\n")
for i in range(added):
    with open(f"{root}/d0/e{i % 40}/added{i}.py", "w") as f:
        f.write(f"added = {i}\\n" * 200)
for i in range(deleted):
    os.unlink(path(i * step + 1))
"""


@dataclass(frozen=True)
class Changed:
    workspace: Path
    manifest: Path
    layer: Layer
    prefix: str


def make_files(root: Path, files: int, mean: int = 6000) -> None:
    """Source-like files, ``_PER_DIRECTORY`` in a directory, deterministic."""
    rng = random.Random(files)
    line = "value = compute(argument, other) + 1  # number {}\n"
    for n in range(files):
        directory = root / f"d{n // 2500}/e{n // _PER_DIRECTORY}"
        if n % _PER_DIRECTORY == 0:
            directory.mkdir(parents=True)
        size = rng.randrange(mean // 2, mean * 3 // 2)
        (directory / f"file{n}.py").write_text("".join(line.format(i) for i in range(size // 50)))


def change(place: Path, files: int, modified: int, added: int, deleted: int) -> Changed:
    """A base of ``files`` files below ``place`` and a layer in which a program changed some of them."""
    workspace, base = place / "workspace", place / "base"
    make_files(workspace, files)
    base.mkdir()
    made = build_base(workspace, base, load_filter(workspace), inspector=Inspector())  # as every start does
    layer = Layer(made.lowerdir, place / "upper", place / "work", place / "merged")
    for directory in (layer.upperdir, layer.workdir, layer.merged):
        directory.mkdir()
    name, backend, _ = choose("auto", place)
    step = files // max(modified, 1)
    counts = [str(n) for n in (modified, added, deleted, step)]
    with backend.mounted(layer) as mount:
        command = [*mount.enter, sys.executable, "-c", _PROGRAM, os.fspath(mount.merged), *counts]
        subprocess.run(command, check=True)
    return Changed(workspace, made.manifest, layer, BACKENDS[name].XATTR_PREFIX)


def changed_files(changed: Changed) -> list[str]:
    """The regular files of the upperdir, relative."""
    top = os.fspath(changed.layer.upperdir)
    return [
        os.path.relpath(os.path.join(d, n), top)
        for d, _, names in os.walk(top)
        for n in names
        if os.path.isfile(os.path.join(d, n))
    ]


def as_try_sandbox(changed: Changed, place: Path, workspace: Path) -> Path:
    """The upperdir as binpash/try has it: ``SANDBOX/upperdir`` and the absolute path of the workspace below it."""
    top = place / "upperdir" / workspace.relative_to("/")
    top.parent.mkdir(parents=True)
    subprocess.run(["cp", "-a", changed.layer.upperdir, top], check=True)
    return place
