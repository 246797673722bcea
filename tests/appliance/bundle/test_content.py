"""Contents cross by parser: what parses as harmless does, nothing else."""

import json
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from appliance.bundle.content import MAX_TOML_BYTES, checker_for
from appliance.bundle.names import JSON_TEXT, SAFETENSORS, TEXT, TOML
from appliance.errors import ContentRefused

TENSORS = safetensors.numpy.save({"a": np.arange(6, dtype=np.float32), "b": np.zeros((2, 2), np.float32)})


def judge(media_type: str, data: bytes, step: int = 0) -> None:
    checker = checker_for(media_type, "member", len(data))
    for at in range(0, len(data), step or max(1, len(data))):
        checker.feed(memoryview(data)[at : at + (step or len(data))])
    checker.finish()


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        (TEXT, "naïve — 中文 🙂\n\ttab\n".encode()),
        (TEXT, b""),
        (TOML, b"[a]\nb = 1\n"),
        (JSON_TEXT, b'{"a": [1.5, null]}'),
        (SAFETENSORS, TENSORS),
    ],
)
@pytest.mark.parametrize("step", [0, 1, 3])
def test_allowed_content_passes_however_it_is_cut(media_type, data, step):
    judge(media_type, data, step)


@pytest.mark.parametrize(
    "char",
    [
        "\0",
        "\x07",
        "\x1b",
        "\r",
        "\x7f",
        "\x85",
        "\u061c",
        "\u200e",
        "\u200f",
        "\u202a",
        "\u202e",
        "\u2066",
        "\u2069",
    ],
)
@pytest.mark.parametrize("step", [0, 1])
def test_control_and_bidirectional_characters_are_refused_with_their_line(char, step):
    with pytest.raises(ContentRefused, match=f"U\\+{ord(char):04X} in line 3"):
        judge(TEXT, f"a\nb\nc{char}d\n".encode(), step)


@pytest.mark.parametrize("data", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", "x".encode("utf-16")])
def test_other_encodings_are_refused(data):
    with pytest.raises(ContentRefused, match=r"expected UTF-8 text|U\+0000"):
        judge(TEXT, data, 1)


@given(st.binary(max_size=40))
def test_text_that_passes_is_utf8_without_nul(data):
    try:
        judge(TEXT, data, 1)
    except ContentRefused:
        return
    assert "\0" not in data.decode("utf-8")


@pytest.mark.parametrize(
    ("media_type", "data"),
    [
        (TOML, b"a = "),
        (TOML, b"a=1\na=2"),
        (JSON_TEXT, b"{"),
        (JSON_TEXT, b'{"a":1,"a":2}'),
        (JSON_TEXT, b"[" * 100_000),
    ],
)
def test_text_that_does_not_parse_is_refused(media_type, data):
    with pytest.raises(ContentRefused, match="does not parse"):
        judge(media_type, data)


def test_toml_is_bounded():
    with pytest.raises(ContentRefused, match="at most 1048576 bytes of TOML"):
        judge(TOML, b"#" * (MAX_TOML_BYTES + 1))


def tensors_with(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        TENSORS[:7],
        TENSORS[:30],
        TENSORS[:-1],
        TENSORS + b"\0",
        struct.pack("<Q", 1 << 40) + b"{}",
        tensors_with([]),
        tensors_with({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, bytes(4)),
        tensors_with({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
        b"PK\x03\x04" + bytes(64),
        b"\x80\x04\x95" + bytes(64),
    ],
)
@pytest.mark.parametrize("step", [0, 5])
def test_tensor_file_that_its_header_does_not_describe_is_refused(data, step):
    with pytest.raises(ContentRefused):
        judge(SAFETENSORS, data, step)


def test_unknown_media_type_is_refused():
    with pytest.raises(ContentRefused, match="expected text, TOML, JSON or safetensors"):
        checker_for("application/zip", "a.zip", 3)
