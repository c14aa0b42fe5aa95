"""What a person sees: talk on stderr, escaped; colours where wanted; progress after a second."""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_PATIENCE = 1.0  # seconds before a progress bar appears


def visible(text: str) -> str:
    """``text`` on one line with everything that could steer a terminal or hide in it written out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is not UTF-8 (surrogateescape)
        return f"\\x{code - 0xDC00:02x}"
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(
        character, f"\\x{code:02x}" if code < 0x100 else f"<U+{code:04X}>"
    )


def json_path(path: str) -> dict[str, str]:
    """A path in a JSON document: where it is not UTF-8, escaped, and exact as Base64 beside it."""
    data = os.fsencode(path)
    shown = data.decode("utf-8", "backslashreplace")
    if shown.encode() == data:
        return {"path": shown}
    import base64

    return {"path": shown, "path_b64": base64.b64encode(data).decode("ascii")}


def say(text: str = "") -> None:
    """A line of talk, on stderr. That nobody can read it is no reason to stop in the middle of an apply."""
    with suppress(OSError):
        click.echo(text, err=True, color=coloured(sys.stderr))


def warn(text: str) -> None:
    """A warning, on stderr, one line."""
    say(click.style("warning: ", fg="yellow") + visible(text))


def coloured(stream: Any) -> bool:
    """True where colours are wanted: a terminal, and no NO_COLOR (no-color.org)."""
    return bool(not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty())


def standard_streams() -> None:
    """Make stdout and stderr something that can be written to: closed ones go nowhere, and a character that the locale
    does not have is written out instead of being an error."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))
        else:
            stream.reconfigure(errors="backslashreplace")


def show_patch(text: str) -> None:
    """Print a patch: through the pager if a person looks and it is long, else as it is."""
    if sys.stdout.isatty() and text.count("\n") >= shutil.get_terminal_size().lines:
        os.environ.setdefault("LESS", "FRX")  # as git does: colours as colours, and no wait for a short text
        click.echo_via_pager(text, color=coloured(sys.stdout))
    else:
        click.echo(text, nl=False, color=coloured(sys.stdout))


class ProgressBar:
    """A callback ``(what, done, total)`` that shows a bar on a terminal once a second has passed."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._bar: RichProgress | None = None
        self._task: Any = None
        self._what = ""
        self._wanted = sys.stderr.isatty()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        if not self._wanted or (self._bar is None and time.monotonic() - self._started < _PATIENCE):
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.start()
        if what != self._what:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(what, total=total or None)
            self._what = what
        self._bar.update(self._task, completed=done, total=total or None)
