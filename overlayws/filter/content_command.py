"""Passwords that stand in a command without a name: ``curl -u user:…``, ``sshpass -p …``, ``IDENTIFIED BY '…'``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from overlayws.filter.content_values import is_password

COMMANDS = (b"curl ", b"sshpass ", b"identified by", b"to-securestring")
_REACH = 400  # bytes after the command in which its option is looked for

# curl(1): -u, --user, --proxy-user; sshpass(1): -p, which may be joined with its value.
_OPTIONS = {
    b"curl ": re.compile(
        rb"[ \t](?:-[sSfkLiIvgX]{0,6}u|--user|--proxy-user)[ \t=]{0,4}"
        rb"(?P<q>[\"']?)[^\s:\"'$]{1,64}:(?P<s>[^\s\"']{4,200})"
    ),
    # CREATE USER … IDENTIFIED BY '…' in SQL, and PowerShell's ConvertTo-SecureString '…' -AsPlainText
    b"identified by": re.compile(rb"[ \t](?P<q>[\"'])(?P<s>[^\s\"']{4,200})"),
    b"to-securestring": re.compile(rb"(?i)[ \t](?P<q>[\"'])(?P<s>[^\s\"']{4,200})[\"'].*-AsPlainText"),
    b"sshpass ": re.compile(rb"[ \t]?-p[ \t]{0,4}(?P<q>[\"']?)(?P<s>[^\s\"']{4,200})"),
}


def given(data: bytes, at: int, command: bytes) -> tuple[re.Match[bytes] | None, int]:
    """(the option with a password of the ``command`` at ``at``, where to look for the next command)."""
    begin = at + len(command) - 1
    stop = data.find(b"\n", begin, begin + _REACH)
    stop = min(begin + _REACH, len(data)) if stop < 0 else stop
    return _OPTIONS[command].search(data, begin, stop), stop


def find_commands(data: bytes, lower: bytes, command: bytes) -> Iterator[tuple[int, int]]:
    """(begin, end) of the passwords that are given to ``command``, one of COMMANDS, in one line."""
    at = lower.find(command)
    while at >= 0:
        option, stop = given(data, at, command)  # each byte is looked at once
        if option is not None and is_password(option["s"], quoted=True, config=True):
            yield option.span("s")
        at = lower.find(command, stop)
