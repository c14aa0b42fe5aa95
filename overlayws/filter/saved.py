"""The rules of a session as bytes, and back: what they were at the start is what they are in every later command."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from overlayws.filter.ignorefile import Rule
from overlayws.filter.match import Filter


def to_bytes(rules: Filter, also: Mapping[str, str], env: bool) -> bytes:
    """``rules`` and the further hidden paths ``also``, as ASCII. ``env``: `.env` files are redacted, not hidden."""
    origins = [[[r.pattern, r.negated, r.file, r.line] for r in origin] for origin in rules.origins]
    return json.dumps({"rules": origins, "also": dict(also), "env": env}).encode("ascii")


def from_bytes(data: bytes) -> tuple[Filter, dict[str, str], bool]:
    """(rules, also, env). Raises ValueError for what ``to_bytes`` did not write."""
    try:
        told = json.loads(data)
        user, repository, command = (_rules(origin) for origin in told["rules"])
        return Filter(repository, user=user, command=command), dict(told["also"]), bool(told["env"])
    except (KeyError, TypeError) as error:
        raise ValueError(str(error)) from error


def _rules(rows: Sequence[Any]) -> list[Rule]:
    return [Rule(str(pattern), bool(negated), str(file), int(line)) for pattern, negated, file, line in rows]
