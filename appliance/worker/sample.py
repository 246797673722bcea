"""Sample from one model: granted weights and config in, text out, a piece at a time."""

from __future__ import annotations

import codecs
import time

from appliance.errors import UsageError
from appliance.messages import Channel
from appliance.training.config import parse_config
from appliance.training.model import GPT
from appliance.training.sample import SampleSettings, sample, until
from appliance.training.tensorfile import TensorFile
from appliance.training.tokenizer import ByteTokenizer, check_vocabulary
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
    check_vocabulary(ByteTokenizer(), config.model)  # KNOWN: text of byte pairs is not sampled yet
    model = GPT(config.model, fastest()[0])
    with inputs["weights"].reader() as reader:
        model.open(TensorFile(reader))
    prompt, stop, settings = _settings(begin)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text, told, length = "", time.monotonic(), 0
    pieces = (bytes([token]) for token in sample(model, prompt, settings))
    for piece in until(pieces, stop) if stop else pieces:
        length += len(piece)
        text += decoder.decode(piece)
        if text and time.monotonic() - told >= PIECE_S:
            port.send(Text(text))
            text, told = "", time.monotonic()
    port.send(Text(text + decoder.decode(b"", final=True)))
    port.send(Finished(length, stopped=length < settings.length))


def _settings(begin: Begin) -> tuple[bytes, bytes, SampleSettings]:
    """Return prompt, stop and settings from the task's numbers; raises UsageError for another type."""
    numbers = begin.numbers
    prompt, stop = numbers.get("prompt"), numbers.get("stop")
    length, top_k, seed = (numbers.get(name) for name in ("length", "top_k", "seed"))
    temperature, top_p = numbers.get("temperature"), numbers.get("top_p")
    if not isinstance(prompt, str) or not isinstance(stop, str):
        raise UsageError("expected a prompt and a text to stop at")
    if not isinstance(temperature, int | float) or not isinstance(top_p, int | float):
        raise UsageError("expected numbers as temperature and top_p")
    if not isinstance(length, int) or not isinstance(top_k, int) or not isinstance(seed, int):
        raise UsageError("expected whole numbers as length, top_k and seed")
    settings = SampleSettings(length, float(temperature), top_k, float(top_p), seed)
    return prompt.encode("utf-8"), stop.encode("utf-8"), settings
