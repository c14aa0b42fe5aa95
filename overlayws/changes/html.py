"""The change set as one page: self-contained, nothing in it runs, nothing in it is loaded, every word of the program
escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from overlayws.changes.acls import told as told_lists
from overlayws.changes.change import ChangeSet, unsaid
from overlayws.changes.escape import quoted_path, visible
from overlayws.changes.links import told as told_links
from overlayws.changes.listing import Row
from overlayws.changes.render import summary_line
from overlayws.changes.sections import Section
from overlayws.changes.terminal import visible_line

# No script, no image, no request, no frame, wherever the page is opened.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #1b1f24 }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .15em .8em .15em 0 }
td.n { text-align: right; font-variant-numeric: tabular-nums } code, pre { font: 13px/1.4 ui-monospace, monospace }
pre { overflow-x: auto; background: #f6f8fa; padding: .8em; margin: .3em 0 1.5em; white-space: pre }
.a { background: #dafbe1 } .d { background: #ffebe9 } .h { color: #57606a; font-weight: bold } .g { color: #0550ae }
.f { background: #fff1cc; border-radius: .3em; padding: 0 .35em; margin-right: .3em } .p { color: #a40e26 }
pre span { display: block; min-height: 1.4em }
@media (prefers-color-scheme: dark) { body { background: #14171b; color: #dde3ea } pre { background: #1d2127 }
.a { background: #12361f } .d { background: #45191c } .f { background: #544414 } .g { color: #79b8ff } }
"""
_CLASSES = {b"+": "a", b"-": "d"}


def page(
    changeset: ChangeSet,
    rows: Sequence[Row],
    shown: Iterable[Section],
    *,
    session: str,
    digest: str,
    left_out: Iterable[str] = (),
    cut: bool = True,
) -> str:
    """The page, ASCII only: what was found first, then the files. ``left_out`` are lines about what is not shown."""
    return "".join(_parts(changeset, rows, shown, session, digest, left_out, cut)).encode(
        "ascii", "xmlcharrefreplace"
    ).decode("ascii")  # fmt: skip


def _parts(
    changeset: ChangeSet,
    rows: Sequence[Row],
    shown: Iterable[Section],
    session: str,
    digest: str,
    left_out: Iterable[str],
    cut: bool,
) -> Iterator[str]:
    yield '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
    yield f"<title>Changes of session {_text(session)}</title><style>{_STYLE}</style></head><body>\n"
    yield f"<h1>Changes of session {_text(session)}</h1>\n"
    yield f"<p>{_text(summary_line(rows) if rows else 'nothing changed')}<br><code>{_text(digest)}</code></p>\n"
    for problem in changeset.problems:
        yield f'<p class="p">not captured: {_text(str(problem))}</p>\n'
    for line in left_out:
        yield f'<p class="p">{_text(line)}</p>\n'
    if changeset.links:
        yield f'<p class="p">hard links, of which apply makes a file each: {_text(told_links(changeset.links))}</p>\n'
    if changeset.access_lists:
        lists = told_lists(changeset.access_lists)
        yield f'<p class="p">access lists, which are never applied: {_text(lists)}</p>\n'
    yield "<table><tr><th>path<th>what<th>added<th>removed<th>flags</tr>\n"
    for row in rows:
        name = quoted_path(row.path) if row.old is None else f"{quoted_path(row.old)} => {quoted_path(row.path)}"
        flags = "".join(f'<span class="f">{_text(flag)}</span>' for flag in row.flags)
        what = row.status if row.kind.value == "file" else f"{row.kind.value}, {row.status}"
        what += f", {told}" if (told := unsaid(row.before, row.after)) else ""
        counts = "".join(f'<td class="n">{"" if n is None else n}' for n in (row.added, row.removed))
        yield f"<tr><td><code>{_text(name)}</code><td>{_text(what)}{counts}<td>{flags}</tr>\n"
    yield "</table>\n"
    for section in shown:
        yield from _section(section, cut)
    yield "</body></html>\n"


def _section(section: Section, cut: bool) -> Iterator[str]:
    yield "<pre>"
    for line in section.header:
        yield _span("h", visible_line(line, cut))
    for note in section.notes:
        yield _span("g", f"({note})")
    if section.binary:
        yield _span("g", "(binary content, not shown)")
    for hunk in section.hunks:
        yield _span("g", visible_line(hunk.header, cut))
        for line in hunk.lines:
            yield _span(_CLASSES.get(line[:1], ""), visible_line(line, cut))
    yield "</pre>\n"


def _span(kind: str, text: str) -> str:
    return f'<span class="{kind}">{escape(text)}</span>' if kind else f"<span>{escape(text)}</span>"


def _text(text: str) -> str:
    return escape(visible(text))
