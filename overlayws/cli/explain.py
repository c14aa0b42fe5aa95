"""``overlayws explain``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from overlayws import api, upkeep
from overlayws.cli.context import here
from overlayws.cli.terminal import json_path, visible, warn
from overlayws.errors import UsageError
from overlayws.filter.ignorefile import printable

if TYPE_CHECKING:
    from overlayws.base.explain import Explained


@click.command("explain")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--workspace", type=click.Path(path_type=Path), help="The workspace (default: the one PATH is in).")
@click.option("--ignore-file", "ignore_files", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
              help="As for start (repeatable).")  # fmt: skip
@click.option("--hide", multiple=True, metavar="PATTERN", help="As for start (repeatable).")
@click.option("--show", multiple=True, metavar="PATTERN", help="As for start (repeatable).")
@click.option("--gitignore", is_flag=True, help="As for start.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def explain_command(
    paths: tuple[str, ...],
    workspace: Path | None,
    ignore_files: tuple[Path, ...],
    hide: tuple[str, ...],
    show: tuple[str, ...],
    gitignore: bool,
    as_json: bool,
) -> None:
    """Say whether a program started now would see each PATH, and which rule decides.

    The rules are read as `overlayws start` would read them: the workspace is the directory of the newest session
    that holds PATH, else of the repository around it, else the current directory.

    \b
      overlayws explain .env src/app.py
    """
    here()  # says so, if it is gone
    top = workspace or _workspace_of(Path(paths[0]))
    talk = upkeep.Talk(warning=warn)
    relative = [_relative(top, path) for path in paths]
    found = api.explained(
        top, relative, ignore_files=ignore_files, hide=hide, show=show, gitignore=gitignore, talk=talk
    )
    if as_json:
        click.echo(json.dumps({"schema": "overlayws.explain/1", "paths": [_row(one) for one in found]}, indent=2))
        return
    for one in found:
        click.echo(f"{visible(one.path) or '.'}: {one.verdict} ({visible(one.why)})")


def _workspace_of(path: Path) -> Path:
    store = upkeep.default_store()
    absolute = Path(os.path.abspath(path))
    try:
        return store.newest(absolute.parent).workspace
    except UsageError:
        pass
    for directory in (*absolute.parents,):
        if (directory / ".git").exists():
            return directory
    return Path.cwd()


def _relative(top: Path, path: str) -> str:
    parent = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    absolute = os.path.join(parent, os.path.basename(os.path.abspath(path)))
    root = os.path.realpath(top)
    if absolute == root:
        return ""
    if not absolute.startswith(f"{root}/"):
        raise UsageError(f"{path!r} is outside the workspace {root}", hint="name the workspace: --workspace DIR")
    return absolute.removeprefix(f"{root}/")


def _row(one: Explained) -> dict[str, object]:
    row: dict[str, object] = {**json_path(one.path), "verdict": one.verdict, "rule": one.why}
    source = line = pattern = None
    if (rule := one.rule) is not None:
        source, line = printable(rule.file), rule.line or None
        pattern = printable(("!" if rule.negated and line else "") + rule.pattern)  # an option has no "!"
    return {**row, "source": source, "line": line, "pattern": pattern}
