"""The container engine of this machine, through the Docker SDK: one connection, and errors in one line.

API: the Docker Engine API, 1.41 (20.10) or later. The engine is the one of DOCKER_HOST, else /var/run/docker.sock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from overlayws.errors import NotStartedError

LABEL = "overlayws.session"  # the session's directory: what is ours, and whose
_TIMEOUT = 60  # seconds: a slow disk may need long to make a container
_DEFAULT = "unix:///var/run/docker.sock"
_DOCTOR = "overlayws doctor says what this machine can use"
_HINT = "start it (systemctl start docker), or set DOCKER_HOST to its socket"


class EngineError(NotStartedError):
    """The engine is not there, or refused what it was asked for."""


def connect(host: str = "") -> Any:
    """A ``docker.APIClient`` of the engine at ``host``, else of the environment's. Raises EngineError."""
    try:
        import docker
        from docker.utils import kwargs_from_env
    except ImportError:
        raise EngineError("the Docker SDK is not installed", hint="pip install 'overlayws[docker]'") from None
    host = host or str(kwargs_from_env().get("base_url", "")) or _DEFAULT
    if not host.startswith("unix://"):
        raise EngineError(
            f"the engine at {host} is on another machine", hint="its socket must be here: DOCKER_HOST=unix://…"
        )
    path = host.removeprefix("unix://")
    if not os.path.exists(path):
        raise EngineError(f"no container engine: {path} is not there", hint=_HINT)
    with explained(f"the container engine at {path}"):
        return docker.APIClient(base_url=host, version="auto", timeout=_TIMEOUT)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """The SDK's errors as an EngineError that begins with ``what``."""
    import docker.errors
    import requests

    try:
        yield
    except docker.errors.APIError as error:
        told = str(error.explanation or error).strip()
        raise EngineError(
            f"{what}: {one_line(told)}", hint="overlayws doctor says what this machine can use"
        ) from error
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        if isinstance(_cause(error), PermissionError):
            raise EngineError(
                f"{what} may not be used by you", hint="that needs the group docker: usermod --append --groups docker"
            ) from error
        raise EngineError(f"{what} does not answer: {one_line(str(_cause(error)))}", hint=_HINT) from error


def one_line(text: str) -> str:
    """A message of the engine's, which may hold anything that a program or an image chose."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else "?" for c in line)[:400]


def _cause(error: BaseException) -> BaseException:
    seen = error
    while True:
        inner = seen.__cause__ or seen.__context__
        inner = inner or next((arg for arg in seen.args if isinstance(arg, BaseException)), None)
        if inner is None:
            return seen
        seen = inner
