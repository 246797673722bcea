"""What the stricter set forbids beside the default, each rule against the threat in its comment."""

from __future__ import annotations

import pytest

from policy.cases import WORKING, demand_promises
from policy.engine import Engine, shipped
from policy.model import Entity, Request

STRICT = Engine(*shipped("strict"))
DEFAULT = Engine(*shipped())
ADA = Entity("Person", "ada", {"roles": ("operator",), "compartments": ("a",)})
BOTH = Entity("Person", "ada", {"roles": ("operator", "officer"), "compartments": ("a",)})
MODEL = Entity("Object", "a" * 64, {"kind": "weights", "name": "tales", "compartments": (), "state": "ready"})
CONFIG = Entity("Object", "b" * 64, {"kind": "config", "name": "tiny", "compartments": (), "state": "ready"})
HERE = Entity("Appliance", "here", {})
LABELLED = Entity(
    "Bundle", "c" * 32, {"kind": "corpus", "direction": "in", "signer": "s", "compartments": ("a",)}
)
PLAIN = Entity("Bundle", "c" * 32, {"kind": "corpus", "direction": "in", "signer": "s", "compartments": ()})


def approved(count: int, **more: object) -> dict[str, object]:
    return {"approvals": count, "approvers": [f"o{n}" for n in range(count)], "requester": "ada", **more}


ENTRIES = "unwitnessed_entries"
EXACT = approved(3, signed=True, rounding="none")
EARLY = approved(3, signed=True, since_boot_s=599)


@pytest.mark.parametrize(
    ("rule", "principal", "action", "resource", "facts", "mended"),
    [
        ("custody-is-split-or-in-a-device", ADA, "unseal", HERE, {"custody": "file:"}, {}),
        ("custody-is-split-or-in-a-device", ADA, "train", CONFIG, {"custody": "passphrase:"}, {}),
        ("only-isolated-hosts-work", ADA, "train", CONFIG, {"profile": "development"}, {}),
        ("log-is-witnessed", ADA, "sample", MODEL, {"witnesses": 0}, {}),
        ("log-is-witnessed", ADA, "sample", MODEL, {"witnessed_once": False}, {}),
        ("witnessing-is-overdue", ADA, "train", CONFIG, {ENTRIES: 1001}, {ENTRIES: 1000}),
        ("witnessing-is-overdue", ADA, "train", CONFIG, {"unwitnessed_age_s": 86401}, {"break_glass": True}),
        ("three-approve", ADA, "export", MODEL, approved(2, signed=True), approved(3, signed=True)),
        ("three-approve", ADA, "shred", MODEL, approved(2), approved(3)),
        ("every-setting-needs-three", ADA, "configure", HERE, {"setting": "log-key"}, approved(3)),
        ("operators-are-no-officers", BOTH, "approve", HERE, {}, None),
        ("imports-have-a-compartment", ADA, "import", PLAIN, {}, None),
        ("models-leave-rounded", ADA, "export", MODEL, EXACT, approved(3, signed=True, rounding="bf16")),
        ("nothing-leaves-after-a-start", ADA, "export", MODEL, EARLY, {"since_boot_s": 600}),
    ],
    ids=str,
)
def test_a_strict_rule_forbids_what_it_says_and_nothing_when_it_is_mended(
    rule, principal, action, resource, facts, mended
):
    refused = STRICT.decide(Request(principal, action, resource, {**WORKING, **facts}))
    assert f"forbidden-by:strict-{rule}" in refused.reasons
    if mended is not None:
        facts = {name: told for name, told in facts.items() if name not in WORKING}
        whole = {**WORKING, **facts, **mended}
        if "break_glass" in mended:
            whole["unwitnessed_age_s"] = 86401
        assert STRICT.decide(Request(principal, action, resource, whole)).allow


def test_an_import_with_a_compartment_and_an_officer_who_only_approves_are_let_through():
    assert STRICT.decide(Request(ADA, "import", LABELLED, WORKING)).allow
    officer = Entity("Person", "bob", {"roles": ("officer",), "compartments": ()})
    assert STRICT.decide(Request(officer, "approve", HERE, WORKING)).allow


@pytest.mark.parametrize("kind", ["approval", "revocation"])
def test_what_is_no_data_comes_in_without_a_compartment(kind):
    bundle = Entity("Bundle", "c" * 32, {**PLAIN.attrs, "kind": kind})
    assert STRICT.decide(Request(ADA, "import", bundle, WORKING)).allow


def test_the_stricter_set_adds_only_what_forbids():
    assert set(DEFAULT.names) < set(STRICT.names)
    text = shipped("strict")[0]["strict.cedar"]
    assert "\npermit" not in text


@pytest.mark.parametrize("engine", [DEFAULT, STRICT], ids=["default", "strict"])
def test_both_sets_that_ship_keep_the_promises(engine):
    demand_promises(engine)
