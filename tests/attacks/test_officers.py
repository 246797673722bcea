"""Who may approve changes by the word of the others only, and what rested on one who goes ends."""

from __future__ import annotations

import hashlib
import os
from unittest.mock import patch

import pytest
from nacl.signing import SigningKey

from appliance.custodian import officers
from appliance.custodian.approvals import demand_approved, spend, take_approval
from appliance.custodian.officers import change_officers, list_officers
from appliance.custodian.requests import break_glass_of
from appliance.errors import IntegrityError, PolicyRefused, ReplayRefused, UsageError
from appliance.gate import NamedObject
from audit.cosignature import Cosigner
from policy.approvals import parse_request
from policy.errors import ApprovalRefused, Malformed, NotEnrolled
from policy.sshsig import public_key_line
from tests.simulator import DAY_S, Simulator

DORA = hashlib.sha256(b"dora").digest()


def key_of(seed: bytes) -> str:
    return public_key_line(bytes(SigningKey(seed).verify_key), "").strip()


def names(sim):
    return [each.person for each in list_officers(sim.core)]


def add(sim, person="dora", seed=DORA, roles=""):
    options = {"setting": "officers", "change": "add", "person": person, "key": key_of(seed), "roles": roles}
    return sim.approved("configure", **options)


def revoke(sim, person, *by):
    document = sim.request("configure", options={"setting": "officers", "change": "revoke", "person": person})
    sim.approve(document, *(by or ("alice", "bob")))
    return change_officers(sim.core, sim.operator, document)


def test_an_officer_is_added_by_two_others_and_may_approve_then(sim):
    done = change_officers(sim.core, sim.operator, add(sim, roles="data-owner"))
    assert (done.person, done.change, done.ended) == ("dora", "add", ())
    assert names(sim) == ["alice", "bob", "carol", "dora"]
    assert list_officers(sim.core)[-1].roles == ("data-owner", "officer")
    sim.restart()
    sim.officers["dora"] = DORA
    request = sim.request("break-glass")
    sim.approve(request, "alice", "dora")
    approved, _ = spend(sim.core, sim.operator, request, break_glass_of(sim.core))
    assert approved.people == ("alice", "dora")


def test_one_officer_adds_nobody(sim):
    options = {"setting": "officers", "change": "add", "person": "dora", "key": key_of(DORA), "roles": ""}
    request = sim.request("configure", options=options)
    for given in ((), ("alice",)):
        sim.approve(request, *given)
        with sim.refused(PolicyRefused, f"approvals:{len(given)}-of-2", ["deny configure"]):
            change_officers(sim.core, sim.operator, request)
    assert names(sim) == ["alice", "bob", "carol"]


def test_a_change_is_made_once_and_only_as_it_was_signed(sim):
    request = add(sim)
    change_officers(sim.core, sim.operator, request)
    with sim.refused(ReplayRefused, "was used already"):
        change_officers(sim.core, sim.operator, request)
    other = sim.approved("break-glass")
    with sim.refused(PolicyRefused, "is for no change of officers: ask for one"):
        change_officers(sim.core, sim.operator, other)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (
            {"person": "dora", "key": "ssh-rsa AAAA", "roles": ""},
            Malformed,
            "sk-ecdsa-sha2-nistp256@openssh.com and a key, found 'ssh-rsa",
        ),
        ({"person": "*", "key": key_of(DORA), "roles": ""}, Malformed, "one person's name, found"),
        ({"person": "a\nb", "key": key_of(DORA), "roles": ""}, Malformed, "one person's name, found"),
        ({"person": "Alice", "key": key_of(DORA), "roles": ""}, Malformed, "alice spelled as before"),
        (
            {"person": "dora", "key": key_of(DORA), "roles": "operator"},
            UsageError,
            "roles such as data-owner",
        ),
        ({"person": "dora", "key": key_of(DORA), "roles": "Boss"}, UsageError, "roles such as data-owner"),
    ],
    ids=str,
)
def test_what_could_not_be_carried_out_is_not_asked_for(sim, options, error, said):
    with sim.refused(error, said):
        sim.request("configure", options={"setting": "officers", "change": "add", **options})


def test_a_key_of_one_officer_is_not_enrolled_for_another(sim):
    options = {"person": "dora", "key": key_of(sim.officers["alice"]), "roles": ""}
    with sim.refused(Malformed, "expected each key once, found that of alice for dora"):
        sim.request("configure", options={"setting": "officers", "change": "add", **options})


def test_only_an_addition_and_a_revocation_are_changes(sim):
    with sim.refused(UsageError, "expected a change of add or revoke, found 'swap'"):
        sim.request("configure", options={"setting": "officers", "change": "swap", "person": "bob"})
    with sim.refused(Malformed, "expected lines of 'zoe' to take away, found none"):
        sim.request("configure", options={"setting": "officers", "change": "revoke", "person": "zoe"})


def test_the_last_who_could_approve_are_not_revoked(sim):
    revoke(sim, "carol")
    with sim.refused(Malformed, "1 officers could never meet it, missing 1-of-2; enrol more first"):
        sim.request("configure", options={"setting": "officers", "change": "revoke", "person": "bob"})


def test_a_revoked_officers_approvals_do_not_count(sim):
    waiting = sim.request("break-glass")
    sim.approve(waiting, "alice", "carol")
    revoke(sim, "carol")
    with sim.refused(PolicyRefused, "approvals:1-of-2", ["deny break-glass"]):
        spend(sim.core, sim.operator, waiting, break_glass_of(sim.core))
    with sim.refused(NotEnrolled, "belongs to no enrolled officer"):
        take_approval(sim.core, waiting, sim.sign(waiting, "carol"))
    sim.approve(waiting, "bob")
    assert demand_approved(sim.core, waiting, break_glass_of(sim.core)).people == ("alice", "bob")


def test_an_approval_from_before_a_revocation_does_not_come_back_with_the_officer(sim):
    waiting = sim.request("break-glass")
    sim.approve(waiting, "alice", "carol")
    revoke(sim, "carol")
    change_officers(sim.core, sim.operator, add(sim, "carol", sim.officers["carol"]))
    assert "carol" in names(sim)
    with sim.refused(PolicyRefused, "approvals:1-of-2", ["deny break-glass"]):
        spend(sim.core, sim.operator, waiting, break_glass_of(sim.core))


@pytest.mark.parametrize("moved", ["beyond-the-log", "another-kind", "another-officer", "another-request"])
def test_an_approval_moved_in_the_catalog_past_a_revocation_is_refused(sim, moved):
    """Its place in the log says what it is older than: the log's word is taken for it, not the row's."""
    waiting, other = sim.request("break-glass"), sim.request("break-glass")
    sim.approve(waiting, "alice", "carol")
    sim.approve(other, "alice")
    rows = {row.person: row for row in sim.core.catalog.approvals(parse_request(waiting.encode()).id)}
    others = sim.core.catalog.approvals(parse_request(other.encode()).id)[0].log_index
    revoke(sim, "carol")
    change_officers(sim.core, sim.operator, add(sim, "carol", sim.officers["carol"]))
    person, index = {
        "beyond-the-log": ("carol", sim.core.log.size + 5),
        "another-kind": ("carol", sim.core.log.size - 1),
        "another-officer": ("carol", rows["alice"].log_index),
        "another-request": ("alice", others),
    }[moved]
    edit = "UPDATE approvals SET log_index = ? WHERE person = ? AND request = ?"
    assert sim.edit_catalog(edit, index, person, rows[person].request) == 1
    with sim.refused(IntegrityError, f"log entry {index} allowed no such approval; catalog.db was changed"):
        demand_approved(sim.core, waiting, break_glass_of(sim.core))


def test_an_open_leave_ends_with_the_officer_who_gave_it(sim):
    sim.core.allowance.give(("alice", "bob"))
    change_officers(sim.core, sim.operator, add(sim))
    sim.officers["dora"] = DORA
    revoke(sim, "carol")
    assert sim.core.allowance.is_open
    revoke(sim, "alice", "bob", "dora")
    assert not sim.core.allowance.is_open


def test_a_job_that_rested_on_a_revoked_officer_ends(tmp_path):
    """Glass was broken for it: no further key, and its worker is to be killed."""
    sim = Simulator(tmp_path, witnesses=[Cosigner.from_seed("ann.example", b"a" * 32).vkey.text])
    sim.clock.pass_(8 * DAY_S)
    weights = sim.add("weights", "tiny", b"the weights")
    approved, _ = spend(sim.core, sim.operator, sim.approved("break-glass"), break_glass_of(sim.core))
    sim.core.allowance.give(approved.people)
    sim.core.gate.request(sim.operator, "sample", NamedObject("weights", "tiny"), job="sample-1")
    held = sim.use(weights, job="sample-1", purpose="sample")
    assert not sim.core.live.overdue_jobs()
    done = revoke(sim, "bob", "alice", "carol")
    assert done.ended == ("sample-1",)
    assert sim.core.live.overdue_jobs() == {"sample-1"}
    with sim.refused(PolicyRefused, "expected one issued by the gate and unused"):
        sim.open(held)
    with pytest.raises(PolicyRefused, match="rested on the approval of an officer who was revoked"):
        sim.use(weights, job="sample-1", purpose="sample")
    with pytest.raises(PolicyRefused, match="ask officers anew"):
        sim.core.live.check("sample-1")
    sim.core.live.revoke_job("sample-1")
    assert not sim.core.live.overdue_jobs()
    sim.core.live.check("sample-1")
    sim.close()


def test_officers_exchanged_for_earlier_ones_are_refused_at_start_and_at_use(sim):
    before = sim.home.officers.read_bytes()
    revoke(sim, "carol")
    sim.home.officers.write_bytes(before)
    with sim.refused(IntegrityError, "it is not known who may approve"):
        list_officers(sim.core)
    sim.stop()
    sim.refuses_to_start(IntegrityError, "it is not known who may approve")


def test_a_crash_after_the_entry_is_made_good_at_the_next_start(sim):
    request = add(sim)
    with patch.object(officers.Path, "rename", side_effect=OSError("power cut")), pytest.raises(OSError):
        change_officers(sim.core, sim.operator, request)
    sim.crash()
    sim.start()
    assert names(sim) == ["alice", "bob", "carol", "dora"]
    assert not sim.home.officers.with_suffix(".next").exists()


def test_a_change_that_did_not_reach_the_log_leaves_the_old_officers(sim):
    request = add(sim)
    sim.approve(sim.request("break-glass"), "alice")
    with patch.object(officers, "spend", side_effect=PolicyRefused("no")), pytest.raises(PolicyRefused):
        change_officers(sim.core, sim.operator, request)
    assert sim.home.officers.with_suffix(".next").exists()
    sim.restart()
    assert names(sim) == ["alice", "bob", "carol"]
    assert not sim.home.officers.with_suffix(".next").exists()


# ---- quorums -----------------------------------------------------------------------------------------------

ROLES = {"alice": ["security-officer"], "bob": ["data-owner"], "carol": ["security-officer", "data-owner"]}
QUORUMS = {"break-glass": {"people": 2, "security-officer": 1, "data-owner": 1}, "configure": {"people": 3}}


@pytest.fixture
def roles(tmp_path):
    simulator = Simulator(tmp_path, officer_roles=ROLES, quorums=QUORUMS)
    yield simulator
    simulator.close()


def test_each_role_must_have_approved(roles):
    request = roles.request("break-glass")
    roles.approve(request, "alice")
    with roles.refused(PolicyRefused, "approvals:1-of-2, approvals:data-owner", ["deny break-glass"]):
        spend(roles.core, roles.operator, request, break_glass_of(roles.core))
    roles.approve(request, "carol")
    assert spend(roles.core, roles.operator, request, break_glass_of(roles.core))[0].people == (
        "alice",
        "carol",
    )


def test_two_of_one_role_are_not_both_roles(tmp_path):
    held = {"alice": ["security-officer"], "bob": ["security-officer"], "carol": ["data-owner"]}
    sim = Simulator(tmp_path, officer_roles=held, quorums=QUORUMS)
    request = sim.request("break-glass")
    sim.approve(request, "alice", "bob")
    with sim.refused(PolicyRefused, "approvals:data-owner", ["deny break-glass"]):
        spend(sim.core, sim.operator, request, break_glass_of(sim.core))
    sim.close()


def test_a_threshold_above_two_is_kept(roles):
    request = add(roles)
    with roles.refused(PolicyRefused, "approvals:2-of-3", ["deny configure"]):
        change_officers(roles.core, roles.operator, request)
    roles.approve(request, "carol")
    change_officers(roles.core, roles.operator, request)
    assert "dora" in names(roles)


def test_a_quorum_edited_in_the_home_is_not_the_one_that_was_logged(roles):
    roles.stop()
    roles.edit_home(quorums={})
    roles.refuses_to_start(IntegrityError, "home.json differs from what the log's genesis entry names")
    roles.edit_home(quorums={"export": {"people": 1}})
    roles.refuses_to_start(IntegrityError, "home.json is damaged .*expected 2 to 16 people")


def test_an_appliance_is_not_made_with_a_quorum_that_nobody_could_meet(tmp_path):
    with pytest.raises(Malformed, match="quorum of export: 3 officers could never meet it"):
        Simulator(tmp_path / "a", quorums={"export": {"people": 4}})
    with pytest.raises(UsageError, match="expected a role of an officer, found zoe"):
        Simulator(tmp_path / "b", officer_roles={"zoe": ["data-owner"]})
    with pytest.raises(UsageError, match="expected a role such as data-owner for bob, found 'operator'"):
        Simulator(tmp_path / "c", officer_roles={"bob": ["operator"]})


def test_the_requesters_own_key_among_the_officers_counts_for_nothing(tmp_path):
    """The operator is an officer as well: their signature is refused, and they are nobody's second person."""
    sim = Simulator(tmp_path, people={os.getuid(): "carol"})
    request = sim.request("break-glass")
    with sim.refused(ApprovalRefused, "carol asked for this and cannot approve it"):
        take_approval(sim.core, request, sim.sign(request, "carol"))
    sim.approve(request, "alice")
    with sim.refused(PolicyRefused, "approvals:1-of-2", ["deny break-glass"]):
        spend(sim.core, sim.operator, request, break_glass_of(sim.core))
    sim.close()
