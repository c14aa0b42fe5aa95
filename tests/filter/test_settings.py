"""The table [secrets] of the user's configuration."""

from __future__ import annotations

import pytest

from overlayws.errors import UsageError
from overlayws.filter.content_rules import Action
from overlayws.filter.settings import Settings, parse_settings


def test_everything_that_can_be_said() -> None:
    text = b"""[secrets]
env = true
gitleaks = "block"
[secrets.actions]
password = "warn"
jwt = "hide"
"""
    assert parse_settings(text, "c") == Settings((("jwt", Action.HIDE), ("password", "warn")), True, "block")
    assert parse_settings(b"", "c") == Settings()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"secrets = 1", "no table"),
        (b"[secrets]\nenvs = true", "secrets.envs"), (b"[secrets]\nenv = 1", "secrets.env"),
        (b"[secrets]\ngitleaks = true", "gitleaks"), (b"[secrets]\nactions = 1", "actions"), (b"[secrets", "no TOML"),
        (b"[secrets.actions]\npasword = 'warn'", "pasword"), (b"[secrets.actions]\npassword = 'shown'", "password"),
        (b"[secrets.actions]\npassword = []", "password"), (b"\xff", "no TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_the_file(text: bytes, told: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_settings(text, "c.toml")
    assert error.value.message.startswith("c.toml: ") and told in error.value.message and error.value.hint


@pytest.mark.parametrize(
    ("text", "told", "hint"),
    [
        (b"[secret]\nenv = true", "unknown table [secret]", "did you mean secrets?"),
        (b"[network]\nx = 1", "unknown table [network]", "the only table is [secrets]"),
        (b"[secrets]\nenv = true\n[other]\nx = 1", "unknown table [other]", "the only table is [secrets]"),
        (b"env = true", "unknown key env", "it belongs to the table [secrets]: write it below that line"),
        (b"nothing = 1", "unknown key nothing", "the only table is [secrets]"),
        (b"[secrets]\ngitleak = 'warn'", "unknown key secrets.gitleak", "did you mean gitleaks?"),
        (b"[secrets.action]\njwt = 'hide'", "unknown key secrets.action", "did you mean actions?"),
        (b"[secrets]\nzzz = 1", "unknown key secrets.zzz", "the keys are: actions, env, gitleaks"),
        (b"[secrets.actions]\npasword = 'warn'", "no content rule is called 'pasword'", "did you mean password?"),
        (b'"a\\n\\u202eb" = 1', "unknown key a\\n\\u202eb", "the only table is [secrets]"),
    ],
)
def test_what_is_misspelt_is_an_error_that_names_what_was_meant(text: bytes, told: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_settings(text, "c.toml")
    assert (error.value.message, error.value.hint) == (f"c.toml: {told}", hint)
