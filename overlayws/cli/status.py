"""``overlayws status``."""

from __future__ import annotations

import json

import click

from overlayws import api, upkeep
from overlayws.cli.context import named, next_steps, opened, session_names, talking
from overlayws.cli.summary import flagged, summarize
from overlayws.cli.terminal import visible


@click.command("status")
@click.argument("session", required=False, shell_complete=session_names)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status_command(session: str | None, as_json: bool) -> None:
    """Show SESSION: its state, its commands, and what they changed.

    \b
      overlayws status
      overlayws status calm-otter --json
    """
    from overlayws.changes.acls import told as told_lists
    from overlayws.changes.links import told
    from overlayws.session.record import as_dict

    store = opened()
    found = upkeep.seen(store, named(store, session))
    changeset = None
    if found.state not in ("running", "discarded"):
        with talking(quiet=True) as talk:
            changeset = api.scan(found, store=store, talk=talk)
    if as_json:
        data = {"schema": "overlayws.status/1", **as_dict(found)}
        if changeset is not None:
            data |= {
                "digest": changeset.digest,
                "changes": len(changeset.changes),
                "hard_links": len(changeset.links),
                "access_lists": len(changeset.access_lists),
            }
        click.echo(json.dumps(data, indent=2))
        return
    click.echo(f"session    {found.name}")
    click.echo(f"state      {found.state}")
    click.echo(f"workspace  {visible(str(found.workspace))}")
    click.echo(f"created    {found.created[:19].replace('T', ' ')} UTC")
    click.echo(f"layer      {found.backend} backend, {found.sandbox} sandbox, network {found.network}")
    for r in found.runs:
        ended = "did not end" if r.exit_code is None else f"exit status {r.exit_code} after {r.duration} s"
        click.echo(f"command    {visible(' '.join(r.command))}  ({ended})")
    if changeset is not None:
        click.echo(f"changes    {summarize(changeset)}")
        for line in flagged(changeset):
            click.echo(f"           {line}")
        if changeset.links:
            click.echo(f"linked     {told(changeset.links)}")
        if changeset.access_lists:
            click.echo(f"lists      {told_lists(changeset.access_lists)} (access lists, never applied)")
        click.echo(f"digest     {changeset.digest}")
        if changeset.changes:
            next_steps(f"overlayws diff {found.name}", f"overlayws apply {found.name}")
