"""The custodian's end of the front's channel: a captured front can stop reading, and stops nobody else."""

from __future__ import annotations

import asyncio
import time

import pytest

from appliance.custodian import clients as module
from appliance.custodian.clients import Clients
from appliance.frontlink import Disconnect
from appliance.messages import Channel


@pytest.mark.timeout(30)
def test_a_front_that_takes_no_answers_is_ended(monkeypatch):
    monkeypatch.setattr(module, "FRONT_PATIENCE_S", 0.2)

    async def fill() -> tuple[int, float]:
        ours, theirs = Channel.pair()
        ended: list[float] = []
        clients = Clients(ours, {}, lambda: ended.append(time.monotonic()))
        began = time.monotonic()
        sent = 0
        while not ended:
            clients._tell(Disconnect(sent))
            sent += 1
        theirs.close()
        ours.close()
        return sent, ended[0] - began

    sent, waited = asyncio.run(fill())
    assert sent > 1, "what fits into the channel is taken at once"
    assert waited < 10
