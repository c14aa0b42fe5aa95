"""The table [secrets] of the user's configuration."""

from __future__ import annotations

import pytest

from overlayws.errors import UsageError
from overlayws.filter.content_rules import Action
from overlayws.filter.settings import Settings, parse_settings


def test_everything_that_can_be_said() -> None:
    text = b"""[other]
x = 1
[secrets]
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
