"""The command group, the one error handler, and the only place that reads the environment.

Commands are imported when they are run: ``overlayws --help`` loads click and nothing else.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from contextlib import suppress
from typing import TextIO

import click

from overlayws import __version__
from overlayws.errors import OverlaywsError, UntrustedError, UsageError

# name: one line for the list of commands. The module is overlayws.cli.<name>, its command has the same name.
COMMANDS = {
    "start": "Make a session of a workspace and run a command in it.",
    "run": "Run another command in a session.",
    "list": "List the sessions.",
    "status": "Show one session and what it changed.",
    "diff": "Show what the program changed.",
    "apply": "Bring changes to the workspace, as one transaction.",
    "discard": "Drop changes, or the whole session.",
    "undo": "Put the workspace back as it was before the last apply.",
    "explain": "Say whether a path is hidden, and by which rule.",
    "doctor": "Say which backends and sandboxes work here.",
    "image": "Give the container engine a root file system as an image.",
    "gc": "Remove finished sessions and what crashes left.",
}


# New objects between two looks for garbage: loading modules makes many that stay, and every look meets them again.
_OBJECTS = 10_000
_UTF8 = ("-X", "utf8")  # an option of Python's, not a variable: the command of `--sandbox none` would get that too


class _ReaderGone(Exception):
    """Whoever read stdout (a pager, head) has gone away."""


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"overlayws.cli.{cmd_name}")
        command = getattr(module, f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS and not ctx.resilient_parsing:
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f"overlayws {close[0]}" if close else "overlayws --help lists the commands"
            raise UsageError(f"no command {args[0]!r}", hint=hint)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise _ReaderGone from None  # of an OSError click would make an exit status of its own

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="overlayws")
def cli() -> None:
    """Let a program you do not fully trust work on your code, and keep only what you reviewed.

    The program gets a sanitized copy of the workspace under an overlay, in a sandbox without network.
    Nothing reaches the workspace before `overlayws apply`.

    \b
      overlayws start . -- ./agent --fix      run it
      overlayws diff                          see what it changed
      overlayws apply                         keep it
      overlayws undo                          or not, after all

    SESSION may be left out: it is the newest session of the workspace that you are in.

    \b
    Completion of commands, options and sessions in bash (likewise zsh_source, fish_source):
      eval "$(_OVERLAYWS_COMPLETE=bash_source overlayws)"
    """


def main() -> None:
    """The console script: parse, call, print; errors as one line and a hint, with the exit code of their class."""
    gc.set_threshold(_OBJECTS)
    _in_utf8()
    code = _exit_code()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _drop(stream)
    gc.freeze()  # the interpreter's end looks for garbage once more, in all that goes with the process anyway
    sys.exit(code)


def _in_utf8() -> None:
    """Begin again where the locale has names of files taken for something else: see ``places.check_names``."""
    if sys.getfilesystemencoding() != "utf-8" and sys.executable and tuple(sys.orig_argv[1:3]) != _UTF8:
        with suppress(OSError):
            os.execv(sys.executable, [sys.executable, *_UTF8, *sys.orig_argv[1:]])


def _exit_code() -> int:
    from overlayws.cli.terminal import standard_streams

    try:
        standard_streams()
        done = cli.main(standalone_mode=False, prog_name="overlayws")
        sys.stdout.flush()
        return done if isinstance(done, int) else 0
    except OverlaywsError as error:
        return _say(error.message, error.hint, error.exit_code)
    except click.ClickException as error:
        return _usage(error)
    except (click.Abort, KeyboardInterrupt):
        # It is heard; another ^C must not turn the orderly end into a traceback or a death by signal.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        click.echo(err=True)  # the question that was asked has no end of line
        return _say("interrupted", "", 130)
    except (_ReaderGone, BrokenPipeError):  # nothing is wrong, but nothing more can be written
        _drop(sys.stdout)
        return 128 + signal.SIGPIPE
    except OSError as error:
        _drop(sys.stdout)
        where = f": {error.filename!r}" if error.filename is not None else ""
        return _say(f"{error.strerror or error}{where}", "overlayws doctor says what this machine can do", 3)
    except MemoryError:
        return _say("not enough memory", "leave out what is large or deep: overlayws apply SESSION PATH...", 3)
    except Exception:  # a bug of ours; its status must not be taken for an answer, nor for the command's own
        import traceback

        traceback.print_exc()
        return UntrustedError.exit_code


def _usage(error: click.ClickException) -> int:
    message = error.format_message()
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # click 8.2
        click.echo(message)
        return 0
    context = getattr(error, "ctx", None)
    command = context.command_path if context else " ".join(["overlayws", *sys.argv[1:2]])
    return _say(message, f"{command} --help", 2)


def _drop(stream: TextIO) -> None:
    """What is still buffered cannot be written: the interpreter must not try again at its end (exit status 120)."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _say(message: str, hint: str, code: int) -> int:
    from overlayws.cli.terminal import say, visible

    say(f"error: {visible(message)}")
    if hint:
        say(f"hint: {visible(hint)}")
    return code
