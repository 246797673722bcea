"""Rules, officers, facts and keys exchanged on the disk: refused at the start, each in its own words."""

from __future__ import annotations

import shutil

import pytest

from appliance.errors import Incomplete, IntegrityError, PolicyRefused, UnknownObject, WrongSecret
from appliance.home import CHANGED
from audit.errors import BadSignature
from policy.errors import PolicyInvalid
from tests.simulator import Simulator

PERMIT_ALL = '@id("all") permit (principal, action, resource);\n'


@pytest.fixture
def stopped(sim):
    sim.add("weights", "tiny", b"the weights")
    sim.stop()
    return sim


@pytest.mark.parametrize(
    ("attack", "given", "error", "message"),
    [
        (
            "replace_rules",
            PERMIT_ALL,
            IntegrityError,
            f"the rule set in .*policy {CHANGED}: restore its files",
        ),
        ("add_rules", PERMIT_ALL, IntegrityError, f"the rule set in .*policy {CHANGED}"),
        ("replace_rules", "permit everything", PolicyInvalid, "default.cedar"),
        ("replace_officers", "", IntegrityError, f"officers {CHANGED}: restore it, or it is not known who"),
        ("replace_officers", "mallory ssh-ed25519 AAAA\n", IntegrityError, f"officers {CHANGED}"),
    ],
)
def test_an_exchanged_file_is_refused(stopped, attack, given, error, message):
    with stopped.undone():
        getattr(stopped, attack)(given)
        stopped.refuses_to_start(error, message)


def test_missing_rules_are_refused(stopped):
    with stopped.undone():
        (stopped.home.policy / "default.cedar").unlink()
        stopped.refuses_to_start(PolicyInvalid, "expected at least one")


def test_a_missing_officers_file_is_refused(stopped):
    with stopped.undone():
        stopped.home.officers.unlink()
        stopped.refuses_to_start(IntegrityError, f"officers {CHANGED}")


@pytest.mark.parametrize(
    "changed",
    [
        {"profile": "isolated"},
        {"custody": "passphrase:"},
        {"vault_recipient": "age1" + "q" * 58},
        {"transfer_recipient": "age1" + "q" * 58},
        {"export_key_pem": ""},
        {"bundle_vkey": ""},
        {"policy_set": "0" * 64},
        {"officers_sha256": "0" * 64},
        {"trust": ["mallory+00000000+AAAA"]},
        {"people": {"0": "alice"}},
        {"roles": {"operator": ["operator", "officer"]}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_an_edited_fact_is_refused(stopped, changed):
    with stopped.undone():
        stopped.edit_home(**changed)
        stopped.refuses_to_start(
            IntegrityError, f"home.json {CHANGED}: restore it from a copy or from that entry"
        )


@pytest.mark.parametrize("changed", [{"origin": "other.example/x"}, {"log_vkey": "other+00000000+AAAA"}])
def test_another_name_or_key_of_the_log_is_refused(stopped, changed):
    with stopped.undone():
        stopped.edit_home(**changed)
        stopped.refuses_to_start(IntegrityError, "home.json names another log key than .*keys holds")


@pytest.mark.parametrize("changed", [{"format": 2}, {"profile": "open"}, {"added": 1}])
def test_facts_of_another_shape_are_refused(stopped, changed):
    with stopped.undone():
        stopped.edit_home(**changed)
        stopped.refuses_to_start(IntegrityError, "home.json is damaged .*restore it from the log's genesis")


def test_a_rule_set_exchanged_with_its_digest_is_refused_by_the_genesis_entry(stopped):
    with stopped.undone():
        stopped.replace_rules(PERMIT_ALL)
        stopped.edit_home(policy_set="1" * 64)
        stopped.refuses_to_start(IntegrityError, f"home.json {CHANGED}")


def test_a_log_begun_anew_under_another_key_is_refused_though_its_first_entry_fits(stopped, tmp_path):
    """Facts, rules and officers are as they were; only the key that signs from now on is the attacker's."""
    other = Simulator(tmp_path / "other")
    other.stop()
    with stopped.undone():
        for path in other.home.keys.glob("log.*"):
            shutil.copy(path, stopped.home.keys)
        stopped.begin_another_log(b"m" * 32)
        stopped.refuses_to_start(IntegrityError, "home.json names another log key than .*keys holds")


@pytest.mark.parametrize(
    "changed", [{"kind": "note"}, {"context": {"facts_sha256": "0" * 64}}, {"context": {}}]
)
def test_a_log_whose_first_entry_is_another_is_refused(stopped, changed):
    with stopped.undone():
        stopped.rewrite_genesis(**changed)
        stopped.refuses_to_start(IntegrityError, f"home.json {CHANGED}")


def test_a_log_without_its_genesis_entry_is_refused(stopped):
    with stopped.undone():
        stopped.empty_log()
        stopped.refuses_to_start(IntegrityError, "log has no genesis entry: `appliance init` was cut off")


def test_another_appliances_log_is_refused(stopped, tmp_path):
    other = Simulator(tmp_path / "other")
    other.stop()
    with stopped.undone():
        shutil.rmtree(stopped.home.log)
        shutil.copytree(other.home.log, stopped.home.log)
        stopped.refuses_to_start(BadSignature, "signature")


def test_another_appliances_keyring_unseals_nothing(sim, tmp_path):
    other = Simulator(tmp_path / "other")
    other.stop()
    sim.seal()
    for path in other.home.keys.glob("vault.*"):
        shutil.copy(path, sim.home.keys)
    with sim.refused(
        IntegrityError, "slot vault: expected the record that the log names, found another: restore"
    ):
        sim.unseal()
    assert sim.core.sealed


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("log.age", Incomplete, "expected a file .*log.age"),
        ("log.identity", WrongSecret, "key file .*log.identity"),
        ("log.custody.json", Incomplete, "expected a file .*log.custody.json"),
    ],
)
def test_a_missing_piece_of_the_log_key_is_named(stopped, name, error, message):
    with stopped.undone():
        (stopped.home.keys / name).unlink()
        stopped.refuses_to_start(error, message)


def test_rules_exchanged_while_it_runs_change_no_decision(sim):
    weights = sim.add("weights", "tiny", b"the weights")
    sim.replace_rules(PERMIT_ALL)
    with sim.refused(PolicyRefused, "may not read weights tiny: no-rule-permits", ["deny read"]):
        sim.ask("read", weights)


def test_a_folder_that_is_no_appliance(tmp_path, sim):
    sim.stop()
    sim.home.facts.unlink()
    sim.refuses_to_start(UnknownObject, "no appliance in .*: make one with `appliance init`")
