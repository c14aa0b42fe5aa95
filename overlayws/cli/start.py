"""``overlayws start``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from overlayws import api, upkeep
from overlayws.cli.context import (
    Disk,
    Seconds,
    Size,
    WithCommand,
    capture_options,
    command_of,
    directories,
    next_steps,
    talking,
)
from overlayws.cli.terminal import say, visible, warn
from overlayws.errors import NotStartedError, OverlaywsError, UntrustedError, UsageError
from overlayws.layer.mount import BACKEND_NAMES
from overlayws.run.all_sandboxes import SANDBOXES
from overlayws.run.limits import Limits
from overlayws.session.session import BASES, Session
from overlayws.session.store import BusySession, Store


@click.command("start", cls=WithCommand)
@click.argument("workspace", default=".", metavar="[WORKSPACE]", shell_complete=directories)
@click.option("--name", help="The session's name (default: one is invented).")
@click.option(
    "--backend", type=click.Choice(["auto", *BACKEND_NAMES]), default="auto", help="How the layer is mounted."
)
@click.option(
    "--sandbox", type=click.Choice(["auto", *SANDBOXES]), default="auto",
    help="How the command is confined. `none` is no protection and is never chosen by `auto`.",
)  # fmt: skip
@click.option("--base", type=click.Choice(BASES), default="copy",
              help="The lowerdir: a frozen sanitized copy, or the workspace itself below a mask.")  # fmt: skip
@click.option(
    "--gitleaks", is_flag=True, help="Ask gitleaks for a second opinion on what is shown; it must be installed."
)
@click.option("--scan", is_flag=True, help="With --base live: look into every file for secrets, as copy does.")
@click.option("--git", type=click.Choice(["auto", "fresh", "none"]), default="auto",
              help="Whether the program gets a repository of its own (auto: if the workspace is one).")  # fmt: skip
@click.option(
    "--ignore-file", "ignore_files", multiple=True, metavar="FILE", help="More patterns to hide (repeatable)."
)
@click.option("--hide", multiple=True, metavar="PATTERN", help="Hide what matches (repeatable).")
@click.option("--show", multiple=True, metavar="PATTERN", help="Show what matches, even a secret (repeatable).")
@click.option("--env", multiple=True, metavar="NAME[=VALUE]", help="Give the command a variable (repeatable).")
@click.option(
    "--tools",
    multiple=True,
    metavar="DIR",
    shell_complete=directories,
    help="Show a directory of programs, read-only (repeatable).",
)
@click.option("--network", type=click.Choice(["none", "host"]), default="none", help="What the command can reach.")
@click.option("--read-only", is_flag=True, help="The command may read the workspace, not write it.")
@click.option("--memory", type=Size(), metavar="SIZE", help="Such as 512m or 2g (containers: 2g).")
@click.option("--cpus", type=float, metavar="NUMBER", help="Processors, such as 1.5 (containers: 2).")
@click.option("--pids", type=click.IntRange(min=1), metavar="NUMBER", help="Processes (containers: 100).")
@click.option("--disk", type=Disk(), metavar="SIZE[,FILES]", help="What the changes may take: 2g, or 2g,50000.")
@click.option("--image", metavar="NAME", help="A container's root (default: this machine's programs).")
@click.option("--workdir-at", default="", metavar="PATH",
              help="Where the workspace appears inside (containers: /workspace; bwrap: its own path).")  # fmt: skip
@click.option("--timeout", type=Seconds(), metavar="SECONDS", help="End it after that long.")
@capture_options
@click.option("--no-run", is_flag=True, help="Make the session only.")
@click.option("--gitignore", is_flag=True, help="Hide what git ignores, too.")
@click.option("--dry-run", is_flag=True, help="Only say what would be visible, redacted and hidden, and by which rule.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: as JSON.")
@click.pass_context
def start_command(
    context: click.Context,
    workspace: str,
    name: str | None,
    backend: str,
    sandbox: str,
    base: str,
    gitleaks: bool,
    scan: bool,
    git: str,
    ignore_files: tuple[str, ...],
    hide: tuple[str, ...],
    show: tuple[str, ...],
    env: tuple[str, ...],
    tools: tuple[str, ...],
    network: str,
    read_only: bool,
    memory: int | None,
    cpus: float | None,
    pids: int | None,
    disk: tuple[int, int] | None,
    image: str | None,
    workdir_at: str,
    timeout: float | None,
    capture: str | None,
    checkpoint_every: float | None,
    no_run: bool,
    gitignore: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Make a session of WORKSPACE (default: the current directory) and run COMMAND in it.

    COMMAND (default: a shell) sees a sanitized copy of the workspace at the workspace's own path and may change it
    as it likes; every write is captured. Its exit status is passed through.

    \b
      overlayws start . -- ruff check --fix
      overlayws start ~/shop --hide '*.sql' --tools ~/.venv -- python3 upgrade.py
    """
    command = command_of(context)
    if no_run and command:
        raise UsageError("--no-run runs no command", hint="leave the command out, or --no-run")
    if gitleaks and base == "live":
        raise UsageError("--gitleaks is for --base copy", hint="there is no copy of the workspace that it could search")
    if scan and base != "live":
        raise UsageError("--scan is for --base live", hint="--base copy looks into every file anyway")
    if as_json and not dry_run:
        raise UsageError("--json is for --dry-run", hint="overlayws list --json, or status --json, tells of sessions")
    if dry_run:
        if command or no_run:
            raise UsageError("--dry-run makes and runs nothing", hint="leave the command and --no-run out")
        from overlayws.cli.preview import print_preview

        patterns = [Path(f) for f in ignore_files]
        found = api.preview(workspace, ignore_files=patterns, hide=hide, show=show, gitignore=gitignore)
        for warning in found.warnings:
            warn(warning)
        return print_preview(found, json_wanted=as_json)
    if disk is not None and disk[0] == 0:
        raise UsageError("--disk 0 is out of range", hint="leave it out, or give a size: 2g")
    if cpus is not None and cpus == 0:
        raise UsageError("--cpus 0 is out of range", hint="leave it out, or give a part of a processor: 0.5")
    if image == "":
        raise UsageError("--image '' names no image", hint="leave it out for this machine's own programs")
    limits = Limits(memory or 0, cpus or 0.0, pids or 0, *(disk or (0, 0)))
    shown = tuple(_directory(t) for t in tools)
    kept = (capture or "disk", checkpoint_every)
    confinement = api.Confinement(sandbox, network, read_only, shown, limits, image or "", workdir_at, *kept)
    store = upkeep.default_store()
    try:
        with talking() as talk:
            session = api.start(
                workspace,
                store=store,
                name=name,
                backend=backend,
                confinement=confinement,
                base=base,
                scan=scan,
                gitleaks=gitleaks,
                git=git,
                ignore_files=[Path(f) for f in ignore_files],
                hide=hide,
                show=show,
                gitignore=gitignore,
                talk=talk,
            )
    except OverlaywsError as error:
        # 1 (a content that refuses the start) and 3 would be taken for the command's own.
        if no_run or isinstance(error, NotStartedError | UsageError | UntrustedError):
            raise
        raise NotStartedError(error.message, hint=error.hint) from error
    say(f"session {session.name} of {visible(str(session.workspace))}")
    if no_run:
        click.echo(session.name)
        next_steps(f"overlayws run {session.name} -- COMMAND", f"overlayws discard {session.name}")
        return 0
    try:
        return run_and_tell(store, session.name, command, env=env, timeout=timeout)
    except (NotStartedError, UsageError):
        if not store.load(session.name).runs:  # nothing was run: nothing is left behind
            store.remove(session.name)
        raise


def run_and_tell(
    store: Store,
    name: str,
    command: tuple[str, ...],
    *,
    env: tuple[str, ...] = (),
    timeout: float | None = None,
    capture: str | None = None,
    checkpoint_every: float | None = None,
) -> int:
    """Run the command (a shell if none), print what it changed and what can be done next; its exit status."""
    from overlayws.cli.missing import advice
    from overlayws.cli.summary import tell

    session = store.load(name)
    if session.sandbox == "none":
        warn("no sandbox: the command can read and write all that you can, and reach the network")
    command = command or (_shell(session),)
    with talking() as talk:
        try:
            result = api.run(
                session, command, store=store, env=env, timeout=timeout, capture=capture,
                checkpoint_every=checkpoint_every, talk=talk,
            )  # fmt: skip
        except BusySession as error:
            raise NotStartedError(error.message, hint=error.hint) from error
        for note in result.notes:
            warn(note)
        if result.timed_out:
            warn("the command was ended: its time was over")
        if result.out_of_memory:
            warn("the command was out of memory: something of it was killed at the limit (see --memory)")
        after = store.load(name)
        changeset = api.scan(after, store=store, talk=talk)
    if after.capture == session.capture and (hint := advice(session, command[0], result.exit_code, env)):
        say(f"hint: {visible(hint)}")
    say()
    tell(changeset)
    if changeset.changes:
        next_steps(f"overlayws diff {name}", f"overlayws apply {name}", f"overlayws discard {name}")
    else:
        next_steps(f"overlayws run {name} -- COMMAND", f"overlayws discard {name}")
    return result.exit_code


def _directory(path: str) -> str:
    if not os.path.isdir(path):
        raise UsageError(f"--tools {path!r} is no directory", hint="name a directory of programs")
    return os.path.abspath(path)


def _shell(session: Session) -> str:
    # An image may have no other; and under gVisor of 2022 line editing of bash 5.2 ends at the first key.
    plain = session.image or session.sandbox == "gvisor" or not os.path.exists("/bin/bash")
    return "/bin/sh" if plain else "/bin/bash"
