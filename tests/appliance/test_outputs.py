"""Outputs: keys of the custodian's making, nothing handed out unlogged, nothing published unverified."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from appliance.age import PayloadWriter, descriptor_sink
from appliance.catalog.entries import row_of
from appliance.custodian import outputs as module
from appliance.custodian.outputs import Outputs
from appliance.errors import ContentRefused, IntegrityError, ProtocolError
from appliance.worklink import Sealed, Verified, WantOutput
from audit.entry import parse_entry
from audit.errors import LogUnavailable


class Writer:
    """A worker as far as outputs see one: it takes one key and one descriptor, and writes."""

    def __init__(self):
        self.given = []

    def give_output(self, message, descriptor, key):
        self.given.append((message.token, descriptor, bytes(key)))

    def write(self, plaintext):
        token, fd, key = self.given[-1]
        with PayloadWriter(descriptor_sink(fd), key) as payload:
            payload.write(plaintext)
        os.close(fd)
        return token


class Reader:
    """A fresh verifying worker that reports what the test says."""

    def __init__(self, reports):
        self.reports = reports
        self.inputs = []

    def give_input(self, role, kind, payload, key):
        self.inputs.append((role, kind))
        os.close(payload)
        key[:] = bytes(len(key))

    def proceed(self):
        pass

    async def expect(self, kind):
        assert kind is Verified
        return self.reports.pop(0)

    async def end(self):
        self.killed = True


@pytest.fixture
def outputs(sim):
    made = Outputs(sim.core, "train-1", ["weights", "optimizer"], {})
    yield made
    made.discard()


@pytest.fixture
def verified(monkeypatch):
    """Let the next verifying worker report these findings; returns it."""

    def verified(*reports):
        reader = Reader(list(reports))

        async def start(_task, _job, _profile, numbers, _environment):
            reader.numbers = numbers
            return reader

        monkeypatch.setattr(module.Worker, "start", start)
        return reader

    return verified


def staged_id(outputs, token):
    return outputs._staged[token].id


def finding(sim, outputs, token, plaintext, **changed):
    payload = (sim.home.vault / ".incoming" / staged_id(outputs, token) / "payload").read_bytes()
    found = {
        "role": staged_id(outputs, token),
        "size_bytes": len(plaintext),
        "payload_sha256": hashlib.sha256(payload).hexdigest(),
        "plaintext_sha256": hashlib.sha256(plaintext).hexdigest(),
    }
    return Verified(**{**found, **changed})


def sealed(outputs, worker, plaintext, kind="weights", name="tiny"):
    outputs.open(worker, WantOutput(kind, name))
    token = worker.write(plaintext)
    outputs.sealed(Sealed(token, len(plaintext)))
    return token


def test_an_output_is_logged_verified_published_logged_and_catalogued(sim, outputs, verified):
    parent = sim.add("config", "tiny", b"[model]")
    size = sim.core.log.size
    token = sealed(outputs, Writer(), b"checkpoint")
    name = staged_id(outputs, token)
    reader = verified(finding(sim, outputs, token, b"checkpoint"))
    (row,) = asyncio.run(outputs.publish([token], [parent], {"steps": 7}))
    assert reader.inputs == [(name, "weights")]
    assert reader.killed
    assert [entry.kind for entry in sim.entries(size)] == ["output-opened", "decision", "object-created"]
    created = sim.entries()[-1]
    assert set(created.context["plaintext_sha256"]) == set(created.context["steps"]) == {"commitment"}
    assert row == sim.core.catalog.get(name) == row_of(parse_entry(sim.core.log.entry(row.log_index)))
    assert row.parents == (parent.id,)
    assert sim.read(row) == b"checkpoint"


def test_nothing_is_handed_out_while_the_log_is_dead(sim, outputs):
    worker = Writer()
    with sim.failing_disk(), pytest.raises(LogUnavailable):
        outputs.open(worker, WantOutput("weights", "tiny"))
    assert worker.given == []
    assert list((sim.home.vault / ".incoming").iterdir()) == []


@pytest.mark.parametrize("kind", ["config", "corpus", "nonsense", ""])
def test_a_kind_that_the_task_does_not_make_is_refused(sim, outputs, kind):
    worker = Writer()
    with sim.refused(ProtocolError, "the task may not make .* objects here"):
        outputs.open(worker, WantOutput(kind, "tiny"))
    assert worker.given == []


def test_an_allowed_kind_that_no_vault_holds_is_refused(sim):
    made = Outputs(sim.core, "job", ["secrets"], {})
    with sim.refused(ProtocolError, "the task may not make 'secrets' objects here"):
        made.open(Writer(), WantOutput("secrets", "tiny"))


@pytest.mark.parametrize("name", ["", "../x", "A", "a" * 65, "a/b", "a\n"])
def test_a_name_that_could_be_something_else_is_refused(sim, outputs, name):
    with sim.refused(ProtocolError, "expected a name of a-z"):
        outputs.open(Writer(), WantOutput("weights", name))


def test_too_many_outputs_are_refused(sim, outputs, monkeypatch):
    monkeypatch.setattr(module, "MAX_OUTPUTS", 1)
    worker = Writer()
    outputs.open(worker, WantOutput("weights", "tiny"))
    with pytest.raises(ProtocolError, match="the task may not make"):
        outputs.open(worker, WantOutput("weights", "tiny"))
    os.close(worker.given[0][1])


def test_an_output_that_was_never_opened_is_refused(sim, outputs):
    with sim.refused(ProtocolError, "a worker spoke of output 7, which it does not have"):
        outputs.sealed(Sealed(7, 1))


def test_an_output_that_was_not_sealed_is_not_published(sim, outputs, verified):
    worker = Writer()
    outputs.open(worker, WantOutput("weights", "tiny"))
    os.close(worker.given[0][1])
    verified()
    with sim.refused(ProtocolError, "weights tiny was named complete before it was sealed"):
        asyncio.run(outputs.publish([1], []))


@pytest.mark.parametrize("changed", [{"size_bytes": 11}, {"role": "0" * 64}])
def test_a_reader_that_finds_something_else_publishes_nothing(sim, outputs, verified, changed):
    token = sealed(outputs, Writer(), b"checkpoint")
    verified(finding(sim, outputs, token, b"checkpoint", **changed))
    standing = sim.standing()
    told = "weights tiny: its maker sealed 10 bytes, a fresh reader found .*; it was dropped"
    with pytest.raises(IntegrityError, match=told):
        asyncio.run(outputs.publish([token], []))
    assert sim.standing() == standing
    assert sim.core.vault.objects() == ()


def test_what_is_discarded_leaves_nothing(sim, outputs):
    sealed(outputs, Writer(), b"checkpoint")
    outputs.discard()
    assert list((sim.home.vault / ".incoming").iterdir()) == []


def test_an_output_is_open_to_whom_all_its_parents_are(sim, outputs, verified):
    parents = [
        sim.forge(sim.add("config", name, b"c"), compartments=labels)
        for name, labels in (("a", ("red", "blue")), ("b", ("green", "red")))
    ]
    token = sealed(outputs, Writer(), b"checkpoint")
    verified(finding(sim, outputs, token, b"checkpoint"))
    (row,) = asyncio.run(outputs.publish([token], parents))
    assert row.compartments == ("blue", "green", "red")


@pytest.mark.parametrize(("kind", "trained"), [("config", 1), ("corpus", 0)])
def test_a_reader_knows_which_weights_were_trained_here_and_may_leave(sim, outputs, verified, kind, trained):
    parent = sim.add(kind, "tiny", b"content")
    token = sealed(outputs, Writer(), b"checkpoint")
    reader = verified(finding(sim, outputs, token, b"checkpoint"))
    asyncio.run(outputs.publish([token], [parent]))
    assert reader.numbers == {"trained": trained}


def test_no_other_entry_is_read_as_a_creation(sim):
    with pytest.raises(ContentRefused, match="log entry 0 is genesis, expected object-created"):
        row_of(parse_entry(sim.core.log.entry(0)))
