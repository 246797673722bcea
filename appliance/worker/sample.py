"""Sample from one model: granted weights, config and tokenizer in, text out, a piece at a time."""

from __future__ import annotations

import codecs
import itertools
import time
from collections.abc import Iterable, Iterator

from appliance.errors import UsageError
from appliance.messages import Channel
from appliance.training.config import parse_config
from appliance.training.model import GPT
from appliance.training.sample import SampleSettings, sample, until
from appliance.training.tensorfile import TensorFile
from appliance.training.tokenizer import check_vocabulary
from appliance.worker.corpora import open_tokenizer
from appliance.worker.port import Port
from appliance.worklink import Begin, Finished, Text
from kernels import fastest

PIECE_S = 0.1


def run(channel: Channel, begin: Begin) -> None:
    """Stream one continuation of at most the bytes that were asked for."""
    port = Port(channel)
    inputs = port.inputs()
    with inputs["config"].reader() as reader:
        config = parse_config(reader.read())
    tokenizer = open_tokenizer(inputs.get("tokenizer"))
    check_vocabulary(tokenizer, config.model)
    model = GPT(config.model, fastest()[0])
    with inputs["weights"].reader() as reader:
        model.open(TensorFile(reader))
    prompt, stop, settings = _settings(begin)
    tokens = sample(model, tokenizer.encode(prompt, "prompt").tolist(), settings)
    pieces = (tokenizer.bytes_of(token) for token in tokens)  # a byte each at least: enough for the length
    waiting, told, length = "", time.monotonic(), 0
    for text in within(until(pieces, stop) if stop else pieces, settings.length):
        waiting += text
        length += len(text.encode("utf-8"))
        if waiting and time.monotonic() - told >= PIECE_S:
            port.send(Text(waiting))
            waiting, told = "", time.monotonic()
    port.send(Text(waiting))
    port.send(Finished(length, stopped=length < settings.length))


def within(pieces: Iterable[bytes], size_bytes: int) -> Iterator[str]:
    """Decode UTF-8 as long as it fits `size_bytes`, whole characters only.

    Bytes that are not UTF-8 appear as the replacement character, and count as the three that it takes.
    """
    decoder, left = codecs.getincrementaldecoder("utf-8")("replace"), size_bytes
    for piece in itertools.chain(pieces, [None]):
        text = decoder.decode(piece or b"", final=piece is None)
        fits = text.encode("utf-8")[:left].decode("utf-8", "ignore")
        left -= len(fits.encode("utf-8"))
        yield fits
        if fits != text or not left:
            return


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
