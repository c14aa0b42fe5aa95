"""``overlayws gc``."""

from __future__ import annotations

import shlex

import click

from overlayws import upkeep
from overlayws.cli.context import opened
from overlayws.cli.prompt import confirmed
from overlayws.cli.terminal import say, warn


@click.command("gc")
@click.option("--damaged", is_flag=True, help="Also remove sessions that can be neither read nor recovered.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def gc_command(damaged: bool, yes: bool) -> int:
    """Remove finished sessions (applied or discarded) and what crashes left.

    An apply of a removed session can no longer be undone.

    \b
      overlayws gc
      overlayws gc --yes --damaged
    """
    store = opened()
    names = upkeep.finished(store, damaged=damaged)
    for session in upkeep.owing(store):
        what = f"session {session.name}: its engine does not answer and may have a container of it"
        if damaged:
            label = shlex.quote(f"label=overlayws.session={session.directory}")
            warn(f"{what}: later docker rm --force $(docker ps -aq --filter {label})")
        else:
            warn(f"{what}: it is left (start the engine again, or --damaged)")
    if not names and (bases := upkeep.drop_bases(store)):
        say(f"removed {len(bases)} unused base{'' if len(bases) == 1 else 's'}")
        return 0
    if not names:
        say("nothing to remove")
        return 0
    if not confirmed(f"Remove {len(names)} session{'' if len(names) == 1 else 's'} ({', '.join(names)})?", yes=yes):
        say("nothing removed")
        return 1
    for name in upkeep.gc(store, names, damaged=damaged, talk=upkeep.Talk(warning=warn)):
        say(f"removed {name}")
    if bases := upkeep.drop_bases(store):
        say(f"removed {len(bases)} unused base{'' if len(bases) == 1 else 's'}")
    return 0
