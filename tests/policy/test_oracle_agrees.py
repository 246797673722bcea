"""The rules and the oracle, two accounts of the same promises, never disagree where it would allow."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy import engine as engine_module
from policy import oracle
from policy.cases import WORKING
from policy.engine import Engine, shipped
from policy.model import Entity, Request

LABELS = st.lists(st.sampled_from(["a", "b"]), max_size=2, unique=True)
NAMES = st.sampled_from(["ada", "bob", "cleo", "dora"])
ROLES = st.lists(st.sampled_from(["operator", "officer", "auditor"]), max_size=3, unique=True)
KINDS = st.sampled_from(["config", "corpus", "weights", "optimizer", "report"])
PURPOSES = st.sampled_from(["train", "sample", "evaluate", "export", "import"])
OBJECTS = st.builds(
    lambda kind, name, labels, state: Entity(
        "Object", name * 64, {"kind": kind, "name": "x", "compartments": labels, "state": state}
    ),
    KINDS,
    st.sampled_from("cd"),
    LABELS,
    st.sampled_from(["ready", "ready", "staged", "damaged"]),
)
BUNDLES = st.builds(
    lambda labels: Entity(
        "Bundle", "b" * 32, {"kind": "corpus", "direction": "import", "signer": "s", "compartments": labels}
    ),
    LABELS,
)
RESOURCES = OBJECTS | BUNDLES | st.just(Entity("Appliance", "here", {}))
PEOPLE = st.builds(
    lambda name, roles, carried: Entity("Person", name, {"roles": roles, "compartments": carried}),
    NAMES,
    ROLES,
    LABELS,
)
JOBS = st.builds(
    lambda owner, purpose, names, carried: Entity(
        "Job",
        "j",
        {"owner": owner, "purpose": purpose, "objects": [n * 64 for n in names], "compartments": carried},
    ),
    NAMES,
    PURPOSES,
    st.lists(st.sampled_from("cd"), max_size=2, unique=True),
    LABELS,
)
ACTIONS = st.sampled_from(
    [
        *("read", "use", "train", "sample", "evaluate", "import", "export", "open", "verify", "create"),
        *(
            "rotate",
            "shred",
            "status",
            "stop",
            "request",
            "approve",
            "seal",
            "unseal",
            "configure",
            "witness",
        ),
    ]
)
CONTEXTS = st.fixed_dictionaries(
    {
        "profile": st.sampled_from(["isolated", "development"]),
        "sealed": st.booleans(),
        "isolated": st.booleans(),
    },
    optional={
        "approvals": st.integers(0, 3),
        "approvers": st.lists(NAMES, max_size=3),
        "requester": NAMES,
        "signed": st.booleans(),
        "setting": st.sampled_from(["policy", "officers", "log-key", "new"]),
        "source": st.sampled_from(["path", "catalog"]),
    },
)
REQUESTS = st.builds(
    lambda who, action, what, facts: Request(who, action, what, {**WORKING, **facts}),
    PEOPLE | JOBS | st.just(Entity("Custodian", "c", {})),
    ACTIONS,
    RESOURCES,
    CONTEXTS,
)
SETS = {name: Engine(*shipped(name)) for name in ("default", "strict")}


@pytest.mark.parametrize("name", SETS)
@settings(max_examples=150, deadline=None)
@given(request_=REQUESTS)
def test_nothing_that_the_oracle_refuses_is_allowed(name, request_):
    decision = SETS[name].decide(request_)
    if decision.allow:
        assert not oracle.broken_invariants(request_)
        assert decision.policies


@settings(max_examples=120, deadline=None)
@given(REQUESTS, st.lists(NAMES, min_size=2, max_size=3, unique=True))
def test_the_rules_alone_allow_nothing_that_the_oracle_refuses(request_, approvers):
    """With honest facts: the count is that of the names, without the requester. The oracle is taken away."""
    requester = request_.principal.id
    others = [name for name in approvers if name != requester]
    honest = {"approvals": len(others), "approvers": others, "requester": requester}
    asked = replace(request_, context={**request_.context, **honest})
    refused = oracle.broken_invariants(asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module.oracle, "broken_invariants", lambda _: ())
        alone = SETS["default"].decide(asked)
    assert not (refused and alone.allow), (refused, alone)
