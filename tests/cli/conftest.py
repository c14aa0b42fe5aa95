"""The real program in a process of its own, and what must not be left when it has ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from overlayws.layer.all_backends import BACKENDS
from overlayws.source.remove import remove_tree
from tests.trees import make_tree

_BUSYBOX = "/bin/busybox"
_SCRIPT = Path(sys.executable).with_name("overlayws")
PROGRAM = [str(_SCRIPT)] if _SCRIPT.exists() else [sys.executable, "-m", "overlayws"]

BACKEND = [
    pytest.param("kernel", marks=pytest.mark.kernel),
    pytest.param("userns", marks=pytest.mark.userns),
    pytest.param("copy"),
]
assert {str(param.values[0]) for param in BACKEND} <= set(BACKENDS)


def heeding_interrupts() -> None:
    """As in a process a shell starts: pytest-xdist's workers ignore SIGINT, nohup SIGHUP, and that is inherited."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


_OPTIONS: dict[str, Any] = {
    "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": heeding_interrupts,
}  # fmt: skip


@dataclass(frozen=True)
class Done:
    """How a run of the program ended."""

    code: int
    out: bytes
    err: str

    @property
    def error(self) -> str:
        """The line that says what is wrong; asserts that there is one, and a hint after it, and nothing of Python."""
        lines = self.err.splitlines()
        said = [line for line in lines if line.startswith("error: ")]
        assert len(said) == 1 and lines[-1].startswith("hint: ") and lines[-2] == said[0], self.err
        return said[0]


class Program:
    """``program("diff", "--stat", cwd=…)`` runs ``overlayws diff --stat``; ``home`` is its state directory."""

    def __init__(self, cwd: Path, home: Path) -> None:
        self.cwd = cwd
        self.home = home

    def __call__(
        self,
        *arguments: str | bytes | Path,
        code: int | None = 0,
        cwd: Path | None = None,
        env: Mapping[str, str | None] | None = None,
        enter: Sequence[str] = (),
        **options: Any,
    ) -> Done:
        """Runs it to its end. ``code``: the exit status it must have (None: any). ``env``: changes (None removes);
        ``enter``: what to put in front of it."""
        options = {**_OPTIONS, **options}
        done = subprocess.run(
            [*enter, *PROGRAM, *arguments],
            cwd=cwd or self.cwd, env=self.environment(env), timeout=120, check=False, **options,
        )  # fmt: skip
        err = (done.stderr or b"").decode("utf-8", "surrogateescape")
        assert "Traceback" not in err and "Exception ignored" not in err, err
        if code is not None:
            assert done.returncode == code, f"exit status {done.returncode}, not {code}:\n{err}"
        return Done(done.returncode, done.stdout or b"", err)

    def started(self, *arguments: str | bytes | Path, **options: Any) -> subprocess.Popen[bytes]:
        """Starts it and does not wait."""
        options = {**_OPTIONS, **options}
        cwd, env = options.pop("cwd", self.cwd), self.environment(options.pop("env", None))
        return subprocess.Popen([*PROGRAM, *arguments], cwd=cwd, env=env, **options)

    def ready(self, *arguments: str | bytes | Path, **options: Any) -> subprocess.Popen[bytes]:
        """Starts it and waits until its command says ``ready``."""
        child = self.started(*arguments, **options)
        assert child.stdout and child.stdout.readline() == b"ready\n"
        return child

    def environment(self, changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
        # Buffered output, as users have it: what cannot be written is then met at the very end.
        env = {**os.environ, "PYTHONUNBUFFERED": None, **(changes or {})}
        return {name: value for name, value in env.items() if value is not None}

    def session(self, name: str) -> Path:
        return self.home / "sessions" / name


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A small project with a secret, that is its user's current directory."""
    return make_tree(
        tmp_path / "ws",
        {
            "README.md": "one\ntwo\nthree\n",
            "src/app.py": "print('hello')\n",
            "src/deep/util.py": "x = 1\n",
            "docs/guide.txt": "guide\n",
            ".env": "TOKEN=planted-value-7141\n",
        },
    )


@pytest.fixture
def overlayws(workspace: Path, private_home: Path) -> Iterator[Program]:
    """The program, started in the workspace. At the end no mount and no process of it may be left."""
    program = Program(workspace, private_home / "state")
    yield program
    assert mounts(workspace.parent, program.home) == []
    assert processes(workspace.parent, program.home) == []
    remove_tree(program.home)  # pytest's own removal does not get through what programs lock


@pytest.fixture
def root_file_system(tmp_path: Path) -> Path:
    """busybox and nothing else; its environment and its home are not ours."""
    if not os.path.exists(_BUSYBOX):
        pytest.skip("no busybox-static")
    root = tmp_path / "rootfs"
    for name in ("bin", "tmp", "etc", "proc", "dev"):
        (root / name).mkdir(parents=True)
    shutil.copy(_BUSYBOX, root / "bin/busybox")
    for name in ("sh", "cat", "id", "ls", "wc"):
        os.symlink("busybox", root / "bin" / name)
    (root / "etc/motd").write_text("an image of ours\n")
    return root


def in_namespace(script: str, scratch: Path, *, own_users: bool = False) -> list[str]:
    """What to put in front of a command so that it runs after ``script``, in a mount namespace of its own ($TMP is an
    empty directory). Skips the test where that cannot be."""
    own_users = own_users or os.geteuid() != 0
    unshare = ["unshare", "--mount", *(["--user", "--map-root-user"] if own_users else [])]
    place = tempfile.mkdtemp(dir=scratch)
    enter = ["env", f"TMP={place}", *unshare, "sh", "-euc", f'({script}\n)\nunset TMP; exec "$@"', "sh"]
    probe = subprocess.run([*enter, "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"no such namespace: {probe.stderr.decode()}")
    shutil.rmtree(place)
    os.mkdir(place)
    return enter


def mounts(*places: Path) -> list[str]:
    """The mounts of this namespace at or from below ``places``."""
    names = [str(place) for place in places]
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if any(n in line for n in names)]


def processes(*places: Path) -> list[str]:
    """The command lines of the processes, but ours, that mention a path below ``places`` or stand there."""
    found = []
    names = [os.fsencode(place) for place in places]
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            about = Path(f"/proc/{entry}/cmdline").read_bytes() + os.fsencode(os.readlink(f"/proc/{entry}/cwd"))
        except OSError:
            continue
        if any(name in about for name in names):
            found.append(f"{entry}: {about!r}")
    return found


def only_root() -> bool:
    return os.geteuid() == 0
