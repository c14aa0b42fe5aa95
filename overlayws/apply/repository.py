"""The user's git repository, in which a workspace is: to put commits into it without touching its work tree, its index
or its HEAD.

git runs with the user's own configuration (identity, signatures, clean and smudge filters are what they expect of a
commit), but no hook is run, not the user's either: a hook expects a work tree that holds what is committed. A work
tree and an index of our own stand for the user's, and new objects go to a directory of their own, from which only what
git's own checks (fsck) let pass is taken over. The program never had access to this repository.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from overlayws.errors import OverlaywsError, UnableError, UsageError

_CONFIG = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.untrackedCache=false", "core.sparseCheckout=false",
    "core.splitIndex=false", "core.ignoreCase=false", "core.precomposeUnicode=false", "core.symlinks=true",
    "core.fileMode=true", "core.protectHFS=true", "core.protectNTFS=true", "gc.auto=0", "maintenance.auto=false",
    "core.quotePath=true",
)  # fmt: skip
# What a caller (an alias, a hook) may have set for another repository: gitrepository-layout(5), git(1).
_UNSET = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_EXTERNAL_DIFF", "GIT_ICASE_PATHSPECS",
    "GIT_GLOB_PATHSPECS", "GIT_NOGLOB_PATHSPECS", "GIT_ATTR_SOURCE",
)  # fmt: skip
GITLINK = "160000"  # the mode of a submodule (git-fast-import(1))


class GitRefused(OverlaywsError):
    """git did not accept what was to be committed. ``status`` is its exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message, hint="git fsck tells whether the repository is whole")
        self.status = status


@dataclass(frozen=True, slots=True)
class Tracked:
    """A line of an index."""

    mode: str
    blob: str


class Repository:
    """The repository of ``workspace``; ``scratch`` is an empty directory of ours.

    Raises UsageError where there is none, UnableError where git is not installed or does not trust it.
    """

    def __init__(self, workspace: Path, scratch: Path) -> None:
        from git import Git

        self._git = Git(os.fspath(workspace))
        self.tree = scratch / "tree"
        self._env = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}
        try:
            inside = self._run("rev-parse", "--is-inside-work-tree")
        except GitRefused as error:
            if "dubious ownership" in error.message:
                hint = "it belongs to another user: git config --global --add safe.directory, if you trust it"
                raise UnableError(f"git does not trust the repository of {workspace}", hint=hint) from None
            raise UsageError(f"{workspace} is in no git repository", hint="git init, or apply without it") from None
        if inside != b"true\n":
            raise UsageError(f"{workspace} is in no work tree of git", hint="apply without a branch")
        self.prefix = os.fsdecode(self._run("rev-parse", "--show-prefix")[:-1])  # '' or 'sub/': the workspace's place
        self.head = self.resolve("HEAD")
        self._objects = os.fsdecode(self._run("rev-parse", "--path-format=absolute", "--git-path", "objects")[:-1])
        directory = os.fsdecode(self._run("rev-parse", "--absolute-git-dir")[:-1])
        self._real = {**self._env, "GIT_DIR": directory}
        (self.tree / self.prefix).mkdir(parents=True)
        objects = scratch / "objects"
        (objects / "info").mkdir(parents=True)
        quoted = self._objects.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        (objects / "info/alternates").write_bytes(os.fsencode(f'"{quoted}"\n'))
        self._own = {
            **self._real, "GIT_WORK_TREE": os.fspath(self.tree), "GIT_INDEX_FILE": os.fspath(scratch / "index"),
            "GIT_OBJECT_DIRECTORY": os.fspath(objects),
        }  # fmt: skip
        # For what only concerns the index: git would look again at files that are as new as the index, and by then
        # through the filters of the changes' own attributes.
        (scratch / "nothing").mkdir()
        self._index = {**self._own, "GIT_WORK_TREE": os.fspath(scratch / "nothing")}

    def resolve(self, name: str) -> str | None:
        """The commit that a name means, or None."""
        try:
            return self._run("rev-parse", "--quiet", "--verify", f"{name}^{{commit}}").decode().strip()
        except GitRefused:
            return None

    # The branch.

    def new_branch(self, name: str) -> str:
        """The ref of a branch that does not exist yet. Raises UsageError."""
        ref = f"refs/heads/{name}"
        try:
            # Also what git itself takes for something else than a branch: -x, HEAD, and @{-1}, which it would expand.
            if name == "HEAD" or self._run("check-ref-format", "--branch", name) != os.fsencode(name) + b"\n":
                raise GitRefused(name)
        except GitRefused:
            raise UsageError(f"{name!r} cannot be the name of a branch", hint="see git check-ref-format") from None
        if self.resolve(ref) is not None:
            raise UsageError(f"a branch named {name} exists", hint=f"choose another name, or git branch -D {name}")
        return ref

    def current_branch(self) -> str:
        """The ref that HEAD is. Raises UsageError where it is none, or where git is in the middle of something."""
        try:
            ref = os.fsdecode(self._run("symbolic-ref", "--quiet", "HEAD")[:-1])
        except GitRefused:
            raise UsageError("HEAD is on no branch", hint="git switch to one, or apply --branch NAME") from None
        for name in ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD"):
            if self.resolve(name) is not None:
                raise UsageError("a merge is going on in the repository", hint="end it first, or apply --branch NAME")
        return ref

    def set_ref(self, ref: str, commit: str, old: str | None, why: str) -> None:
        """Let ``ref`` be ``commit``, if it still is ``old`` (None: if it does not exist). Raises GitRefused."""
        self._run("update-ref", "-m", why, ref, commit, old or "0" * len(commit), env=self._real)

    # The index and the work tree of our own.

    def start_from(self, commit: str | None) -> None:
        """Fill our index from a commit (None: with nothing)."""
        self._run("read-tree", commit or "--empty", env=self._own)

    def tracked(self) -> dict[str, Tracked]:
        """What our index has, by paths relative to the top of the repository."""
        return _tracked(self._run("ls-files", "--stage", "-z", env=self._own))

    def check_out(self, paths: Iterable[str]) -> None:
        """Write files of our index to our work tree, as a checkout would."""
        self._run("checkout-index", "--force", "--quiet", "-z", "--stdin", given=_lines(paths), env=self._own)

    def ignored(self, paths: Iterable[str]) -> set[str]:
        """Those of ``paths`` (not tracked) that the ``.gitignore`` files of our work tree and the user's own ignore."""
        given = _lines(f"./{path}" for path in paths)  # else a name like ":(glob)x" is a pattern (gitglossary(7))
        try:
            found = self._run("check-ignore", "-z", "--stdin", given=given, env=self._own) if given else b""
        except GitRefused as error:
            if error.status != 1:  # none is
                raise
            return set()
        return {os.fsdecode(path[2:]) for path in found.split(b"\0") if path}

    def stage(self, paths: Iterable[str]) -> None:
        """Bring files of our work tree, and that they are gone, to our index, through the filters of what the commit
        to build on has in ``.gitattributes``: a changed one has no say in how other files are stored."""
        everything = list(paths)
        files = [p for p in everything if p.rpartition("/")[2] == ".gitattributes" and self._is_file(p)]
        away = {path: self.tree.parent / f"attributes-{n}" for n, path in enumerate(files)}
        info = b""
        for path, aside in away.items():
            (self.tree / path).rename(aside)
            blob = self._run("hash-object", "-w", "--no-filters", "--", os.fspath(aside), env=self._own).strip()
            info += b"100644 " + blob + b"\t" + os.fsencode(path) + b"\0"
        given = _lines(path for path in everything if path not in away)
        self._run("update-index", "--add", "--remove", "--replace", "-z", "--stdin", given=given, env=self._own)
        self._run("update-index", "--replace", "-z", "--index-info", given=info, env=self._index)
        for path, aside in away.items():
            aside.rename(self.tree / path)

    def _is_file(self, path: str) -> bool:
        where = self.tree / path
        return where.is_file() and not where.is_symlink()

    def commit(self, message: bytes, parent: str | None, author: dict[str, str] | None = None) -> str | None:
        """Make a commit of our index; None where that is what ``parent`` has already. Raises GitRefused, UsageError.

        ``author``: GIT_AUTHOR_NAME, _EMAIL and _DATE; else it is the user. Signed where the user's commits are.
        """
        tree = self._run("write-tree", env=self._index).decode().strip()
        if parent is not None and self._run("rev-parse", f"{parent}^{{tree}}", env=self._own).decode().strip() == tree:
            return None
        sign = self._run("config", "--type=bool", "--default=false", "commit.gpgsign") == b"true\n"
        command = ["commit-tree", *(["-S"] if sign else []), *(["-p", parent] if parent else []), "-F", "-", tree]
        try:
            return self._run(*command, given=message, env={**self._own, **(author or {})}).decode().strip()
        except GitRefused as error:
            if "tell me who you are" in error.message or "ident" in error.message:
                hint = "git config user.name and user.email"
                raise UsageError("git does not know who commits", hint=hint) from None
            raise

    def take_over(self, commit: str) -> None:
        """Copy the new objects that ``commit`` needs to the repository, if each passes git's checks (fsck).

        Raises GitRefused, and nothing is copied.
        """
        wanted = f"{commit}\n" + (f"^{self.head}\n" if self.head else "")
        pack = self._run("pack-objects", "--revs", "--stdout", "--quiet", given=wanted.encode(), env=self._own)
        checked = {**self._own, "GIT_OBJECT_DIRECTORY": os.path.join(os.path.dirname(self._own["GIT_INDEX_FILE"]), "c")}
        del checked["GIT_WORK_TREE"], checked["GIT_INDEX_FILE"]
        os.makedirs(os.path.join(checked["GIT_OBJECT_DIRECTORY"], "info"))
        alternates = Path(self._own["GIT_OBJECT_DIRECTORY"], "info/alternates").read_bytes()
        Path(checked["GIT_OBJECT_DIRECTORY"], "info/alternates").write_bytes(alternates)
        self._run("unpack-objects", "-q", "--strict", given=pack, env=checked)  # all of it first: all or nothing
        self._run("unpack-objects", "-q", "--strict", given=pack, env=self._real)

    # The user's own index.

    def staged(self) -> set[str]:
        """The paths that the user's index has otherwise than HEAD."""
        if self.head is None:
            return set()
        found = self._run("diff-index", "--cached", "--name-only", "--no-renames", "-z", "HEAD", env=self._real)
        return {os.fsdecode(path) for path in found.split(b"\0") if path}

    def follow(self, old: str | None, new: str) -> None:
        """Bring what changed from one commit to the next to the user's index too. Raises GitRefused."""
        command = [
            "diff-tree",
            "-r",
            "-z",
            "--raw",
            "--no-renames",
            "--no-abbrev",
            *([old] if old else ["--root"]),
            new,
        ]
        raw = self._run(*command, env=self._real)
        fields = [field for field in raw.split(b"\0") if field]
        if fields and not fields[0].startswith(b":"):  # --root names the commit first
            fields = fields[1:]
        info = []
        for about, path in zip(fields[::2], fields[1::2], strict=True):
            _, mode, _, blob, _ = about.split(b" ")
            info.append(mode + b" " + blob + b"\t" + path)
        given = b"".join(line + b"\0" for line in info)
        self._run("update-index", "-z", "--index-info", given=given, env=self._real)

    def _run(self, *arguments: str, given: bytes = b"", env: dict[str, str] | None = None) -> bytes:
        from git.exc import GitCommandError, GitCommandNotFound

        config = [part for setting in _CONFIG for part in ("-c", setting)]
        unset = [part for name in _UNSET for part in ("-u", name)]
        command = ["env", *unset, *(f"{k}={v}" for k, v in (env or self._env).items()), "git"]
        # In the work tree that is meant: git looks at paths from where it stands.
        command += [*(["-C", env["GIT_WORK_TREE"]] if env and "GIT_WORK_TREE" in env else []), *config, *arguments]
        with tempfile.TemporaryFile() as stream:
            stream.write(given)
            stream.seek(0)
            try:
                done = self._git.execute(
                    command, istream=stream, with_extended_output=True, with_exceptions=False,
                    stdout_as_string=False, strip_newline_in_stdout=False,
                )  # fmt: skip
            except (GitCommandError, GitCommandNotFound) as error:
                raise UnableError(f"cannot run git: {error}", hint="apt-get install git") from None
        status, out, err = done
        if status == 127:
            raise UnableError("git is not installed", hint="apt-get install git")
        if status:
            raise GitRefused(_told(arguments, str(err)), status)
        assert isinstance(out, bytes)
        return out


def _told(arguments: Sequence[str], err: str) -> str:
    lines = [line for line in err.splitlines() if line.strip()]
    what = next((word for word in arguments if not word.startswith("-") and "=" not in word), "git")
    said = " ".join(line.strip() for line in lines[-4:])
    return f"git {what} refused: {said}" if said else f"git {what} refused"


def _lines(paths: Iterable[str]) -> bytes:
    return b"".join(os.fsencode(path) + b"\0" for path in paths)


def _tracked(listed: bytes) -> dict[str, Tracked]:
    found = {}
    for line in listed.split(b"\0"):
        if line:
            about, _, path = line.partition(b"\t")
            mode, blob, _ = about.decode().split(" ")
            found[os.fsdecode(path)] = Tracked(mode, blob)
    return found
