"""``overlayws doctor``."""

from __future__ import annotations

import json
import shutil
import sys

import click

from overlayws import upkeep
from overlayws.cli.terminal import coloured, visible


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def doctor_command(as_json: bool) -> int:
    """Say which backends and sandboxes this machine can use, and for the others why not.

    Each is tried, not guessed. The exit status is 3 where a session could not be started.

    \b
      overlayws doctor
    """
    found = upkeep.doctor()
    if as_json:
        click.echo(json.dumps({"schema": "overlayws.doctor/1", **found}, indent=2))
    else:
        for kind in ("backends", "sandboxes", "programs"):
            click.echo(f"{kind}:")
            for one in found[kind]:
                mark = click.style("yes", fg="green") if one["usable"] else click.style("no ", fg="red")
                note = one["reason"] or one["note"]
                click.echo(f"  {mark}  {one['name']:14}{visible(note)}".rstrip(), color=coloured(sys.stdout))
        click.echo(f"state: {visible(str(found['state']))}{_free(str(found['state']))}")
    usable = all(any(one["usable"] for one in found[kind] if one["auto"]) for kind in ("backends", "sandboxes"))
    return 0 if usable else 3


def _free(directory: str) -> str:
    try:
        return f" ({shutil.disk_usage(directory).free >> 20} MiB free)"
    except OSError:
        return ""
