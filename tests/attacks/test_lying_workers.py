"""A worker that was taken over says what it likes: nothing of it stands in clear, holds up or outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance.custodian import workers
from appliance.custodian.approvals import decide, demand_approved, use
from appliance.custodian.child import Child
from appliance.custodian.clients import Clients
from appliance.custodian.jobs import Run
from appliance.custodian.materials import give_named
from appliance.custodian.outputs import Outputs
from appliance.custodian.requests import export_of
from appliance.custodian.retention import Figures
from appliance.custodian.states import States
from appliance.custodian.telling import Telling
from appliance.custodian.trains import Training, Trains
from appliance.custodian.workers import Worker
from appliance.errors import Busy, JobFailed, ProtocolError, ReplayRefused
from appliance.frontlink import ClientOpened
from appliance.messages import Channel, decode, encode
from appliance.sandbox import required
from appliance.worklink import TO_CUSTODIAN, Checkpoint, GiveOutput, Jailed, Verified, WantInput, WantOutput

DIGEST = "0" * 64


class Deaf:
    """A child that takes no messages."""

    def __init__(self):
        self.channel, self.theirs = Channel.pair()
        self.killed = False

    def kill(self):
        self.killed = True


@pytest.fixture
def deaf():
    child = Deaf()
    yield child
    child.channel.close()
    child.theirs.close()


@pytest.mark.parametrize(
    "message",
    [
        '{"kind":"Verified","role":"%s","size_bytes":1,"payload_sha256":"%s","plaintext_sha256":"%s"}',
        '{"kind":"MemberHashed","name":"x","media_type":"%s","size_bytes":1,"sha256":"%s%s"}',
        '{"kind":"PartCopied","index":0,"size_bytes":1,"sha256":"%s%s%s"}',
    ],
)
@pytest.mark.parametrize("text", ["x", "the weights", "A" * 64, "0" * 65])
def test_free_text_in_place_of_a_digest_is_no_message(message, text):
    """It would stand in the log in clear, and no later start could read the entry."""
    with pytest.raises(ProtocolError, match="expected 64 hex digits from a worker"):
        decode((message % (DIGEST, text, "")).encode(), TO_CUSTODIAN)


def test_a_true_digest_still_is_one():
    said = Verified(DIGEST, 1, DIGEST, DIGEST)
    assert decode(encode(said), TO_CUSTODIAN) == said


def ask_without_end(worker):
    """What a captured worker makes the custodian do: it asks, and never looks at an answer."""
    while True:
        worker.send(GiveOutput(1), (os.dup(2), os.dup(2)))


def test_a_worker_that_takes_no_messages_is_ended(deaf, monkeypatch):
    monkeypatch.setattr(workers, "SEND_TIMEOUT_S", 0.2)
    began = time.monotonic()
    with pytest.raises(JobFailed, match="a worker took no message for"):
        ask_without_end(Worker(deaf))
    assert deaf.killed
    assert time.monotonic() - began < 20


def test_the_end_of_a_lease_ends_every_worker_of_its_job(deaf, monkeypatch):
    monkeypatch.setattr(workers, "_alive", {Worker(deaf, "sample-1")})
    workers.kill_job("sample-2")
    assert not deaf.killed
    workers.kill_job("sample-1")
    assert deaf.killed


def test_a_worker_chooses_no_name_where_one_was_given(sim, deaf):
    outputs = Outputs(sim.core, "train-1", ["weights"], {}, name="tiny")
    with sim.refused(ProtocolError, "chose the name of an output"):
        outputs.open(Worker(deaf), WantOutput("weights", "what-stands-in-the-corpus"))
    outputs.open(Worker(deaf), WantOutput("weights", "tiny"))
    outputs.discard()


def test_an_output_named_twice_is_refused(sim):
    outputs = Outputs(sim.core, "import-1", ["corpus"], {})
    with pytest.raises(ProtocolError, match="named one output twice"):
        outputs.publish([1, 1], ()).send(None)


def test_what_its_maker_can_still_write_is_not_verified(sim):
    """Otherwise it could be changed after its second reader: plaintext would be published in its place."""
    made = sim.core.custody.mint()
    held = sim.core.vault.stage(made.object_id, made.header, made.nonce)
    with pytest.raises(Busy, match="found a writer"):
        sim.core.vault.open_staged(made.object_id)
    os.close(held)
    os.close(sim.core.vault.open_staged(made.object_id))
    sim.core.vault.discard(made.object_id)


def test_a_training_worker_gets_no_more_than_a_config_can_name(sim, deaf):
    """Which ones is its own word, since the custodian parses no config; the log names each."""
    config = sim.add("config", "tiny", b"[model]")
    parent, other = sim.add("weights", "parent", b"w"), sim.add("weights", "other", b"o")
    corpora = [sim.add("corpus", f"letters-{number}", b"text") for number in range(17)]
    sim.core.catalog.add_job(id="train-1", name="tiny", owner="operator", config=config.id, log_index=0)
    run = Run(sim.core, "train-1", "operator", "train", [config.id])
    row = sim.core.catalog.job("train-1")
    run.used += [config, parent, *corpora[:1]]
    for kind, name in (("corpus", corpora[0].name), ("weights", other.name), ("optimizer", "tiny")):
        with sim.refused(ProtocolError, "a training worker asked for"):
            give_named(sim.core, run, row, Worker(deaf), WantInput(kind, name))
    run.used += corpora[1:16]
    with sim.refused(ProtocolError, "more corpus than a config names"):
        give_named(sim.core, run, row, Worker(deaf), WantInput("corpus", corpora[16].name))


def test_a_front_that_ends_while_it_is_answered_has_ended():
    """Otherwise nobody would start it again."""
    ours, theirs = Channel.pair()
    gone = []
    theirs.send(
        encode(ClientOpened(1))
    )  # without its socket: it is told to disconnect, and is no longer there
    theirs.close()
    asyncio.run(asyncio.wait_for(Clients(ours, {}, lambda: gone.append(True)).serve(), 10))
    ours.close()
    assert gone == [True]


def test_a_checkpoint_of_other_outputs_is_refused(sim, deaf):
    outputs = Outputs(sim.core, "train-1", ["weights", "optimizer"], {})
    for kind in ("weights", "optimizer"):
        outputs.open(Worker(deaf), WantOutput(kind, "tiny"))
    run = Run(sim.core, "train-1", "operator", "train")
    row = SimpleNamespace(id="train-1", kept=())
    telling = Telling(run, 0)
    telling.began(0)
    training = Training(run, row, States(sim.core, run, row), Figures(sim.core, "train-1"), telling)
    for named in ((2, 1), (1, 1), (1, 3)):
        with pytest.raises(ProtocolError):
            asyncio.run(
                Trains(sim.core, {})._checkpoint(
                    training, outputs, Checkpoint(3, *named, 1, 1, 3, 1, 0), asyncio.Lock()
                )
            )
    outputs.discard()


def test_a_jail_of_the_workers_own_words_is_refused(monkeypatch):
    """What it took and lacks is logged in clear and shown: names of restrictions, and no others."""
    child = Deaf()
    child.exited = None

    async def ended(self):
        self.child.channel.close()
        return 0

    monkeypatch.setattr(workers, "Child", lambda *_, **__: child)
    monkeypatch.setattr(Worker, "ended", ended)
    child.theirs.send(encode(Jailed(tuple(required("isolated")), ("words of its own",))))
    with pytest.raises(ProtocolError, match="restrictions that no jail has"):
        asyncio.run(Worker.start("train", "train-1", "development"))
    child.theirs.close()


def test_a_request_used_meanwhile_is_not_used_again(sim):
    """Two exports at once pass the same checks; the log says once that the request was used."""
    weights = sim.add("weights", "tiny", b"w", [sim.add("config", "tiny", b"[model]")])
    recipient = sim.recipient()
    request = sim.request_export(weights, recipient)
    sim.approve(request, "alice", "bob")
    subject = export_of(weights, recipient)
    approved = demand_approved(sim.core, request, subject)
    decided = decide(sim.core, sim.operator, approved, subject, context={"signed": True})
    use(sim.core, "operator", approved, decided, "export-1")
    size = sim.core.log.size
    with pytest.raises(ReplayRefused, match="was used meanwhile"):
        use(sim.core, "operator", approved, decided, "export-2")
    assert sim.core.log.size == size


def descriptors_held():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def few_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("spare", range(1, 9))
def test_a_child_that_finds_no_descriptors_keeps_none(few_descriptors, spare):
    """Short of descriptors is no state that each attempt may make worse."""

    async def start():
        before, held = descriptors_held(), []
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(2))
        for _ in range(spare):
            os.close(held.pop())
        try:
            with pytest.raises(OSError, match="Too many open files"):
                Child("appliance.worker")
        finally:
            for descriptor in held:
                os.close(descriptor)
        assert descriptors_held() == before

    asyncio.run(start())
