"""A second opinion on a finished base: what gitleaks finds in it, where that is installed.

The base's files are the workspace's, so nothing in them may steer it: ``.gitleaks.toml`` is not read (``--config``),
``.gitleaksignore`` is not found (it is looked for in the directory that is searched, which is the one above the files),
and ``gitleaks:allow`` has no effect. No value leaves it (``--redact``), and only path, line and rule are taken.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from overlayws.base.manifest import Finding
from overlayws.errors import UnableError

_SECONDS = 600
_CONFIG = b"[extend]\nuseDefault = true\n"
_OPTIONS = (
    "--no-banner", "--no-color", "--log-level=fatal", "--redact=100", "--ignore-gitleaks-allow", "--max-decode-depth=2",
    "--report-format=json", "--report-path=-", "--exit-code=0",
)  # fmt: skip
_HINT = "leave --gitleaks out"


def find_program(path: str, workspace: Path) -> str:
    """The executable ``gitleaks`` on the search path ``path``, but none that is in the workspace: whoever wrote that
    would run with the user's rights. Raises UnableError where there is none."""
    top = os.path.realpath(workspace)
    for directory in path.split(":"):
        found = shutil.which("gitleaks", path=directory) if directory.startswith("/") else None
        if found is not None and os.path.commonpath((os.path.realpath(found), top)) != top:
            return found
    raise UnableError("gitleaks is not installed", hint=f"install it, or {_HINT}")


def gitleaks(program: str, directory: Path) -> list[Finding]:
    """What it finds below ``directory/lower``, by path and line; the program's own repository is left out.

    Raises UnableError where it fails, takes more than ten minutes, or says what we do not understand.
    """
    with tempfile.NamedTemporaryFile(prefix="overlayws-gitleaks-", suffix=".toml") as config:
        config.write(_CONFIG)
        config.flush()
        command = [program, "dir", ".", f"--config={config.name}", "--gitleaks-ignore-path=/nonexistent", *_OPTIONS]
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C"}
        try:
            done = subprocess.run(
                command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                timeout=_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise UnableError(f"gitleaks takes more than {_SECONDS} seconds", hint=_HINT) from None
        except OSError as error:
            raise UnableError(f"cannot run {program}: {error.strerror}", hint=_HINT) from error
    try:
        if done.returncode:
            raise ValueError(f"exit status {done.returncode}")
        found = [
            Finding(
                str(row["File"]).removeprefix("./").removeprefix("lower/"),
                int(row["StartLine"]),
                str(row["RuleID"]),
                "warn",
            )
            for row in json.loads(done.stdout or b"[]")
            if str(row["File"]).removeprefix("./").startswith("lower/")
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise UnableError(f"gitleaks failed: {error}", hint=_HINT) from None
    found = [f for f in found if not f.path.startswith(".git/")]
    return sorted(set(found), key=lambda f: (os.fsencode(f.path), f.line, f.rule))
