"""Receipts of imports leave under a budget, like anything else that does."""

from __future__ import annotations

import asyncio
import os

import pytest

from appliance.age import X25519Identity
from appliance.bundle.manifest import target_of
from appliance.catalog.entries import IMPORTED
from appliance.custodian.clients import Caller
from appliance.custodian.receipts import SENT, Receipts
from appliance.egress import DEFAULTS
from appliance.errors import PolicyRefused
from tests.simulator import Simulator

BUNDLE = "c" * 32
DESK = X25519Identity.generate().recipient.text


@pytest.fixture
def one(tmp_path):
    """An appliance from which one receipt may go to each recipient in a week."""
    budgets = {**DEFAULTS, "metrics": {**DEFAULTS["metrics"], "recipient_count": 1}}
    simulator = Simulator(tmp_path / "one", budgets=budgets)
    context = {"bundle": BUNDLE, "channel": "lab", "bundle_seq": 1, "manifest_sha256": "ab" * 32}
    simulator.core.gate.outcome(IMPORTED, "Person:operator", "import", f"Bundle:{BUNDLE}", context)
    yield simulator
    simulator.close()


def send(sim, folder):
    folder.mkdir()
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    caller = Caller(os.getuid(), {"bundle": BUNDLE, "recipient": DESK, "folder_fd": 0}, (fd,))
    try:
        return asyncio.run(Receipts(sim.core).send(caller))
    finally:
        os.close(fd)


def test_a_receipt_is_charged_before_it_leaves_and_refused_beyond_the_budget(one, tmp_path):
    send(one, tmp_path / "first")
    (charge,) = one.core.ledger.charges
    assert (charge.content, charge.recipient) == ("metrics", target_of(DESK))
    assert 0 < charge.size_bytes < 1 << 16
    sent = [index for index, entry in enumerate(one.core.log.entries()) if SENT.encode("ascii") in entry]
    assert len(sent) == 1
    assert charge.index < sent[0]
    with pytest.raises(PolicyRefused, match="egress-budget:metrics-recipient_count"):
        send(one, tmp_path / "second")
    assert list((tmp_path / "second").iterdir()) == []
    assert len(one.core.ledger.charges) == 1
