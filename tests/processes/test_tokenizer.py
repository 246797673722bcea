"""Byte pairs in a living appliance: trained in the jail, sealed, and the same object when a job goes on."""

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


def test_a_tokenizer_is_trained_sealed_and_used_again_by_name_and_by_who_goes_on(
    living: Living, tmp_path: Path
):
    job = train(living, tmp_path, "words", steps=10**6)
    living.wait_for(job, "checkpoint")
    living.call("Stop", {"job": job})
    assert living.last_word(job)["kind"] == "stopped"
    (made,) = living.objects("tokenizer")
    assert (made["name"], made["version"]) == ("words", 1)
    table = parse_tokenizer(living.plaintext(made["id"]))
    assert len(table.tokens) == 270
    living.resume(job)
    living.wait_for(job, "checkpoint")
    living.call("Stop", {"job": job})
    assert living.last_word(job)["kind"] == "stopped"
    assert [each["id"] for each in living.objects("tokenizer")] == [made["id"]]
    named = train(living, tmp_path, "named", tokenizer="words", steps=20)
    assert living.last_word(named)["kind"] == "done"
    assert len(living.objects("tokenizer")) == 1
    living.shutdown()
    parents = [
        entry["context"]["parents"]
        for entry in map(json.loads, living.entries().splitlines())
        if entry["kind"] == "output-published" or "parents" in entry["context"]
    ]
    assert sum(made["id"] in each for each in parents) >= 6  # weights and optimizer of three checkpoints
    living.demand_sound_log()
    living.demand_nothing_half_written()


def test_a_vocabulary_that_is_not_the_tokenizers_ends_the_job(living: Living, tmp_path: Path):
    job = train(living, tmp_path, "words", steps=20)
    assert living.last_word(job)["kind"] == "done"
    other = train(living, tmp_path, "other", tokenizer="words", vocabulary=271)
    end = living.last_word(other)
    assert end["kind"] == "failed"
    assert end["reason"].startswith("content")
    nobody = train(living, tmp_path, "nobody", tokenizer="unknown")
    assert living.last_word(nobody)["kind"] == "failed"
