"""A session whose program edited files of its workspace, for benchmarks of whole commands."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.changed import make_files
from overlayws import api
from overlayws.session.session import Session
from overlayws.session.store import Store

_EDIT = """
import sys
root, count, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for i in range(count):
    n = i * step
    path = f"{root}/d{n // 2500}/e{n // 50}/file{n}.py"
    with open(path) as f: lines = f.readlines()
    lines[len(lines) // 2] = f"changed = {i}\\n"; lines.insert(3, "inserted = 1\\n")
    with open(path, "w") as f: f.writelines(lines)
"""


@dataclass(frozen=True)
class Edited:
    """A session whose program edited ``count`` files; ``after`` is a plain tree with the same edits."""

    session: Session
    store: Store
    workspace: Path
    after: Path

    def command(self, verb: str, *options: str) -> bytes:
        """What ``overlayws VERB SESSION OPTIONS`` prints, as a process of its own."""
        command = [sys.executable, "-m", "overlayws", verb, self.session.name, *options]
        environment = {**os.environ, "OVERLAYWS_HOME": str(self.store.home)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled
        return subprocess.run(command, env=environment, check=True, capture_output=True).stdout


def edited(place: Path, files: int, count: int, *, after: bool = False) -> Edited:
    """A workspace of ``files`` files below ``place``, and a session that edited ``count`` of them."""
    workspace, store = place / "workspace", Store(place / "home")
    make_files(workspace, files)
    words = [sys.executable, "-c", _EDIT]
    numbers = [str(count), str(files // count)]
    session = api.start(workspace, store=store, name="s", confinement=api.Confinement(sandbox="none"))
    api.run(session, [*words, ".", *numbers], store=store)
    if after:
        subprocess.run(["cp", "-a", workspace, place / "after"], check=True)
        subprocess.run([*words, str(place / "after"), *numbers], check=True)
    return Edited(store.load("s"), store, workspace, place / "after")
