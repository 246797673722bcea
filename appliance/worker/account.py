"""Open the sealed account of one run and tell its sums."""

from __future__ import annotations

from appliance.messages import Channel
from appliance.training.report import parse_account
from appliance.worker.meter import NO_REPORT, message_of
from appliance.worker.port import Port
from appliance.worker.train import whole
from appliance.worklink import Begin


def run(channel: Channel, begin: Begin) -> None:
    """Read the one object that was granted."""
    del begin
    port = Port(channel)
    account = parse_account(bytes(whole(port.inputs()["report"])))
    port.send(message_of(account, NO_REPORT))
