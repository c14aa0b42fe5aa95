"""What the commands share: the store, talk on stderr, and which session is meant."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from overlayws import upkeep
from overlayws.cli.terminal import ProgressBar, coloured, say, visible, warn
from overlayws.errors import OverlaywsError, UsageError
from overlayws.run.limits import parse_disk, parse_size
from overlayws.session.names import looks_like_a_name
from overlayws.session.session import KEPT_IN, Session
from overlayws.session.store import Store


class WithCommand(click.Command):
    """A command whose arguments after the first ``--`` are somebody else's command line, untouched."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        dashes = args.index("--") if "--" in args else len(args)
        ctx.meta["overlayws.command"] = tuple(args[dashes + 1 :])
        try:
            return super().parse_args(ctx, args[:dashes])
        except click.UsageError as error:
            # Most likely the command was written without the dashes: `overlayws start . pytest -x`.
            if dashes < len(args) or isinstance(error, click.BadParameter | click.BadOptionUsage):
                raise
            hint = f"a command goes after --, as in: {ctx.command_path} … -- COMMAND; see {ctx.command_path} --help"
            raise UsageError(error.format_message(), hint=hint) from None

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
    return store.load(name) if name is not None else store.newest(here())


def here() -> Path:
    """The current directory. Raises UsageError where it was removed."""
    try:
        return Path.cwd()
    except OSError as error:
        raise UsageError(f"no current directory: {error.strerror}", hint="cd to one, or name the session") from None


def named_or_paths(store: Store, arguments: tuple[str, ...]) -> tuple[Session, tuple[str, ...]]:
    """``[SESSION] [PATH…]``: the first argument is a session if one has that name.

    Paths are made relative to the workspace; they may be given relative to the current directory or the top.
    """
    if arguments and looks_like_a_name(arguments[0]) and arguments[0] in store.names():
        session, paths = store.load(arguments[0]), arguments[1:]
    else:
        try:
            session, paths = store.newest(here()), arguments
        except UsageError:
            if arguments:
                raise UsageError(f"no session named {arguments[0]}", hint="overlayws list shows the sessions") from None
            raise
    return session, tuple(_below(session, path) for path in paths)


def _below(session: Session, argument: str) -> str:
    """A path or pathspec relative to the top of the workspace, by its text: nothing in the workspace is followed."""
    from overlayws.changes.pathspec import Pathspec, escaped, parse

    if argument == "":
        raise UsageError("an empty path", hint="name a path of the workspace, or none for all")
    spec = parse(argument)
    path = spec.pattern
    start = session.workspace
    if not os.path.isabs(path) and "top" not in spec.magic:
        cwd = Path(os.path.realpath(here()))
        start = cwd if session.workspace == cwd or session.workspace in cwd.parents else start
    magic = spec.magic - {"top"}
    if spec.wild and not os.path.isabs(path):
        prefix = "" if start == session.workspace else escaped(f"{start.relative_to(session.workspace)}/")
        return str(Pathspec(magic, prefix + path.removeprefix("./")))
    absolute = Path(os.path.normpath(os.path.join(start, path)))
    for above in (*reversed(absolute.parents), absolute):  # from the top: the first is outside of what it holds
        if os.path.realpath(above) == os.fspath(session.workspace):
            relative = os.fspath(absolute.relative_to(above))
            relative = "" if relative == "." else relative
            return str(Pathspec(magic | ({"literal"} if relative.startswith(":") else set()), relative))
    raise UsageError(f"{path!r} is outside the workspace {session.workspace}", hint="name a path of the workspace")


def session_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """For the shell's completion: the sessions whose names begin so; and files, where paths may follow."""
    from click.shell_completion import CompletionItem

    items: list[Any] = []
    if not ctx.params.get(parameter.name or ""):
        try:
            items = [CompletionItem(name) for name in upkeep.default_store().names() if name.startswith(incomplete)]
        except OverlaywsError:
            pass
    return items if items or parameter.nargs == 1 else [CompletionItem(incomplete, type="file")]


def directories(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[Any]:
    """For the shell's completion: directories."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]


class Seconds(click.FloatRange):
    """A time limit."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):  # nan is in every range
            self.fail(f"{value!r} is no time.", param, ctx)
        return seconds


def capture_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where a run's changes are until its end."""
    command = click.option(
        "--checkpoint-every", type=Seconds(), metavar="SECONDS",
        help="With --capture memory: save the changes so far that often.",
    )(command)  # fmt: skip
    return click.option(
        "--capture", type=click.Choice(KEPT_IN),
        help="Where gVisor keeps the changes of a command until it ends: `disk` (the default; nothing is lost in a "
        "crash) or its own `memory` (faster; a crash loses them).",
    )(command)  # fmt: skip


class Size(click.IntRange):
    """Bytes, with a unit: 512m, 2g."""

    name = "size"

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(parse_size(value) if isinstance(value, str) else value, param, ctx)


class Disk(click.types.StringParamType):
    """Bytes, and how many files: 2g, or 2g,50000."""

    name = "disk"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return parse_disk(value) if isinstance(value, str) else value


def next_steps(*lines: str) -> None:
    """What to do next, on stderr."""
    for line in lines:
        say(click.style(f"  {line}", dim=True) if coloured(sys.stderr) else f"  {line}")
