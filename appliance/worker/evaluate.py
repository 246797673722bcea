"""Measure one model on one corpus: granted weights, config, tokenizer and corpus in, a few figures out."""

from __future__ import annotations

from appliance.errors import ContentRefused, JobFailed
from appliance.messages import Channel
from appliance.training.config import parse_config
from appliance.training.data import HeldOut, count_bytes
from appliance.training.documents import Span, scan
from appliance.training.evaluate import evaluate
from appliance.training.lanes import thread_count
from appliance.training.model import GPT
from appliance.training.stream import read_tokens
from appliance.training.tensorfile import TensorFile
from appliance.training.tokenizer import Tokenizer, check_vocabulary
from appliance.worker.corpora import open_tokenizer
from appliance.worker.port import Port, SealedInput
from appliance.worker.train import whole
from appliance.worklink import Begin, Evaluated
from kernels import fastest

BATCH = 8  # windows computed at once


def run(channel: Channel, begin: Begin) -> None:
    """Predict every document of the corpus, each behind a separator, and tell how well that went."""
    del begin
    port = Port(channel)
    inputs = port.inputs()
    config = parse_config(bytes(whole(inputs["config"])))
    tokenizer = open_tokenizer(inputs.get("tokenizer"))
    check_vocabulary(tokenizer, config.model)
    ops, _ = fastest(threads=thread_count(config.train.threads))
    model = GPT(config.model, ops, precision=config.train.precision)
    with inputs["weights"].reader() as reader:
        model.open(TensorFile(reader))
    inputs["weights"].close()
    text = _text(inputs["corpus"], tokenizer)
    found = evaluate(model, [model.arena(BATCH, config.model.context)], text)
    if not found.bits_per_byte < float("inf"):
        raise JobFailed("evaluation: expected finite bits per byte, found another figure: damaged weights?")
    port.send(Evaluated(found.tokens, found.size_bytes, found.nats_per_token, found.bits_per_byte))


def _text(item: SealedInput, tokenizer: Tokenizer) -> HeldOut:
    """Read the whole corpus as tokens; raises ContentRefused for text that the tokenizer does not take."""
    with item.reader() as reader:
        documents = scan([reader])
        spans: list[Span] = [documents.span(number) for number in range(len(documents))]
        tokens = read_tokens([reader], spans, tokenizer)
    item.close()
    if tokens.size < 2:
        raise ContentRefused(f"corpus: expected at least 2 tokens to predict, found {tokens.size}")
    return HeldOut(tokens, count_bytes(tokens[1:], tokenizer))
