"""What a program left in the repository of its own, taken as data when the changes are frozen.

Only objects and the ends of branches are taken, into ``ID/git`` of the capture: no configuration, no hook, no
alternates, no replacement. Nothing is run here and nothing is followed; ``commits.py`` looks at it, in a repository of
ours.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from overlayws.changes.opening import Unlocked, open_file
from overlayws.layer.mount import Layer
from overlayws.layer.whiteout import Marks

GIT, LISTING = "git", "repository.json"
_OBJECT = re.compile(r"[0-9a-f]{2}/[0-9a-f]{38}|pack/pack-[0-9a-f]{40}\.pack")
_ID = re.compile(rb"[0-9a-f]{40}")
_MAIN = "refs/heads/main"  # what base/repository.py makes
_CHUNK = 1 << 20
_BYTES, _FILES, _REFS = 256 << 20, 100_000, 1000  # what is taken; a program with more has its commits listed nowhere
_SMALL = 1 << 20  # bytes of packed-refs
_LEVELS = 8  # of a branch's name


class _TooMuch(Exception):
    """More than is taken."""


def gather(layer: Layer, xattr_prefix: str, target: Path) -> bytes | None:
    """Copy the objects that the program made to ``target``/git; what is there, as JSON: the base's commit, the
    branches, the files with their hashes. None where the program touched nothing of its repository. Raises OSError.
    """
    given = layer.lowerdir / ".git"
    try:
        base = (given / _MAIN).read_bytes().strip().decode("ascii")
    except (OSError, UnicodeDecodeError):
        return None
    if not (layer.upperdir / ".git").is_dir() or (layer.upperdir / ".git").is_symlink():
        return None
    taking = _Taking(Marks(xattr_prefix), target / GIT)
    try:
        with taking:
            taking.directory(os.fspath((layer.upperdir / ".git").absolute()), -1, "", visible=True)
    except _TooMuch as error:
        taking.problem = str(error)
    refs = taking.refs
    if taking.shows_base:
        refs.setdefault(_MAIN, base)
    found = {"base": base, "refs": refs, "files": taking.files, "problem": taking.problem}
    return json.dumps(found, sort_keys=True).encode("ascii")


class _Taking:
    def __init__(self, marks: Marks, target: Path) -> None:
        self._marks = marks
        self._target = target
        self._unlocked = Unlocked()
        self._left = _BYTES
        self._packed: dict[str, str] = {}
        self._loose: dict[str, str] = {}
        self.files: list[tuple[str, str, int]] = []  # name, SHA-256, size
        self.shows_base = True  # the branch that was given is what it was
        self.problem = ""

    def __enter__(self) -> _Taking:
        return self

    def __exit__(self, *_: object) -> None:
        self._unlocked.restore()

    @property
    def refs(self) -> dict[str, str]:
        return {**self._packed, **self._loose}

    def directory(self, name: str, parent: int, path: str, *, visible: bool) -> None:
        """Take what there is in a directory of the repository; ``visible``: the base shows through it."""
        fd, _ = self._unlocked.open(name, parent)
        try:
            visible = visible and not self._marks.is_opaque(fd)
            if not visible and _MAIN.startswith(path):
                self.shows_base = False
            for entry in self._entries(fd):
                inner = f"{path}{entry.name}"
                st = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(st.st_mode):
                    if _wanted(f"{inner}/"):
                        self.directory(entry.name, fd, f"{inner}/", visible=visible)
                elif inner == _MAIN:
                    self.shows_base = False  # whatever it is now
                    self._ref(fd, entry.name, inner)
                elif self._marks.is_whiteout(st, fd, entry.name):
                    self.shows_base = self.shows_base and not _MAIN.startswith(f"{inner}/")
                elif stat.S_ISREG(st.st_mode):
                    self._file(fd, entry.name, inner)
        finally:
            os.close(fd)

    def _entries(self, fd: int) -> Iterator[os.DirEntry[str]]:
        with os.scandir(fd) as scanned:
            for number, entry in enumerate(scanned):
                if number > _FILES:
                    raise _TooMuch("more files than are taken")
                yield entry

    def _file(self, parent: int, name: str, path: str) -> None:
        if path.startswith("refs/heads/") or path == "HEAD":
            self._ref(parent, name, path)
        elif path == "packed-refs":
            for line in self._small(parent, name).split(b"\n"):
                value, _, ref = line.partition(b" ")
                if _ID.fullmatch(value) and ref.startswith(b"refs/heads/"):
                    self._packed[os.fsdecode(ref)] = value.decode()
                    self._count(self._packed)
        elif path.startswith("objects/") and _OBJECT.fullmatch(path[len("objects/") :]):
            self._object(parent, name, path[len("objects/") :])

    def _ref(self, parent: int, name: str, path: str) -> None:
        with suppress(OSError):  # what is no file any more is no branch
            value = self._small(parent, name).strip()
            if _ID.fullmatch(value):
                self._loose[path] = value.decode()
                self._count(self._loose)

    def _count(self, refs: dict[str, str]) -> None:
        if len(refs) > _REFS:
            raise _TooMuch(f"more than {_REFS} branches")

    def _small(self, parent: int, name: str) -> bytes:
        fd = open_file(name, parent)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return b""
            return os.read(fd, _SMALL)
        finally:
            os.close(fd)

    def _object(self, parent: int, name: str, path: str) -> None:
        fd = open_file(name, parent)
        try:
            st = os.fstat(fd)
            if not stat.S_ISREG(st.st_mode):
                return
            self._left -= st.st_size
            if self._left < 0 or len(self.files) >= _FILES:
                raise _TooMuch(f"more than {_BYTES} bytes of objects")
            place = self._target / path
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            digest = sha256()
            size = 0
            with open(place, "xb") as out:
                while chunk := os.read(fd, _CHUNK):
                    digest.update(chunk)
                    size += out.write(chunk)
                    if size > st.st_size:
                        raise _TooMuch("an object grew while it was read")
            self.files.append((path, digest.hexdigest(), size))
        finally:
            os.close(fd)


def _wanted(directory: str) -> bool:
    if directory.startswith("refs/heads/"):
        return directory.count("/") < _LEVELS
    return directory in ("refs/", "objects/", "objects/pack/") or bool(re.fullmatch("objects/[0-9a-f]{2}/", directory))
