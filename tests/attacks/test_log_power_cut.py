"""The power goes while the log is written: whatever was answered is there when it comes back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROUNDS = 400 if os.environ.get("CRASH_EVERY_POINT") else 25
PROGRAMS = ("unshare", "mount", "umount", "mkfs.ext4", "e2fsck")

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


@pytest.fixture
def cut(tmp_path):
    """Run rounds on a disk of their own; skips aloud where there is none to be had."""
    if os.geteuid() != 0:
        pytest.skip("not root: no disk of our own whose power could be cut")
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"{', '.join(missing)} not installed: no disk of our own whose power could be cut")
    image = tmp_path / "probe"
    subprocess.run(["mkfs.ext4", "-q", "-F", image, "2048"], check=True)
    mounted = tmp_path / "probe-at"
    mounted.mkdir()
    command = ["unshare", "-m", "mount", "-o", "loop", image, mounted]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no loop devices here: no disk of our own whose power could be cut")

    def run(rounds, seed, *, honest):
        folder = tmp_path / f"disk-{seed}-{honest}"
        folder.mkdir()
        arguments = [folder, rounds, seed, int(honest)]
        done = subprocess.run(
            ["unshare", "-m", sys.executable, "-m", "tests.attacks.power_cut", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_power_cut_loses_nothing_that_was_answered(cut):
    told = cut(ROUNDS, 1, honest=True)
    assert told["losses"] == []
    assert told["statuses"] == [17] * ROUNDS  # the process saw the disk go, and said so
    assert told["answered"] > 5 * ROUNDS


def test_a_log_that_does_not_wait_for_the_disk_is_seen_to_lose_what_it_answered(cut):
    told = cut(1, 2, honest=False)
    assert told["answered"] > 0
    assert told["losses"], "the cut lost nothing although nothing was synced: it shows nothing either"
