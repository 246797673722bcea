"""A run small enough to repeat often: two blocks of width 16 over a text that is easy to learn."""

import pytest
from hypothesis import settings

import kernels
from appliance.training.config import parse_config
from appliance.training.data import Corpus
from appliance.training.source import HeldBytes
from appliance.training.tokenizer import ByteTokenizer
from appliance.training.trainer import Trainer

settings.register_profile("unhurried", deadline=None)  # other work on the machine is no failure
settings.load_profile("unhurried")

MODEL = "[model]\nlayers = 2\nwidth = 16\nheads = 2\ncontext = 16\n"


def _config_of(*, model="", data='corpus = "t"', **train):
    values = {"steps": 6, "warmup_steps": 2, "batch": 3, **train}
    lines = "".join(f"{key} = {value}\n" for key, value in values.items())
    return parse_config(f"{MODEL}{model}\n[train]\n{lines}[data]\n{data}\n".encode())


def _corpus_of(plaintexts, config, tokenizer=None):
    """Bytes held in memory, in the order of the corpora's names."""
    named = zip(config.data.corpus, plaintexts, strict=True)
    sources = {name: HeldBytes(plaintext) for (name, _), plaintext in named}
    return Corpus(sources, tokenizer or ByteTokenizer(), config)


@pytest.fixture
def config_of():
    return _config_of


@pytest.fixture
def corpus_of():
    return _corpus_of


@pytest.fixture
def text():
    documents = [f"record {n}: the answer to {n} is {n * n}. ".encode() * 4 for n in range(30)]
    return b"\0".join(documents)


@pytest.fixture
def make_trainer(text):
    def make(state=None, **train):
        config = _config_of(**train)
        return Trainer(config, _corpus_of([text], config), kernels.backend(), state)

    return make
