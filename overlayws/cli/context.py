"""What the commands share: the store, talk on stderr, and which session is meant."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from overlayws import upkeep
from overlayws.cli.terminal import ProgressBar, coloured, say, visible, warn
from overlayws.errors import UsageError
from overlayws.session.names import looks_like_a_name
from overlayws.session.session import Session
from overlayws.session.store import Store


class WithCommand(click.Command):
    """A command whose arguments after the first ``--`` are somebody else's command line, untouched."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        dashes = args.index("--") if "--" in args else len(args)
        ctx.meta["overlayws.command"] = tuple(args[dashes + 1 :])
        return super().parse_args(ctx, args[:dashes])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


def command_of(ctx: click.Context) -> tuple[str, ...]:
    """What stood after ``--``."""
    command: tuple[str, ...] = ctx.meta["overlayws.command"]
    return command


@contextmanager
def talking(*, quiet: bool = False) -> Iterator[upkeep.Talk]:
    """Notices and warnings on stderr, and a progress bar while the context is open."""
    with ProgressBar() as bar:
        notice = (lambda text: None) if quiet else (lambda text: say(f"overlayws: {visible(text)}"))
        yield upkeep.Talk(notice=notice, warning=warn, progress=bar)


def opened() -> Store:
    """The user's store, after what crashed commands left was dealt with."""
    store = upkeep.default_store()
    upkeep.recover(store, talk=upkeep.Talk(warning=warn))
    return store


def named(store: Store, name: str | None) -> Session:
    """The session ``name``; without one the newest of the workspace that the current directory is in."""
    return store.load(name) if name is not None else store.newest(Path.cwd())


def named_or_paths(store: Store, arguments: tuple[str, ...]) -> tuple[Session, tuple[str, ...]]:
    """``[SESSION] [PATH…]``: the first argument is a session if one has that name.

    Paths are made relative to the workspace; they may be given relative to the current directory or the top.
    """
    if arguments and looks_like_a_name(arguments[0]) and arguments[0] in store.names():
        session, paths = store.load(arguments[0]), arguments[1:]
    else:
        try:
            session, paths = store.newest(Path.cwd()), arguments
        except UsageError:
            if arguments:
                raise UsageError(f"no session named {arguments[0]}", hint="overlayws list shows the sessions") from None
            raise
    return session, tuple(_below(session, path) for path in paths)


def _below(session: Session, path: str) -> str:
    """``path`` relative to the top of the workspace, by its text: nothing is followed."""
    if path == "":
        raise UsageError("an empty path", hint="name a path of the workspace, or none for all")
    here = Path.cwd().resolve()
    inside = session.workspace == here or session.workspace in here.parents
    start = here if inside else session.workspace
    absolute = os.path.normpath(os.path.join(start, path))
    if absolute == os.fspath(session.workspace):
        return ""
    relative = absolute.removeprefix(f"{session.workspace}/")
    if relative == absolute:
        raise UsageError(f"{path!r} is outside the workspace {session.workspace}", hint="name a path of the workspace")
    return relative


def next_steps(*lines: str) -> None:
    """What to do next, on stderr."""
    for line in lines:
        say(click.style(f"  {line}", dim=True) if coloured(sys.stderr) else f"  {line}")
