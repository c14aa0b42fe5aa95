"""What the user's own configuration says about secrets: the table ``[secrets]`` of ``config.toml``.

    [secrets]
    env = true              # show `.env` files with their values replaced, instead of hiding them
    gitleaks = "warn"       # or "off", "block"

    [secrets.actions]
    password = "warn"       # of a content rule: "redact", "hide", "block", "warn" or "show"

The workspace has no such file: whoever writes it does not decide what leaves it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from overlayws.errors import UsageError
from overlayws.filter.content_rules import RULES, WARN, Action, Effect
from overlayws.filter.ignorefile import printable

_KEYS = ("actions", "env", "gitleaks")
GITLEAKS = ("off", "warn", "block")
_EFFECTS: dict[str, Effect] = {**{action.value: action for action in Action}, WARN: WARN}


@dataclass(frozen=True, slots=True)
class Settings:
    """The table, checked. ``actions`` are as ContentPolicy takes them."""

    actions: tuple[tuple[str, Effect], ...] = ()
    env: bool = False
    gitleaks: str = "off"


def parse_settings(data: bytes, name: str) -> Settings:
    """The settings in the TOML text ``data`` of the file ``name``. Raises UsageError, also for a table or key that is
    not known: what is misspelt would else be as good as not written, and a secret in sight."""

    import tomllib  # there mostly is no such file

    def wrong(what: str, hint: str) -> UsageError:
        return UsageError(f"{name}: {what}", hint=hint)

    try:
        whole: dict[str, Any] = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise wrong(f"no TOML: {error}", "see https://toml.io") from None
    for key in sorted(whole.keys() - {"secrets"}):
        if key in _KEYS:
            raise wrong(f"unknown key {key}", "it belongs to the table [secrets]: write it below that line")
        what = f"table [{printable(key)}]" if isinstance(whole[key], dict) else f"key {printable(key)}"
        raise wrong(f"unknown {what}", _meant(key, ["secrets"], "the only table is [secrets]"))
    table = whole.get("secrets", {})
    if not isinstance(table, dict):
        raise wrong("secrets is no table", "write [secrets]")
    for key in sorted(table.keys() - set(_KEYS)):
        raise wrong(f"unknown key secrets.{printable(key)}", _meant(key, _KEYS, f"the keys are: {', '.join(_KEYS)}"))
    env, gitleaks, actions = table.get("env", False), table.get("gitleaks", "off"), table.get("actions", {})
    if not isinstance(env, bool):
        raise wrong("secrets.env is neither true nor false", "env = true shows .env files with their values replaced")
    if gitleaks not in GITLEAKS:
        raise wrong(f"secrets.gitleaks cannot be {gitleaks!r}", f"one of: {', '.join(GITLEAKS)}")
    if not isinstance(actions, dict):
        raise wrong("secrets.actions is no table", "write [secrets.actions]")
    for rule, action in actions.items():
        if rule not in RULES:
            hint = _meant(rule, RULES, f"the rules are: {', '.join(sorted(RULES))}")
            raise wrong(f"no content rule is called {rule!r}", hint)
        if not isinstance(action, str) or action not in _EFFECTS:
            raise wrong(f"the action of {rule} cannot be {action!r}", f"one of: {', '.join(_EFFECTS)}")
    return Settings(tuple((rule, _EFFECTS[action]) for rule, action in sorted(actions.items())), env, gitleaks)


def _meant(word: str, known: Collection[str], otherwise: str) -> str:
    """A hint: the one of ``known`` that ``word`` nearly is, else ``otherwise``."""
    from difflib import get_close_matches

    close = get_close_matches(word, known, 1)
    return f"did you mean {close[0]}?" if close else otherwise
