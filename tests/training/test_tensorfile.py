"""One tensor, a part of one or all of them, into memory that is already there, and nothing else is read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.age import PayloadReader, PayloadWriter
from appliance.errors import ContentRefused, IntegrityError, UsageError
from appliance.training import safetensors
from appliance.training.tensorfile import TensorFile
from tests.training.memory import InMemory

TENSORS = {
    "cube": np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5),
    "empty": np.zeros((0, 4), np.float32),
    "last": np.array([1, 2, 3], dtype=np.uint8),
    "scalar": np.array(7, dtype=np.int64),
}


def file_of(tensors):
    source = InMemory()
    safetensors.write(source, tensors, {})
    file = TensorFile(source)
    source.reads.clear()
    return file, source


@pytest.mark.parametrize("name", TENSORS)
def test_one_tensor_is_opened_into_the_given_array_and_no_other_byte_is_read(name):
    file, source = file_of(TENSORS)
    room = np.full_like(TENSORS[name], 99)
    file.open_into(name, room)
    assert room.tobytes() == TENSORS[name].tobytes()
    start = file.header.size_bytes + file.header.tensors[name].start
    assert source.reads == ([(start, room.nbytes)] if room.nbytes else [])


@given(st.data())
def test_every_part_of_a_tensor_is_what_numpy_slices(data):
    shape = data.draw(st.lists(st.integers(0, 5), max_size=4), label="shape")
    tensor = np.arange(np.prod(shape, dtype=int), dtype=np.int16).reshape(shape)
    axes = shape[: data.draw(st.integers(0, len(shape)), label="axes")]
    region = []
    for size in axes:
        start = data.draw(st.integers(0, size))
        region.append(slice(start or None, data.draw(st.sampled_from([None, *range(start, size + 1)]))))
    file, source = file_of({"t": tensor})
    expected = tensor[tuple(region)]
    room = np.full(expected.shape, -1, np.int16)
    file.open_slice_into("t", region, room)
    assert (room == expected).all()
    assert sum(size for _, size in source.reads) == expected.nbytes
    assert source.reads == sorted(source.reads)


def test_neighbouring_runs_of_a_part_are_one_read():
    file, source = file_of(TENSORS)
    file.open_slice_into("cube", [slice(1, 3)], np.empty((2, 4, 5), np.float32))
    file.open_slice_into("cube", [slice(1, 3), slice(1, 2)], np.empty((2, 1, 5), np.float32))
    assert [size for _, size in source.reads] == [160, 20, 20]


@pytest.mark.parametrize(
    "region",
    [
        [slice(0, 4)],
        [slice(-1, None)],
        [slice(2, 1)],
        [slice(0, 3, 2)],
        [slice(None)] * 4,
    ],
)
def test_a_part_that_leaves_the_tensor_or_skips_elements_is_refused(region):
    file, source = file_of(TENSORS)
    with pytest.raises(UsageError, match=r"tensor 'cube': expected slices within \(3, 4, 5\) of step 1"):
        file.open_slice_into("cube", region, bytearray(240))
    assert source.reads == []


@pytest.mark.parametrize(
    ("buffer", "found"),
    [
        (bytes(240), "read-only one of 240"),
        (bytearray(239), "contiguous one of 239"),
        (np.empty((5, 4, 3), np.float32).T, "scattered one of 240"),
    ],
)
def test_a_buffer_that_does_not_fit_is_left_alone(buffer, found):
    file, source = file_of(TENSORS)
    with pytest.raises(UsageError, match=f"writable C-contiguous buffer of 240 bytes, found a {found}"):
        file.open_into("cube", buffer)
    assert source.reads == []


def test_an_unknown_tensor_is_refused():
    file, _ = file_of(TENSORS)
    with pytest.raises(ContentRefused, match="expected a tensor 'ball', found none among 4"):
        file.open_into("ball", bytearray(1))


def test_a_type_that_numpy_lacks_is_opened_as_bytes():
    text = b'{"t":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    file = TensorFile(InMemory(safetensors.PREFIX.pack(len(text)) + text + b"abcd"))
    room = bytearray(4)
    file.open_into("t", room)
    assert room == b"abcd"
    with pytest.raises(ContentRefused, match="expected a type NumPy has, found BF16"):
        file.load()


@pytest.fixture
def sealed(tmp_path):
    """A file of 3 MiB of tensors, really sealed: (path, tensors, size of the plaintext)."""
    draw = np.random.default_rng(1)
    tensors = {f"t{i}": draw.random((100, 1000), np.float32) for i in range(7)} | {"small": np.ones(1024)}
    path = tmp_path / "payload"
    with path.open("wb") as stream, PayloadWriter(stream.write, bytes(32)) as writer:

        class Into:
            def seal_from(self, buffer):
                writer.write(buffer)

        safetensors.write(Into(), tensors, {})
    return path, tensors


def opened(stream, path):
    return TensorFile(PayloadReader(stream.fileno(), bytes(32), 0, path.stat().st_size))


def test_a_sealed_file_gives_its_tensors_and_their_parts(sealed):
    path, tensors = sealed
    with path.open("rb") as stream:
        file = opened(stream, path)
        found = file.load()
        part = np.empty((100, 10), np.float32)
        file.open_slice_into("t5", [slice(None), slice(500, 510)], part)
    assert {name: array.tobytes() for name, array in found.items()} == {
        name: array.tobytes() for name, array in tensors.items()
    }
    assert (part == tensors["t5"][:, 500:510]).all()


def test_damage_elsewhere_does_not_matter_and_damage_here_leaves_zeros(sealed):
    path, tensors = sealed
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    data[at] ^= 1
    path.write_bytes(data)
    with path.open("rb") as stream:
        file = opened(stream, path)
        good = bad = 0
        for name in tensors:
            room = np.full_like(tensors[name], 9)
            try:
                file.open_into(name, room)
                assert (room == tensors[name]).all()
                good += 1
            except IntegrityError:
                assert not room.any()
                bad += 1
    assert (good, bad) in {(7, 1), (6, 2)}
