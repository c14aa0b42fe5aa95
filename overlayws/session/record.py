"""``session.json``: a Session as bytes and back. See docs/state.md for the format."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from overlayws.errors import UntrustedError
from overlayws.session.session import STATES, Run, Session

SCHEMA = "overlayws.session/1"


class DamagedSession(UntrustedError):
    """A session's file is not what was written. ``session`` is its name."""

    def __init__(self, session: str, message: str, *, hint: str) -> None:
        super().__init__(f"session {session}: {message}", hint=hint)
        self.session = session


def to_bytes(session: Session) -> bytes:
    """The content of ``session.json``: ASCII, so a path with any bytes survives (surrogateescape)."""
    data: dict[str, Any] = {"schema": SCHEMA, **asdict(session)}
    del data["directory"]
    data["workspace"] = os.fspath(session.workspace)
    return json.dumps(data, indent=2).encode("ascii") + b"\n"


def as_dict(session: Session) -> dict[str, Any]:
    """What scripts are told of a session (``list --json``, ``status --json``)."""
    path = os.fspath(session.workspace)
    data: dict[str, Any] = {
        "name": session.name,
        "state": session.state,
        "workspace": path.encode("utf-8", "backslashreplace").decode(),
        "created": session.created,
        "backend": session.backend,
        "sandbox": session.sandbox,
        "network": session.network,
        "git": "fresh" if session.own_git else "none",
        "runs": [asdict(run) for run in session.runs],
        "warnings": list(session.warnings),
    }
    if not path.isascii():
        data["workspace_b64"] = base64.b64encode(os.fsencode(path)).decode()
    return data


def from_bytes(data: bytes, directory: Path) -> Session:
    """The session kept in ``directory``. Raises DamagedSession."""
    try:
        found = json.loads(data)
        if found.pop("schema") != SCHEMA:
            raise ValueError("another schema")
        runs = tuple(
            Run(tuple(map(str, r["command"])), str(r["started"]), r["exit_code"], r["duration"])
            for r in found.pop("runs")
        )
        session = Session(
            directory=directory,
            workspace=Path(found.pop("workspace")),
            runs=runs,
            tools=tuple(found.pop("tools")),
            warnings=tuple(found.pop("warnings")),
            **found,
        )
        if session.name != directory.name or session.state not in STATES or not session.workspace.is_absolute():
            raise ValueError("impossible values")
    except (ValueError, TypeError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise DamagedSession(
            directory.name,
            f"session.json is damaged ({type(error).__name__}: {error})",
            hint=f"its files are in {directory}; remove it with: overlayws gc --damaged",
        ) from None
    return session
