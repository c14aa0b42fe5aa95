"""git's own diff machinery on a private repository that holds only the changed files, before and after.

git never runs in a tree that the program could write, and reads no configuration and no attributes but ours: of 42
ways to make git execute something (hooks, filters, textconv, fsmonitor ...) none has a file to be in. The
repository is bare, its HEAD is unborn (newer gits read ``.gitattributes`` from a bare repository's HEAD) and it is
gone when the context is left.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from overlayws.changes.change import Change, ChangeSet
from overlayws.changes.contents import Contents
from overlayws.changes.gitname import is_git_name
from overlayws.changes.textual import taken_for_binary, text_in_disguise, utf16
from overlayws.cleangit import ENVIRONMENT
from overlayws.errors import OverlaywsError, UnableError
from overlayws.source.entry import Entry, Kind

_BEFORE, _AFTER = "refs/overlayws/before", "refs/overlayws/after"
_RENAME_FILES = 400  # git compares at most the square of it (its default, 1000, takes half a minute)
_RENAME_BYTES = 64 << 20  # of all files that could be halves of a rename
_PIPE = 1 << 20  # bytes; with the usual 64 KiB the two processes mostly wait for each other
_LONGEST = 4095  # bytes of a path that git apply can open (PATH_MAX)

_ENVIRONMENT = {
    **ENVIRONMENT,
    "GIT_LITERAL_PATHSPECS": "1",
    # Without it fast-import gives every blob's memory back to the kernel, and takes twice as long (mallopt(3)).
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
}
_CONFIG = """\
[core]
\trepositoryformatversion = 0
\tbare = true
\tquotePath = true
\tcompression = 0
\tattributesFile = /dev/null
\thooksPath = /dev/null
\tfsync = none
[pack]
\tcompression = 0
[fastimport]
\tunpackLimit = 0
[gc]
\tauto = 0
[diff]
\tsuppressBlankEmpty = false
\trenameLimit = 400
"""


class GitError(OverlaywsError):
    """git failed on the private repository: a fault of ours, or a full disk."""


@dataclass(frozen=True, slots=True)
class FileStat:
    """What git says of one file. ``old`` and ``similarity`` (percent) are set for a rename."""

    path: str
    added: int | None  # lines; None for a binary file
    removed: int | None
    old: str | None = None
    similarity: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of content, before and after together: git reads both sides of a file into memory. What is over is in no
    patch and no line count; the smallest files come first, so that no large one keeps them out."""

    file: int
    total: int


EXACT = Limits(64 << 20, 96 << 20)  # a patch for a file or a pipe
SHOWN = Limits(1 << 20, 32 << 20)  # for eyes
DECODED = 1 << 20  # bytes of a text in UTF-16
EVERYTHING = Limits(256 << 20, 1 << 62)  # --all: git itself takes no more


@contextmanager
def private_repository(
    changeset: ChangeSet,
    base: Contents,
    theirs: Contents,
    *,
    scratch: Path | None = None,
    limits: Limits = EXACT,
    decode: bool = False,
) -> Iterator[PrivateRepository]:
    """A repository of the change set's files, ``base`` the contents before and ``theirs`` after.

    ``decode``: texts in UTF-16 are in it as UTF-8, for eyes; else every content is exact.

    It is made below ``scratch`` (the temporary directory if None) with mode 0700, with one ``git fast-import``, and
    removed at the end. Raises UnableError where git is missing, ChangedSince where the contents are not those of the
    change set.
    """
    with tempfile.TemporaryDirectory(prefix="overlayws-diff-", dir=scratch, ignore_cleanup_errors=True) as directory:
        repository = PrivateRepository(Path(directory), changeset, limits, decode)
        repository.fill(base, theirs)
        yield repository


class PrivateRepository:
    """Two trees in a bare repository, and git's diffs between them.

    ``changes`` are those that are in it, ``left_out`` those that the limits keep out, ``decoded`` the encodings of
    those that are in it as UTF-8.
    """

    def __init__(self, directory: Path, changeset: ChangeSet, limits: Limits = EXACT, decode: bool = False) -> None:
        self._directory = directory
        self._decode = decode
        self.changes, self.left_out = _within(limits, changeset)
        self.decoded: dict[str, str] = {}
        self._textual: set[str] = set()
        for name in ("objects", "refs"):
            (directory / name).mkdir()
        (directory / "HEAD").write_text("ref: refs/heads/unborn\n")
        (directory / "config").write_text(_CONFIG)
        self._renames = _rename_options(changeset.changes)

    def fill(self, base: Contents, theirs: Contents) -> None:
        """Import the contents; called once."""
        for change in self.changes:
            if "binary" in change.flags:
                self._classify(change, base, theirs)
        command = ["git", "fast-import", "--quiet", "--done", "--date-format=raw", "--depth=0"]
        with tempfile.TemporaryFile(dir=self._directory) as errors:
            try:
                child = subprocess.Popen(
                    command,
                    bufsize=_PIPE,
                    env=self._environment(),
                    cwd=self._directory,
                    stdin=subprocess.PIPE,
                    stderr=errors,
                    pipesize=_PIPE,
                )
            except FileNotFoundError:
                raise _missing() from None
            assert child.stdin is not None
            try:
                with child.stdin as out:
                    self._import(out, _BEFORE, base, before=True)
                    self._import(out, _AFTER, theirs, before=False)
                    out.write(b"done\n")
            except BrokenPipeError:
                pass  # git is gone: its message says why
            except BaseException:
                child.kill()
                child.wait()
                raise
            if child.wait():
                errors.seek(0)
                raise _failed("fast-import", errors.read())
        if self._textual:
            # The only attributes that git reads: text that has a NUL is compared as text.
            (self._directory / "info").mkdir()
            lines = [b"%s diff\n" % _attribute_pattern(path) for path in sorted(self._textual)]
            (self._directory / "info/attributes").write_bytes(b"".join(lines))

    def patch(self, *, context: int = 3, renames: bool = True, ignore_ends: bool = False) -> bytes:
        """The whole difference in git's patch format; ``git apply`` accepts it, except with
        ``ignore_ends`` (which takes lines for equal that differ only in white space at their end)."""
        options = ["-p", "--binary", "--full-index", f"-U{context}"]
        if ignore_ends:
            options.append("--ignore-space-at-eol")
        return self._diff([*options, *self._rename_options(renames)])

    def stats(self, *, renames: bool = True) -> list[FileStat]:
        """Added and removed lines of each file that differs, renames paired, in the order of the paths' bytes."""
        return _parse_stats(self._diff(["--raw", "--numstat", "-z", *self._rename_options(renames)]))

    def similarity(self, old: str, new: str) -> FileStat:
        """The difference of two files that are known to be one renamed, however little they have in common."""
        paths = [old, new]
        for stat in _parse_stats(self._diff(["--raw", "--numstat", "-z", "-M1%"], paths)):
            if stat.old == old:
                return stat
        parts = _parse_stats(self._diff(["--raw", "--numstat", "-z", "--no-renames"], paths))
        binary = any(part.added is None for part in parts)
        added = None if binary else sum(part.added or 0 for part in parts)
        removed = None if binary else sum(part.removed or 0 for part in parts)
        return FileStat(new, added, removed, old, 0)

    def _rename_options(self, renames: bool) -> list[str]:
        return self._renames if renames else ["--no-renames"]

    def _import(self, out: IO[bytes], ref: str, contents: Contents, *, before: bool) -> None:
        out.write(b"commit %s\ncommitter overlayws <overlayws@localhost> 0 +0000\ndata 0\n" % ref.encode())
        for change in self.changes:
            entry = change.before if before else change.after
            if entry is None or entry.kind is Kind.DIRECTORY:
                continue
            out.write(b"M %s inline %s\n" % (_mode(entry), _quoted(change.path)))
            if entry.kind is Kind.SYMLINK:
                target = os.fsencode(entry.target or "")
                out.write(b"data %d\n%s\n" % (len(target), target))
                continue
            encoding = self.decoded.get(change.path)
            if encoding is not None:
                data = contents.read(change.path, entry).decode(encoding).encode()
                out.write(b"data %d\n%s\n" % (len(data), data))
                continue
            out.write(b"data %d\n" % entry.size)
            for chunk in contents.chunks(change.path, entry):
                out.write(chunk)
            out.write(b"\n")
        out.write(b"\n")

    def _classify(self, change: Change, base: Contents, theirs: Contents) -> None:
        """Note where a file that git takes for binary is to be compared as text, and where it is to be decoded."""
        heads = []
        for entry, contents in ((change.before, base), (change.after, theirs)):
            if entry is not None and entry.kind is Kind.FILE:
                heads.append(next(contents.chunks(change.path, entry), b""))  # fill reads it again, and checks it
        if any(taken_for_binary(head) and text_in_disguise(change.path, head) for head in heads):
            self._textual.add(change.path)
        encodings = {utf16(head) for head in heads}
        if self._decode and len(encodings) == 1 and max(map(len, heads), default=0) < DECODED:
            if (encoding := encodings.pop()) is not None:
                self.decoded[change.path] = encoding

    def _diff(self, options: list[str], paths: list[str] | None = None) -> bytes:
        command = ["git", "diff-tree", "-r", "--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/"]
        command += ["--dst-prefix=b/", "--ignore-submodules=all", "--diff-algorithm=myers", *options]
        command += [_BEFORE, _AFTER, "--", *(paths or [])]
        try:
            done = subprocess.run(
                command, env=self._environment(), cwd=self._directory, stdin=subprocess.DEVNULL, capture_output=True
            )
        except FileNotFoundError:
            raise _missing() from None
        if done.returncode:
            raise _failed("diff-tree", done.stderr)
        return done.stdout

    def _environment(self) -> dict[str, str]:
        return {**_ENVIRONMENT, "GIT_DIR": str(self._directory)}


def has_patch_form(change: Change) -> bool:
    """Whether git can carry the change: files and symlinks of a name that ``git apply`` takes.

    What git does not keep (empty directories, permissions other than the owner's execute bit, extended
    attributes) has no patch form either, and is not looked at here.
    """
    entries = [entry for entry in (change.before, change.after) if entry is not None]
    if all(entry.kind is Kind.DIRECTORY for entry in entries):
        return False
    if any(entry.kind.special for entry in entries):
        return False
    if uncaptured([change]):
        return False
    return not is_git_name(change.path) and len(os.fsencode(change.path)) <= _LONGEST


def _within(limits: Limits, changeset: ChangeSet) -> tuple[list[Change], list[Change]]:
    """(what is within the limits, what is not), both in order."""
    fitting = [change for change in changeset.changes if has_patch_form(change)]
    if sum(map(_size, fitting)) <= min(limits.file, limits.total):  # mostly
        return fitting, []
    left = limits.total
    out: set[str] = set()
    for change in sorted(fitting, key=_size):
        size = _size(change)
        left -= size
        if left < 0 or size > limits.file:
            out.add(change.path)
    return [c for c in fitting if c.path not in out], [c for c in fitting if c.path in out]


def _size(change: Change) -> int:
    return (change.before.size if change.before else 0) + (change.after.size if change.after else 0)


def _attribute_pattern(path: str) -> bytes:
    """A pattern of gitattributes(5) that matches ``path`` only."""
    return _quoted("/" + re.sub(r"([\\\[\]*?])", r"\\\1", path))


def uncaptured(changes: Iterable[Change]) -> list[Change]:
    """Those of ``changes`` whose content could not be captured."""
    return [c for c in changes if c.after is not None and c.after.kind is Kind.FILE and c.after.digest is None]


def without_patch(changes: Iterable[Change]) -> list[Change]:
    """Those of ``changes`` of which a patch says nothing: they must be listed beside it."""
    return [change for change in changes if not has_patch_form(change) or _same_to_git(change)]


def _same_to_git(change: Change) -> bool:
    before, after = change.before, change.after
    if before is None or after is None or before.kind is not after.kind:
        return False
    same = (before.digest, before.target) == (after.digest, after.target)
    return same and _mode(before) == _mode(after)


def _rename_options(changes: Iterable[Change]) -> list[str]:
    """Rename detection compares every deleted file with every added one: bounded by their number and size."""
    size = 0
    for change in changes:
        before, after = change.before, change.after
        # git apply does not see that a renamed symlink is gone, and refuses the directory that took its place: a
        # pure rename names no mode, and apply.c looks at the mode.
        if before and after and before.kind is Kind.SYMLINK and after.kind is Kind.DIRECTORY:
            return ["--no-renames"]
        if (before is None) != (after is None):
            size += before.size if before else after.size if after else 0
    return [f"-M{'100%' if size > _RENAME_BYTES else '50%'}", f"-l{_RENAME_FILES}"]


def _mode(entry: Entry) -> bytes:
    if entry.kind is Kind.SYMLINK:
        return b"120000"
    return b"100755" if entry.mode & 0o100 else b"100644"


def _quoted(path: str) -> bytes:
    """A path as git-fast-import(1) reads it: in double quotes, with C escapes."""
    plain = os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"%s"' % plain


def _parse_stats(output: bytes) -> list[FileStat]:
    """What ``--raw --numstat -z`` prints: all raw entries, then all counts (git-diff-tree(1), "Raw output format")."""
    fields = iter(output.split(b"\0"))
    renamed: dict[bytes, int] = {}
    found = []
    for field in fields:
        if field.startswith(b":"):
            status = field.rsplit(b" ", 1)[1]
            path = next(fields)
            if status[:1] == b"R":
                path = next(fields)
                renamed[path] = int(status[1:])
        elif field:
            added, removed, path = field.split(b"\t", 2)
            old = None
            if not path:
                old = next(fields)
                path = next(fields)
            found.append(
                FileStat(
                    os.fsdecode(path),
                    None if added == b"-" else int(added),
                    None if removed == b"-" else int(removed),
                    None if old is None else os.fsdecode(old),
                    renamed.get(path),
                )
            )
    return found


def _missing() -> UnableError:
    return UnableError("git is not installed", hint="install git: changes are shown with its diff")


def _failed(command: str, message: bytes) -> GitError:
    lines = message.decode("utf-8", "replace").strip().splitlines()
    return GitError(
        f"git {command} failed: {ascii(lines[-1] if lines else 'no message')}",
        hint="is there space in the temporary directory? TMPDIR chooses another",
    )
