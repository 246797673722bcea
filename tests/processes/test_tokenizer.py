"""Byte pairs in a living appliance: trained in the jail, sealed, and refused to a model of other tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.training.tokenizer import parse_tokenizer
from tests.processes.living import Living

pytestmark = pytest.mark.processes

CONFIG = """
[model]
layers = 1
width = 16
heads = 2
context = 16
vocabulary = {vocabulary}
[train]
steps = {steps}
batch = 2
warmup_steps = 2
eval_every = 1000
threads = 1
checkpoint_every = 20
[data]
corpus = "corpus"
tokenizer = "{tokenizer}"
"""


def train(appliance: Living, folder: Path, name: str, **values: object) -> str:
    path = folder / f"{name}.toml"
    path.write_text(CONFIG.format(**{"vocabulary": 270, "steps": 20, "tokenizer": "bpe", **values}))
    told = appliance.cli("train", path, "--name", name, "--detach", "--json")
    return str(json.loads(told.stdout)["job"])


def test_a_tokenizer_is_trained_in_the_jail_and_sealed_and_another_vocabulary_ends_a_job(
    living: Living, tmp_path: Path
):
    job = train(living, tmp_path, "words", steps=20)
    assert living.last_word(job)["kind"] == "done"
    (made,) = living.objects("tokenizer")
    assert (made["name"], made["version"]) == ("words", 1)
    assert len(parse_tokenizer(living.plaintext(made["id"])).tokens) == 270
    other = train(living, tmp_path, "other", tokenizer="words", vocabulary=271)
    end = living.last_word(other)
    assert end["kind"] == "failed"
    assert end["reason"].startswith("content")
    nobody = train(living, tmp_path, "nobody", tokenizer="unknown")
    assert living.last_word(nobody)["kind"] == "failed"
