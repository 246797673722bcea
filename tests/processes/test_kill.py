"""kill -9 of any process at any moment: what was saved stands, what follows is as if nothing had happened."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from threading import Thread

import pytest

from appliance.errors import ApplianceError
from tests.processes.living import Living, eventually, is_alive

pytestmark = pytest.mark.processes

KILLS = 3
LONGEST_S = 1.5  # a run of `steady` takes some four seconds: kills fall into start, steps and checkpoints


def kill_a_worker(appliance: Living, job: str) -> None:
    """The one that trains, or the one that reads a checkpoint after it."""
    workers = appliance.children("appliance.worker")
    if workers:
        victim = random.choice(workers)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: not is_alive(victim), "the worker to be gone")
    if workers and appliance.last_word(job)["kind"] == "failed":
        assert "job-failed" in appliance.job(job)["reason"]
        appliance.resume(job)


def kill_the_custodian(appliance: Living, job: str) -> None:
    """Front and workers die with it, or `kill` would wait in vain; a new one recovers by itself."""
    running = appliance.job(job)["state"] in {"queued", "running"}
    appliance.kill()
    appliance.start().unseal()
    ended = appliance.job(job)
    if running and ended["state"] == "failed":
        assert f"appliance train --resume {job}" in ended["reason"]
        appliance.resume(job)


def kill_the_front(appliance: Living, job: str) -> None:
    """Its clients lose their connections, and nobody else anything."""
    (front,) = eventually(lambda: appliance.children("appliance.front"), "a front")
    os.kill(front, signal.SIGKILL)
    eventually(lambda: appliance.children("appliance.front") not in ([], [front]), "another front", 10)
    eventually(lambda: answers(appliance), "the other front to answer", 10)
    assert appliance.job(job)["state"] in {"running", "done"}


def answers(appliance: Living) -> bool:
    try:
        appliance.call("Status")
    except ApplianceError:
        return False
    return True


@pytest.mark.parametrize("kill", [kill_a_worker, kill_the_custodian, kill_the_front])
def test_training_ends_in_the_same_bits_whatever_is_killed(
    living: Living, steady_weights: bytes, kill: Callable[[Living, str], None]
):
    job = living.train("steady")
    for _ in range(KILLS):
        time.sleep(random.uniform(0.0, LONGEST_S))
        kill(living, job)
        living.demand_sound_log()
        results = living.job(job)["results"]
        if results:
            assert living.plaintext(results[-1])
    eventually(lambda: living.job(job)["state"] not in {"queued", "running"}, "the job to end")
    ended = living.job(job)
    assert ended["state"] == "done", ended
    assert living.plaintext(ended["results"][-1]) == steady_weights
    living.shutdown()
    living.demand_sound_log()
    living.demand_nothing_half_written()


def test_a_custodian_killed_while_a_bundle_comes_in_leaves_nothing_of_it(
    living: Living, bundle_of: Callable[..., object]
):
    bundle = bundle_of()
    before = {row["id"] for row in living.objects()}
    folder = os.open(bundle, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(ApplianceError, match="the appliance ended"):
            kill_during(living, folder)
    finally:
        os.close(folder)
    living.kill()
    living.start().unseal()
    living.demand_nothing_half_written()
    assert {row["id"] for row in living.objects()} == before
    done = living.cli("import", bundle)
    assert done.returncode == 0, done.stderr
    living.shutdown()
    living.demand_sound_log()


def kill_during(appliance: Living, folder: int) -> None:
    """Freeze the worker of an import, so that the kill falls into its middle, and kill the custodian."""

    def kill() -> None:
        (worker, *_) = eventually(lambda: appliance.children("appliance.worker"), "a worker")
        os.kill(worker, signal.SIGSTOP)
        appliance.process.kill()
        # One that had not yet asked to die with its parent finds the channel closed, and ends by itself.
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGCONT)

    killer = Thread(target=kill)
    killer.start()
    try:
        appliance.call("ImportBundle", {"folder_fd": 0}, (folder,))
    finally:
        killer.join()
