"""The user's own configuration file, ``config.toml``: what it says about secrets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from overlayws.errors import UsageError
from overlayws.session.places import user_config

if TYPE_CHECKING:
    from overlayws.filter.contents import ContentPolicy
    from overlayws.filter.settings import Settings


def settings() -> Settings:
    """The table ``[secrets]``; the defaults where there is no file. Raises UsageError."""
    from overlayws.filter.settings import Settings, parse_settings

    path = user_config() / "config.toml"
    try:
        return parse_settings(path.read_bytes(), os.fspath(path))
    except (FileNotFoundError, NotADirectoryError):
        return Settings()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint="check its permissions") from error


def policy(key: bytes = b"") -> ContentPolicy:
    """What it says of the content rules; without a ``key`` one that nobody else has. Raises UsageError."""
    from overlayws.filter.contents import ContentPolicy

    told = settings()
    return ContentPolicy(told.actions, told.env, key=key) if key else ContentPolicy(told.actions, told.env)
