"""What a command of a session is run with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from overlayws.run.environment import environment
from overlayws.run.sandbox import RunSpec, Sandbox
from overlayws.session.places import homes
from overlayws.session.session import Session


def spec_of(
    session: Session,
    sandbox: Sandbox,
    command: Sequence[str],
    *,
    home: Path,
    caller: Mapping[str, str],
    env: Sequence[str] = (),
    timeout: float | None = None,
) -> RunSpec:
    """The RunSpec of ``command``. ``home`` is the state directory, ``caller`` the caller's environment.

    Raises UsageError for a bad variable.
    """
    original = os.fspath(session.workspace)
    inside = session.workdir_at or sandbox.place(original)
    # At its own path the layer covers the workspace; elsewhere --tools could show the original.
    covered = () if inside == original else (original,)
    return RunSpec(
        command=tuple(command),
        workspace=inside,
        env=environment(caller, env, tools=session.tools),
        network=session.network,
        read_only=session.read_only,
        tools=session.tools,
        timeout=timeout,
        hidden=(os.fspath(home), *map(os.fspath, homes()), *covered),
        limits=session.limits,
        image=session.image,
        capture=session.kept_in,
        checkpoint_every=session.checkpoint_every,
        record=session.outside,
    )
