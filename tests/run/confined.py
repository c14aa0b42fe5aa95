"""A command run through overlayws from a process of its own: as the caller, or as an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

DRIVER = Path(__file__).with_name("driver.py")
PYTHON = "/usr/bin/python3"  # inside a sandbox there is no other
ORDINARY = 64123  # a uid that nobody has
PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Ended:
    said: dict[str, Any]
    out: str
    err: str

    @property
    def code(self) -> int:
        assert "exit_code" in self.said, self.said
        return int(self.said["exit_code"])


@cache
def _interpreter_for(uid: int) -> str | None:
    for python in (sys.executable, PYTHON):
        test = [
            python,
            "-c",
            f"import sys; sys.path.insert(0, {str(DRIVER.parents[2])!r}); import overlayws.run.runner",
        ]
        try:
            if subprocess.run(test, user=uid, group=uid, extra_groups=(), capture_output=True).returncode == 0:
                return python
        except OSError:
            pass
    return None


class Driver(subprocess.Popen[str]):
    """The process of a run; a test that fails does not wait for it."""

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, *rest)


class Place:
    """A merged directory and a report, owned by who runs; ``run`` runs a command there."""

    def __init__(self, root: Path, uid: int | None) -> None:
        self.root, self.uid = root, uid
        self.merged, self.scratch = root / "merged", root / "scratch"
        for directory in (self.merged, self.scratch):
            directory.mkdir()
        self.python = sys.executable if uid is None else _interpreter_for(uid)
        self.give()

    def give(self) -> None:
        """Everything here belongs to who runs."""
        if self.uid is not None:
            for path in (self.root, *self.root.rglob("*")):
                os.chown(path, self.uid, self.uid, follow_symlinks=False)

    def start(
        self,
        *command: str,
        sandbox: str = "bwrap",
        workspace: str = "/workspace",
        env: dict[str, str] | None = None,
        caller_env: dict[str, str] | None = None,
        spec: dict[str, Any] | None = None,
        popen: dict[str, Any] | None = None,
        **task: Any,
    ) -> Driver:
        if self.python is None:
            pytest.skip("no Python that an ordinary user can run with this package")
        environment = {"PATH": PATH, "HOME": "/home/agent"} if env is None else env
        whole = {"command": list(command), "workspace": workspace, "env": environment, **(spec or {})}
        (self.scratch / "report").unlink(missing_ok=True)
        task = {"sandbox": sandbox, "merged": str(self.merged), "spec": whole, "report": str(self.report), **task}
        popen = dict(popen or {})
        own = popen.pop("preexec_fn", lambda: None)

        def prepare() -> None:
            # Where the tests run in the background of a script, SIGINT came to them ignored.
            for number in (signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)
            own()

        who = {} if self.uid is None else {"user": self.uid, "group": self.uid, "extra_groups": ()}
        return Driver(
            [self.python, "-B", str(DRIVER), json.dumps(task)],
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                # What a killed driver leaves in its temporary directory goes with the place.
                "env": {**os.environ, "SCRATCH": str(self.scratch), "TMPDIR": str(self.scratch), **(caller_env or {})},
                "cwd": "/",
                "text": True,
                **who,
                "preexec_fn": prepare,
                **popen,
            },
        )

    @property
    def report(self) -> Path:
        return self.scratch / "report"

    def run(self, *command: str, timeout: float = 60, input: str | None = None, **options: Any) -> Ended:
        if input is not None:
            options["popen"] = {"stdin": subprocess.PIPE, **options.get("popen", {})}
        with self.start(*command, **options) as process:
            out, err = process.communicate(input, timeout=timeout)
        assert self.report.exists(), f"driver failed: {err}"
        return Ended(json.loads(self.report.read_text()), out or "", err or "")

    def probe(self, source: str, *arguments: str, **options: Any) -> Ended:
        """Run a Python program inside."""
        if not os.path.exists(PYTHON):
            pytest.skip(f"no {PYTHON} to probe with")
        return self.run(PYTHON, "-I", "-S", "-c", source, *arguments, **options)


@contextmanager
def place(who: str) -> Iterator[Place]:
    """``who``: ``caller`` is whoever runs the tests; ``user`` is an ordinary user (needs root)."""
    if who == "user" and os.geteuid() != 0:
        pytest.skip("already an ordinary user")
    # Not pytest's own directory, which other users cannot enter.
    root = Path(tempfile.mkdtemp(prefix="overlayws-test-"))
    try:
        yield Place(root, ORDINARY if who == "user" else None)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def processes_with(mark: str) -> list[int]:
    """The processes of this machine that have ``mark`` in their command line."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                if mark.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                    found.append(int(name))
            except OSError:
                continue
    return found


def eventually(condition: Callable[[], object], seconds: float = 20) -> bool:
    """Whether ``condition`` holds within ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def kill_quietly(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
