"""choose: by trying, and with the reason for each backend that is passed over."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from overlayws.errors import UsageError
from overlayws.layer.all_backends import BACKENDS, choose
from overlayws.layer.mount import BACKEND_NAMES, MountError
from tests.layer.conftest import Case

ROOT = Path(__file__).resolve().parents[2]
CHOOSE = f"""
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from overlayws.layer.all_backends import BACKENDS, choose
name, _, passed_over = choose("auto", Path(sys.argv[1]))
print(name, *passed_over, sep="\\n")
"""


def test_auto_takes_the_first_that_works_and_names_the_others(tmp_path: Path) -> None:
    name, backend, passed_over = choose("auto", tmp_path)
    before = list(BACKENDS)[: list(BACKENDS).index(name)]
    assert backend is BACKENDS[name]
    assert [line.partition(":")[0] for line in passed_over] == before
    assert os.listdir(tmp_path) == []


def test_an_unknown_name_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no backend named nosuch") as raised:
        choose("nosuch", tmp_path)
    assert "userns" in raised.value.hint


def test_a_state_directory_that_is_missing_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(MountError, match="cannot write to") as raised:
        choose("copy", tmp_path / "missing")
    assert "\n" not in raised.value.message
    with pytest.raises(MountError, match="no backend works here: kernel: .*userns: .*copy: "):
        choose("auto", tmp_path / "missing")


def test_where_the_state_is_on_an_overlay_the_copy_is_chosen_and_works(overlay: Case) -> None:
    name, *passed_over = overlay.run(CHOOSE, ".").splitlines()
    assert name == "copy"
    assert [line.partition(":")[0] for line in passed_over] == ["kernel", "userns"]
    about = {line.partition(":")[0]: line for line in passed_over}
    assert "not supported as upperdir" in about["userns"] or "an upperdir on overlayfs" in about["userns"]
    assert "upperdir" in about["kernel"] or "CAP_SYS_ADMIN" in about["kernel"] or "needs root" in about["kernel"]


@pytest.mark.root
@pytest.mark.userns
def test_switched_off_user_namespaces_are_the_reason(tmp_path: Path) -> None:
    code = "import sys\n" + CHOOSE.replace('"auto"', '"userns"')
    script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    words = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", sys.executable, "-c", code, tmp_path]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    assert "No space left on device" in done.stderr
    assert "user.max_user_namespaces" in done.stderr


@pytest.mark.userns
@pytest.mark.root
def test_a_group_that_cannot_be_mapped_is_found_by_trying(tmp_path: Path) -> None:
    # Files below a set-group-ID directory get its group, which a namespace that maps only ours cannot write.
    os.chown(tmp_path, -1, 12345)
    os.chmod(tmp_path, 0o2700)
    reason = BACKENDS["userns"].unusable(tmp_path)
    assert reason is not None and "set-group-ID" in reason


def test_the_names_that_the_command_offers_are_the_backends_in_their_order() -> None:
    assert tuple(BACKENDS) == BACKEND_NAMES
