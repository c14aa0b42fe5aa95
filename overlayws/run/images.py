"""Images made of a directory, without any registry."""

from __future__ import annotations

import json
import os
import re
import tarfile
import tempfile
from pathlib import Path

from overlayws.errors import NotStartedError, UsageError
from overlayws.run.engine import connect, explained, one_line

# Docker's reference grammar, without a registry's host and without a digest.
_PART = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}})?\Z")
# The whole of it: what the engine is asked about is a part of a path of its API.
_HOST = r"[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?"
_TAG = r"(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
_REFERENCE = re.compile(rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*{_TAG}\Z")


def check_reference(name: str) -> None:
    """Raises NotStartedError for what can be no image of the engine's."""
    if not _REFERENCE.match(name):
        raise NotStartedError(
            f"image {name!r}: invalid reference format",
            hint="name an image of the engine, such as project:1; overlayws image import makes one of a directory",
        )


def import_directory(directory: Path, name: str) -> str:
    """Give the engine the root file system at ``directory`` as the image ``name``; its id.

    As an ordinary user, everything in it belongs to root inside. Raises UsageError, EngineError.
    """
    found = _NAME.match(name)
    if found is None or len(name) > 255:
        raise UsageError(f"{name!r} is no name of an image", hint="small letters and digits, such as project:1")
    if not directory.is_dir():
        raise UsageError(f"{os.fspath(directory)!r} is no directory", hint="name the top of a root file system")
    client = connect()
    try:
        with tempfile.NamedTemporaryFile(prefix="overlayws-image-", suffix=".tar") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                archive.add(directory, arcname=".", filter=None if os.geteuid() == 0 else _as_root)
            file.flush()
            with explained(f"image {name}"):
                repository, _, tag = name.partition(":")
                answer = client.import_image_from_file(file.name, repository=repository, tag=tag or "latest")
        last = json.loads(answer.strip().splitlines()[-1])
    finally:
        client.close()
    if "error" in last:
        raise UsageError(f"image {name}: {one_line(str(last['error']))}", hint="overlayws doctor")
    return str(last.get("status", ""))


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
