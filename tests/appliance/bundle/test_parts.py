"""The stream is cut into whole age files of known sizes."""

import hashlib
import io
import os
from pathlib import Path

import pytest

from appliance.age import X25519Identity, decrypt, encode_header, payload_key
from appliance.bundle.parts import PartOutput, PartWriter, copy_part, part_sizes
from appliance.errors import ContentRefused, IntegrityError, SpaceExhausted

IDENTITY = X25519Identity(bytearray(range(32)))


def new_part(folder: Path, index: int) -> PartOutput:
    file_key, nonce = bytearray(os.urandom(16)), os.urandom(16)
    prefix = encode_header(file_key, [IDENTITY.recipient]) + nonce
    fd = os.open(folder / f"p{index:04d}.age", os.O_RDWR | os.O_CREAT)
    os.write(fd, prefix)
    return PartOutput(fd, payload_key(file_key, nonce), prefix)


def open_part(path: Path) -> bytes:
    out = io.BytesIO()
    with path.open("rb") as source:
        decrypt(source, out, [IDENTITY])
    return out.getvalue()


@pytest.mark.parametrize(
    ("plain", "part", "sizes"), [(1, 8, (1,)), (8, 8, (8,)), (9, 8, (8, 1)), (24, 8, (8, 8, 8))]
)
def test_sizes_are_known_in_advance(plain, part, sizes):
    assert part_sizes(plain, part) == sizes


def test_too_many_parts_are_refused():
    with pytest.raises(ContentRefused, match="expected 1 to 4096 parts, found 4097"):
        part_sizes(4097, 1)
    with pytest.raises(ContentRefused, match="found 0"):
        part_sizes(0)


@pytest.mark.parametrize("step", [1000, 65536, 100_000, 400_000])
def test_parts_are_age_files_whose_contents_join_to_the_stream(tmp_path, step):
    stream = os.urandom(300_000)
    keys = []

    def next_part(index):
        output = new_part(tmp_path, index)
        keys.append(output.key)
        return output

    writer = PartWriter(part_sizes(len(stream), 131_072), next_part)
    for at in range(0, len(stream), step):
        writer.write(stream[at : at + step])
    parts = writer.close()
    assert b"".join(open_part(tmp_path / part.name) for part in parts) == stream
    for part in parts:
        data = (tmp_path / part.name).read_bytes()
        assert (part.size, part.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert keys == [bytearray(32)] * 3


def test_stream_shorter_or_longer_than_planned_is_refused(tmp_path):
    short = PartWriter((10,), lambda index: new_part(tmp_path, index))
    short.write(b"123")
    with pytest.raises(IntegrityError, match="expected 1 whole parts, found 0"):
        short.close()
    short.abandon()
    long = PartWriter((10,), lambda index: new_part(tmp_path, index + 1))
    with pytest.raises(IntegrityError, match="expected 10 bytes in all parts, found more"):
        long.write(b"12345678901")


def test_full_medium_is_named():
    fd = os.open("/dev/full", os.O_RDWR)
    writer = PartWriter((4,), lambda _: PartOutput(fd, bytearray(32), b""))
    with pytest.raises(SpaceExhausted, match=r"no room to write p0000\.age"):
        writer.write(b"1234")
    again = os.open("/dev/null", os.O_RDONLY)
    assert again == fd, "the failed part was not closed"
    writer.abandon()
    os.fstat(again)
    os.close(again)


def test_part_is_copied_once_and_hashed_as_copied(tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "medium").write_bytes(data)
    source = os.open(tmp_path / "medium", os.O_RDONLY)
    target = os.open(tmp_path / "quarantine", os.O_RDWR | os.O_CREAT)
    assert copy_part(source, target, len(data)) == (len(data), hashlib.sha256(data).hexdigest())
    assert (tmp_path / "quarantine").read_bytes() == data
    os.close(source)
    os.close(target)


def test_part_that_never_ends_is_not_copied_for_ever(tmp_path):
    source = os.open("/dev/zero", os.O_RDONLY)
    target = os.open(tmp_path / "quarantine", os.O_RDWR | os.O_CREAT)
    assert copy_part(source, target, 5000)[0] == 5001
    os.close(source)
    os.close(target)
