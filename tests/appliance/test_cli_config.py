"""`appliance config`: what it accepts can be trained, what it refuses it names, and it needs no daemon."""

import json
import sys

import pytest
from click.testing import CliRunner

from appliance.cli.root import appliance
from appliance.training.config import parse_config
from appliance.training.keys import KEYS
from appliance.training.presets import PRESETS


def run(*words):
    return CliRunner().invoke(appliance, ["config", *map(str, words)])


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text('preset = "tiny"\n[data]\ncorpus = "letters"\n')
    return path


def test_a_sound_config_is_told_what_it_takes(small):
    done = run("check", small)
    assert done.exit_code == 0, done.output
    assert "parameters  834,304" in done.output
    assert "2,560,000 in 2,500 steps of 1,024" in done.output
    assert done.output.endswith("ok\n")
    facts = json.loads(run("check", small, "--json").output)
    assert facts["config_sha256"] == parse_config(small.read_bytes()).digest()
    assert facts["tokens"] == 2500 * 1024
    assert 2**28 < facts["memory_bytes"] < 2**31


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("[model]\nlayers = 0\n", "key model.layers: expected an integer from 1 to 256 (blocks), found 0"),
        ("[model]\nvocabulary = 300\n", "key model.vocabulary: expected 256, since data.tokenizer"),
        ("[train]\nthreads = 0\n", "key train.threads: expected an integer from 1 to 1024"),
        ("[model]\nlayers = 256\nwidth = 32768\nheads = 256\n", "MiB of the machine, found an estimate of"),
        ("[model\n", "expected TOML, found a syntax error"),
    ],
)
def test_an_unsound_config_is_refused_with_file_key_and_code(small, more, message):
    small.write_text(more + small.read_text() if "[model\n" in more else small.read_text() + more)
    done = run("check", small)
    assert done.exit_code == 12
    assert message in done.output


def test_a_run_beyond_the_machine_that_is_meant_is_refused(small):
    assert run("check", small, "--memory", "4000").exit_code == 0
    done = run("check", small, "--memory", "300")
    assert done.exit_code == 12
    assert "within the 300 MiB of the machine" in done.output


def test_a_file_that_is_not_there_is_named(tmp_path):
    done = run("check", tmp_path / "none.toml")
    assert done.exit_code == 4
    assert "none.toml" in done.output


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_shown_as_a_config_that_parses_to_it(preset):
    done = run("show", preset)
    assert done.exit_code == 0
    expected = parse_config(f'preset = "{preset}"\n[data]\ncorpus = "corpus"\n'.encode())
    assert parse_config(done.output.encode()) == expected


def test_a_file_is_shown_with_every_key(small):
    assert parse_config(run("show", small).output.encode()) == parse_config(small.read_bytes())
    done = run("show", "huge")
    assert done.exit_code == 2
    assert "expected a file or one of tiny, laptop-1m" in done.output


def test_a_key_is_explained_and_a_near_miss_helped():
    done = run("explain", "train.beta2")
    assert "AdamW's memory of its square" in done.output
    assert "gpt2-124m  0.95" in done.output
    done = run("explain", "clip")
    assert done.exit_code == 2
    assert "did you mean train.clip?" in done.output
    assert "lists all" in run("explain", "nonsense").output
    assert "must be given" in run("explain", "data.corpus").output


def test_every_key_is_listed():
    listed = run("explain").output
    explained = json.loads(run("explain", "--json").output)
    for table, keys in KEYS.items():
        for name, rule in keys.items():
            assert f"{table}.{name} " in listed
            assert explained[f"{table}.{name}"]["range"] == rule.range


def test_explaining_and_showing_load_no_numbers(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)  # an import of it would raise
    assert run("explain", "train.clip").exit_code == 0
