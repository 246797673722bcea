"""The reference monitor: asked, judged, logged, and only then granted."""

from __future__ import annotations

from dataclasses import replace

import cedarpy
import pytest

from appliance.custodian.core import job_entity
from appliance.errors import NotIsolated, PolicyRefused, SealedError, UnknownObject
from appliance.gate import KEY_ACTIONS, LEASE_S, NamedObject, StagedObject, Thing
from audit.note import VerifierKey
from audit.receipt import verify_receipt
from policy.model import Entity
from tests.simulator import CUSTODIAN


@pytest.fixture
def weights(sim):
    return sim.add("weights", "tiny", b"the weights")


@pytest.fixture
def config(sim):
    return sim.add("config", "tiny", b"[model]")


def test_a_grant_carries_a_receipt_that_verifies_offline(sim, weights):
    grant = sim.use(weights)
    verified = verify_receipt(grant.receipt, grant.entry, VerifierKey.parse(sim.init.log_vkey))
    assert verified.index == grant.index == sim.core.log.size - 1
    entry = verified.entry
    assert (entry.kind, entry.principal, entry.action) == ("decision", "Job:train-1", "use")
    assert entry.resource == f"Object:{weights.id}"
    assert entry.decision.allow
    assert entry.decision.policies == ("job-uses-what-its-decision-named",)
    assert entry.decision.policy_set == sim.core.engine.digest
    assert entry.context["object_name"] == "weights/tiny"
    assert (grant.object_id, grant.job, grant.action) == (weights.id, "train-1", "use")
    assert grant.deadline == sim.clock.monotonic() + LEASE_S


def test_the_entry_is_durable_before_the_grant_exists(sim, weights, monkeypatch):
    order = []
    append, issue = type(sim.core.log).append, type(sim.core.live).issue

    def appended(log, records):
        order.append("append")
        committed = append(log, records)
        order.append("durable")
        return committed

    monkeypatch.setattr(type(sim.core.log), "append", appended)
    monkeypatch.setattr(type(sim.core.live), "issue", lambda live, g: order.append("grant") or issue(live, g))
    sim.use(weights)
    assert order == ["append", "durable", "grant"]


def test_nothing_is_granted_when_the_append_fails(sim, weights, monkeypatch):
    def fail(*_):
        raise OSError(5, "as a fault nobody thought of")

    monkeypatch.setattr(sim.core.log, "append", fail)
    with sim.refused(OSError, "nobody thought of"):
        sim.use(weights)
    assert not sim.core.live._unused


def test_a_denial_is_logged_with_its_reasons(sim, weights):
    told = r"operator may not read weights tiny: no-rule-permits \(log entry 3\)"
    with sim.refused(PolicyRefused, told, ["deny read"]):
        sim.ask("read", weights)
    (entry,) = sim.entries(3)
    assert entry.principal == "Person:operator"
    assert entry.decision.reasons == ("no-rule-permits",)
    assert not sim.core.live._unused


@pytest.mark.parametrize(("kind", "name"), [("config", "nothing"), ("weights", "nothing"), ("nothing", "x")])
def test_an_unknown_object_is_denied_logged_and_has_its_exit_code(sim, kind, name):
    told = rf"train: there is no {kind} named {name} \(log entry 1\); see `appliance objects`"
    with sim.refused(UnknownObject, told, ["deny train"]):
        sim.ask("train", NamedObject(kind, name))
    (entry,) = sim.entries(1)
    assert entry.resource == f"Object:{kind}/{name}"
    assert entry.decision.reasons == ("unknown-object",)
    assert UnknownObject.exit_code == 20


def test_a_stranger_is_denied_and_logged_by_uid(sim, config):
    with sim.refused(PolicyRefused, "uid-4242 may not train config tiny: no-rule-permits", ["deny train"]):
        sim.ask("train", config, sim.core.person(4242))


@pytest.mark.parametrize("fault", [RuntimeError("boom"), ValueError("boom"), MemoryError()])
def test_an_engine_that_fails_denies(sim, weights, monkeypatch, fault):
    def fail(*_):
        raise fault

    monkeypatch.setattr(cedarpy, "is_authorized", fail)
    with sim.refused(PolicyRefused, "may not use weights tiny: engine-error", ["deny use"]):
        sim.use(weights)


def test_an_engine_that_raises_all_the_same_grants_nothing(sim, weights, monkeypatch):
    def fail(*_):
        raise RuntimeError("a fault in the engine's own guard")

    monkeypatch.setattr(type(sim.core.engine), "decide", fail)
    with sim.refused(RuntimeError, "own guard"):
        sim.use(weights)
    assert not sim.core.live._unused


@pytest.mark.parametrize("claimed", [{"isolated": True}, {"profile": "development"}, {"sealed": False}])
def test_no_caller_can_claim_what_the_world_is(isolated_sim, claimed):
    sim = isolated_sim
    config = sim.add("config", "tiny", b"[model]")
    sim.plug_in_a_cable()
    sim.clock.pass_(1.1)
    sim.seal()
    with sim.refused(NotIsolated, "invariant:not-isolated", ["deny train"]):
        sim.ask("train", config, **claimed)
    (entry,) = sim.entries(sim.core.log.size - 1)
    facts = {name: entry.context[name] for name in ("profile", "isolated", "sealed")}
    assert facts == {"profile": "isolated", "isolated": False, "sealed": True}


def test_a_job_named_in_the_context_is_not_the_jobs_own(sim, weights):
    with sim.refused(PolicyRefused, "context-refused", ["deny sample"]):
        sim.ask("sample", weights, job="train-9")
    assert sim.ask("sample", weights).job == ""


def test_a_network_cable_ends_work_within_a_second(isolated_sim):
    sim = isolated_sim
    weights = sim.add("weights", "tiny", b"the weights")
    assert sim.read(weights) == b"the weights"
    sim.plug_in_a_cable()
    sim.clock.pass_(1.1)
    told = (
        "train-1 may not use weights tiny: forbidden-by:nothing-while-not-isolated, invariant:not-isolated "
        r"\(log entry 4\); `appliance doctor` names what isolates this host"
    )
    with sim.refused(NotIsolated, told, ["deny use"]):
        sim.use(weights)
    assert NotIsolated.exit_code == 15
    sim.ask("status", Thing(sim.core.appliance()))


def test_the_same_cable_is_allowed_in_development(sim, weights):
    sim.plug_in_a_cable()
    sim.clock.pass_(1.1)
    assert sim.read(weights) == b"the weights"


def test_a_sealed_appliance_says_so(sim, config):
    sim.seal()
    told = (
        "operator may not train config tiny: forbidden-by:nothing-while-sealed, invariant:sealed "
        r"\(log entry 3\); open the vault with `appliance unseal`"
    )
    with sim.refused(SealedError, told, ["deny train"]):
        sim.ask("train", config)
    assert SealedError.exit_code == 14
    for action in ("status", "unseal", "seal", "stop"):
        sim.ask(action, Thing(sim.core.appliance()))


def test_a_cable_is_told_before_a_seal(isolated_sim):
    """Unsealing on a host that is not isolated is not what to advise."""
    sim = isolated_sim
    sim.plug_in_a_cable()
    sim.clock.pass_(1.1)
    sim.seal()
    with sim.refused(NotIsolated, "invariant:sealed, invariant:not-isolated", ["deny seal-up"]):
        sim.ask("seal-up", Thing(sim.core.appliance()))


@pytest.mark.parametrize("name", ["nothing-while-sealed", "nothing-while-not-isolated"])
def test_a_rule_by_itself_sets_no_exit_code(sim, weights, name, monkeypatch):
    """Rules are the laboratory's; what tells the cause is the invariant, which holds whatever they are."""
    denied = sim.core.engine.decide
    monkeypatch.setattr(
        type(sim.core.engine),
        "decide",
        lambda _, request: replace(
            denied(request), allow=False, policies=(name,), reasons=(f"forbidden-by:{name}",)
        ),
    )
    with sim.refused(PolicyRefused, f"forbidden-by:{name}", ["deny use"]):
        sim.use(weights)


@pytest.mark.parametrize("action", ["status", "stop", "seal", "unseal", "configure", "request"])
def test_a_decision_about_the_appliance_enters_no_live_table(sim, action):
    setting = {"setting": "log-key"} if action == "configure" else {}
    grant = sim.ask(action, Thing(sim.core.appliance()), **setting)
    assert not sim.core.live._unused
    with sim.refused(PolicyRefused, f"found '{action}', which yields no key here"):
        sim.open(grant)


@pytest.mark.parametrize(
    ("action", "kind"), [("train", "config"), ("sample", "weights"), ("request", "weights")]
)
def test_a_decision_to_start_something_enters_no_live_table(sim, weights, config, action, kind):
    sim.ask(action, {"weights": weights, "config": config}[kind])
    assert not sim.core.live._unused


def test_the_actions_that_release_keys_are_these_four():
    assert frozenset({"use", "verify", "open", "rotate"}) == KEY_ACTIONS


def test_an_import_opens_its_bundle_alone(sim):
    person_bundle = Entity(
        "Bundle", "b" * 64, {"kind": "corpus", "direction": "in", "signer": "ada", "compartments": ()}
    )
    sim.ask("import", Thing(person_bundle))
    assert not sim.core.live._unused
    job = job_entity("import-1", "operator", "import", ["b" * 64])
    grant = sim.core.gate.request(job, "open", Thing(person_bundle), job="import-1").grant
    assert sim.core.live._unused == {grant.index: grant}


def test_only_the_custodian_verifies_and_only_what_is_staged(sim):
    staged = sim.stage(b"a checkpoint")
    with sim.refused(PolicyRefused, "may not verify weights tiny", ["deny verify"]):
        sim.ask("verify", staged)
    with sim.refused(PolicyRefused, "may not use weights tiny: .*invariant:quarantined", ["deny use"]):
        job = job_entity("j", "operator", "train", [staged.id])
        sim.core.gate.request(job, "use", staged, job="j")
    assert sim.open(sim.ask("verify", staged, CUSTODIAN)) == b"a checkpoint"


def test_verifying_ends_with_publication(sim):
    staged = sim.stage(b"a checkpoint")
    sim.verify(staged)
    made = sim.publish(staged, b"a checkpoint")
    with sim.refused(PolicyRefused, "already-published", ["deny verify"]):
        sim.verify(staged)
    sim.edit_catalog("UPDATE objects SET version = -1 WHERE id = ?", made.id)
    with pytest.raises(PolicyRefused, match="already-published"):
        sim.ask("verify", StagedObject(made.id, "weights", "tiny", "import-1"), CUSTODIAN)


def test_the_newest_version_is_meant(sim, weights):
    newer = sim.add("weights", "tiny", b"newer weights")
    assert newer.version == weights.version + 1
    assert sim.core.gate.request(sim.operator, "sample", NamedObject("weights", "tiny")).object == newer
    with sim.refused(PolicyRefused, "invariant:job-names-it", ["deny use"]):
        sim.use(weights)  # by name, for a job whose decision named the older one
    assert sim.read(newer) == b"newer weights"


def test_what_a_decision_names_beside_its_resource_stands_in_the_entry(sim, config, weights):
    sim.core.gate.request(sim.operator, "train", config, job="train-1", named=[config.id, weights.id])
    entry = sim.entries()[-1]
    assert entry.context["named"] == [config.id, weights.id]
    assert entry.context["job"] == "train-1"


def test_an_outcome_hides_its_secret_values(sim):
    committed = sim.core.gate.outcome(
        "note", "Custodian:custodian", "note", "Appliance:x", {"step": 3}, secret={"seed": 424242}
    )
    assert b"424242" not in committed.entry
    assert set(sim.entries()[-1].context["seed"]) == {"commitment"}


def test_a_fresh_receipt_of_an_old_entry_verifies(sim, weights):
    for _ in range(5):
        sim.ask("status", Thing(sim.core.appliance()))
    again = sim.core.gate.receipt_of(weights.log_index)
    verified = verify_receipt(again.receipt, again.entry, VerifierKey.parse(sim.init.log_vkey))
    assert (verified.index, verified.head.size) == (weights.log_index, sim.core.log.size)
