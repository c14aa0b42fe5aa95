"""``overlayws run``."""

from __future__ import annotations

import click

from overlayws.cli.context import WithCommand, command_of, named, opened
from overlayws.cli.start import run_and_tell
from overlayws.errors import UsageError


@click.command("run", cls=WithCommand)
@click.argument("session", required=False)
@click.option("--env", multiple=True, metavar="NAME[=VALUE]", help="Give the command a variable (repeatable).")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="End it after that long."
)
@click.pass_context
def run_command(context: click.Context, session: str | None, env: tuple[str, ...], timeout: float | None) -> int:
    """Run another command in SESSION, on top of what it changed so far.

    \b
      overlayws run calm-otter -- pytest
    """
    command = command_of(context)
    if not command:
        raise UsageError("no command", hint="overlayws run SESSION -- COMMAND")
    store = opened()
    return run_and_tell(store, named(store, session).name, command, env=env, timeout=timeout)
