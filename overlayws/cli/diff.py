"""``overlayws diff``."""

from __future__ import annotations

import json
import sys

import click

from overlayws import api
from overlayws.cli.context import named_or_paths, opened, session_names, talking
from overlayws.cli.terminal import coloured, say, show_patch, visible, warn
from overlayws.errors import UsageError


@click.command("diff")
@click.argument("arguments", nargs=-1, metavar="[SESSION] [PATH]...", shell_complete=session_names)
@click.option("--stat", "form", flag_value="stat", help="Only how much changed in which file.")
@click.option("--name-status", "form", flag_value="name-status", help="Only the paths and what happened to them.")
@click.option("--json", "form", flag_value="json", help="Print the change set as JSON.")
@click.option("--word", is_flag=True, help="Mark changed words; for reading only.")
@click.option("-U", "--unified", "context", type=click.IntRange(0, 10_000), default=3, metavar="N",
              help="Lines of context (default 3).")  # fmt: skip
@click.option("--exit-code", "exit_code", is_flag=True, help="Exit with 1 if there are changes.")
def diff_command(arguments: tuple[str, ...], form: str | None, word: bool, context: int, exit_code: bool) -> int:
    """Show what the commands of SESSION changed, as a patch that `git apply` accepts.

    On a terminal the patch is coloured, and what could steer the terminal or hide in the text is made visible. Into
    a file or a pipe it is exact.

    \b
      overlayws diff
      overlayws diff calm-otter src/ --stat
      overlayws diff calm-otter > agent.patch && git apply agent.patch
    """
    from overlayws.changes import render
    from overlayws.changes.git import private_repository, without_patch
    from overlayws.changes.listing import rows
    from overlayws.changes.shown import listed as shown
    from overlayws.changes.terminal import for_terminal

    if word and form:
        raise UsageError(f"--word does not go with --{form}", hint="leave one of them out")
    store = opened()
    session, paths = named_or_paths(store, arguments)
    # All is put together first and shown after the session's lock is given up: a pager may stay open for long.
    with talking(quiet=True) as talk, api.viewing(session, paths, store=store, talk=talk) as view:
        changeset = view.changeset
        with (
            api.writing(store),
            private_repository(changeset, view.base, view.theirs, scratch=view.session.directory) as repository,
        ):
            patch = repository.patch(context=context, words=word) if form is None else b""
            listed = [] if form is None else rows(changeset, repository)
        base = {"mode": "copy", **view.manifest.counts()} if form == "json" else {}
    if form == "json":
        document = render.as_json(changeset, listed, session=session.name, base=base, digest=view.whole.digest)
        click.echo(json.dumps(document, indent=2))
    elif form == "name-status":
        click.echo(render.name_status(listed), nl=False)
    elif form == "stat":
        show_patch(render.stat(listed, colour=coloured(sys.stdout)))
    elif sys.stdout.isatty():
        show_patch(for_terminal(patch, coloured(sys.stdout), words=word))
    else:
        sys.stdout.buffer.write(patch)
    if form is None:
        for change in without_patch(shown(changeset)):
            warn(f"not in the patch: {change.path} ({change.status})")
    for problem in changeset.problems:
        warn(f"not captured: {problem}")
    if not changeset.changes and form is None:
        say(f"session {visible(session.name)}: nothing changed")
    return 1 if exit_code and changeset.changes else 0
