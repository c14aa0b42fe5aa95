"""``overlayws apply``."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from overlayws import api
from overlayws.apply.step import ApplyPlan, Conflict
from overlayws.cli.context import named_or_paths, next_steps, opened, session_names, talking
from overlayws.cli.prompt import confirmed
from overlayws.cli.summary import flagged, summarize
from overlayws.cli.terminal import json_path, say, visible, warn
from overlayws.committing import Committed
from overlayws.committing import commit as committed
from overlayws.errors import UsageError
from overlayws.session.session import Session

if TYPE_CHECKING:
    from overlayws.apply.conflicts import ConflictError


@click.command("apply")
@click.argument("arguments", nargs=-1, metavar="[SESSION] [PATH]...", shell_complete=session_names)
@click.option("--digest", metavar="DIGEST", help="Refuse unless the change set (overlayws status) still has it.")
@click.option("--dry-run", is_flag=True, help="Print what would be done.")
@click.option("--on-conflict", type=click.Choice(["fail", "ours", "theirs", "markers"]), default="fail",
              help="Where you and the program changed the same lines: write nothing (the default), keep your side, "
              "take the program's, or mark both.")  # fmt: skip
@click.option("--skip-refused", is_flag=True, help="Leave out what is never applied, and apply the rest.")
@click.option(
    "--allow",
    multiple=True,
    metavar="CLASS",
    help="Apply a refused class all the same; symlink-outside can be (repeatable).",
)
@click.option("--xattrs", is_flag=True, help="With the user.* extended attributes that the program set.")
@click.option(
    "--branch",
    metavar="NAME",
    help="Put the program's commits, or all changes as one, on a new git branch; the workspace is not touched.",
)
@click.option("--commit", is_flag=True, help="One commit: on --branch, else applied and on the current branch.")
@click.option("-m", "--message", metavar="MSG", help="The message of the commit.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def apply_command(
    arguments: tuple[str, ...],
    digest: str | None,
    dry_run: bool,
    on_conflict: str,
    skip_refused: bool,
    allow: tuple[str, ...],
    xattrs: bool,
    branch: str | None,
    commit: bool,
    message: str | None,
    yes: bool,
    as_json: bool,
) -> int:
    """Bring the changes of SESSION (only those that each PATH means) to the workspace.

    It is one transaction: a conflict, an error or a crash leaves the workspace as it was. Your own edits since the
    start are merged with the program's, or reported. `overlayws undo` puts everything back. A PATH means what is at and
    below it, or is a pathspec of git.

    \b
      overlayws apply
      overlayws apply calm-otter src/ --yes
      overlayws apply calm-otter --dry-run
      overlayws apply calm-otter --branch agent/otter -m "Rename the handler"
    """
    from overlayws.apply.conflicts import ConflictError, next_step

    _check(branch, commit, message)
    if xattrs and branch is not None:
        raise UsageError("--xattrs does not go with --branch: git has none", hint="leave one of them out")
    store = opened()
    session, paths = named_or_paths(store, arguments)
    umask = os.umask(0)
    os.umask(umask)
    options: dict[str, Any] = {
        "store": store, "on_conflict": on_conflict, "skip_refused": skip_refused, "allow": allow, "umask": umask,
        "xattrs": xattrs,
    }  # fmt: skip
    done: Committed | None = None
    with talking() as talk:
        options["talk"] = talk
        if not (dry_run or yes):
            # What is confirmed is what is applied: the digest is taken here.
            with api.viewing(session, paths, store=store, talk=talk) as view:
                digest = digest or view.whole.digest
                where = f"branch {branch}" if branch is not None else str(session.workspace)
                question = f"{summarize(view.changeset)}. Apply to {visible(where)}?"
                anything = bool(view.changeset.changes)
                flags = flagged(view.changeset)
            for line in flags:
                say(line)
            if anything and not confirmed(question, yes=False):
                say("nothing applied")
                return 1
        try:
            if branch is not None or commit:
                # --commit asks for one commit; else the program's own are taken, if it made any.
                message = message or (f"Changes of overlayws session {session.name}" if commit else None)
                options |= {"branch": branch, "message": message}
                done = committed(session, paths, digest=digest, dry_run=dry_run, **options)
                plan = done.applied or done.plan
            else:
                plan = api.apply(session, paths, digest=digest, dry_run=dry_run, **options)
        except ConflictError as error:
            if as_json:
                click.echo(json.dumps(_refusal(session.name, error), indent=2))
            for conflict in error.conflicts:
                say(f"  {visible(str(conflict))}: {next_step(conflict)}")
            raise
    for note in plan.notes:
        warn(note)
    if as_json:
        click.echo(json.dumps(_document(session.name, plan, done, applied=not dry_run), indent=2))
    elif dry_run:
        for step in plan.steps:
            click.echo(visible(str(step)))
        for conflict in (*plan.conflicts, *plan.refused):
            click.echo(f"conflict {visible(str(conflict))}: {next_step(conflict)}")
    if dry_run:
        return 1 if plan.conflicts or (plan.refused and not skip_refused) else 0
    _tell(session, plan, done, new=branch is not None)
    for refusal in plan.refused:
        say(f"left out: {visible(str(refusal))}")
    return 0


def _check(branch: str | None, commit: bool, message: str | None) -> None:
    if message is not None and branch is None and not commit:
        raise UsageError("a message, but nothing to commit", hint="add --commit, or --branch NAME")
    if commit and branch is None and not message:
        raise UsageError("a commit needs a message", hint="add -m MSG")


def _tell(session: Session, plan: ApplyPlan, done: Committed | None, *, new: bool) -> None:
    count = f"{len((done.plan if done and new else plan).steps)} path{'' if len(plan.steps) == 1 else 's'}"
    if done is not None and done.commits:
        number = f"{len(done.commits)} commit{'' if len(done.commits) == 1 else 's'}"
        say(f"committed session {session.name}: {number} on branch {visible(done.branch)}, {count}")
        next_steps(f"git log -p {visible(done.branch)}")
    elif done is not None:
        say(f"session {session.name}: nothing to commit, branch {visible(done.branch)} has it all")
    if plan.steps and not new:
        say(f"applied session {session.name}: {count} of {visible(str(session.workspace))}")
        next_steps(f"overlayws undo {session.name}")
    elif done is None:
        say(f"session {session.name}: nothing to apply{', the workspace has it all' if not plan.notes else ''}")


def _row(conflict: Conflict) -> dict[str, str]:
    from overlayws.apply.conflicts import next_step

    about = {"reason": conflict.reason, "detail": conflict.detail, "next": next_step(conflict)}
    return {**json_path(conflict.path), **about}


def _refusal(session: str, error: ConflictError) -> dict[str, object]:
    return {
        "schema": "overlayws.apply/1",
        "session": session,
        "applied": False,
        "steps": [],
        "conflicts": [_row(conflict) for conflict in error.conflicts if not conflict.refused],
        "refused": [_row(conflict) for conflict in error.conflicts if conflict.refused],
        "notes": [],
    }


def _document(session: str, plan: ApplyPlan, done: Committed | None, *, applied: bool) -> dict[str, object]:
    return {
        "schema": "overlayws.apply/1",
        "session": session,
        "applied": applied,
        **({"branch": visible(done.branch), "commits": list(done.commits)} if done is not None else {}),
        "steps": [{**json_path(step.path), "action": step.action.value} for step in plan.steps],
        "conflicts": [_row(conflict) for conflict in plan.conflicts],
        "refused": [_row(conflict) for conflict in plan.refused],
        "notes": list(plan.notes),
    }
