"""A full disk in mid-training: it fails closed, quickly, in words; nothing half-written stays."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.processes.living import Living, run

pytestmark = [pytest.mark.processes, pytest.mark.root]

TOLD_WITHIN_S = 3.0  # a checkpoint comes twice a second, and its failure is told within one


@contextmanager
def small_disk(where: Path, megabytes: int) -> Iterator[None]:
    """Put what lies in a folder on a file system of its own that is soon full."""
    aside = where.with_name(f"{where.name}.aside")
    where.rename(aside)
    where.mkdir(mode=aside.stat().st_mode & 0o777)
    mounted = run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0750", "none", where)
    if mounted.returncode != 0:
        pytest.skip(f"needs root and mounts: {mounted.stderr.strip()}")
    try:
        shutil.copytree(aside, where, dirs_exist_ok=True)
        yield
    finally:
        unmounted = run("umount", where)
        assert unmounted.returncode == 0, unmounted.stderr


@pytest.fixture
def on_small_disk(asleep: Living) -> Iterator[Callable[[str], Path]]:
    """Put the home, or one folder of it, on a disk of a few megabytes."""
    if os.getuid() != 0:
        pytest.skip("needs root to mount a small disk")
    with ExitStack() as mounts:

        def put(folder: str) -> Path:
            where = asleep.home / folder if folder else asleep.home
            mounts.enter_context(small_disk(where, 8))
            mounts.callback(asleep.kill)  # before the disk goes
            return where

        yield put


def fill(disk: Path) -> Path:
    """Leave not one byte; return the file to delete."""
    ballast = disk / "z.ballast"
    with ballast.open("ab", buffering=0) as out:
        try:
            while True:
                out.write(bytes(1 << 16))
        except OSError:
            pass
    assert os.statvfs(disk).f_bavail == 0
    return ballast


def train_until_full(appliance: Living, disk: Path) -> tuple[str, dict[str, object], Path]:
    """Train, fill the disk after a checkpoint; return the job, its last event, and what fills the disk."""
    job = appliance.train("endless")
    events = appliance.events(job)
    next(event for event in events if event["kind"] == "checkpoint")
    ballast = fill(disk)
    began = time.monotonic()
    *_, ended = events
    assert time.monotonic() - began < TOLD_WITHIN_S
    assert ended["kind"] == "failed"
    return job, ended, ballast


def test_a_checkpoint_that_finds_no_room_ends_the_job_and_the_rest_goes_on(
    asleep: Living, on_small_disk: Callable[[str], Path]
):
    vault = on_small_disk("vault")
    asleep.start().unseal()
    job, ended, ballast = train_until_full(asleep, vault)
    assert ended["reason"].startswith("no-space")
    assert "space" in ended["reason"].partition(":")[2]
    asleep.demand_nothing_half_written()
    assert asleep.call("Status")["log_alive"]
    kept = asleep.job(job)["results"]
    assert asleep.plaintext(kept[-1])
    ballast.unlink()
    asleep.resume(job)
    assert asleep.wait_for(job, "checkpoint")["step"] > asleep.job(job)["step"] - 400
    asleep.shutdown()
    asleep.demand_sound_log()
    asleep.demand_nothing_half_written()


def test_a_log_that_finds_no_room_stops_everything_until_a_start(
    asleep: Living, on_small_disk: Callable[[str], Path]
):
    log = on_small_disk("log")
    asleep.start().unseal()
    job, ended, ballast = train_until_full(asleep, log)
    assert ended["reason"].startswith("log-unavailable")
    refused = asleep.cli("train", "tiny")
    assert refused.returncode == 17
    assert not asleep.call("Status")["log_alive"]
    asleep.kill()
    ballast.unlink()
    demand_goes_on(asleep, job)


def test_a_disk_that_is_full_altogether_fails_closed_and_recovers(
    asleep: Living, on_small_disk: Callable[[str], Path]
):
    home = on_small_disk("")
    asleep.start().unseal()
    job, ended, ballast = train_until_full(asleep, home)
    assert ended["reason"].partition(":")[0] in {"log-unavailable", "no-space"}
    assert asleep.call("Status")["jobs_running"] == []
    asleep.kill()
    fill(home)  # what the failures gave back
    refused = asleep.cli("daemon", "--foreground")
    assert refused.returncode in {5, 17}, refused.stderr
    assert "space" in refused.stderr
    ballast.unlink()
    demand_goes_on(asleep, job)


def demand_goes_on(appliance: Living, job: str) -> None:
    """With room again, a start recovers: the last checkpoint opens, the job goes on, the log is sound."""
    appliance.start().unseal()
    ended = appliance.job(job)
    assert ended["state"] == "failed"
    assert appliance.plaintext(ended["results"][-1])
    appliance.demand_nothing_half_written()
    appliance.resume(job)
    assert appliance.wait_for(job, "checkpoint")["step"] > 0
    appliance.shutdown()
    appliance.demand_sound_log()
    appliance.demand_nothing_half_written()
