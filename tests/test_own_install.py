"""overlayws may be installed in the very workspace that it protects (a virtual environment in the checkout)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import overlayws

PACKAGES = [p for p in sys.path if p.endswith("site-packages")]

BACKEND = [
    pytest.param("kernel", marks=pytest.mark.kernel),
    pytest.param("userns", marks=pytest.mark.userns),
    pytest.param("copy"),
]


@pytest.mark.bwrap
@pytest.mark.parametrize("backend", BACKEND)
def test_a_program_that_replaces_the_interpreter_in_its_copy_gets_nothing_run_outside(
    tmp_path: Path, backend: str
) -> None:
    ws, victim = tmp_path / "ws", tmp_path / "victim"
    ws.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", ws / ".venv"], check=True)
    python = ws / ".venv/bin/python"
    trap = f'#!/bin/sh\ntouch {victim}\nexec {os.path.realpath(sys.executable)} "$@"\n'
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(overlayws.__file__).parents[1]), *PACKAGES])}

    def ours(*arguments: str) -> None:
        command = [python, "-m", "overlayws", *arguments]
        subprocess.run(command, env=env, cwd=ws, check=True, capture_output=True)

    replace = f"rm -f .venv/bin/python* && printf '%s' '{trap}' > .venv/bin/python && chmod +x .venv/bin/python"
    ours("start", "--name", "s", "--backend", backend, ".", "--", "sh", "-c", replace)
    ours("run", "s", "--", "true")
    assert not victim.exists()
    assert python.is_symlink()
