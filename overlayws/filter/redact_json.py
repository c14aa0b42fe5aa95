"""Redactors of JSON files: the values of known keys, found by a scanner that keeps their places."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from overlayws.filter.redact import Span

_TOKEN = re.compile(rb'[ \t\r\n]+|"(?:[^"\\\x00-\x1f]|\\.)*"|[{}\[\],:]|[-+0-9.eE]+|true|false|null')
_DEEPEST = 64


def strings(data: bytes, secret: Callable[[tuple[str, ...]], bool]) -> list[Span] | None:
    """The spans of the string values (without their quotes) whose path of keys is ``secret``; None if it is no JSON.

    Values in lists have the path of the list.
    """
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return None
    begin = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    spans: list[Span] = []
    path: list[str] = []  # a key for each open object, '' for a list
    kinds: list[bytes] = []
    pending: str | None = None
    while begin < len(data):
        token = _TOKEN.match(data, begin)
        if token is None:
            return None
        begin, text = token.end(), token[0]
        head = text[:1]
        if head in b"{[":
            if len(kinds) >= _DEEPEST:
                return None
            kinds.append(head)
            path.append("")
            pending = None
        elif head in b"}]":
            kinds.pop()
            path.pop()
        elif head == b",":
            if kinds and kinds[-1] == b"{":
                path[-1] = ""
                pending = None
        elif head == b":":
            path[-1] = pending or ""
            pending = ""
        elif head == b'"':
            if kinds and kinds[-1] == b"{" and pending is None:
                pending = json.loads(text)
            elif secret(tuple(key for key in path if key)) and len(text) > 2:
                spans.append((token.start() + 1, token.end() - 1))
    return spans


# github.com/docker/cli, configfile: a credential of each registry, and headers that are sent to all of them.
_DOCKER = frozenset(("auth", "identitytoken", "registrytoken", "password"))


def docker_config(data: bytes) -> list[Span] | None:
    """``auths.*.{auth,identitytoken,registrytoken,password}`` and the values of ``HttpHeaders``."""
    return strings(
        data,
        lambda path: (
            path[-1:] != () and (path[-1].lower() in _DOCKER or any(k.lower() == "httpheaders" for k in path[:-1]))
        ),
    )
