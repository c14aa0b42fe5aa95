"""Docker's own answers through the whole start of a session: the base holds what ``docker build`` would have sent.

A sample of the corpus with real trees. Rules of our own (secrets, links to hidden files) hide more in some of them:
a case in which they have a say is left out, which is decided by the built-in rules alone.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import overlayws
from overlayws.errors import UsageError
from overlayws.filter.match import Filter
from overlayws.session.store import Store
from tests.conftest import SHARED
from tests.trees import make_tree

pytestmark = pytest.mark.conformance

PER_CATEGORY = 6


def _sample() -> Iterator[dict[str, Any]]:
    corpus = SHARED / "conformance/dockerignore/cases.json"
    if not corpus.exists():
        return
    taken: dict[str, int] = {}
    for case in json.loads(corpus.read_text()):
        category = case["category"]
        if taken.get(category, 0) < PER_CATEGORY and _is_ours(case):
            taken[category] = taken.get(category, 0) + 1
            yield case


def _is_ours(case: dict[str, Any]) -> bool:
    secrets = Filter()
    for node in case["tree"]:
        if isinstance(node, dict):
            return False
        if node.startswith("/") or secrets.hidden_path(node.rstrip("/"), node.endswith("/")).hidden:
            return False
    return len(_ignore_file(case)) < 1 << 20


def _ignore_file(case: dict[str, Any]) -> bytes:
    if "ignore_file_b64" in case:
        return base64.b64decode(case["ignore_file_b64"])
    if "ignore_file_repeat" in case:
        return "".join(text * count for text, count in case["ignore_file_repeat"]).encode()
    return os.fsencode(case["ignore_file"])


def _groups() -> list[Any]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for case in _sample():
        groups.setdefault(case["category"], []).append(case)
    return [pytest.param(cases, id=name) for name, cases in groups.items()]


@pytest.mark.parametrize("cases", _groups() or [pytest.param([], id="no corpus")])
def test_a_session_shows_what_docker_would_send(tmp_path: Path, cases: list[dict[str, Any]]) -> None:
    assert cases
    store = Store(tmp_path / "state")
    for number, case in enumerate(cases):
        root = tmp_path / str(number)
        root.mkdir()
        for path in case["tree"]:
            if path.endswith("/"):
                (root / path).mkdir(parents=True, exist_ok=True)
            else:
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(b"content\n")
        (root / ".dockerignore").write_bytes(_ignore_file(case))

        def start(root: Path = root) -> set[str]:
            session = overlayws.start(root, store=store, backend="copy", ignore_files=[root / ".dockerignore"])
            lower = session.layer.lowerdir
            return {
                os.path.relpath(os.path.join(d, n), lower) + ("/" if n in names else "")
                for d, names, files in os.walk(lower)
                for n in [*names, *files]
            }

        if case["error"]:
            with pytest.raises(UsageError):
                start()
        else:
            assert start() == set(case["included"]), case["id"]


def test_what_the_commands_tell_of_the_filter_is_there_from_python(tmp_path: Path) -> None:
    root = make_tree(
        tmp_path / "ws", {".env": "KEY=value\n", "a.log": "", "src/a.py": "", ".overlaywsignore": "*.log\n"}
    )
    told = overlayws.explain(root, [".env", "a.log", "src/a.py"])
    assert [verdict for _, verdict, _ in told] == ["hidden", "hidden", "visible"]
    assert "line 1" in told[1][2]
    found = overlayws.preview(root, store=Store(tmp_path / "state"))
    assert [hidden.path for hidden, _ in found.hidden] == [".env", "a.log"] and found.visible.files == 2
    assert overlayws.Confinement(sandbox="none").network == "none"
