"""``session.json``: a Session as bytes and back. See docs/state.md for the format."""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from overlayws.errors import UntrustedError
from overlayws.run.limits import Limits
from overlayws.session.session import BASES, DOING, KEPT_IN, STATES, Run, Session

SCHEMA = "overlayws.session/1"
_BASE_ID = re.compile(r"([0-9a-f]{16}-[0-9a-f]{8})?")
_CAPTURE = re.compile(r"([0-9a-f]{64})?")


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
        "workspace": _text(path),
        "created": session.created,
        "backend": session.backend,
        "base": session.base_mode,
        "sandbox": session.sandbox,
        "network": session.network,
        "image": _text(session.image),
        "limits": asdict(session.limits),
        "capture": session.kept_in,
        "git": "fresh" if session.own_git else "none",
        "runs": [_run_as_dict(run) for run in session.runs],
        "warnings": [_text(warning) for warning in session.warnings],
    }
    if _text(path) != path:
        data["workspace_b64"] = base64.b64encode(os.fsencode(path)).decode()
    return data


def _run_as_dict(run: Run) -> dict[str, Any]:
    return {**asdict(run), "command": list(map(_text, run.command)), "notices": list(map(_text, run.notices)),
            "notes": list(map(_text, run.notes))}  # fmt: skip


def _text(text: str) -> str:
    """Without the surrogates that stand for bytes that are not UTF-8: those are no valid JSON (RFC 8259, 8.2)."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def from_bytes(data: bytes, directory: Path) -> Session:
    """The session kept in ``directory``. Raises DamagedSession."""
    try:
        found = json.loads(data)
        if found.pop("schema") != SCHEMA:
            raise ValueError("another schema")
        tools, warnings = (tuple(_strings(found.pop(name))) for name in ("tools", "warnings"))
        own_git, read_only = (_flag(found.pop(name)) for name in ("own_git", "read_only"))
        runs = tuple(_run(run) for run in found.pop("runs"))
        limits = _limits(found.pop("limits", {}))
        every = found.pop("checkpoint_every", None)
        kept_in = found.get("kept_in", "disk")
        if isinstance(every, bool) or not isinstance(every, int | float | None) or kept_in not in KEPT_IN:
            raise ValueError("an impossible capture")
        _strings(list(found.values()))
        workspace = Path(found.pop("workspace"))
        session = Session(
            directory=directory, workspace=workspace, own_git=own_git, read_only=read_only, tools=tools, runs=runs,
            limits=limits, checkpoint_every=every, warnings=warnings, **found,
        )  # fmt: skip
        if session.name != directory.name or not workspace.is_absolute():
            raise ValueError("impossible values")
        if session.state not in STATES or session.doing not in DOING or session.then not in ("", *STATES):
            raise ValueError("unknown state")
        if session.base_mode not in BASES:
            raise ValueError("unknown base")
        if not _BASE_ID.fullmatch(session.base_id):
            raise ValueError("not a base")
        if not _CAPTURE.fullmatch(session.capture):
            raise ValueError("not a capture")
        if session.journal and not session.journal.isdigit():
            raise ValueError("not a journal")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedSession(
            directory.name,
            f"session.json is damaged ({type(error).__name__}: {error})",
            hint=f"its files are in {directory}; remove it with: overlayws gc --damaged",
        ) from None
    return session


def _strings(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("not a list")
    for text in value:
        if not isinstance(text, str) or b"\0" in os.fsencode(text):  # which raises for what no path can hold
            raise ValueError("not a text")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")
    return value


def _limits(value: Any) -> Limits:
    numbers = {name: value.pop(name, 0) for name in ("memory", "cpus", "pids", "disk", "inodes")}
    if value or any(isinstance(n, bool) or not isinstance(n, int | float) or n < 0 for n in numbers.values()):
        raise ValueError("impossible limits")
    whole = {name: int(number) for name, number in numbers.items() if name != "cpus"}
    return Limits(cpus=float(numbers["cpus"]), **whole)


def _run(value: Any) -> Run:
    code, duration = value["exit_code"], value["duration"]
    if not isinstance(code, int | None) or not isinstance(duration, int | float | None):
        raise ValueError("not a number")
    (started,) = _strings([value["started"]])
    kept_in = value.get("kept_in", "disk")
    if kept_in not in KEPT_IN:
        raise ValueError("an impossible capture")
    (disk,) = _strings([value.get("disk", "")])
    notices, notes = (tuple(_strings(value.get(name, []))) for name in ("notices", "notes"))
    return Run(tuple(_strings(value["command"])), started, code, duration, kept_in, notices, disk, notes)
