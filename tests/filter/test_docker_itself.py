"""The matcher against the docker client of this machine, on ignore files and trees that nobody thought of.

The client does the filtering: what it sends to the engine to be built is what its ignore file keeps. So the engine here
is a few lines that take the archive. It is the classic builder, which looks for exceptions in fewer directories than
today's (rule 24 of the conformance corpus): exceptions here have no special characters, for which both look alike.
"""

from __future__ import annotations

import io
import os
import random
import re
import shutil
import socketserver
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from overlayws.filter import IgnoreSyntaxError, kept
from tests.trees import make_tree

NAMES = [
    "a",
    "b",
    "ab",
    "a.b",
    "x",
    "foo",
    ".a",
    "é",
    "A",
    "-x",
    "a b",
    "[a]",
    "{a}",
    "a^",
    "b+",
    "日",
    "a*",
    "!a",
    "#a",
]
TOKENS = [
    *("a", "b", "x", "foo", "*", "**", "?", "/", "/", "/", "[ab]", "[^a]", "[a-c]", "\\a", "\\*", ".", "..", "é", "^"),
    *("+", "$", "{a,b}", "{2}", "|", "(a)", "\\d", "\\.", "A", "-", " ", "[[:alpha:]]", "日", "\\x61", "!", "#", "[*]"),
]
OWN = {".dockerignore", "Dockerfile"}


def too_old() -> str | None:
    """Why the client here cannot be asked, or None: before 25 it had another matcher."""
    if not shutil.which("docker"):
        return "no docker client"
    version = subprocess.run(["docker", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+)", version)
    return None if found and int(found[1]) >= 25 else f"too old: {version.strip()}"


class Engine(socketserver.ThreadingUnixStreamServer):
    """Takes what is sent to be built, as ``archive``."""

    archive: bytes | None = None


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Engine

    def do_GET(self) -> None:
        self._say(b"{}")

    def do_HEAD(self) -> None:
        self._say(b"")

    def do_POST(self) -> None:
        data = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        self.server.archive = data
        self._say(b'{"stream":"built"}\n')

    def _say(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Api-Version", "1.41")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def listening() -> Iterator[Engine]:
    if reason := too_old():
        pytest.skip(reason)
    # Not below tmp_path: a socket's path ends at 107 bytes (unix(7)).
    with tempfile.TemporaryDirectory() as directory, Engine(f"{directory}/socket", Answer) as engine:
        thread = threading.Thread(target=engine.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield engine
        engine.shutdown()
        thread.join()


def sent(engine: Engine, context: Path) -> set[str] | None:
    """The paths that the client sends, without its own files; None where it refuses the ignore file."""
    engine.archive = None
    host = f"unix://{engine.server_address}"
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "DOCKER_HOST": host, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(["docker", "build", "--quiet", context], env=env, capture_output=True, timeout=60)
    if engine.archive is None:
        assert b"pattern" in done.stderr or b"exclusion" in done.stderr, done.stderr
        return None
    with tarfile.open(fileobj=io.BytesIO(engine.archive)) as archive:
        names = {entry.name.rstrip("/") + ("/" if entry.isdir() else "") for entry in archive}
    above = {name[: end + 1] for name in names for end in range(len(name) - 1) if name[end] == "/"}
    return (names | above) - OWN


def some_tree(chance: random.Random) -> list[str]:
    leaves: set[str] = set()
    folders: set[str] = set()
    for _ in range(chance.randint(3, 14)):
        parts = [chance.choice(NAMES) for _ in range(chance.randint(1, 4))]
        above = {"/".join(parts[:n]) for n in range(1, len(parts))}
        if not above & leaves and "/".join(parts) not in folders:
            leaves.add("/".join(parts))
            folders |= above
    return sorted([folder + "/" for folder in folders] + list(leaves))


def some_ignore_file(chance: random.Random) -> str:
    lines = []
    for _ in range(chance.randint(1, 4)):
        if chance.random() < 0.3:
            lines.append("!" + "/".join(chance.choice(["a", "b", "ab", "x", "é"]) for _ in range(chance.randint(1, 3))))
        else:
            lines.append("".join(chance.choice(TOKENS) for _ in range(chance.randint(1, 6))))
    return "\n".join(lines) + chance.choice(["", "\n", "\r\n"])


@pytest.mark.parametrize("seeds", [range(n, n + 30) for n in range(0, 150, 30)], ids=str)
def test_matches_as_the_docker_client_does(listening: Engine, seeds: range, tmp_path: Path) -> None:
    for seed in seeds:
        chance = random.Random(seed)
        tree, ignore_file = some_tree(chance), some_ignore_file(chance)
        context = tmp_path / str(seed)
        make_tree(context, {path: "" for path in tree if not path.endswith("/")})
        make_tree(context, {".dockerignore": ignore_file, "Dockerfile": "FROM scratch\n"})
        theirs = sent(listening, context)
        try:
            ours = kept(ignore_file.encode(), [*tree, *OWN]) - OWN
        except IgnoreSyntaxError:
            ours = None
        assert ours == theirs, (seed, ignore_file, tree)
