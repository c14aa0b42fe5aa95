"""Names of sessions: easy to say, easy to type, safe as a file name."""

from __future__ import annotations

import re
import secrets

from overlayws.errors import UsageError

_ADJECTIVES = (
    "able bold brave brisk calm clear clever cool deft eager early fair fleet fresh gentle glad grand happy humble "
    "keen kind lively lucid mellow merry mild neat nimble noble patient plain proud quick quiet rapid ready sharp "
    "shy sleek smart smooth snug sober solid steady still sunny sure swift tidy trim true vivid warm wise witty"
).split()
_NOUNS = (
    "ant badger bat bear beaver bee bison cat crane crow deer dove duck eagle eel egret elk falcon ferret finch fox "
    "frog gecko goat goose gull hare hawk heron horse ibis jay kite koala lark lemur lion lynx mole moose moth mouse "
    "newt otter owl panda pike puffin quail rabbit raven robin salmon seal shrew snail sparrow stoat stork swan tern "
    "tiger toad trout turtle viper vole wasp whale wolf wombat wren yak zebra"
).split()
_VALID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")


def invent() -> str:
    """A name like ``calm-otter``."""
    return f"{secrets.choice(_ADJECTIVES)}-{secrets.choice(_NOUNS)}"


def checked(name: str) -> str:
    """``name`` itself, if it can be a session's. Raises UsageError."""
    if not _VALID.match(name):
        raise UsageError(
            f"{name!r} cannot be a session name",
            hint="use up to 64 of a-z, 0-9, '.', '_' and '-', starting with a letter or a digit",
        )
    return name


def looks_like_a_name(text: str) -> bool:
    """True where ``text`` could be a session's name."""
    return bool(_VALID.match(text))
