"""The codec agrees with the public library, and refuses what the format or our bounds forbid."""

import contextlib
import json
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ContentRefused
from appliance.training import safetensors as codec
from appliance.training.tensorfile import TensorFile
from tests.training.memory import InMemory

TENSORS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array([1.5, -2.0], dtype=np.float64),
    "empty": np.zeros((0, 4), np.float32),
    "scalar": np.array(7, dtype=np.int64),
    "small": np.array([1, 2, 3], dtype=np.uint8),
}
METADATA = {"step": "12", "format": "x"}


def encoded(tensors=TENSORS, metadata=METADATA):
    sink = InMemory()
    assert codec.write(sink, tensors, metadata) == codec.size_of(tensors, metadata) == sink.size
    return bytes(sink.data)


def load(data):
    file = TensorFile(InMemory(data))
    return file.load(), file.header.metadata


def file_of(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def equal(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert found[name].tobytes() == tensor.tobytes()


def test_what_is_written_is_read_back():
    tensors, metadata = load(encoded())
    equal(tensors, TENSORS)
    assert metadata == METADATA


def test_the_public_library_reads_ours_and_we_read_its():
    equal(safetensors.numpy.load(encoded()), TENSORS)
    theirs = safetensors.numpy.save(TENSORS, metadata=METADATA)
    tensors, metadata = load(theirs)
    equal(tensors, TENSORS)
    assert metadata == METADATA


def test_equal_content_gives_equal_bytes_in_any_order():
    shuffled = dict(reversed(TENSORS.items()))
    assert encoded(shuffled, dict(reversed(METADATA.items()))) == encoded()


def test_data_is_aligned_and_non_contiguous_tensors_are_written_in_order():
    data = encoded({"t": np.arange(6, dtype=np.float32).reshape(2, 3).T}, {})
    header = codec.read_header(data, len(data))
    assert header.size_bytes % 8 == 0
    equal(load(data)[0], {"t": np.arange(6, dtype=np.float32).reshape(2, 3).T.copy()})


def test_every_truncation_and_every_extension_is_refused():
    data = encoded()
    for length in range(len(data)):
        with pytest.raises(ContentRefused, match="safetensors: expected"):
            load(data[:length])
    with pytest.raises(ContentRefused, match=f"expected {len(data)} bytes as the header says, found"):
        load(data + b"\0")


def test_every_flipped_byte_of_the_header_is_refused_or_changes_what_is_read():
    data = encoded({"t": np.ones(2, np.float32)}, {"k": "v"})
    size = len(data) - 8
    original = load(data)
    for place in range(size):
        for bit in (1, 16, 128):
            flipped = bytearray(data)
            flipped[place] ^= bit
            try:
                tensors, metadata = load(bytes(flipped))
            except ContentRefused:
                continue
            same = (
                metadata == original[1]
                and tensors.keys() == original[0].keys()
                and all(
                    tensors[n].dtype == t.dtype and tensors[n].tobytes() == t.tobytes()
                    for n, t in original[0].items()
                )
            )
            assert not same or flipped[place] in b" \t\r\n"


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"t": entry(offsets=(0, 4))}, b"\0" * 4, "tensor 't': expected 8 bytes for F32"),
        ({"t": entry(offsets=(8, 0))}, b"", "tensor 't': expected 8 bytes"),
        ({"t": entry(offsets=(-8, 0))}, b"", "expected two data_offsets"),
        ({"t": entry(offsets=(0, 2**63))}, b"", "expected two data_offsets"),
        ({"t": entry(offsets=(0, 8, 16))}, b"", "expected two data_offsets"),
        ({"t": entry(offsets=(0.0, 8.0))}, b"", "expected two data_offsets"),
        ({"t": entry(shape=(-2,))}, b"\0" * 8, "expected a shape of at most 8 sizes"),
        ({"t": entry(shape=(True, 2))}, b"\0" * 8, "expected a shape"),
        ({"t": entry(shape=(1,) * 9, offsets=(0, 4))}, b"\0" * 4, "expected a shape of at most 8"),
        ({"t": entry(shape=(2**62, 2**62))}, b"\0" * 8, "tensor 't': expected .* bytes for F32"),
        (
            {"t": entry(shape=(2**62, 2**62, 0), offsets=(0, 0))},
            b"",
            "sizes beside a zero that an array can have",
        ),
        ({"t": entry(), "u": entry()}, b"\0" * 8, "tensors overlap or leave a gap"),
        ({"t": entry(), "u": entry(offsets=(4, 12))}, b"\0" * 12, "tensors overlap or leave a gap"),
        ({"t": entry(offsets=(4, 12))}, b"\0" * 12, "expected data to start at 0"),
        ({"t": entry(), "u": entry(offsets=(12, 20))}, b"\0" * 20, "tensors overlap or leave a gap"),
        ({"t": entry(dtype="F8")}, b"\0" * 8, "expected a dtype of F64.*found 'F8'"),
        ({"t": entry(dtype=["F32"])}, b"\0" * 8, "expected a dtype of"),
        ({"t": entry(note="x")}, b"\0" * 8, "expected exactly dtype, shape and data_offsets"),
        ({"t": 5}, b"", "expected exactly dtype, shape and data_offsets"),
        ({"": entry()}, b"\0" * 8, "expected names of 1 to 256 printable"),
        ({"a\nb": entry()}, b"\0" * 8, "expected names of 1 to 256 printable"),
        ({"a" * 257: entry()}, b"\0" * 8, "expected names of 1 to 256 printable"),
        ({"__metadata__": {"k": 1}}, b"", "map strings to strings"),
        ({"__metadata__": ["k"]}, b"", "map strings to strings"),
        (b"[]", b"", "one JSON object"),
        (b" {}", b"", "one JSON object"),
        (b'{"t":NaN}', b"", "found the constant NaN"),
        (b"{\xff}", b"", "found a syntax error"),
        (b"{" * 5000, b"", "found a syntax error"),
        (b'{"t":' + b"9" * 5000 + b"}", b"", "found a syntax error"),
        (b'{"a":' * 5000, b"", "found a syntax error"),
        (b'{"t":{},"t":{}}', b"", "each name once"),
        (b'{"t":{"dtype":"F32","dtype":"F32"}}', b"", "each name once"),
        ({"t": entry(dtype="BF16", offsets=(0, 4))}, b"\0" * 4, "expected a type NumPy has, found BF16"),
    ],
)
def test_a_malformed_header_is_refused_with_its_reason(header, data, message):
    with pytest.raises(ContentRefused, match=message):
        load(file_of(header, data))


@pytest.mark.parametrize("shape", [(0, 2**40), (2**60, 0), (0, 0, 0), (0,) * 8])
def test_an_empty_tensor_of_any_shape_that_is_accepted_is_loaded(shape):
    (tensor,) = load(file_of({"t": entry(shape=shape, offsets=(0, 0))}))[0].values()
    assert tensor.shape == shape


def test_a_header_of_a_hundred_megabytes_is_refused_before_it_is_read():
    with pytest.raises(ContentRefused, match="header of 2 to 4194304 bytes, found 100000000"):
        load(struct.pack("<Q", 100_000_000))
    with pytest.raises(ContentRefused, match="found 18446744073709551615"):
        codec.header_bytes(b"\xff" * 8)
    with pytest.raises(ContentRefused, match="at most 4194304 bytes of header, found 4194305"):
        codec.parse_header(b" " * (codec.MAX_HEADER_BYTES + 1))
    with pytest.raises(ContentRefused, match="expected 8 bytes of length, found 7"):
        codec.header_bytes(b"\0" * 7)


def test_a_header_alone_is_checked_against_the_size_of_its_file():
    data = encoded()
    header = codec.read_header(data, len(data))
    assert header.total_bytes == len(data)
    assert header.metadata == METADATA
    with pytest.raises(ContentRefused, match="as the header says"):
        codec.read_header(data, len(data) + 1)
    with pytest.raises(ContentRefused, match="cut off"):
        codec.read_header(data[:20], len(data))


@given(
    st.dictionaries(
        st.text("abc.é_", min_size=1, max_size=5),
        st.tuples(
            st.sampled_from([np.float64, np.float32, np.float16, np.int32, np.uint8, np.bool_]),
            st.lists(st.integers(0, 3), max_size=3),
        ),
        max_size=5,
    ),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
def test_any_tensors_make_a_round_trip(shapes, metadata):
    tensors = {name: np.ones(shape, dtype) for name, (dtype, shape) in shapes.items()}
    found, kept = load(encoded(tensors, metadata))
    equal(found, tensors)
    assert kept == metadata


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_parsed_never_worse(data):
    with contextlib.suppress(ContentRefused):
        load(data)
