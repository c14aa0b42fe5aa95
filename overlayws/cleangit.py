"""The environment in which git is run: nothing of the caller's, the system's or a tree's configuration has a say.

A tree that a program could write, and the user's own configuration, can make git execute something in dozens of ways
(hooks, filters, textconv, fsmonitor, aliases ...); with this, and a repository of our own, none of them has a file to
be in. See git(1), "Environment variables".
PATH is fixed because the caller's may begin with a directory that a program can write.
"""

ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
}
