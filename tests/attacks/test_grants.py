"""Grants that were not made by the gate, or not for this, or not now, open nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, multiple, rule

from appliance.custodian.core import job_entity
from appliance.errors import PolicyRefused, SealedError
from appliance.gate import LEASE_S, StagedObject, Thing
from tests.simulator import CUSTODIAN, Simulator

NOT_LIVE = "refused: expected one issued by the gate and unused, found none; ask the gate again"


@pytest.fixture
def weights(sim):
    return sim.add("weights", "tiny", b"the weights")


def test_a_grant_opens_its_object_once(sim, weights):
    grant = sim.use(weights)
    assert sim.open(grant) == b"the weights"
    with sim.refused(PolicyRefused, NOT_LIVE):
        sim.open(grant)


def test_a_replayed_grant_is_refused_also_after_a_restart(sim, weights):
    unused = sim.use(weights)
    sim.restart()
    with sim.refused(PolicyRefused, NOT_LIVE):
        sim.open(unused)


@pytest.mark.parametrize("changed", [{}, {"job": "train-2"}, {"deadline": 1e12}, {"index": 10**6}])
def test_a_forged_grant_is_refused_and_the_true_one_still_good(sim, weights, changed):
    grant = sim.use(weights)
    with sim.refused(PolicyRefused, NOT_LIVE):
        sim.open(sim.forge(grant, **changed))
    assert sim.open(grant) == b"the weights"


def test_a_grant_for_one_object_forged_for_another_is_refused(sim, weights):
    other = sim.add("weights", "other", b"the others")
    grant = sim.use(weights)
    with sim.refused(PolicyRefused, NOT_LIVE):
        sim.open(sim.forge(grant, object_id=other.id))


def test_a_grant_forged_from_a_logged_denial_is_refused(sim, weights):
    good = sim.use(weights)
    with pytest.raises(PolicyRefused):
        sim.ask("read", weights)
    denied = sim.core.log.size - 1
    entry, receipt = sim.core.log.entry(denied), sim.core.log.receipt(denied)
    with sim.refused(PolicyRefused, NOT_LIVE):
        sim.open(sim.forge(good, index=denied, entry=entry, receipt=receipt))


def test_an_expired_grant_is_refused_and_spent(sim, weights):
    grant = sim.use(weights)
    sim.clock.pass_(LEASE_S)
    with sim.refused(PolicyRefused, r"refused: it expired 0\.0 s ago; ask the gate for a new one"):
        sim.open(grant)
    sim.clock.pass_(-LEASE_S)
    with sim.refused(PolicyRefused, NOT_LIVE):
        sim.open(grant)


def test_the_grants_of_a_job_end_with_it(sim, weights):
    mine, other = sim.use(weights, "train-1"), sim.use(weights, "train-2")
    sim.core.live.revoke_job("train-1")
    with sim.refused(PolicyRefused, NOT_LIVE):
        sim.open(mine)
    assert sim.open(other) == b"the weights"


def test_one_job_is_not_granted_what_anothers_decision_named(sim, weights):
    other = sim.add("weights", "other", b"the others")
    sim.use(other, "train-2")
    with sim.refused(PolicyRefused, "may not use weights other: .*invariant:job-names-it", ["deny use"]):
        sim.core.gate.request(job_of("train-1", weights.id), "use", other, job="train-1")


def job_of(job, *objects):
    return job_entity(job, "operator", "train", objects)


def test_a_grant_outlives_no_seal(sim, weights):
    grant, custody = sim.use(weights), sim.core.custody
    sim.seal()
    with sim.refused(SealedError, "the vault is sealed"):
        sim.open(grant)
    with sim.refused(SealedError, "the keyring was wiped from memory"):
        custody.unwrap(grant)
    sim.unseal()
    with sim.refused(PolicyRefused, NOT_LIVE):
        sim.open(grant)


def test_a_person_who_may_train_gets_no_key_by_it(sim):
    config = sim.add("config", "tiny", b"[model]")
    grant = sim.ask("train", config)
    with sim.refused(PolicyRefused, "expected one of use, verify, found 'train', which yields no key here"):
        sim.open(grant)


def test_the_grant_for_a_bundle_opens_no_object_and_the_reverse(sim, weights):
    grant = sim.use(weights)
    with sim.refused(PolicyRefused, "expected one of open, found 'use', which yields no key here"):
        sim.core.custody.unwrap_parts(grant, [])
    with sim.refused(PolicyRefused, "found 'open', which yields no key here"):
        sim.open(sim.forge(grant, action="open"))


def test_what_is_published_cannot_be_had_by_asking_to_verify_it(sim, weights):
    with sim.refused(PolicyRefused, "may not verify weights tiny: already-published", ["deny verify"]):
        sim.ask("verify", StagedObject(weights.id, "weights", "tiny", "import-1"), CUSTODIAN)


@pytest.mark.parametrize("kind", ["weights", "config", "corpus", "optimizer", "report", "tokenizer"])
def test_nobody_may_look_at_an_object(sim, kind):
    made = sim.add(kind, "tiny", b"secret")
    for principal in (sim.operator, sim.core.person(12345), CUSTODIAN, job_of("train-1", made.id)):
        with sim.refused(PolicyRefused, f"may not read {kind} tiny", ["deny read"]):
            sim.ask("read", made, principal)


class Release(RuleBasedStateMachine):
    """Whatever is asked, forged, waited for and revoked: a key comes out for a live grant, no other."""

    grants = Bundle("grants")

    def __init__(self):
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory(prefix="ta-")
        self.sim = Simulator(Path(self.scratch.name))
        self.objects = [self.sim.add("weights", f"w{i}", f"plain {i}".encode()) for i in range(2)]
        self.live = {}

    @rule(target=grants, which=st.integers(0, 1), job=st.sampled_from(["a", "b"]))
    def ask(self, which, job):
        grant = self.sim.use(self.objects[which], job)
        self.live[id(grant)] = (grant, self.sim.clock.monotonic() + LEASE_S, which)
        return grant

    @rule(target=grants, grant=grants, which=st.integers(0, 1), longer_s=st.sampled_from([0, 1e6]))
    def forge(self, grant, which, longer_s):
        return self.sim.forge(grant, object_id=self.objects[which].id, deadline=grant.deadline + longer_s)

    @rule(target=grants)
    def train(self):
        """An allow that is for no key."""
        return self.sim.ask("status", Thing(self.sim.core.appliance()))

    @rule(part=st.sampled_from([0.1, 0.5, 0.9, 1.0]))
    def wait(self, part):
        self.sim.clock.pass_(part * LEASE_S)

    @rule(job=st.sampled_from(["a", "b"]))
    def end_job(self, job):
        self.sim.core.live.revoke_job(job)
        self.live = {key: held for key, held in self.live.items() if held[0].job != job}

    @rule()
    def seal_and_unseal(self):
        self.sim.seal()
        self.sim.unseal()
        self.live.clear()

    @rule(grant=grants)
    def unwrap(self, grant):
        self.attempt(grant)

    @rule(target=grants, grant=consumes(grants))
    def unwrap_twice(self, grant):
        self.attempt(grant)
        self.attempt(grant)
        return multiple()

    def attempt(self, grant):
        held, deadline, which = self.live.pop(id(grant), (None, 0.0, 0))
        keys = len(self.sim.keys)
        try:
            plaintext = self.sim.open(grant)
        except PolicyRefused:
            assert held is None or self.sim.clock.monotonic() >= deadline
            assert len(self.sim.keys) == keys
        else:
            assert held is grant
            assert self.sim.clock.monotonic() < deadline
            assert plaintext == f"plain {which}".encode()

    def teardown(self):
        self.sim.close()
        self.scratch.cleanup()


Release.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestNoKeyWithoutALiveGrant = Release.TestCase
