"""Seal a config that came as a file: parse it here, in the jail, and let no plaintext touch a disk."""

from __future__ import annotations

from appliance.messages import Channel
from appliance.training.config import parse_config
from appliance.worker.port import Port
from appliance.worklink import Begin


def run(channel: Channel, begin: Begin) -> None:
    """Read one file, judge it, seal it; raises ContentRefused for what could not be trained."""
    port = Port(channel)
    data = port.file(f"{begin.numbers['name']}.toml")
    parse_config(data)
    port.inputs()
    output = port.want_output("config", str(begin.numbers["name"]))
    output.seal_from(data)
    output.close()
