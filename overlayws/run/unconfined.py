"""``none``: no sandbox. The command can read and write all that its user can, and reach the network.

Only by name, never by ``auto``. What remains is the environment of the spec, closed descriptors, a session of its
own, no privilege by setuid programs (what could not be killed could write after the capture), and the supervisor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from overlayws.layer.mount import Mount
from overlayws.run.cgroup import limited
from overlayws.run.sandbox import EXEC, Launch, Prepared, RunSpec


def unusable() -> str | None:
    """None: it needs nothing."""
    return None


def place(workspace: str) -> str:
    """The workspace's own path."""
    return workspace


@contextmanager
def prepared(spec: RunSpec, mount: Mount) -> Iterator[Prepared]:
    """See ``Sandbox.prepared``."""
    with limited(spec.limits) as held:
        yield Prepared(held.applied(launch(spec, mount.merged)), mount.enter, held.concluded, held.notices)


def argv(spec: RunSpec, merged: Path) -> list[str]:
    """The command line: a session (and its controlling terminal), a shell's ``exec``, the command."""
    return ["/usr/bin/setsid", *(("-c",) if spec.terminal else ()), *EXEC, *spec.command]


def launch(spec: RunSpec, merged: Path) -> Launch:
    """The same, in ``merged``; under the workspace's own name only where the layer is mounted there."""
    words = tuple(argv(spec, merged))
    return Launch(
        program=words[0],
        argv=words,
        env=spec.env,
        directory=str(merged),
        same_as=spec.workspace,
        no_new_privs=True,
        own_home=True,
    )
