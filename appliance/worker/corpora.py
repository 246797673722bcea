"""What a training worker reads: corpora, whole or as the run needs them, and the tokenizer that cuts them.

A tokenizer of byte pairs is trained here, in the jail, on what is not held out, and sealed before the first
step; who resumes or repeats the run gets that object and no other.
"""

from __future__ import annotations

from appliance.training.bpe import BytePairs, train
from appliance.training.config import TrainConfig
from appliance.training.data import Corpus, tokenizer_texts
from appliance.training.keys import BPE, BYTES
from appliance.training.tokenizer import ByteTokenizer, Merges, Tokenizer, parse_tokenizer
from appliance.worker.port import Port, SealedInput
from appliance.worklink import Made


def open_corpus(port: Port, config: TrainConfig, name: str | None, *, makes: bool) -> Corpus:
    """Ask for what the config names and make it ready to be read.

    A tokenizer of the job's own bears the job's `name`; whoever begins the job `makes` it. Without a name, a
    stretch is repeated, and there is only one tokenizer to be had.
    """
    items = {each: port.want_input("corpus", each) for each, _ in config.data.corpus}
    readers = {each: item.reader() for each, item in items.items()}
    if config.data.tokenizer == BPE and makes and name is not None:
        fraction = config.train.validation_fraction
        table = train(tokenizer_texts(list(readers.values()), fraction), config.model.vocabulary)
        _seal(port, name, table)
        tokenizer: Tokenizer = BytePairs(table)
    else:
        own = config.data.tokenizer == BPE and name is not None
        tokenizer = _given(port, str(name) if own else config.data.tokenizer)
    corpus = Corpus(readers, tokenizer, config)
    if corpus.held:
        for each, item in items.items():
            readers[each].close()
            item.close()
    return corpus


def open_tokenizer(item: SealedInput | None) -> Tokenizer:
    """Return the tokenizer that was granted, bytes without one."""
    if item is None:
        return ByteTokenizer()
    with item.reader() as reader:
        data = bytearray(reader.size)
        reader.open_into(data, 0)
    item.close()
    return BytePairs(parse_tokenizer(bytes(data)))


def _given(port: Port, name: str) -> Tokenizer:
    return open_tokenizer(None if name == BYTES else port.want_input("tokenizer", name))


def _seal(port: Port, name: str, table: Merges) -> None:
    output = port.want_output("tokenizer", name)
    output.seal_from(table.encode())
    output.close()
    port.send(Made(output.token))
