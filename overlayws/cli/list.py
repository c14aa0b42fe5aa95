"""``overlayws list``."""

from __future__ import annotations

import json

import click

from overlayws import upkeep
from overlayws.cli.context import opened
from overlayws.cli.terminal import say, visible, warn


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the sessions as JSON.")
def list_command(as_json: bool) -> None:
    """List the sessions, oldest first: name, state, when it was made (UTC), workspace.

    \b
    new             nothing was run in it yet        applied      all of its changes are in the workspace
    running         a command is running             partly-applied
    captured        there is something to look at    discarded    nothing but what undo needs is left
    interrupted     so is there; a command was killed
    """
    from overlayws.session.record import as_dict

    store = opened()
    sessions, damaged = store.all()
    sessions = [upkeep.seen(store, session) for session in sessions]
    for error in damaged:
        warn(error.message)
    if as_json:
        data = {
            "schema": "overlayws.sessions/1",
            "sessions": [as_dict(s) for s in sessions],
            "damaged": [error.message for error in damaged],
        }
        click.echo(json.dumps(data, indent=2))
        return
    if not sessions:
        say("no sessions; overlayws start makes one")
        return
    width = max(len(s.name) for s in sessions)
    for s in sessions:
        click.echo(f"{s.name:{width}}  {s.state:14}  {s.created[:19].replace('T', ' ')}  {visible(str(s.workspace))}")
