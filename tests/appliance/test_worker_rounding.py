"""Rounded weights: nearest on the grid of bf16, no bit free of those that go, a second reader."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from appliance.errors import ContentRefused
from appliance.worker.rounding import Rounded, RoundedChecker, round_words


def words(*values: int) -> np.ndarray:
    return np.array(values, np.uint32)


def rounded(data: bytes, chunk: int = 1000) -> bytes:
    reader = Rounded(io.BytesIO(data), len(data))
    return b"".join(iter(lambda: bytes(reader.read(chunk)), b""))


def check(data: bytes, *, chunk: int = 1000) -> None:
    checker = RoundedChecker(len(data))
    for start in range(0, len(data), chunk):
        checker.feed(memoryview(data)[start : start + chunk])


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        (0x3F80_0000, 0x3F80_0000),  # 1 stays 1
        (0x3F80_7FFF, 0x3F80_0000),  # below the middle: down
        (0x3F80_8001, 0x3F81_0000),  # above: up
        (0x3F80_8000, 0x3F80_0000),  # in the middle: to the even one
        (0x3F81_8000, 0x3F82_0000),
        (0xBF80_8001, 0xBF81_0000),
        (0x8000_0000, 0x8000_0000),  # minus zero
        (0x0000_0001, 0x0000_0000),  # the smallest
        (0x7F7F_FFFF, 0x7F80_0000),  # the largest becomes infinity, as IEEE 754 has it
        (0x7F80_0000, 0x7F80_0000),
        (0xFF80_0000, 0xFF80_0000),
        (0x7F80_0001, 0x7FC0_0000),  # what is no number has no bits of its own
        (0xFFC0_1234, 0x7FC0_0000),
    ],
)
def test_a_number_goes_to_the_nearest_of_bf16(bits, expected):
    assert round_words(words(bits)).tolist() == [expected]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
@settings(max_examples=50, deadline=None)
def test_rounding_stays_within_half_a_step_and_twice_is_once(values):
    before = np.array(values, np.float32)
    after = round_words(before.view(np.uint32))
    assert np.array_equal(round_words(after), after)
    finite = np.isfinite(after.view(np.float32))
    error = np.abs(before[finite].astype(np.float64) - after.view(np.float32)[finite])
    assert np.all(error <= np.maximum(np.abs(before[finite]) * 2.0**-8, 2.0**-133))


@pytest.mark.parametrize("chunk", [1, 3, 1000, 1 << 20])
def test_a_model_is_rounded_whatever_pieces_it_is_read_in_and_public_tools_open_it(chunk):
    tensors = {"a": np.linspace(-3, 3, 997, dtype=np.float32), "b": np.float32([[1 / 3, 2 / 3]])}
    data = save(tensors, {"step": "7"})
    found = rounded(data, chunk)
    assert len(found) == len(data)
    for name, tensor in load(found).items():
        assert np.array_equal(tensor.view(np.uint32), round_words(tensors[name].view(np.uint32)))
        assert not np.array_equal(tensor, tensors[name])
    check(found, chunk=chunk)


def test_more_than_one_block_is_rounded():
    data = save({"a": np.random.default_rng(1).standard_normal(200_000, np.float32)})
    check(rounded(data, 1 << 18), chunk=1 << 18)


@pytest.mark.parametrize("chunk", [1, 7, 4096])
@pytest.mark.parametrize("at", [0, 500, 996])
@pytest.mark.parametrize("bit", [0, 15])
def test_one_low_bit_anywhere_is_found(at, bit, chunk):
    data = bytearray(rounded(save({"a": np.linspace(-3, 3, 997, dtype=np.float32)})))
    data[len(data) - 4 * (997 - at) + bit // 8] |= 1 << bit % 8
    with pytest.raises(ContentRefused, match="expected every number rounded to bf16"):
        check(bytes(data), chunk=chunk)


def test_bits_in_what_is_no_number_are_found():
    with pytest.raises(ContentRefused, match="expected every number rounded to bf16"):
        check(save({"a": words(0x7FC1_0000).view(np.float32)}))


def test_another_type_is_neither_rounded_nor_passed():
    data = save({"a": np.zeros(4, np.float16)})
    with pytest.raises(
        ContentRefused, match="tensor a: expected F32, which can be rounded to bf16, found F16"
    ):
        rounded(data)
    with pytest.raises(ContentRefused, match="found F16"):
        check(data)
