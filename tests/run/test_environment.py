from __future__ import annotations

from pathlib import Path

import pytest

from overlayws.errors import UsageError
from overlayws.run.environment import PATH, environment

CALLER = {
    "LANG": "es_ES.UTF-8", "LC_TIME": "C", "TERM": "xterm-256color", "TZ": "Europe/Madrid", "NO_COLOR": "1",
    "HOME": "/home/someone", "USER": "someone", "PATH": "/home/someone/bin", "AWS_SECRET_ACCESS_KEY": "hush",
    "SSH_AUTH_SOCK": "/run/agent", "DATABASE_URL": "postgres://u:p@h/d", "LD_PRELOAD": "/x.so", "MINE": "a=b",
}  # fmt: skip


def test_of_the_caller_only_language_terminal_and_time_zone_remain() -> None:
    env = environment(CALLER)
    kept = {name: value for name, value in CALLER.items() if env.get(name) == value}
    assert set(kept) == {"LANG", "LC_TIME", "TERM", "TZ", "NO_COLOR"}
    made = {"PATH", "HOME", "USER", "LOGNAME"}
    made |= {f"GIT_{role}_{what}" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    assert set(env) == set(kept) | made
    assert not {"someone", "hush"} & set(env.values())


def test_an_empty_caller_still_gives_a_language_and_a_path() -> None:
    env = environment({})
    assert (env["LANG"], env["PATH"], env["HOME"], env["USER"]) == ("C.UTF-8", PATH, "/home/agent", "agent")


def test_what_is_asked_for_is_given_and_the_last_one_wins() -> None:
    env = environment(CALLER, ["MINE", "NEW=x=y", "EMPTY=", "TERM=dumb", "NEW=z"])
    assert (env["MINE"], env["NEW"], env["EMPTY"], env["TERM"]) == ("a=b", "z", "", "dumb")


@pytest.mark.parametrize("word", ["", "=x", "A B=x", "1A=x", "a-b=x", "A\n=x", "UNSET", "A=\0"])
def test_a_bad_or_unset_name_is_wrong_usage(word: str) -> None:
    with pytest.raises(UsageError) as raised:
        environment(CALLER, [word])
    assert raised.value.hint and "\n" not in raised.value.message


def test_tools_come_first_on_path(tmp_path: Path) -> None:
    (tmp_path / "with" / "bin").mkdir(parents=True)
    (tmp_path / "plain").mkdir()
    env = environment({}, tools=[str(tmp_path / "with"), str(tmp_path / "plain")])
    assert env["PATH"] == f"{tmp_path}/with/bin:{tmp_path}/plain:{PATH}"
