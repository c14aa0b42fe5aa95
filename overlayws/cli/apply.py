"""``overlayws apply``."""

from __future__ import annotations

import json
import os

import click

from overlayws import api
from overlayws.apply.step import ApplyPlan, Conflict
from overlayws.cli.context import named_or_paths, next_steps, opened, session_names, talking
from overlayws.cli.prompt import confirmed
from overlayws.cli.summary import summarize
from overlayws.cli.terminal import json_path, say, visible, warn


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
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def apply_command(
    arguments: tuple[str, ...],
    digest: str | None,
    dry_run: bool,
    on_conflict: str,
    skip_refused: bool,
    allow: tuple[str, ...],
    yes: bool,
    as_json: bool,
) -> int:
    """Bring the changes of SESSION (only those at and below each PATH) to the workspace.

    It is one transaction: a conflict, an error or a crash leaves the workspace as it was. Your own edits since the
    start are merged with the program's, or reported. `overlayws undo` puts everything back.

    \b
      overlayws apply
      overlayws apply calm-otter src/ --yes
      overlayws apply calm-otter --dry-run
    """
    from overlayws.apply.execute import ConflictError

    store = opened()
    session, paths = named_or_paths(store, arguments)
    umask = os.umask(0)
    os.umask(umask)
    options = {"on_conflict": on_conflict, "skip_refused": skip_refused, "allow": allow, "umask": umask}
    with talking() as talk:
        if not (dry_run or yes):
            # What is confirmed is what is applied: the digest is taken here.
            with api.viewing(session, paths, store=store, talk=talk) as view:
                digest = digest or view.whole.digest
                question = f"{summarize(view.changeset)}. Apply to {visible(str(session.workspace))}?"
                anything = bool(view.changeset.changes)
            if anything and not confirmed(question, yes=False):
                say("nothing applied")
                return 1
        try:
            plan = api.apply(session, paths, store=store, digest=digest, dry_run=dry_run, talk=talk, **options)  # type: ignore[arg-type]
        except ConflictError as error:
            if as_json:
                plan = api.apply(session, paths, store=store, dry_run=True, talk=talk, **options)  # type: ignore[arg-type]
                click.echo(json.dumps(_document(session.name, plan, applied=False), indent=2))
            for conflict in error.conflicts:
                say(f"  {visible(str(conflict))}")
            raise
    for note in plan.notes:
        warn(note)
    if as_json:
        click.echo(json.dumps(_document(session.name, plan, applied=not dry_run), indent=2))
    elif dry_run:
        for step in plan.steps:
            click.echo(visible(str(step)))
        for conflict in (*plan.conflicts, *plan.refused):
            click.echo(f"conflict {visible(str(conflict))}")
    if dry_run:
        return 1 if plan.conflicts or (plan.refused and not skip_refused) else 0
    if plan.steps:
        say(
            f"applied: {len(plan.steps)} path{'' if len(plan.steps) == 1 else 's'} of {visible(str(session.workspace))}"
        )
        next_steps(f"overlayws undo {session.name}")
    else:
        say(f"session {session.name}: nothing to apply, the workspace has it all")
    for refusal in plan.refused:
        say(f"left out: {visible(str(refusal))}")
    return 0


def _document(session: str, plan: ApplyPlan, *, applied: bool) -> dict[str, object]:
    def row(conflict: Conflict) -> dict[str, str]:
        return {**json_path(conflict.path), "reason": conflict.reason, "detail": conflict.detail}

    return {
        "schema": "overlayws.apply/1",
        "session": session,
        "applied": applied,
        "steps": [{**json_path(step.path), "action": step.action.value} for step in plan.steps],
        "conflicts": [row(conflict) for conflict in plan.conflicts],
        "refused": [row(conflict) for conflict in plan.refused],
        "notes": list(plan.notes),
    }
