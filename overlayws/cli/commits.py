"""``overlayws diff --commits``."""

from __future__ import annotations

import json
import sys

import click

from overlayws import api
from overlayws.cli.context import talking
from overlayws.cli.terminal import coloured, say, show_patch, warn
from overlayws.session.session import Session
from overlayws.session.store import Store


def show_commits(store: Store, session: Session, *, as_json: bool, exit_code: bool) -> int:
    """Print the commits of the program, newest first: every word of theirs escaped. The exit status."""
    from overlayws.changes.escape import visible

    with talking(quiet=True) as talk, api.committed(session, store=store, talk=talk) as found:
        commits, branches, base = found.commits, found.branches, found.base
    if found.cut:
        warn(f"only the newest {len(commits)} commits are listed: the program made more")
    if as_json:
        document = {
            "schema": "overlayws.commits/1",
            "session": session.name,
            "base": base,
            "branches": [{"name": visible(name), "commit": commit} for name, commit in branches],
            "commits": [
                {
                    "commit": c.id, "parents": list(c.parents), "tree": c.tree, "author": _text(c.author),
                    "email": _text(c.email), "date": c.date, "message": _text(c.message),
                }
                for c in commits
            ],
            "cut": found.cut,
        }  # fmt: skip
        click.echo(json.dumps(document, indent=2))
        return 1 if exit_code and commits else 0
    heads: dict[str, list[str]] = {}
    for name, commit in branches:
        heads.setdefault(commit, []).append(visible(name))
    lines = []
    colour = coloured(sys.stdout)
    for c in commits:
        where = f" ({', '.join(heads[c.id])})" if c.id in heads else ""
        lines.append(click.style(f"commit {c.id}{where}", fg="yellow") if colour else f"commit {c.id}{where}")
        lines.append(f"Author: {visible(c.author)} <{visible(c.email)}>")
        lines.append(f"Date:   {visible(c.date)}")
        lines.append("")
        lines += [f"    {visible(line)}".rstrip() for line in c.message.rstrip("\n").split("\n")]
        lines.append("")
    show_patch("".join(f"{line}\n" for line in lines))
    if not commits:
        say(f"session {session.name}: the program made no commits")
    return 1 if exit_code and commits else 0


def _text(text: str) -> str:
    """What JSON can hold: bytes that are not UTF-8 are written out."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
