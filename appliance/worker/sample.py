"""Sample from one model: granted weights and config in, text out, a piece at a time."""

from __future__ import annotations

import codecs
import time

from appliance.errors import UsageError
from appliance.messages import Channel
from appliance.training.config import parse_config
from appliance.training.model import GPT
from appliance.training.sample import SampleSettings, sample
from appliance.training.tensorfile import TensorFile
from appliance.worker.port import Port
from appliance.worklink import Begin, Finished, Text
from kernels import fastest

PIECE_S = 0.1


def run(channel: Channel, begin: Begin) -> None:
    """Stream one continuation; bytes that are not UTF-8 appear as the replacement character."""
    port = Port(channel)
    inputs = port.inputs()
    with inputs["config"].reader() as reader:
        config = parse_config(reader.read())
    model = GPT(config.model, fastest()[0])
    with inputs["weights"].reader() as reader:
        model.open(TensorFile(reader))
    prompt, settings = _settings(begin)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text, told = "", time.monotonic()
    for piece in sample(model, prompt, settings):
        text += decoder.decode(piece)
        if text and time.monotonic() - told >= PIECE_S:
            port.send(Text(text))
            text, told = "", time.monotonic()
    port.send(Text(text + decoder.decode(b"", final=True)))
    port.send(Finished(settings.length, stopped=False))


def _settings(begin: Begin) -> tuple[bytes, SampleSettings]:
    """Return (prompt, settings) from the task's numbers; raises UsageError where one has another type."""
    numbers = begin.numbers
    prompt, length, top_k, seed = (numbers.get(name) for name in ("prompt", "length", "top_k", "seed"))
    temperature = numbers.get("temperature")
    if not isinstance(prompt, str) or not isinstance(temperature, int | float):
        raise UsageError("expected a prompt and a temperature")
    if not isinstance(length, int) or not isinstance(top_k, int) or not isinstance(seed, int):
        raise UsageError("expected whole numbers as length, top_k and seed")
    return prompt.encode("utf-8"), SampleSettings(length, float(temperature), top_k, seed)
