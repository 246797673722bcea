"""A job on two real ranks: the numbers of one, both jailed, and an end that loses nothing when one dies."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from appliance.training.tensorfile import TensorFile
from tests.jails import missing as jails_missing
from tests.processes.living import Living, eventually, is_alive, read_or_nothing
from tests.training.memory import InMemory

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(
        importlib.util.find_spec("mpi4py") is None or len(os.sched_getaffinity(0)) < 2,
        reason="needs the extra `mpi` and two cores",
    ),
]
PATIENCE_S = 4


@pytest.fixture
def ranked(asleep: Living, monkeypatch: pytest.MonkeyPatch) -> Living:
    monkeypatch.setenv("APPLIANCE_RANK_PATIENCE_S", str(PATIENCE_S))
    return asleep.start().unseal()


def left_behind() -> set[str]:
    """Shared memory that no living process has mapped; other jobs on this machine have theirs."""
    segments = {path.name for path in Path("/dev/shm").glob("*_shm_*")}  # noqa: S108  where MPICH and UCX put them
    mapped = b"".join(read_or_nothing(maps) for maps in Path("/proc").glob("[0-9]*/maps"))
    return {name for name in segments if name.encode() not in mapped}


def weights_of(living: Living, job: str) -> np.ndarray:
    data = living.plaintext(living.job(job)["results"][-1])
    return np.concatenate([tensor.ravel() for tensor in TensorFile(InMemory(data)).load().values()])


def test_two_ranks_come_to_the_weights_of_one_and_both_are_jailed(ranked: Living):
    before = left_behind()
    alone = ranked.train("tiny", name="alone")
    assert ranked.last_word(alone)["kind"] == "done"
    both = ranked.call("Train", {"config": "tiny", "name": "both", "ranks": 2})["job"]
    assert ranked.last_word(both)["kind"] == "done", ranked.job(both)
    expected, found = weights_of(ranked, alone), weights_of(ranked, both)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    eventually(lambda: left_behind() <= before, "the ranks' shared memory to be gone")
    ranked.shutdown()
    ranked.demand_sound_log()
    entries = [json.loads(line) for line in ranked.entries().splitlines()]
    jails = [e["context"] for e in entries if e["kind"] == "jail" and e["context"]["job"] == both]
    assert [(jail["rank"], jail["ranks"], jail["jail"]) for jail in jails] == [(0, 2, "rank"), (1, 2, "rank")]
    assert all({"system-calls", "files"} - jails_missing() <= set(jail["took"]) for jail in jails)


def begin(ranked: Living) -> tuple[str, list[int]]:
    """Train on two ranks until a checkpoint is sealed; return the job and both pids."""
    job = str(ranked.call("Train", {"config": "endless", "ranks": 2})["job"])
    ranked.wait_for(job, "checkpoint")
    busiest = sorted(ranked.children("appliance.worker"))
    return job, busiest[:2]


def demand_ended_and_goes_on(ranked: Living, job: str, pids: list[int], told: str) -> None:
    ended = ranked.last_word(job)
    assert (ended["kind"], ended["reason"].partition(":")[0]) == ("failed", "job-failed"), ended
    assert told in ended["reason"]
    eventually(lambda: not any(is_alive(pid) for pid in pids), "both ranks to be gone")
    step = ranked.job(job)["step"]
    assert ranked.plaintext(ranked.job(job)["results"][-1])
    assert ranked.call("Train", {"resume": job, "ranks": 2})["job"] == job
    assert ranked.wait_for(job, "checkpoint")["step"] > step
    ranked.call("Stop", {"job": job})
    assert ranked.last_word(job)["kind"] == "stopped"
    ranked.shutdown()
    ranked.demand_sound_log()
    ranked.demand_nothing_half_written()


@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_dies_ends_the_job_with_its_last_checkpoint(ranked: Living, victim: int):
    job, pids = begin(ranked)
    os.kill(pids[victim], signal.SIGKILL)
    demand_ended_and_goes_on(ranked, job, pids, "died" if victim == 0 else "rank 1 of 2")


def test_a_rank_that_hangs_ends_the_job_with_its_last_checkpoint(ranked: Living):
    job, pids = begin(ranked)
    os.kill(pids[1], signal.SIGSTOP)
    began = time.monotonic()
    demand_ended_and_goes_on(ranked, job, pids, "has been silent for 4 s")
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("ranks", "told"), [(0, "expected 1 to"), (4096, "ranks, one core each at least, found 4096")]
)
def test_ranks_beyond_the_cores_are_refused(ranked: Living, ranks: int, told: str):
    with pytest.raises(Exception, match=told):
        ranked.call("Train", {"config": "tiny", "ranks": ranks})
