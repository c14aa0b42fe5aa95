"""The commits that a program made in the repository of its own, read where none of its configuration has a say.

Its objects (``program_git.py`` took them, as data) go into a bare repository of ours, and from there by a fetch with
every check of git's fsck into a second one, which then has what is reachable from the branches and nothing else. git
runs in these two only, with limits of memory and time: a kilobyte of zlib can be a gigabyte of blob.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from overlayws.changes.frozen import DamagedCapture, repository_digest
from overlayws.changes.program_git import GIT, LISTING
from overlayws.cleangit import ENVIRONMENT
from overlayws.errors import UntrustedError

_MEMORY = 2 << 30  # bytes of address space for one git
_SECONDS = 120
MOST = 1000  # commits that are listed
_CONFIG = """\
[core]
\trepositoryformatversion = 0
\tbare = true
\thooksPath = /dev/null
\tfsync = none
[gc]
\tauto = 0
[transfer]
\tfsckObjects = true
[fetch]
\tunpackLimit = 1
[protocol "file"]
\tallow = always
[i18n]
\tlogOutputEncoding = UTF-8
[log]
\tshowSignature = false
\tmailmap = false
"""
_FIELDS = "%H%x00%P%x00%T%x00%an%x00%ae%x00%aI%x00%B"


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit. Names and the message are the program's own words: escape them."""

    id: str  # hex
    parents: tuple[str, ...]
    tree: str
    author: str
    email: str
    date: str  # ISO 8601, the author's
    message: str


@dataclass(frozen=True, slots=True)
class Commits:
    """What ``program_commits`` found, while its context is open.

    ``git_dir`` is a bare repository of ours that holds the base's commit and all ``commits``; ``branches`` are (name as
    the program called it, id). git is to be run in it with ``environment``.
    """

    git_dir: Path
    base: str  # the commit of the sanitized tree that the program was given
    branches: tuple[tuple[str, str], ...]
    commits: tuple[Commit, ...]  # newest first; those of the base are not among them
    cut: bool = False  # there are older ones

    @property
    def environment(self) -> dict[str, str]:
        return {**ENVIRONMENT, "GIT_DIR": os.fspath(self.git_dir)}


@contextmanager
def program_commits(store: Path, capture: str, lowerdir: Path, *, scratch: Path | None = None) -> Iterator[Commits]:
    """The commits of a capture (see ``freeze``) on the base's own in ``lowerdir``, checked by git's fsck.

    Raises DamagedCapture, and UntrustedError where the program's objects are no sound repository.
    """
    digest = repository_digest(store, capture)
    with tempfile.TemporaryDirectory(prefix="overlayws-diff-", dir=scratch, ignore_cleanup_errors=True) as directory:
        clean = _bare(Path(directory) / "clean", lowerdir)
        if digest is None:  # the program touched nothing
            base = (lowerdir / ".git/refs/heads/main").read_text().strip()
            yield Commits(clean, base, (("main", base),), ())
            return
        base, refs, files = _listing(store / capture, digest)
        theirs = _bare(Path(directory) / "theirs", lowerdir)
        _import(store / capture, files, theirs)
        branches = tuple(sorted((name, commit) for name, commit in refs.items() if name != "HEAD" or commit != base))
        for number, (_, commit) in enumerate(branches):
            _write_ref(theirs, f"refs/heads/{number}", commit)  # no name of the program's is ever a name here
        _write_ref(clean, "refs/overlayws/base", base)
        _git(clean, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
             f"file://{theirs}", "refs/heads/*:refs/program/*")  # fmt: skip
        shown = tuple((name.removeprefix("refs/heads/"), commit) for name, commit in branches)
        found = _log(clean, base)
        yield Commits(clean, base, shown, found[:MOST], cut=len(found) > MOST)


def _listing(capture: Path, digest: str) -> tuple[str, dict[str, str], list[tuple[str, str]]]:
    try:
        data = (capture / LISTING).read_bytes()
        if sha256(data).hexdigest() != digest:
            raise ValueError("it is not what was written")
        found = json.loads(data)
        if found["problem"]:
            raise UntrustedError(
                f"the program's repository was not captured: {found['problem']}", hint="its files can be applied"
            )
        return found["base"], found["refs"], [(name, digest) for name, digest, _ in found["files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedCapture(f"the captured commits are damaged: {error}", hint="see overlayws diff") from None


def _bare(directory: Path, lowerdir: Path) -> Path:
    for name in ("objects/info", "objects/pack", "refs/heads"):
        (directory / name).mkdir(parents=True)
    (directory / "HEAD").write_text("ref: refs/heads/unborn\n")
    (directory / "config").write_text(_CONFIG)
    # In double quotes with C escapes a path may have any byte (gitrepository-layout(5)).
    quoted = os.fsencode(lowerdir / ".git/objects").replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    (directory / "objects/info/alternates").write_bytes(b'"' + quoted + b'"\n')
    return directory


def _import(capture: Path, files: list[tuple[str, str]], theirs: Path) -> None:
    packs = []
    for name, digest in files:
        data = (capture / GIT / name).read_bytes()
        if sha256(data).hexdigest() != digest:
            raise DamagedCapture(f"the captured commits are damaged: {name}", hint="see overlayws diff")
        place = theirs / "objects" / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(data)
        if name.startswith("pack/"):
            packs.append(place)
    for pack in packs:
        _git(theirs, "index-pack", os.fspath(pack))


def _write_ref(repository: Path, name: str, commit: str) -> None:
    place = repository / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"{commit}\n")


def _log(repository: Path, base: str) -> tuple[Commit, ...]:
    """The newest commits, one more than are listed if there are more."""
    told = _git(repository, "log", "-z", f"--max-count={MOST + 1}", f"--format={_FIELDS}%x00", "--date-order",
                "--no-show-signature", "--glob=refs/program", f"^{base}").split(b"\0")  # fmt: skip
    found = []
    for at in range(0, len(told) - 7, 8):  # seven fields and the separator of -z
        fields = [field.decode("utf-8", "surrogateescape") for field in told[at : at + 7]]
        commit, parents, tree, author, email, date, message = fields
        found.append(Commit(commit.lstrip("\n"), tuple(parents.split()), tree, author, email, date, message))
    return tuple(found)


def _git(repository: Path, *arguments: str) -> bytes:
    environment = {**ENVIRONMENT, "GIT_DIR": os.fspath(repository), "GIT_NO_REPLACE_OBJECTS": "1"}
    try:
        done = subprocess.run(
            ["git", "-c", "core.packedGitLimit=256m", *arguments],
            env=environment, cwd=repository, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS,
            preexec_fn=_limited,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise _unsound(f"git {arguments[0]} takes more than {_SECONDS} s") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise _unsound(next((line for line in lines if "error" in line or "fatal" in line), "no message"))
    return done.stdout


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def _unsound(why: str) -> UntrustedError:
    return UntrustedError(
        f"the program's commits are not sound: {why!r}"[:400],
        hint="its files can be applied without them",
    )
