"""``overlayws undo``."""

from __future__ import annotations

import click

from overlayws import api
from overlayws.cli.context import named, next_steps, opened, session_names, talking
from overlayws.cli.prompt import confirmed
from overlayws.cli.terminal import say, visible


@click.command("undo")
@click.argument("session", required=False, shell_complete=session_names)
@click.option("--yes", is_flag=True, help="Do not ask.")
def undo_command(session: str | None, yes: bool) -> int:
    """Put the workspace back as it was before the last apply of SESSION, byte for byte.

    Refused, and nothing is changed, where a file that was applied has been edited since. Several applies are undone one
    by one, the last one first.

    \b
      overlayws undo
      overlayws undo calm-otter --yes
    """
    store = opened()
    found = named(store, session)
    if not confirmed(f"Undo the last apply of session {found.name} in {visible(str(found.workspace))}?", yes=yes):
        say("nothing undone")
        return 1
    with talking() as talk:
        count = api.undo(found, store=store, talk=talk)
    paths = f"{count} path{'' if count == 1 else 's'} of {visible(str(found.workspace))}"
    say(f"undone session {found.name}: {paths} as before the apply")
    next_steps(f"overlayws diff {found.name}", f"overlayws apply {found.name}")
    return 0
