"""An exported patch says what changed, or it is not exported."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from overlayws.changes.git import private_repository
from overlayws.changes.render import patch as exported
from overlayws.changes.verify import verify
from overlayws.errors import UntrustedError
from tests.changes.layers import Case, make_case
from tests.changes.test_git import BASE, UPPER


def of(case: Case, *, context: int = 3, renames: bool = True) -> bytes:
    with case.base() as base, case.theirs() as theirs:
        with private_repository(case.scan(), base, theirs) as repository:
            return repository.patch(context=context, renames=renames)


def check(case: Case, patch: bytes) -> None:
    with case.base() as base, case.theirs() as theirs, private_repository(case.scan(), base, theirs) as repository:
        verify(patch, repository.changes, base)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("verify"), BASE, UPPER)


@pytest.mark.parametrize("context", [0, 1, 3, 1000])
@pytest.mark.parametrize("renames", [True, False])
def test_what_git_prints_is_what_changed(case: Case, context: int, renames: bool) -> None:
    check(case, of(case, context=context, renames=renames))


ENDS = ["", "a", "a\n", "a\nb", "a\nb\n", "\n", "\n\n", "a\r\n", "b\na\n", "a\n\\ No newline at end of file\n", "\0a\n"]


def test_every_end_of_a_text(tmp_path: Path) -> None:
    for number, before in enumerate(ENDS):
        top = tmp_path / str(number)
        case = make_case(
            top, {f"{n}.txt": before for n in range(len(ENDS))}, {f"{n}.txt": t for n, t in enumerate(ENDS)}
        )
        for context in (0, 3):
            check(case, of(case, context=context))


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.replace(b"+LINE 30\n", b"+LINE 3O\n"),
        lambda p: p.replace(b"-line 30\n", b"-line 3O\n"),
        lambda p: p.replace(b" line 29\n", b" line 2g\n", 1),
        lambda p: p.replace(b"new file mode 120000", b"new file mode 100644", 1),
        lambda p: p.replace(b"new mode 100755", b"new mode 100644"),
        lambda p: p.replace(b"b/edited\n", b"b/elsewhere\n"),
        lambda p: p.replace(b"rename to other/place", b"rename to other/palace"),
        lambda p: p[p.index(b"diff --git", 1) :],  # the first file is missing
        lambda p: p + p[: p.index(b"diff --git", 1)],  # the first file comes twice
        lambda p: p.replace(b"\\ No newline at end of file\n", b""),
        lambda p: p[:-2],
        lambda p: re.sub(rb"@@ -28,7 \+28,7 @@", b"@@ -28,6 +28,7 @@", p),
        lambda p: re.sub(rb"@@ -28,7 \+28,7 @@", b"@@ -27,7 +27,7 @@", p),
        lambda p: b"noise\n" + p,
        lambda p: b"",
    ],
)
def test_a_patch_that_says_anything_else_is_refused(case: Case, change: object) -> None:
    whole = of(case)
    changed = change(whole)  # type: ignore[operator]
    assert changed != whole
    with pytest.raises(UntrustedError, match="does not say what changed"):
        check(case, changed)


def test_any_one_byte_is_noticed_or_means_nothing(case: Case) -> None:
    """What git apply itself ignores may be another: the words after @@, the hashes of contents, binary data."""
    whole = of(case)
    draw = random.Random(53)
    noticed = 0
    for _ in range(300):
        at = draw.randrange(len(whole))
        changed = whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(7)]) + whole[at + 1 :]
        start = whole.rfind(b"\n", 0, at) + 1
        line = whole[start : whole.index(b"\n", at) + 1]
        try:
            check(case, changed)
        except UntrustedError:
            noticed += 1
            continue
        binary = re.fullmatch(rb"[A-Za-z][!-~]+\n|(literal|delta) \d+\n|GIT binary patch\n|\n", line)
        assert binary or line.startswith(
            (b"index ", b"similarity ", b"@@", b"\\ No", b"old mode", b"deleted", b"diff")
        ), line
    assert noticed > 80  # the rest is mostly binary data and hashes


def test_a_patch_that_is_not_what_changed_is_not_written(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    from overlayws.changes.git import PrivateRepository

    real = PrivateRepository.patch
    monkeypatch.setattr(PrivateRepository, "patch", lambda self, **o: real(self, **o).replace(b"+LINE 30", b"+LINE 31"))
    with case.base() as base, case.theirs() as theirs, pytest.raises(UntrustedError, match="'edited'"):
        exported(case.scan(), base, theirs)
