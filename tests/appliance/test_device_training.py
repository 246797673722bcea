"""A run on a device whose checkpoints are sealed and opened there; no plaintext of a weight on the host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from appliance.age.chunk import CHUNK_SIZE, Lane
from appliance.age.reader import PayloadReader
from appliance.errors import ContentRefused, UsageError
from appliance.training import safetensors
from appliance.training.checkpoint import Snapshot
from appliance.training.tensorfile import TensorFile
from appliance.worker.device_opener import DeviceOpener
from appliance.worker.device_sealer import DeviceSealer
from kernels.cuda.array import zeros
from kernels.cuda.ops import Cuda
from tests.kernels.cuda.shim import library
from tests.kernels.cuda.shim.device import ShimDevice
from tests.kernels.cuda.test_backend import config_of, trainer_of

ROOT = Path(__file__).parents[2]
KEYS = {"weights": b"w" * 32, "optimizer": b"o" * 32}


@pytest.fixture
def cards():
    if reason := library.missing():
        pytest.skip(reason)
    made = [ShimDevice(1 << 28) for _ in range(2)]
    yield made
    for card in made:
        card.close()


def trainer_on(card):
    return trainer_of(config_of("gpt2", "bf16"), Cuda(card))


def sealed(card, state, folder):
    """Both files of a state, sealed on the card; each the path of a payload."""
    parts = {
        "weights": (state.weights, state.weights_metadata),
        "optimizer": (state.optimizer, state.metadata),
    }
    paths = {}
    for kind, (tensors, metadata) in parts.items():
        paths[kind] = folder / kind
        with paths[kind].open("wb") as file:
            sealer = DeviceSealer(card, bytearray(KEYS[kind]), file.write, slice_chunks=1)
            size = safetensors.write(sealer, tensors, metadata)
            sealer.close()
        assert sealer.size == size
    return paths


@pytest.fixture
def opened():
    """`opened(card, path, key)`: the file behind a payload, opened on a card."""
    held = []

    def make(card, path, key):
        descriptor = os.open(path, os.O_RDONLY)
        opener = DeviceOpener(card, descriptor, bytearray(key), 0, path.stat().st_size, slice_chunks=1)
        held.append((opener, descriptor))
        return TensorFile(opener)

    yield make
    for opener, descriptor in held:
        opener.close()
        os.close(descriptor)


def weights_of(trainer) -> bytes:
    return np.asarray(trainer.model.parameters.flat).tobytes()


def test_a_resumed_run_gives_the_bits_of_one_that_was_never_stopped(cards, opened, tmp_path):
    first, second = (trainer_on(card) for card in cards)
    first.step()
    snapshot = Snapshot()
    state = snapshot.take(first.state())
    first.step()  # goes on while the state before it is sealed
    paths = sealed(cards[0], state, tmp_path)
    second.open(*(opened(cards[1], paths[kind], KEYS[kind]) for kind in ("weights", "optimizer")))
    assert second.next_step == 1
    second.step()
    assert weights_of(second) == weights_of(first)


def test_a_host_opens_what_a_device_sealed_and_the_other_way_round(cards, opened, tmp_path):
    trainer = trainer_on(cards[0])
    path = sealed(cards[0], trainer.state(), tmp_path)["weights"]
    descriptor = os.open(path, os.O_RDONLY)
    tensors = TensorFile(PayloadReader(descriptor, KEYS["weights"], 0, path.stat().st_size)).load()
    os.close(descriptor)
    for name, view in trainer.model.parameters.views.items():
        assert np.array_equal(tensors[name], np.asarray(view))
    plain = bytearray()
    held = type("Held", (), {"seal_from": staticmethod(plain.extend)})()
    safetensors.write(held, tensors, {"step": "0"})
    again = bytearray(len(plain) + 16 * -(-len(plain) // CHUNK_SIZE))
    Lane(KEYS["weights"]).seal(0, memoryview(plain), memoryview(again), final=True)
    assert bytes(again) == path.read_bytes()


def test_weights_that_are_not_finite_are_refused_without_being_read_back(
    cards, opened, tmp_path, monkeypatch
):
    trainer = trainer_on(cards[0])
    trainer.model.parameters.views["ln_f.weight"][:1] = np.full(1, np.nan)
    path = sealed(cards[0], trainer.state(), tmp_path)["weights"]
    other = trainer_on(cards[1])
    largest = []
    monkeypatch.setattr(
        cards[1], "read", lambda to, source: (largest.append(len(to)), ShimDevice.read(cards[1], to, source))
    )
    with pytest.raises(ContentRefused, match=r"tensor 'ln_f.weight': expected finite numbers"):
        other.model.open(opened(cards[1], path, KEYS["weights"]))
    assert max(largest) == 8  # the length of a tensor's numbers, as one number


def test_a_tensor_goes_to_an_array_of_its_own_size_only(cards, opened, tmp_path):
    path = sealed(cards[0], trainer_on(cards[0]).state(), tmp_path)["weights"]
    file = opened(cards[1], path, KEYS["weights"])
    with pytest.raises(UsageError, match="expected 128 bytes on the device, found 4"):
        file.open_into("ln_f.weight", zeros(cards[1], (1,), np.float32))


# --- the canary --------------------------------------------------------------------------------------------

# The program whose memory is searched: it opens sealed weights on the tests' card, seals them again, and at
# last opens them on the host. It draws no weights and holds no copy of the needle.
PROGRAM = """
import os, sys
from pathlib import Path
from appliance.age.reader import PayloadReader
from appliance.training import safetensors
from appliance.training.tensorfile import TensorFile
from appliance.worker.device_opener import DeviceOpener
from appliance.worker.device_sealer import DeviceSealer
from kernels.cuda.array import zeros
from tests.kernels.cuda.shim.device import ShimDevice
import numpy as np

path, key = Path(sys.argv[1]), bytes.fromhex(sys.argv[2])
descriptor, size, card = os.open(path, os.O_RDONLY), path.stat().st_size, ShimDevice(1 << 26)
opener = DeviceOpener(card, descriptor, bytearray(key), 0, size, slice_chunks=1)
file, target = TensorFile(opener), zeros(card, (100_000,), np.float32)

def told(word):
    ranges = [(address, address + size) for address, (_, size) in card.memory.items()]
    print(word, ranges, flush=True)
    sys.stdin.readline()

file.open_into("w", target)
told("loaded")
with open(os.devnull, "wb") as nowhere:
    sealer = DeviceSealer(card, bytearray(key), nowhere.write, slice_chunks=1)
    safetensors.write(sealer, {"w": target}, {})
    told("sealing")
    sealer.close()
told("sealed")
held = TensorFile(PayloadReader(descriptor, key, 0, size)).load()
told("on the host")
"""


def found_in(pid: int, needle: bytes, ranges: list[tuple[int, int]]) -> tuple[int, int]:
    """How often the needle lies in device memory, and how often beside it."""
    inside = beside = 0
    maps = Path(f"/proc/{pid}/maps").read_text(encoding="ascii")
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for begin, end in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) r", maps, re.MULTILINE):
            try:
                memory.seek(int(begin, 16))
                data = memory.read(int(end, 16) - int(begin, 16))
            except (OSError, ValueError, OverflowError):
                continue  # what the kernel shows to nobody
            for place in re.finditer(re.escape(needle), data):
                at = int(begin, 16) + place.start()
                if any(start <= at < stop for start, stop in ranges):
                    inside += 1
                else:
                    beside += 1
    return inside, beside


def test_no_weight_lies_in_clear_beside_device_memory(cards, tmp_path):
    """On the tests' card, device memory is a part of the process: known ranges, which are told apart."""
    del cards
    weights = np.random.default_rng(5).standard_normal(100_000).astype(np.float32)
    plain = bytearray()
    safetensors.write(type("Held", (), {"seal_from": staticmethod(plain.extend)})(), {"w": weights}, {})
    key, path = os.urandom(32), tmp_path / "payload"
    out = bytearray(len(plain) + 16 * -(-len(plain) // CHUNK_SIZE))
    Lane(key).seal(0, memoryview(plain), memoryview(out), final=True)
    path.write_bytes(out)
    needles = [weights[at : at + 8].tobytes() for at in (16, 50_000, 99_000)]
    command = [sys.executable, "-c", PROGRAM, str(path), key.hex()]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as program:
        seen = {}
        for word in ("loaded", "sealing", "sealed", "on the host"):
            line = program.stdout.readline()
            assert line.startswith(word), line
            ranges = [tuple(map(int, each)) for each in re.findall(r"\((\d+), (\d+)\)", line)]
            seen[word] = [found_in(program.pid, needle, ranges) for needle in needles]
            program.stdin.write("go on\n")
            program.stdin.flush()
    assert all(inside >= 1 and beside == 0 for inside, beside in seen["loaded"])
    assert all(inside >= 1 and beside == 0 for inside, beside in seen["sealing"])
    assert all(inside == 1 and beside == 0 for inside, beside in seen["sealed"])
    assert all(beside >= 1 for _, beside in seen["on the host"])  # positive control
