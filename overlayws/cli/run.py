"""``overlayws run``."""

from __future__ import annotations

import click

from overlayws.cli.context import Seconds, WithCommand, capture_options, command_of, named, opened, session_names
from overlayws.cli.start import run_and_tell
from overlayws.errors import NotStartedError, UnableError, UsageError


@click.command("run", cls=WithCommand)
@click.argument("session", required=False, shell_complete=session_names)
@click.option("--env", multiple=True, metavar="NAME[=VALUE]", help="Give the command a variable (repeatable).")
@click.option("--timeout", type=Seconds(), metavar="SECONDS", help="End it after that long.")
@capture_options
@click.pass_context
def run_command(
    context: click.Context,
    session: str | None,
    env: tuple[str, ...],
    timeout: float | None,
    capture: str | None,
    checkpoint_every: float | None,
) -> int:
    """Run another command in SESSION, on top of what it changed so far.

    \b
      overlayws run -- pytest
      overlayws run calm-otter -- sh -c 'make && make test'
    """
    command = command_of(context)
    if not command:
        raise UsageError("no command", hint="overlayws run SESSION -- COMMAND")
    try:
        store = opened()
        name = named(store, session).name
    except UnableError as error:
        raise NotStartedError(error.message, hint=error.hint) from error
    return run_and_tell(
        store, name, command, env=env, timeout=timeout, capture=capture, checkpoint_every=checkpoint_every
    )
