"""Three-way merge of one text file, by ``git merge-file`` on private temporary files."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass

from overlayws.cleangit import ENVIRONMENT

LIMIT = 16 << 20  # bytes; larger files are never merged
_SECONDS = 60  # xdiff is quadratic at worst, and the content is hostile


@dataclass(frozen=True, slots=True)
class Merged:
    """``content`` is None where the files cannot be merged (``why`` says so); with ``conflicts`` it has markers."""

    content: bytes | None
    conflicts: int = 0
    why: str = ""


def is_text(data: bytes) -> bool:
    """Whether a content may be merged by lines: no NUL byte, at most LIMIT bytes."""
    return len(data) <= LIMIT and b"\0" not in data


def merge3(base: bytes, ours: bytes, theirs: bytes) -> Merged:
    """Merge what was accepted (theirs) into what the workspace has now (ours); base is what both came from.

    git runs outside of any repository, with an environment of its own: no configuration of a user, a system or
    a tree has a say, and no driver or filter is run (git-merge-file(1) knows none).
    """
    if ours == theirs or base == theirs:
        return Merged(ours)
    if base == ours:
        return Merged(theirs)
    if not (is_text(base) and is_text(ours) and is_text(theirs)):
        return Merged(None, why="binary or too large to merge")
    with tempfile.TemporaryDirectory(prefix="overlayws-merge-") as private:
        for name, data in (("ours", ours), ("base", base), ("theirs", theirs)):
            with open(os.path.join(private, name), "xb") as file:
                file.write(data)
        environment = {**ENVIRONMENT, "GIT_CEILING_DIRECTORIES": os.path.dirname(os.path.realpath(private))}
        labels = ("-L", "ours (workspace)", "-L", "base", "-L", "theirs (accepted)")
        command = ["git", "merge-file", "-p", *labels, "ours", "base", "theirs"]
        try:
            done = subprocess.run(
                command,
                cwd=private,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            return Merged(None, why="git is not installed, so nothing can be merged")
        except subprocess.TimeoutExpired:
            return Merged(None, why=f"merging took more than {_SECONDS} s")
    # The exit status is the number of conflicts, cut at 127; more than that is an error.
    if 0 <= done.returncode <= 127:
        return Merged(done.stdout, done.returncode)
    return Merged(None, why="git cannot merge it: " + done.stderr.decode("utf-8", "replace").strip())
