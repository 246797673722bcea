"""A model measured on a corpus, and one trained on from another: grants and lineage name all of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from appliance.training.tensorfile import TensorFile
from tests.processes.living import PYTHON, Living, run
from tests.training.memory import InMemory

pytestmark = pytest.mark.processes

FINE = """[model]
layers = {layers}
width = 16
heads = 2
context = 32
[train]
steps = {steps}
batch = 4
threads = 1
warmup_steps = 0
eval_every = 100
checkpoint_every = 100
init_from = "{parent}"
[data]
corpus = "corpus"
"""


def weights_of(living: Living, object_id: str) -> dict[str, np.ndarray]:
    return TensorFile(InMemory(living.plaintext(object_id))).load()


def test_an_evaluation_tells_figures_and_the_log_commits_to_them(living: Living, tmp_path: Path):
    told = living.cli("evaluate", "tiny", "--corpus", "corpus", "--json")
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    corpus = living.plaintext(living.objects("corpus")[0]["id"])
    assert found["size_bytes"] == found["tokens"] == len(corpus)  # each document behind a separator
    assert found["bits_per_byte"] == pytest.approx(found["nats_per_token"] / np.log(2), rel=1e-4)
    assert 0 < found["bits_per_byte"] < 9
    assert "bits per byte" in living.cli("evaluate", "tiny", "--corpus", "corpus").stdout
    (tmp_path / "objects.json").write_text(json.dumps(living.objects()))
    living.shutdown()
    entries = [json.loads(line) for line in living.entries().splitlines()]
    (first, _) = [entry["context"] for entry in entries if entry["kind"] == "evaluated"]
    assert first["microbits_per_byte"].keys() == {"commitment"}
    account = run(
        *(*PYTHON, "audit", "account", living.home / "log", "--objects", tmp_path / "objects.json"),
        *("--vkey", living.public / "log.vkey"),
    )
    assert account.returncode == 0, account.stdout


@pytest.mark.parametrize(("model", "corpus"), [("nobody", "corpus"), ("tiny", "nothing")])
def test_what_is_not_there_is_denied_and_logged(living: Living, model: str, corpus: str):
    refused = living.cli("evaluate", model, "--corpus", corpus)
    assert refused.returncode == 20, refused.stderr


@pytest.fixture
def fine(living: Living, tmp_path: Path) -> Callable[..., str]:
    """Train from a config that begins with another model's weights; return the job."""

    def train(parent: str, steps: int = 1, layers: int = 1) -> str:
        path = tmp_path / f"fine{steps}{layers}.toml"
        path.write_text(FINE.format(parent=parent, steps=steps, layers=layers))
        with path.open("rb") as source:
            parameters = {"source_fd": 0, "source_name": path.stem, "name": "fine"}
            return str(living.call("Train", parameters, (source.fileno(),))["job"])

    return train


def test_a_model_begins_with_its_parents_weights_and_names_it(living: Living, fine: Callable[..., str]):
    parent = living.objects("weights")[-1]
    job = fine("tiny")
    assert living.last_word(job)["kind"] == "done", living.job(job)
    made = living.objects("weights")[-1]
    assert made["job"] == job
    assert parent["id"] in made["parents"]
    before, after = weights_of(living, parent["id"]), weights_of(living, made["id"])
    assert all(np.abs(after[name] - before[name]).max() < 0.02 for name in before)  # one step of a small rate
    assert any((after[name] != before[name]).any() for name in before)
    replay = living.cli("replay", job, "--from", 0, "--steps", 1)
    assert replay.returncode == 0, replay.stderr
    living.shutdown()
    living.demand_sound_log()
    named = [json.loads(line) for line in living.entries().splitlines()]
    assert parent["id"] in [e["context"].get("object") for e in named if e["kind"] == "object-named"]


def test_a_parent_of_another_shape_or_none_is_refused(living: Living, fine: Callable[..., str]):
    odd = living.last_word(fine("tiny", layers=2))
    assert (odd["kind"], odd["reason"].partition(":")[0]) == ("failed", "content")
    nobody = living.last_word(fine("nobody"))
    assert (nobody["kind"], nobody["reason"].partition(":")[0]) == ("failed", "unknown")
    living.shutdown()
    living.demand_sound_log()
    living.demand_nothing_half_written()
