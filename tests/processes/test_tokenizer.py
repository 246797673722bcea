"""Byte pairs in a living appliance: trained in the jail, sealed, used with its model, and let out."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest
import tokenizers

from appliance.training.bpe import BytePairs
from appliance.training.tokenizer import parse_tokenizer
from tests.processes.conftest import Template, checked
from tests.processes.desk import Desk
from tests.processes.living import PYTHON, Living, run

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


TWO_RANKS = importlib.util.find_spec("mpi4py") is not None and len(os.sched_getaffinity(0)) > 1


def train(appliance: Living, folder: Path, name: str, *more: object, **values: object) -> str:
    path = folder / f"{name}.toml"
    path.write_text(CONFIG.format(**{"vocabulary": 270, "steps": 20, "tokenizer": "bpe", **values}))
    told = appliance.cli("train", path, "--name", name, "--detach", "--json", *more)
    assert told.returncode == 0, told.stderr
    return str(json.loads(told.stdout)["job"])


@pytest.fixture
def words(living: Living, tmp_path: Path) -> str:
    """A job that trained its tokenizer and a model of its tokens, both called `words`."""
    job = train(living, tmp_path, "words")
    assert living.last_word(job)["kind"] == "done", living.job(job)
    return job


def granted(living: Living, kind: str, object_id: str) -> set[str]:
    """Jobs to which an object was granted for use, of those whose id begins with `kind`."""
    entries = [json.loads(line) for line in living.entries().splitlines()]
    uses = [
        entry for entry in entries if (entry["action"], entry["resource"]) == ("use", f"Object:{object_id}")
    ]
    return {each["context"]["job"] for each in uses if each["context"]["job"].startswith(kind)}


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


def test_a_model_of_byte_pairs_is_sampled_evaluated_and_replayed_with_its_tokenizer(
    living: Living, tmp_path: Path, words: str
):
    (made,) = living.objects("tokenizer")
    sampled = living.cli("sample", "words", "--prompt", "the log", "--length", 60, "--json")
    assert sampled.returncode == 0, sampled.stderr
    assert 57 <= len(json.loads(sampled.stdout)["text"].encode()) <= 60  # a last character may not fit
    told = living.cli("evaluate", "words", "--corpus", "corpus", "--json")
    assert told.returncode == 0, told.stderr
    found, corpus = json.loads(told.stdout), living.plaintext(living.objects("corpus")[0]["id"])
    assert found["size_bytes"] == len(corpus)  # each document behind a separator
    assert found["tokens"] < len(corpus)
    replayed = living.cli("replay", words, "--from", 0, "--steps", 20)
    assert replayed.returncode == 0, replayed.stderr
    assert "1 checkpoints are what the log says" in replayed.stdout
    state = {kind: living.objects(kind)[-1] for kind in ("weights", "optimizer")}
    given = {"config.toml": living.job(words)["config"], "corpus": living.objects("corpus")[0]["id"]}
    for name, object_id in {**given, "tokenizer": made["id"]}.items():
        (tmp_path / name).write_bytes(living.plaintext(object_id))
    for index in (state["weights"]["log_index"],):
        checked(*PYTHON, "appliance", "--home", living.home, "log", "receipt", index, "--out", tmp_path / "w")
        checked(
            *PYTHON, "appliance", "--home", living.home, "audit", "salt", index, "--out", tmp_path / "salt"
        )
    living.shutdown()
    assert all(len(granted(living, kind, made["id"])) == 1 for kind in ("sample", "evaluate", "replay"))
    command = (*PYTHON, "appliance", "recompute", "config.toml", "--corpus", "corpus", "--to", 20)
    again = run(*command, "--tokenizer", "tokenizer", "--claim", "w.entry", "salt", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "= entry" in again.stdout
    without = run(*command, cwd=tmp_path)
    assert without.returncode == 2
    assert "expected as --tokenizer the one of the job" in without.stderr
    living.demand_sound_log()


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
def test_an_exported_model_brings_its_tokenizer_as_the_public_library_reads_it(
    living: Living, template: Template, tmp_path: Path, words: str
):
    desk = Desk(living, template, tmp_path, "words")
    for officer in ("alice", "bob"):
        assert desk.approve(officer).returncode == 0
    exported = desk.export()
    assert exported.returncode == 0, exported.stderr
    (bundle,) = (tmp_path / "out").iterdir()
    checked(
        *(*PYTHON, "appliance", "bundle", "open", bundle, "--identity", tmp_path / "lab.identity"),
        *("--trust", template.public / "bundle.vkey", "--out", tmp_path / "opened"),
    )
    public = tokenizers.Tokenizer.from_file(str(tmp_path / "opened/model/tokenizer.json"))
    (made,) = living.objects("tokenizer")
    ours = BytePairs(parse_tokenizer(living.plaintext(made["id"])))
    text = "the log keeps what keys open, na\u00efve"
    assert public.encode(text).ids == ours.encode(text.encode(), "here").tolist()
    statement = json.loads((tmp_path / "opened/model/lineage/statement.json").read_text())
    assert made["id"] in [each["object"] for each in statement["predicate"]["materials"]]
    checked(
        *(*PYTHON, "appliance", "verify-model", tmp_path / "opened/model"),
        *("--log-key", template.public / "log.vkey", "--export-key", template.public / "export.pub"),
    )
    assert words in str(statement)


@pytest.mark.skipif(not TWO_RANKS, reason="needs the extra `mpi` and two cores")
def test_ranks_share_the_tokenizer_that_the_first_of_them_trained(living: Living, tmp_path: Path):
    job = train(living, tmp_path, "both", "--ranks", 2)
    last = living.last_word(job)
    assert last["kind"] == "done", last
    (made,) = living.objects("tokenizer")
    sampled = living.cli("sample", "both", "--prompt", "the", "--length", 9)
    assert sampled.returncode == 0, sampled.stderr
    living.shutdown()
    assert granted(living, "train", made["id"]) == {job}
    living.demand_sound_log()
