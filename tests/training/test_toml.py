"""A config written out in full is read to the same value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.training.config import parse_config
from appliance.training.keys import KEYS
from appliance.training.presets import PRESETS
from appliance.training.toml import config_toml


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("data", ['corpus = "a"', "corpus = {a = 1, b-2 = 3, c = 0.1}", 'corpus = "a.b"'])
def test_every_preset_makes_a_round_trip(preset, data):
    config = parse_config(f'preset = "{preset}"\n[data]\n{data}\n'.encode())
    text = config_toml(config)
    assert parse_config(text.encode()) == config
    for table, keys in KEYS.items():
        part = text.partition(f"[{table}]\n")[2]
        assert all(f"{name} = " in part for name in keys)


@given(st.floats(1e-9, 1.0), st.integers(0, 2**63 - 1), st.integers(1, 1024))
def test_numbers_come_back_to_the_bit(rate, seed, threads):
    text = f"[train]\nlearning_rate = {rate!r}\nmin_learning_rate = 0\nseed = {seed}\nthreads = {threads}\n"
    config = parse_config(f'{text}[data]\ncorpus = "a"\n'.encode())
    assert parse_config(config_toml(config).encode()) == config
