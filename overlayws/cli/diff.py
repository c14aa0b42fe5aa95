"""``overlayws diff``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from overlayws import api
from overlayws.cli.commits import show_commits
from overlayws.cli.context import named_or_paths, opened, session_names, talking
from overlayws.cli.summary import flagged
from overlayws.cli.terminal import coloured, say, show_patch, visible, warn
from overlayws.errors import UnableError, UsageError


@click.command("diff")
@click.argument("arguments", nargs=-1, metavar="[SESSION] [PATH]...", shell_complete=session_names)
@click.option("--stat", "form", flag_value="stat", help="Only how much changed in which file.")
@click.option("--name-status", "form", flag_value="name-status", help="Only the paths and what happened to them.")
@click.option("--json", "form", flag_value="json", help="Print the change set as JSON.")
@click.option("--commits", is_flag=True, help="The commits that the program made in the repository of its own.")
@click.option("--html", metavar="FILE", help="Write a page to look at, with nothing in it that runs.")
@click.option("--word", is_flag=True, help="Mark changed words; for reading only.")
@click.option("-U", "--unified", "context", type=click.IntRange(0, 10_000), default=3, metavar="N",
              help="Lines of context (default 3).")  # fmt: skip
@click.option("--all", "everything", is_flag=True,
              help="Leave nothing out: large files, long lines, changes of white space only.")  # fmt: skip
@click.option("--exit-code", "exit_code", is_flag=True, help="Exit with 1 if there are changes.")
def diff_command(
    arguments: tuple[str, ...],
    form: str | None,
    commits: bool,
    html: str | None,
    word: bool,
    context: int,
    everything: bool,
    exit_code: bool,
) -> int:
    """Show what the commands of SESSION changed, as a patch that `git apply` accepts.

    On a terminal the patch is coloured, what could steer the terminal or hide in the text is made visible, and noise
    is folded. Into a file or a pipe it is exact, and was read back and compared before it is written.

    \b
      overlayws diff
      overlayws diff calm-otter src/ --stat
      overlayws diff calm-otter > agent.patch && git apply agent.patch
    """
    from overlayws.changes import render
    from overlayws.changes.acls import told as told_lists
    from overlayws.changes.change import unsaid
    from overlayws.changes.git import EVERYTHING, EXACT, private_repository, without_patch
    from overlayws.changes.links import told as told_links
    from overlayws.changes.listing import rows
    from overlayws.changes.looking import annotate, looking, not_shown
    from overlayws.changes.sections import sections as parsed
    from overlayws.changes.shown import listed as shown
    from overlayws.changes.terminal import of_sections, words_of_sections

    for name, given in (("--word", word), ("--html", html is not None)):
        if given and form:
            raise UsageError(f"{name} does not go with --{form}", hint="leave one of them out")
    if word and html is not None:
        raise UsageError("--word does not go with --html", hint="leave one of them out")
    if commits and (word or html is not None or form not in (None, "json")):
        raise UsageError("--commits goes with --json only", hint="leave the other option out")
    store = opened()
    session, paths = named_or_paths(store, arguments)
    if commits:
        if paths:
            raise UsageError("--commits is about the whole session", hint="leave the paths out")
        return show_commits(store, session, as_json=form == "json", exit_code=exit_code)
    limits = EVERYTHING if everything else EXACT
    colour, terminal = coloured(sys.stdout), sys.stdout.isatty()
    text, patch, missing = "", b"", []
    # All is put together first and shown after the session's lock is given up: a pager may stay open for long.
    with talking(quiet=True) as talk, api.viewing(session, paths, store=store, talk=talk) as view:
        changeset = view.changeset
        sides, scratch = (changeset, view.base, view.theirs), view.session.directory
        base = {"mode": view.session.base_mode, **view.manifest.counts()} if form == "json" else {}
        with api.writing(store):
            if html is not None or (form is None and terminal and not word):
                with looking(*sides, scratch=scratch, everything=everything) as look:
                    sections, missing = look.sections(context=context), look.left_out()
                    listed = rows(changeset, look.repository) if html is not None else []
            elif form is None:
                patch, left_out = render.patch(*sides, context=context, scratch=scratch, limits=limits)
                missing = [not_shown(change) for change in left_out]
                if word:
                    sections = list(parsed(patch))
                    annotate(sections, changeset.changes)
            else:
                with private_repository(*sides, scratch=scratch, limits=limits) as repository:
                    listed = rows(changeset, repository)
    if html is not None:
        from overlayws.changes import html as pages

        text = pages.page(
            changeset, listed, sections,
            session=session.name, digest=view.whole.digest, left_out=missing, cut=not everything,
        )  # fmt: skip
        _write(Path(html), text)
    elif form == "json":
        document = render.as_json(changeset, listed, session=session.name, base=base, digest=view.whole.digest)
        click.echo(json.dumps(document, indent=2))
    elif form == "name-status":
        click.echo(render.name_status(listed), nl=False)
    elif form == "stat":
        show_patch(render.stat(listed, colour=colour, everything=everything))
    elif not terminal and not word:
        sys.stdout.buffer.write(patch)
    else:
        show_patch(words_of_sections(sections, colour) if word else of_sections(sections, colour, cut=not everything))
    if form is None:
        for line in missing:
            warn(f"{line}; --all shows it" if not everything else line)
        for change in without_patch(shown(changeset)):
            told = unsaid(change.before, change.after)
            warn(f"not in the patch: {change.path} ({change.status}{f', {told}' if told else ''})")
        for line in flagged(changeset):
            say(line)
    for problem in changeset.problems:
        warn(f"not captured: {problem}")
    if changeset.access_lists and form != "json":
        say(f"access lists, which are never applied: {told_lists(changeset.access_lists)}")
    if changeset.links and form != "json":
        say(f"hard links, of which apply makes a file each: {told_links(changeset.links)}")
    if not changeset.changes and form is None:
        say(f"session {visible(session.name)}: nothing changed")
    return 1 if exit_code and changeset.changes else 0


def _write(path: Path, text: str) -> None:
    from overlayws.atomic import write_atomic

    umask = os.umask(0)
    os.umask(umask)
    try:
        write_atomic(path, text.encode("ascii"), 0o666 & ~umask)
    except OSError as error:
        raise UnableError(f"cannot write {str(path)!r}: {error.strerror}", hint="name a file you can write") from error
