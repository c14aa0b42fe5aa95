"""What the user's own configuration says about secrets: the table ``[secrets]`` of ``config.toml``.

    [secrets]
    env = true              # show `.env` files with their values replaced, instead of hiding them
    gitleaks = "warn"       # or "off", "block"

    [secrets.actions]
    password = "warn"       # of a content rule: "redact", "hide", "block", "warn" or "show"

The workspace has no such file: whoever writes it does not decide what leaves it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import Any

from overlayws.errors import UsageError
from overlayws.filter.content_rules import RULES, WARN, Action, Effect

GITLEAKS = ("off", "warn", "block")
_EFFECTS: dict[str, Effect] = {**{action.value: action for action in Action}, WARN: WARN}


@dataclass(frozen=True, slots=True)
class Settings:
    """The table, checked. ``actions`` are as ContentPolicy takes them."""

    actions: tuple[tuple[str, Effect], ...] = ()
    env: bool = False
    gitleaks: str = "off"


def parse_settings(data: bytes, name: str) -> Settings:
    """The settings in the TOML text ``data`` of the file ``name``; other tables are left alone. Raises UsageError."""

    def wrong(what: str, hint: str) -> UsageError:
        return UsageError(f"{name}: {what}", hint=hint)

    try:
        table: Any = tomllib.loads(data.decode("utf-8")).get("secrets", {})
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise wrong(f"no TOML: {error}", "see https://toml.io") from None
    if not isinstance(table, dict):
        raise wrong("secrets is no table", "write [secrets]")
    if unknown := sorted(table.keys() - {"actions", "env", "gitleaks"}):
        raise wrong(f"unknown key secrets.{unknown[0]}", "the keys are: actions, env, gitleaks")
    env, gitleaks, actions = table.get("env", False), table.get("gitleaks", "off"), table.get("actions", {})
    if not isinstance(env, bool):
        raise wrong("secrets.env is neither true nor false", "env = true shows .env files with their values replaced")
    if gitleaks not in GITLEAKS:
        raise wrong(f"secrets.gitleaks cannot be {gitleaks!r}", f"one of: {', '.join(GITLEAKS)}")
    if not isinstance(actions, dict):
        raise wrong("secrets.actions is no table", "write [secrets.actions]")
    for rule, action in actions.items():
        if rule not in RULES:
            raise wrong(f"no content rule is called {rule!r}", f"the rules are: {', '.join(sorted(RULES))}")
        if not isinstance(action, str) or action not in _EFFECTS:
            raise wrong(f"the action of {rule} cannot be {action!r}", f"one of: {', '.join(_EFFECTS)}")
    return Settings(tuple((rule, _EFFECTS[action]) for rule, action in sorted(actions.items())), env, gitleaks)
