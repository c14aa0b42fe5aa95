"""A repository of the program's own: one commit of the sanitized tree; no remotes, hooks, history or credentials.

The user's ``.git`` holds all of these (remote URLs with tokens, ``http.extraheader``, stashes, old commits), so it is
never copied. git runs here with no configuration but what is given on its command line. The contents go into packs:
a loose object for each file would cost more than the copy of the tree.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from overlayws.base.gitcommit import commit_files, ordinary
from overlayws.cleangit import ENVIRONMENT
from overlayws.errors import UnableError

_ENVIRONMENT = {
    **ENVIRONMENT,
    "GIT_AUTHOR_NAME": "overlayws",
    "GIT_AUTHOR_EMAIL": "overlayws@localhost",
    "GIT_COMMITTER_NAME": "overlayws",
    "GIT_COMMITTER_EMAIL": "overlayws@localhost",
}
_OPTIONS = {
    # Speed over size and durability: nobody keeps these objects, and a crash throws the whole base away.
    "core.compression": "0",
    "core.looseCompression": "0",
    "pack.compression": "0",
    "core.fsync": "none",
    "gc.auto": "0",
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    # Contents above this size are streamed into a pack; several packs, so that a changed file costs one of them.
    "core.bigFileThreshold": "1",
    "pack.packSizeLimit": "8m",
}
_UNTRACKED = ("ls-files", "--others", "-z")
_AUTHOR = "overlayws <overlayws@localhost>"
_MESSAGE = "The workspace as it was given to you"
# A base that is made from this one later hard-links its files, which sets their ctime: that is no edit.
_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\ttrustctime = false\n"


def make_repository(lowerdir: Path) -> None:
    """Put ``.git`` with one commit of everything that is not git-ignored into ``lowerdir``.

    Raises UnableError where git is missing or fails, or there is no space.
    """
    _lay_out(lowerdir)
    paths = [path for path in _git(lowerdir, *_UNTRACKED, "--exclude-standard").split(b"\0") if path]
    # What is committed is the bytes of the files, unless attributes ask for other line ends or encodings.
    if _git(lowerdir, *_UNTRACKED, "--", ":(icase,glob)**/.gitattributes") or not ordinary(paths):
        _commit(lowerdir)
        return
    try:
        root = os.open(lowerdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            commit = commit_files(root, lowerdir / ".git", paths, _AUTHOR, _MESSAGE)
        finally:
            os.close(root)
        (lowerdir / ".git/refs/heads/main").write_text(f"{commit}\n")
    except OSError as error:
        raise UnableError(
            f"cannot make the program's own repository: {error.strerror or error}",
            hint="free some space, or use --git none",
        ) from error


def make_repository_in(upperdir: Path, merged: Path, enter: Sequence[str]) -> None:
    """As ``make_repository``, into ``upperdir``, for the tree that ``merged`` shows to processes under ``enter``."""
    _lay_out(upperdir, "\tcheckstat = minimal\n")  # the numbers of inodes are another mount's later
    _git(merged, "add", "--all", enter=enter)
    tree = _git(merged, "write-tree", enter=enter).decode().strip()
    commit = _git(merged, "commit-tree", "-m", _MESSAGE, tree, enter=enter).decode().strip()
    (upperdir / ".git/refs/heads/main").write_text(f"{commit}\n")


def renew_repository(old: Path, lowerdir: Path) -> bool:
    """As ``make_repository``, for a tree whose unchanged files are hard links of those in the lowerdir ``old``: their
    objects are taken from there. No object of another file stays. False where that cannot be done.
    """
    packs = old / ".git/objects/pack"
    if not (packs.is_dir() and (old / ".git/index").is_file()):
        return False
    _lay_out(lowerdir)
    ours = lowerdir / ".git/objects/pack"
    ours.mkdir(mode=0o755)
    for name in os.listdir(packs):
        if name.endswith((".pack", ".idx")):
            _link_or_copy(packs / name, ours / name)
    (lowerdir / ".git/index").write_bytes((old / ".git/index").read_bytes())
    _git(lowerdir, "add", "--all")
    listed = _git(lowerdir, "ls-files", "--stage", "-z")
    alive = {bytes.fromhex(entry.split(b" ", 2)[1].decode()) for entry in listed.split(b"\0") if entry}
    _take_loose_objects(old / ".git/objects", lowerdir / ".git/objects", alive)
    _drop_dead_objects(lowerdir, ours, alive)
    _commit(lowerdir)
    return True


def _lay_out(lowerdir: Path, more: str = "") -> None:
    git = lowerdir / ".git"
    for directory in (git, git / "objects", git / "refs", git / "refs/heads"):
        directory.mkdir(mode=0o755)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "config").write_text(_CONFIG + more)


def _commit(lowerdir: Path) -> None:
    _git(lowerdir, "add", "--all")
    tree = _git(lowerdir, "write-tree").decode().strip()
    commit = _git(lowerdir, "commit-tree", "-m", _MESSAGE, tree).decode().strip()
    (lowerdir / ".git/refs/heads/main").write_text(f"{commit}\n")


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        target.write_bytes(source.read_bytes())


def _take_loose_objects(old: Path, ours: Path, alive: set[bytes]) -> None:
    """Of the few loose objects (files of at most one byte are no pack's business) those that are alive."""
    for directory in os.listdir(old):
        if len(directory) == 2:
            for name in os.listdir(old / directory):
                if bytes.fromhex(directory + name) in alive and not (ours / directory / name).exists():
                    (ours / directory).mkdir(mode=0o755, exist_ok=True)
                    _link_or_copy(old / directory / name, ours / directory / name)


def _drop_dead_objects(lowerdir: Path, packs: Path, alive: set[bytes]) -> None:
    """Pack anew what is alive of each pack that holds something else. An old version of a file may be what its user
    took out of it, or be of a file that is hidden by now."""
    keep: set[bytes] = set()
    dead: list[Path] = []
    for index in packs.glob("*.idx"):
        names = _object_names(index.read_bytes())
        if not alive.issuperset(names):
            keep.update(alive.intersection(names))
            dead.append(index)
    if keep:
        wanted = b"".join(name.hex().encode() + b"\n" for name in sorted(keep))
        _git(lowerdir, "pack-objects", "--quiet", "--window=0", str(packs / "pack"), given=wanted)
    for index in dead:
        # The new pack may have the old one's name: a name is made of the objects' names, and then it is that pack.
        if not alive.issuperset(_object_names(index.read_bytes())):
            for path in (index, index.with_suffix(".pack"), index.with_suffix(".rev")):
                path.unlink(missing_ok=True)


def _object_names(index: bytes) -> list[bytes]:
    """The names in a pack index, version 2 (gitformat-pack(5)): magic, version, 256 counts, then the sorted names."""
    if index[:8] != b"\xfftOc\0\0\0\x02":
        raise UnableError("git wrote a pack index of another version", hint="use --git none")
    count = int.from_bytes(index[8 + 255 * 4 : 8 + 256 * 4])
    start = 8 + 256 * 4
    return [index[at : at + 20] for at in range(start, start + count * 20, 20)]


def _git(lowerdir: Path, *arguments: str, given: bytes = b"", enter: Sequence[str] = ()) -> bytes:
    command = [*enter, "git", "-C", str(lowerdir), "--git-dir=.git", "--work-tree=."]
    for name, value in _OPTIONS.items():
        command += ["-c", f"{name}={value}"]
    try:
        done = subprocess.run([*command, *arguments], env=_ENVIRONMENT, input=given, capture_output=True)
    except FileNotFoundError:
        raise UnableError("git is not installed", hint="install git, or use --git none") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise UnableError(f"git {arguments[0]} failed on the sanitized copy: {lines[-1]}", hint="use --git none")
    return done.stdout
