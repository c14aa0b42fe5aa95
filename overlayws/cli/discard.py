"""``overlayws discard``."""

from __future__ import annotations

import click

from overlayws import api
from overlayws.cli.context import named_or_paths, next_steps, opened, session_names, talking
from overlayws.cli.prompt import confirmed
from overlayws.cli.terminal import say, visible


@click.command("discard")
@click.argument("arguments", nargs=-1, metavar="[SESSION] [PATH]...", shell_complete=session_names)
@click.option("--yes", is_flag=True, help="Do not ask.")
def discard_command(arguments: tuple[str, ...], yes: bool) -> int:
    """Drop the changes of SESSION: all of them, or only those at and below each PATH.

    \b
      overlayws discard calm-otter
      overlayws discard calm-otter docs/ setup.cfg
    """
    store = opened()
    session, paths = named_or_paths(store, arguments)
    what = ", ".join(visible(path) for path in paths) if paths else "all changes"
    digest = None
    if not yes and session.state != "discarded":
        with talking(quiet=True) as talk:  # what is confirmed is what is dropped
            digest = api.scan(session, store=store, talk=talk).digest
    if not confirmed(f"Discard {what} of session {session.name}?", yes=yes):
        say("nothing discarded")
        return 1
    with talking(quiet=True) as talk:
        dropped = api.discard(session, paths, store=store, digest=digest, talk=talk)
    if paths:
        say(f"{dropped} change{'' if dropped == 1 else 's'} discarded from session {session.name}")
        next_steps(f"overlayws diff {session.name}", f"overlayws apply {session.name}")
    else:
        say(f"session {session.name} discarded")
        next_steps("overlayws gc")
    return 0
