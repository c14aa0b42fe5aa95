"""The files that are redacted by their name: a redactor knows which of their fields hold secrets.

A redactor returns the spans (begin, end) of the secrets' values, or None for a file that it does not fully
understand; such a file is hidden, as it would be without a redactor.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module

from overlayws.filter.redact import Span

# The module and function of each redactor: loaded when such a file is met, which most workspaces have none of.
REDACTORS = {
    "npmrc": ("redact_lines", "npmrc"),
    "pypirc": ("redact_lines", "pypirc"),
    "pip": ("redact_lines", "pip"),
    "netrc": ("redact_lines", "netrc"),
    "env": ("redact_lines", "env"),
    "docker-config": ("redact_json", "docker_config"),
    "kubeconfig": ("redact_yaml", "kubeconfig"),
    "maven-settings": ("redact_xml", "maven_settings"),
}
ON_REQUEST = frozenset(("env",))  # hidden unless the user asks for a skeleton

_NAMES = {
    ".npmrc": "npmrc",
    "npmrc": "npmrc",
    ".pypirc": "pypirc",
    "pip.conf": "pip",
    "pip.ini": "pip",
    ".netrc": "netrc",
    "_netrc": "netrc",
    "kubeconfig": "kubeconfig",
    "kubeconfig.yaml": "kubeconfig",
    "kubeconfig.yml": "kubeconfig",
    "kubeconfig.json": "kubeconfig",
    ".kube/config": "kubeconfig",
    ".docker/config.json": "docker-config",
    "settings.xml": "maven-settings",
}
_BELOW = frozenset(name.rpartition("/")[2] for name in _NAMES if "/" in name)
_KUBECONFIGS = (".kubeconfig", ".kubeconfig.yaml", ".kubeconfig.yml")
_EXAMPLES = (".example", ".sample", ".template", ".dist", ".defaults", ".schema")


def redactable(name: str) -> str | None:
    """The id of the redactor for a file of this name or path, or None. Copies of a file (``.npmrc~``) have none."""
    # Asked for every file of a workspace: hardly any gets past the first three questions.
    folded = name.lower()
    above, _, base = folded.rpartition("/")
    kind = _NAMES.get(base)
    if kind is not None:
        return kind
    if base in _BELOW:
        return _NAMES.get(f"{above.rpartition('/')[2]}/{base}")
    if "kubeconfig" in base and base.endswith(_KUBECONFIGS):
        return "kubeconfig"
    if ".env" in base and (base == ".env" or base.startswith(".env.") or base.endswith(".env")):
        return None if base.endswith(_EXAMPLES) else "env"
    return None


_ENDS = {"env", "kubeconfig", *(name.rpartition("/")[2] for name in _NAMES)}
_CORES = tuple(end for end in _ENDS if not any(other != end and other in end for other in _ENDS))


def redactable_among(names: Collection[str]) -> list[str]:
    """Those of ``names``, all in one folder, that ``redactable`` may know: no other one is redacted by its name."""
    joined = "\0".join(names).lower()
    cores = [core for core in _CORES if core in joined]
    return [name for name in names if any(core in name.lower() for core in cores)] if cores else []


def secret_fields(kind: str, data: bytes) -> list[Span] | None:
    """What the redactor ``kind`` says of a file: the spans of its secrets' values, or None if it is not understood."""
    module, function = REDACTORS[kind]
    found: list[Span] | None = getattr(import_module(f"overlayws.filter.{module}"), function)(data)
    return found
