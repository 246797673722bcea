"""Approvals that are stale, copied, forged or used: nothing leaves by them."""

from __future__ import annotations

import hashlib

import pytest
from nacl.signing import SigningKey

from appliance.custodian.approvals import USED, take_approval
from appliance.custodian.exports import Wanted, _decide, approved_export
from appliance.custodian.officers import change_officers
from appliance.custodian.requests import export_of
from appliance.errors import AlreadyExists, IntegrityError, PolicyRefused, ReplayRefused, UnknownObject
from appliance.home import CHANGED
from policy.approvals import parse_request
from policy.errors import ApprovalExpired, ApprovalRefused, Malformed, NotEnrolled, SignatureInvalid
from policy.sshsig import public_key_line, sign
from tests.simulator import DAY_S


class Case:
    """One model, one recipient, one request, signed as the test says."""

    def __init__(self, sim):
        self.sim = sim
        self.weights = sim.add("weights", "tiny", b"the weights", [sim.add("config", "tiny", b"[model]")])
        self.recipient = sim.recipient()
        self.document = sim.request_export(self.weights, self.recipient)
        self.request = parse_request(self.document.encode()).id

    def approved(self):
        return approved_export(self.sim.core, Wanted("tiny", self.recipient, self.request, 0))

    def decide(self):
        """Decide on the export as the custodian does, up to the gate's answer."""
        weights, approved = self.approved()
        subject = export_of(weights, self.recipient)
        return _decide(self.sim.core, self.sim.operator, approved, subject, "export-1", (weights.id,), 1)

    def use(self):
        """What the first byte that leaves is preceded by."""
        self.sim.core.gate.outcome(USED, "Person:operator", "export", "Request:x", {"request": self.request})
        self.sim.core.catalog.use_request(self.request)


@pytest.fixture
def case(sim):
    return Case(sim)


def test_two_officers_are_enough_and_one_is_not(case):
    forbidden = "may not export weights tiny: forbidden-by:export-needs-two-officers, invariant:two-officers"
    for officers in ([], ["alice"]):
        case.sim.approve(case.document, *officers)
        with case.sim.refused(PolicyRefused, forbidden, ["deny export"]):
            case.decide()
    case.sim.approve(case.document, "bob")
    allowed = case.decide()
    assert allowed.object == case.weights
    assert not case.sim.core.live._unused, "a decision to export opens nothing by itself"


def test_a_used_request_is_refused(case):
    case.sim.approve(case.document, "alice", "bob")
    case.use()
    with case.sim.refused(ReplayRefused, "was used already: each approval counts once"):
        case.decide()


def test_a_used_request_set_back_in_the_catalog_is_refused_by_the_log(case):
    case.sim.approve(case.document, "alice", "bob")
    case.use()
    for _ in range(2):
        assert case.sim.edit_catalog("UPDATE requests SET state = 'open'") == 1
        with case.sim.refused(ReplayRefused, "was used already, says the log"):
            case.decide()
        case.sim.restart()


def test_a_use_that_a_crash_kept_from_the_catalog_counts(case):
    case.sim.approve(case.document, "alice", "bob")
    case.sim.core.gate.outcome(USED, "Person:operator", "export", "Request:x", {"request": case.request})
    case.sim.crash()
    case.sim.start()
    assert case.sim.core.catalog.request(case.request).state == "used"


@pytest.mark.parametrize("index", [0, 1])
def test_a_request_that_points_at_another_entry_is_refused(case, index):
    case.sim.approve(case.document, "alice", "bob")
    case.sim.edit_catalog("UPDATE requests SET log_index = ?", index)
    with case.sim.refused(IntegrityError, f"log entry {index} made no such document; catalog.db"):
        case.decide()


def test_stale_approvals_of_another_request_do_not_count(case):
    sim = case.sim
    sim.approve(case.document, "alice", "bob")
    fresh = sim.request_export(case.weights, case.recipient)
    name = parse_request(fresh.encode()).id
    sim.edit_catalog("UPDATE approvals SET request = ?", name)
    with sim.refused(SignatureInvalid, "is not over this message"):
        approved_export(sim.core, Wanted("tiny", case.recipient, name, 0))


def test_one_officers_approval_under_two_names_counts_once(case):
    sim = case.sim
    sim.approve(case.document, "alice")
    sim.edit_catalog(
        "INSERT INTO approvals SELECT request, 'bob', role, signature, log_index FROM approvals LIMIT 1"
    )
    with sim.refused(PolicyRefused, "export-needs-two-officers", ["deny export"]):
        case.decide()


def test_a_document_edited_in_the_catalog_is_not_what_was_made(case):
    sim, other = case.sim, case.sim.recipient()
    sim.approve(case.document, "alice", "bob")
    edited = case.document.replace(case.recipient, other).encode()
    sim.edit_catalog("UPDATE requests SET document = ?", edited)
    with sim.refused(IntegrityError, "made no such document; catalog.db was changed: rebuild it"):
        approved_export(sim.core, Wanted("tiny", other, case.request, 0))


def test_approvals_are_for_this_model_and_recipient(case):
    sim = case.sim
    sim.approve(case.document, "alice", "bob")
    for model, recipient in (("other", case.recipient), ("tiny", sim.recipient())):
        with sim.refused(PolicyRefused, "is for export model tiny version 1 to age.*: ask for what you mean"):
            approved_export(sim.core, Wanted(model, recipient, case.request, 0))


def test_an_officers_file_exchanged_while_it_runs_approves_nothing(case):
    """The attacker's own keys under the officers' names: asked again at each use, not at the start alone."""
    sim = case.sim
    forged = {name: hashlib.sha256(b"mallory" + name.encode()).digest() for name in sim.officers}
    sim.replace_officers(sim.signers_file(forged))
    signature = sign(forged["alice"], "approval@appliance", case.document.encode())
    with sim.refused(IntegrityError, f"officers {CHANGED}: restore it, or it is not known who may approve"):
        take_approval(sim.core, case.document, signature)
    with sim.refused(IntegrityError, f"officers {CHANGED}"):
        case.decide()


def test_a_stranger_approves_nothing(case):
    signature = sign(b"m" * 32, "approval@appliance", case.document.encode())
    with case.sim.refused(NotEnrolled, "belongs to no enrolled officer"):
        take_approval(case.sim.core, case.document, signature)


def test_a_signature_for_another_purpose_approves_nothing(case):
    signature = sign(case.sim.officers["alice"], "file", case.document.encode())
    with case.sim.refused(SignatureInvalid, "namespace|approval@appliance"):
        take_approval(case.sim.core, case.document, signature)


def test_a_request_made_elsewhere_is_not_taken(case, tmp_path):
    edited = case.document.replace("for carol", "for mallory")
    with case.sim.refused(UnknownObject, "expected it in the catalog, found none"):
        take_approval(case.sim.core, edited, case.sim.sign(edited, "alice"))


def test_an_expired_request_neither_takes_approvals_nor_counts(case):
    sim = case.sim
    sim.approve(case.document, "alice", "bob")
    sim.clock.pass_(DAY_S + 1)
    with sim.refused(ApprovalExpired, "expired at 2.*; ask anew"):
        case.decide()
    with sim.refused(ApprovalExpired, "expired at 2.*; ask anew"):
        take_approval(sim.core, case.document, sim.sign(case.document, "carol"))


def test_a_clock_that_is_turned_back_revives_no_request(case):
    sim = case.sim
    sim.approve(case.document, "alice", "bob")
    sim.clock.pass_(DAY_S + 1)
    sim.core.gate.outcome("note", "p", "a", "r", {})
    sim.clock.pass_(-2 * DAY_S)
    for _ in range(2):
        with sim.refused(ApprovalExpired, "expired at 2.*; ask anew"):
            case.decide()
        sim.restart()


def test_one_person_with_two_keys_counts_once(case):
    """An officer's second key is good for a signature, and for no second person."""
    sim, second = case.sim, hashlib.sha256(b"another key of alice").digest()
    key = public_key_line(bytes(SigningKey(second).verify_key), "")
    options = {"setting": "officers", "change": "add", "person": "alice", "key": key.strip(), "roles": ""}
    change_officers(sim.core, sim.operator, sim.approved("configure", **options))
    sim.approve(case.document, "alice")
    signature = sign(second, "approval@appliance", case.document.encode())
    with sim.refused(AlreadyExists, "alice has approved this request already: another officer must"):
        take_approval(sim.core, case.document, signature)
    sim.edit_catalog(
        "INSERT INTO approvals SELECT request, 'bob', role, ?, log_index FROM approvals WHERE request = ?",
        *(signature, case.request),
    )
    with sim.refused(PolicyRefused, "approvals:1-of-2", ["deny export"]):
        case.decide()


@pytest.mark.parametrize("given", ["", " ", "nothing", "{}", '{"action":"export"}', "a" * 64, "\u00e9"])
def test_what_names_no_request_approves_nothing(case, given):
    with case.sim.refused((UnknownObject, Malformed), "expected"):
        approved_export(case.sim.core, Wanted("tiny", case.recipient, given, 0))


def test_rules_that_changed_since_end_every_request(case):
    case.sim.approve(case.document, "alice", "bob")
    case.sim.core.engine = Other(case.sim.core.engine)
    with case.sim.refused(ApprovalRefused, "is for the rules .*, here is 0000.*; ask anew"):
        case.decide()


class Other:
    """Rules of another digest."""

    digest = "0" * 64

    def __init__(self, engine):
        self.decide = engine.decide
