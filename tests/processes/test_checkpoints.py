"""Checkpoints of a living appliance: kept by rule, and none of them alone decides whether a job can go on."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.processes.living import Living

pytestmark = pytest.mark.processes


def stopped_after(appliance: Living, checkpoints: int) -> str:
    """Train until this many checkpoints are sealed, then stop; return the job."""
    job = appliance.train("endless")
    appliance.wait_for(job, "checkpoint", checkpoints)
    appliance.call("Stop", {"job": job})
    assert appliance.last_word(job)["kind"] == "stopped"
    return job


def kept(appliance: Living, job: str) -> list[str]:
    """Ids of the weights that are in the vault, oldest first."""
    return list(appliance.job(job)["results"])


def flip(appliance: Living, object_id: str) -> None:
    payload = appliance.home / "vault" / object_id / "payload"
    data = bytearray(payload.read_bytes())
    data[len(data) // 2] ^= 1
    payload.chmod(0o600)
    payload.write_bytes(data)


def entries(appliance: Living, kind: str) -> list[dict[str, object]]:
    found = [json.loads(line) for line in appliance.entries().splitlines()]
    return [entry["context"] for entry in found if entry["kind"] == kind]


def demand_goes_on(appliance: Living, job: str) -> None:
    appliance.wait_for(job, "checkpoint")
    appliance.call("Stop", {"job": job})
    assert appliance.last_word(job)["kind"] == "stopped"
    appliance.shutdown()
    appliance.demand_sound_log()


def test_what_the_rule_does_not_keep_leaves_the_vault_and_the_log_names_it(living: Living):
    before = {path.name for path in (living.home / "vault").iterdir()}
    job = stopped_after(living, 6)
    weights = kept(living, job)
    assert 3 <= len(weights) <= 4  # the newest three, and the best where it is another
    here = {path.name for path in (living.home / "vault").iterdir()}
    assert set(weights) <= here
    living.shutdown()
    gone = {name for entry in entries(living, "object-retired") for name in entry["objects"]}
    assert len(gone) >= 4
    assert not gone & here
    made = {entry["weights"] for entry in entries(living, "checkpoint")}
    assert made - here <= gone
    assert before <= here
    living.demand_sound_log()
    living.demand_nothing_half_written()


@pytest.mark.parametrize("part", ["payload flipped", "folder gone"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(living: Living, part: str):
    job = stopped_after(living, 2)
    *_, before, newest = kept(living, job)
    if part == "payload flipped":
        flip(living, newest)
    else:
        shutil.rmtree(living.home / "vault" / newest)
    at = living.job(job)["step"]
    living.resume(job)
    event = living.wait_for(job, "damaged")
    assert event["step"] == at
    assert f"the checkpoint of step {at} does not open, trying the one before it" in event["reason"]
    assert living.plaintext(before)
    demand_goes_on(living, job)
    (damaged,) = entries(living, "checkpoint-damaged")
    assert newest in damaged["objects"]
    (resumed,) = entries(living, "job-resumed")
    assert resumed["step"] < at
    assert resumed["repeats_to_the_bit"] is True


def test_a_job_whose_checkpoints_are_all_damaged_does_not_begin_anew_unasked(living: Living):
    job = stopped_after(living, 1)
    for name in kept(living, job):
        flip(living, name)
    living.resume(job)
    ended = living.last_word(job)
    assert ended["kind"] == "failed"
    assert ended["reason"].startswith("integrity: none of the")
    assert "restore the vault from a backup" in ended["reason"]
    living.shutdown()
    living.demand_sound_log()


def test_a_chunk_whose_tag_does_not_fit_ends_the_job_and_its_number_is_logged(living: Living):
    corpus = living.objects("corpus")[0]["id"]
    flip(living, corpus)
    size = (living.home / "vault" / corpus / "payload").stat().st_size
    job = living.train("endless")
    ended = living.last_word(job)
    assert ended["kind"] == "failed"
    chunk = (size // 2 - 16) // (64 * 1024 + 16)  # the first 16 bytes are the nonce
    assert (
        f"integrity: a sealed object did not open as it was sealed, at step 0, in chunk {chunk}"
        in ended["reason"]
    )
    living.shutdown()
    (logged,) = (entry for entry in entries(living, "job-ended") if entry["job"] == job)
    assert (logged["reason"], logged["chunk"]) == ("integrity", chunk)
    living.demand_sound_log()
