"""Writes docs/man/*.1, the manual pages of all commands, from what --help says. `--check`: only whether they are true.

Not part of the package: pip installs the pages that are in the repository.
"""

from __future__ import annotations

import re
import sys
from inspect import cleandoc
from pathlib import Path

import click
from click_man.man import ManPage

from overlayws import __version__
from overlayws.cli.main import COMMANDS, cli

PAGES = Path(__file__).parent.parent / "docs" / "man"
_EXITS = Path(__file__).parent.parent / "docs" / "exit-codes.md"
_FILES = r""".SH FILES
.TP
\fI.overlaywsignore\fP
in the workspace: what the program is not shown, in the syntax of .dockerignore
.TP
\fI$XDG_CONFIG_HOME/overlayws/config.toml\fP
the user's own rules
.TP
\fI$OVERLAYWS_HOME\fP, else \fI$XDG_STATE_HOME/overlayws\fP
sessions and bases
"""


def pages() -> dict[str, str]:
    """File name: text of each page."""
    top = click.Context(cli, info_name="overlayws", help_option_names=["-h", "--help"])
    found = {"overlayws.1": _page(top, "keep only what you reviewed of what a program did", list(COMMANDS.items()))}
    for name, short in COMMANDS.items():
        command = cli.get_command(top, name)
        assert command is not None
        found |= _below(command, top, name, short)
    return found


def _below(command: click.Command, parent: click.Context, name: str, short: str) -> dict[str, str]:
    context = click.Context(command, parent=parent, info_name=name, help_option_names=["-h", "--help"])
    inner = command.commands if isinstance(command, click.Group) else {}
    about = [(sub, one.get_short_help_str(100)) for sub, one in inner.items()]
    found = {f"{context.command_path.replace(' ', '-')}.1": _page(context, short, about)}
    for sub, one in inner.items():
        found |= _below(one, context, sub, one.get_short_help_str(100))
    return found


def _page(context: click.Context, short: str, commands: list[tuple[str, str]]) -> str:
    command = context.command
    page = ManPage(context.command_path)
    page.version, page.date = f"overlayws {__version__}", ""
    page.short_help = short.rstrip(".")
    page.synopsis = " ".join(command.collect_usage_pieces(context))
    page.description = _formatted(cleandoc(command.help or ""))
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    page.options = [(option, _escaped(about)) for option, about in (r for r in records if r and r[1])]
    page.commands = commands
    text = str(page)
    if context.parent is None:
        text += _exit_status() + _FILES
    else:
        text += ".SH SEE ALSO\n.BR overlayws (1)\n"
    return text


def _formatted(text: str) -> str:
    """Help as click has it: what follows a line with only a backspace keeps its lines."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        verbatim = paragraph.startswith("\b\n") or all(line.startswith("  ") for line in paragraph.splitlines())
        escaped = _escaped(paragraph.removeprefix("\b\n"))
        paragraphs.append(f".nf\n{escaped}\n.fi" if verbatim else escaped)
    return "\n\n".join(paragraphs)


def _escaped(text: str) -> str:
    text = text.replace("\\", r"\e").replace("-", r"\-")
    text = re.sub(r"`([^`]+)`", r"\\fB\1\\fP", text)
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.M)  # a line that begins so would be a request


def _exit_status() -> str:
    _, _, *rows = re.findall(r"^\| (.+?) \| (.+) \|$", _EXITS.read_text().replace(r"\|", "\0"), re.M)
    assert rows, "docs/exit-codes.md has no table"
    entries = [f".TP\n{code}\n{_escaped(means)}\n" for code, means in rows]
    return ".SH EXIT STATUS\n" + "".join(entries).replace("\0", "|")


def main() -> int:
    found = pages()
    if "--check" in sys.argv[1:]:
        old = {path.name: path.read_text() for path in PAGES.glob("*.1")}
        if old != found:
            print("docs/man is not what --help says: scripts/docs writes it anew", file=sys.stderr)
            return 1
        return 0
    PAGES.mkdir(parents=True, exist_ok=True)
    for path in PAGES.glob("*.1"):
        path.unlink()
    for name, text in found.items():
        (PAGES / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
