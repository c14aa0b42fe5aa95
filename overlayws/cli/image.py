"""``overlayws image``: root file systems for containers, without any registry."""

from __future__ import annotations

from pathlib import Path

import click

from overlayws import upkeep
from overlayws.cli.context import directories
from overlayws.cli.terminal import say, visible


@click.group("image")
def image_command() -> None:
    """Root file systems for ``--image``."""


@image_command.command("import")
@click.argument("directory", shell_complete=directories)
@click.argument("name")
def import_command(directory: str, name: str) -> int:
    """Give the engine the root file system in DIRECTORY as the image NAME.

    \b
      overlayws image import ./rootfs project:1
      overlayws start --sandbox docker --image project:1 -- make
    """
    identity = upkeep.import_image(Path(directory), name)
    say(f"image {visible(name)} of {visible(directory)}")
    click.echo(identity)
    return 0
