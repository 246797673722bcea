"""Sealed objects cut, extended, spliced, reordered and re-headered; hostile tensors inside sound ones.

Each attack is on the files of a running appliance. The error is the right one, no plaintext is handed out,
and what was attacked opens again once its files are as they were.
"""

from __future__ import annotations

import json
import tracemalloc

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from appliance import age
from appliance.age.chunk import CHUNK_SIZE, SEALED_SIZE, TAG_SIZE
from appliance.errors import ContentRefused, IntegrityError, WrongSecret
from appliance.training import safetensors
from appliance.training.tensorfile import TensorFile
from tests.appliance.age_vectors import LOW_ORDER, Maker, b64, hkdf, wrap

PLAIN = bytes(range(256)) * (5 * CHUNK_SIZE // 256) + b"the end"  # five whole chunks and a short one
SECOND = PLAIN[::-1]


@pytest.fixture
def attacked(sim):
    """One object, its payload file, and another object of the same size."""
    one, two = sim.add("weights", "one", PLAIN), sim.add("weights", "two", SECOND)
    path = sim.folder_of(one) / "payload"
    path.chmod(0o600)
    return one, path, (sim.folder_of(two) / "payload").read_bytes()


def chunk(data, index):
    """Sealed chunk of a payload file."""
    return data[16 + index * SEALED_SIZE : 16 + (index + 1) * SEALED_SIZE]


def joined(data, *chunks):
    """The payload's nonce, and these chunks."""
    return data[:16] + b"".join(chunks)


TRUNCATED = {
    "by a byte": lambda data, _: data[:-1],
    "by a tag": lambda data, _: data[:-TAG_SIZE],
    "to a tag's place": lambda data, _: data[: 16 + 5 * SEALED_SIZE + TAG_SIZE],
    "by the last chunk": lambda data, _: data[: 16 + 5 * SEALED_SIZE],
    "by two chunks": lambda data, _: data[: 16 + 4 * SEALED_SIZE],
    "to one chunk": lambda data, _: data[: 16 + SEALED_SIZE],
    "within a chunk": lambda data, _: data[: 16 + SEALED_SIZE + 1000],
    "to its nonce": lambda data, _: data[:16],
}
EXTENDED = {
    "by a byte": lambda data, _: data + b"\0",
    "by a tag": lambda data, _: data + bytes(TAG_SIZE),
    "by its last chunk": lambda data, _: data + chunk(data, 5),
    "by a chunk of another": lambda data, other: data + chunk(other, 5),
    "by all of another": lambda data, other: data + other,
}
MOVED = {
    "two chunks swapped": lambda d, _: joined(d, *(chunk(d, i) for i in (1, 0, 2, 3, 4, 5))),
    "one chunk given twice": lambda d, _: joined(d, *(chunk(d, i) for i in (0, 0, 2, 3, 4, 5))),
    "the last chunk in front": lambda d, _: joined(d, *(chunk(d, i) for i in (5, 0, 1, 2, 3, 4))),
    "one chunk left out": lambda d, _: joined(d, *(chunk(d, i) for i in (0, 2, 3, 4, 5))),
    "a chunk of another": lambda d, o: joined(d, chunk(o, 0), *(chunk(d, i) for i in range(1, 6))),
    "the last of another": lambda d, o: joined(d, *(chunk(d, i) for i in range(5)), chunk(o, 5)),
    "all chunks of another": lambda d, o: d[:16] + o[16:],
}


@pytest.mark.parametrize("cases", [TRUNCATED, EXTENDED, MOVED], ids=["truncated", "extended", "spliced"])
def test_a_payload_that_is_not_as_it_was_sealed_opens_nowhere(sim, attacked, cases):
    one, path, other = attacked
    data = path.read_bytes()
    for change in cases.values():
        path.write_bytes(change(data, other))
        with pytest.raises(IntegrityError, match=r"payload: (chunk .* does not fit|expected a final chunk)"):
            sim.read(one)
    path.write_bytes(data)
    assert sim.read(one) == PLAIN


def test_a_read_of_many_chunks_leaves_zeros_where_one_was_moved(sim, attacked):
    """The end is in its place, so only reading finds it: nothing of the sound chunks stays either."""
    one, path, other = attacked
    key = sim.core.custody.unwrap(sim.use(one)).key
    data = path.read_bytes()
    for name in ("two chunks swapped", "one chunk given twice", "a chunk of another"):
        path.write_bytes(MOVED[name](data, other))
        with path.open("rb") as stream:
            reader = age.PayloadReader(stream.fileno(), key, 16, path.stat().st_size - 16)
            room = bytearray(b"\xaa" * len(PLAIN))
            with pytest.raises(IntegrityError, match=r"chunk [01] does not fit its tag"):
                reader.open_into(room, 0)
            assert room == bytes(len(PLAIN))
            reader.open_into(memoryview(room)[: CHUNK_SIZE + 7], 4 * CHUNK_SIZE)  # nobody touched these
            assert room[: CHUNK_SIZE + 7] == PLAIN[4 * CHUNK_SIZE :]


def rewritten(header, change):
    lines = header.split(b"\n")
    change(lines)
    return b"\n".join(lines)


RE_HEADERED = [
    (lambda lines: lines.insert(1, b"-> Z-grease\n"), "MAC does not fit"),
    (lambda lines: lines.insert(-2, b"-> Z-grease\n"), "MAC does not fit"),
    (lambda lines: lines.__setitem__(slice(1, 3), lines[1:3] * 2), "MAC does not fit"),
    (lambda lines: lines.__setitem__(slice(1, -2), []), "expected at least one stanza, found none"),
    (lambda lines: lines.__setitem__(0, b"age-encryption.org/v2"), "expected the line age-encryption"),
    (lambda lines: lines.append(b"more"), "then the end of the header"),
    (lambda lines: lines.__setitem__(slice(0, None), [b""]), "expected the line age-encryption"),
]


def test_a_header_with_stanzas_added_doubled_or_gone_opens_nothing(sim, attacked):
    one, _, _ = attacked
    path = sim.folder_of(one) / "header"
    header = path.read_bytes()
    for change, message in RE_HEADERED:
        grant = sim.use(one)
        path.write_bytes(rewritten(header, change))
        with sim.refused(IntegrityError, message):
            sim.open(grant)
    path.write_bytes(header)
    assert sim.read(one) == PLAIN


def test_a_share_whose_secret_everybody_knows_is_damage_even_where_all_else_fits(sim, attacked):
    """The forger knows the vault's recipient and no secret: the body and the MAC are right under zero."""
    one, _, _ = attacked
    maker = Maker(71)
    public = sim.core.custody._keyring.vault_identity.recipient.public
    path = sim.folder_of(one) / "header"
    header = path.read_bytes()
    for point in LOW_ORDER:
        key = hkdf(bytes(32), point + public, b"age-encryption.org/v1/X25519")
        body = ChaCha20Poly1305(key).encrypt(bytes(12), maker.file_key, None)
        grant = sim.use(one)
        path.write_bytes(maker.header(wrap(b"X25519 " + b64(point), body)))
        with sim.refused(IntegrityError, "an X25519 share is a low-order point; refused"):
            sim.open(grant)
    path.write_bytes(header)
    assert sim.read(one) == PLAIN


MANY = 1_000_000


def test_a_header_of_a_million_stanzas_costs_no_more_than_its_bound(sim, attacked):
    one, _, _ = attacked
    path = sim.folder_of(one) / "header"
    header = path.read_bytes()
    grant = sim.use(one)
    lines = header.split(b"\n", 1)
    path.write_bytes(lines[0] + b"\n" + b"-> x\n\n" * MANY + lines[1])
    with sim.refused(IntegrityError, "expected a header of at most 65536 bytes"), peak_below(1 << 20):
        sim.open(grant)
    with path.open("rb") as stream, peak_below(1 << 20):
        with pytest.raises(IntegrityError, match="expected its end within 65536 bytes, found none"):
            age.read_header(stream)
        assert stream.tell() <= 65536 + 1
    path.write_bytes(header)
    assert sim.read(one) == PLAIN


def test_a_header_of_stanzas_for_others_costs_at_most_64_key_exchanges(monkeypatch):
    maker = Maker(72)
    tried = []
    unwrap = age.X25519Identity.unwrap
    monkeypatch.setattr(age.X25519Identity, "unwrap", lambda self, s: tried.append(s) or unwrap(self, s))
    for count, error in ((64, WrongSecret), (65, IntegrityError)):
        header = maker.header(*(maker.curve(maker.stranger) for _ in range(count)))
        with pytest.raises(error):
            age.open_bytes(header + maker.nonce, [age.X25519Identity(maker.secret)])
    assert len(tried) == 64


class peak_below:  # noqa: N801  used as a statement
    """Python's memory stays below a bound while the block runs."""

    def __init__(self, size_bytes):
        self.size_bytes = size_bytes

    def __enter__(self):
        tracemalloc.start()

    def __exit__(self, *_):
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < self.size_bytes


def entry(start, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


HOSTILE = {
    "overlapping": ({"a": entry(0, 8), "b": entry(4, 12)}, 12, "tensors overlap or leave a gap"),
    "the same twice over": ({"a": entry(0, 8), "b": entry(0, 8)}, 8, "tensors overlap or leave a gap"),
    "a gap": ({"a": entry(0, 8), "b": entry(16, 24)}, 24, "tensors overlap or leave a gap"),
    "negative": ({"a": entry(-8, 0)}, 0, "expected two data_offsets"),
    "backwards": ({"a": entry(8, 0)}, 8, "expected 8 bytes for F32"),
    "huge": ({"a": entry(0, 2**70)}, 8, "expected two data_offsets"),
    "beyond the file": ({"a": entry(0, 2**40, (2**38,))}, 8, "bytes as the header says, found"),
    "a shape that overflows": ({"a": entry(0, 0, (2**62, 2**62, 0))}, 0, "sizes beside a zero that an array"),
    "no numbers": ({"a": entry(True, 8.0)}, 8, "expected two data_offsets"),
}


def sealed_tensors(sim, name, text, data=b""):
    """An object as an officer of an import would have it: sealed soundly, hostile inside."""
    plain = safetensors.PREFIX.pack(len(text)) + text + data
    return sim.add("weights", name, plain)


def opened(sim, what):
    key = sim.core.custody.unwrap(sim.use(what)).key
    path = sim.folder_of(what) / "payload"
    stream = path.open("rb")
    return stream, age.PayloadReader(stream.fileno(), key, 16, path.stat().st_size - 16)


def test_hostile_offsets_in_a_sound_object_are_refused_before_room_is_made(sim):
    for name, (document, size, message) in HOSTILE.items():
        what = sealed_tensors(sim, name.replace(" ", "-"), json.dumps(document).encode(), bytes(size))
        stream, reader = opened(sim, what)
        with stream, peak_below(1 << 20), pytest.raises(ContentRefused, match=message):
            TensorFile(reader)


def test_names_given_twice_are_refused(sim):
    one = json.dumps({"a": entry(0, 8)})
    stream, reader = opened(sim, sealed_tensors(sim, "twice", f"{one[:-1]},{one[1:]}".encode(), bytes(8)))
    with (
        stream,
        pytest.raises(ContentRefused, match="expected each name once in the header, found one twice"),
    ):
        TensorFile(reader)


def test_a_header_of_a_hundred_megabytes_is_refused_by_its_length(tmp_path):
    path = tmp_path / "payload"
    with path.open("wb") as stream, age.PayloadWriter(stream.write, bytes(32)) as writer:
        writer.write(safetensors.PREFIX.pack(100_000_000) + b"{")
        block = b" " * 1_000_000
        for _ in range(100):
            writer.write(block)
    with path.open("rb") as stream:
        reader = age.PayloadReader(stream.fileno(), bytes(32), 0, path.stat().st_size)
        with (
            peak_below(1 << 20),
            pytest.raises(ContentRefused, match="of 2 to 4194304 bytes, found 100000000"),
        ):
            TensorFile(reader)
