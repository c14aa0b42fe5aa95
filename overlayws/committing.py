"""The verb commit: the changes of a session as commits of the user's repository, on a new branch or on the current."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from overlayws import api
from overlayws.apply.step import ApplyPlan
from overlayws.errors import UnableError, UsageError
from overlayws.session.session import Session
from overlayws.session.store import Store
from overlayws.upkeep import SILENT, Talk, default_store

if TYPE_CHECKING:
    from overlayws.apply.onto import Options
    from overlayws.apply.rebase import Rebased
    from overlayws.apply.repository import Repository


@dataclass(frozen=True, slots=True)
class Committed:
    """``commits`` are on ``branch`` now (none, where it had it all), the oldest first. ``plan`` is what it took;
    ``applied`` is the plan of the apply to the workspace, where the branch is the current one."""

    branch: str
    commits: tuple[str, ...]
    plan: ApplyPlan
    applied: ApplyPlan | None = None


def commit(
    session: Session,
    paths: Sequence[str] = (),
    *,
    branch: str | None = None,
    message: str | None = None,
    store: Store | None = None,
    digest: str | None = None,
    dry_run: bool = False,
    on_conflict: str = "fail",
    skip_refused: bool = False,
    allow: Sequence[str] = (),
    xattrs: bool = False,
    umask: int = 0o022,
    talk: Talk = SILENT,
) -> Committed:
    """Put the changes at or below ``paths`` (all, if none) as one commit on top of HEAD; on a new branch, without a
    message and paths, the program's own commits, if it made any.

    On the new branch ``branch`` nothing else is touched: not the work tree, not the index, not HEAD. Without one the
    commit is made on the current branch, and the changes are applied to the workspace as ``api.apply`` does it; both or
    nothing. ``message``: of the commit. The other options are those of ``api.apply``.

    Raises UsageError (no repository, no such name, staged changes in the way), ConflictError (HEAD has other contents,
    or changes are refused: nothing was done), UntrustedError, UnableError, GitRefused.
    """
    from overlayws.apply.onto import Options, bring
    from overlayws.apply.repository import Repository

    if on_conflict == "markers":
        raise UsageError("conflict markers are not committed", hint="--on-conflict fail, ours or theirs")
    store = store or default_store()
    options = Options(on_conflict, frozenset(allow), skip_refused)
    with api.viewing(session, paths, store=store, talk=talk) as view:
        api.still(view, digest)
        api.complete(view)
        digest = view.whole.digest
        with tempfile.TemporaryDirectory(prefix="overlayws-diff-commit-", dir=view.session.directory) as scratch:
            repository = Repository(session.workspace, Path(scratch))
            ref = repository.new_branch(branch) if branch is not None else repository.current_branch()
            repository.start_from(repository.head)
            own = view.session.own_git and branch is not None and message is None and not paths
            made = _of_the_program(view, repository, options, talk) if own and not dry_run else None
            if made is not None:
                repository.take_over(made.commits[-1])
                commits, plan = made.commits, made.plan
            else:
                journal = Path(scratch) / "journal"
                plan = bring(
                    repository, journal, view.changeset.changes, view.manifest, view.base, view.theirs, options,
                    dry_run=dry_run,
                )  # fmt: skip
                if branch is None and (staged := _in_the_way(repository.staged(), repository.prefix, plan)):
                    raise UsageError(f"{staged!r} is staged for another commit", hint="commit or unstage it first")
                if dry_run:
                    return Committed(ref, (), plan)
                text = message if message is not None else f"Changes of overlayws session {session.name}"
                one = repository.commit(text.encode("utf-8", "surrogateescape"), repository.head)
                commits = (one,) if one is not None else ()
                if one is not None:
                    repository.take_over(one)
    applied = None
    why = f"overlayws: session {session.name}"
    if branch is None:
        applied = api.apply(
            session, paths, store=store, digest=digest, on_conflict=on_conflict, skip_refused=skip_refused, allow=allow,
            xattrs=xattrs, umask=umask, talk=talk,
        )  # fmt: skip
    tip = commits[-1] if commits else repository.head
    if tip is None:
        raise UsageError("there is nothing to commit", hint="overlayws diff shows the changes")
    if branch is not None:
        repository.set_ref(ref, tip, None, why)
    elif commits:
        try:
            repository.set_ref(ref, tip, repository.head, why)
            repository.follow(repository.head, tip)
        except Exception as error:
            hint = f"overlayws apply {session.name} --commit again, or overlayws undo {session.name}"
            raise UnableError(f"the changes are applied, but not committed: {error}", hint=hint) from error
    return Committed(ref.removeprefix("refs/heads/"), commits, plan, applied)


def _of_the_program(view: api.View, repository: Repository, options: Options, talk: Talk) -> Rebased | None:
    """The program's own commits on HEAD, or None where it made none."""
    from overlayws.apply.rebase import own_commits, rebase
    from overlayws.changes.commits import program_commits

    session = view.session
    with program_commits(session.captures, session.capture, session.layer.lowerdir, scratch=session.directory) as found:
        chain = own_commits(found)
        if not chain:
            return None
        made = rebase(repository, found, chain, view.whole.changes, view.manifest, options)
    if made.left_out:
        talk.warning(
            f"{made.left_out} changed path{'' if made.left_out == 1 else 's'} are not as the program's commits have "
            "them: --branch with --commit takes everything as it is"
        )
    return made if made.commits else None


def _in_the_way(staged: set[str], prefix: str, plan: ApplyPlan) -> str | None:
    return min((step.path for step in plan.steps if prefix + step.path in staged), default=None)
