"""Sealed bytes to a card and back, beside plain copies of as many; one run, a few minutes, one JSON.

    python bench/gpu_crypto.py --cubins build/cubins --gib 8

Needs a card, CuPy and the cubins of `make cubins`. First a payload is sealed by both sides and must be the
same bytes. Then the kernels on bytes that lie on the card; then whole loads and saves from and to a file in
memory, against a plain page-locked copy of the same bytes, and against opening on the host and copying what
came out. Writes bench/results/gpu-crypto-CARD.json, and the same to standard output.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from gpu import listed_cubins, machine, write  # noqa: E402  beside this script

from appliance.age.chunk import CHUNK_SIZE, SEALED_SIZE, TAG_SIZE, Lane  # noqa: E402
from appliance.age.reader import PayloadReader  # noqa: E402
from appliance.worker.device_opener import DeviceOpener  # noqa: E402
from appliance.worker.device_sealer import DeviceSealer  # noqa: E402
from kernels.cuda import sealed_launches  # noqa: E402
from kernels.cuda.array import zeros  # noqa: E402
from kernels.cuda.card import Card  # noqa: E402
from kernels.cuda.device import Device  # noqa: E402
from kernels.errors import KernelError  # noqa: E402

KEY = bytes(range(32))
PIECE = 1 << 26  # bytes of a plain copy at a time


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Median of several runs, after one that warms up."""
    run()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def check(device: Device) -> dict[str, bool]:
    """Hold a sealed payload against the host's, and the opened one against what it was."""
    plain = np.random.default_rng(1).integers(0, 256, 3 * CHUNK_SIZE + 77, np.uint8)
    array = zeros(device, plain.shape, np.uint8)
    array[:] = plain
    sealed, expected = bytearray(), bytearray(plain.size + 4 * TAG_SIZE)
    sealer = DeviceSealer(device, bytearray(KEY), sealed.extend, slice_chunks=2)
    sealer.seal_from(array)
    sealer.close()
    Lane(KEY).seal(0, plain.data, memoryview(expected), final=True)
    descriptor = memory_file(lambda file: file.write(sealed))
    opener = DeviceOpener(device, descriptor, bytearray(KEY), 0, len(sealed), slice_chunks=2)
    array[:] = 0
    opener.open_into(array, 0)
    opener.close()
    os.close(descriptor)
    if sealed != expected or not np.array_equal(np.asarray(array), plain):
        raise SystemExit("gpu_crypto: expected the host's bytes, found others: nothing is timed")
    return {"sealed_as_on_the_host": True, "opens_again": True}


def memory_file(fill: Callable[[Any], object]) -> int:
    """Return a descriptor of a file in memory."""
    descriptor = os.memfd_create("payload")
    with open(descriptor, "wb", closefd=False) as file:
        fill(file)
    return descriptor


def kernel_rates(device: Device, chunks: int, repeats: int) -> dict[str, float]:
    """GB/s of plaintext, for each kernel and for both, on what lies on the card."""
    at = {
        name: device.allocate(chunks * size)
        for name, size in {
            "sealed": SEALED_SIZE,
            "plain": CHUNK_SIZE,
            "keys": 32,
            "refused": 4,
            "key": 32,
        }.items()
    }
    size, first = chunks * CHUNK_SIZE, {"first": 0, "last": chunks - 1}

    def keys() -> None:
        how = sealed_launches.one_time_keys(chunks)
        device.launch(how, device.main, keys=at["keys"], key=at["key"], count=chunks, **first)

    def verify() -> None:
        how = sealed_launches.verify_chunks(chunks)
        named = {name: at[name] for name in ("refused", "sealed", "keys")}
        device.launch(how, device.main, count=chunks, size=chunks * SEALED_SIZE, **named)

    def decrypt() -> None:
        how = sealed_launches.open_segment(0, size)
        named = {name: at[name] for name in ("plain", "sealed", "refused", "key")}
        device.launch(how, device.main, begin=0, size=size, **named, **first)

    def both() -> None:
        keys()
        verify()
        decrypt()

    rates = {}
    for name, run in {"poly1305": verify, "chacha20": decrypt, "both": both}.items():

        def timed(run: Callable[[], None] = run) -> None:
            run()
            device.main.synchronize()

        rates[name] = size / seconds(timed, repeats) / 1e9
    for address in at.values():
        device.release(address)
    return rates


def whole(device: Device, size: int, repeats: int) -> dict[str, Any]:
    """Load and save `size` bytes: sealed, plain, and opened on the host before they are copied."""
    target = zeros(device, (size,), np.uint8)
    staging = device.pinned(min(PIECE, size))

    def save(write: Callable[[Any], object]) -> None:
        sealer = DeviceSealer(device, bytearray(KEY), write)
        sealer.seal_from(target)
        sealer.close()

    descriptor = memory_file(lambda file: save(file.write))
    length = os.fstat(descriptor).st_size

    def load_sealed() -> None:
        opener = DeviceOpener(device, descriptor, bytearray(KEY), 0, length)
        opener.open_into(target, 0)
        opener.close()

    def copy_plain(*, to_card: bool) -> None:
        for start in range(0, size, len(staging)):
            part = staging[: min(len(staging), size - start)]
            if to_card:
                device.upload(target.address + start, part, device.main)
            else:
                device.download(part, target.address + start, device.main)
        device.main.synchronize()

    host = memoryview(bytearray(min(size, 1 << 30)))

    def load_by_host() -> None:
        reader = PayloadReader(descriptor, KEY, 0, length)
        for start in range(0, size, len(host)):
            part = host[: min(len(host), size - start)]
            reader.open_into(part, start)
            device.write(target.address + start, part)

    runs = {
        "load_sealed": load_sealed,
        "load_plain": lambda: copy_plain(to_card=True),
        "load_by_host": load_by_host,
        "save_sealed": lambda: save(len),
        "save_plain": lambda: copy_plain(to_card=False),
    }
    rates = {name: size / seconds(run, repeats) / 1e9 for name, run in runs.items()}
    os.close(descriptor)
    device.release(target.address)
    return {
        "bytes": size,
        "gb_per_s": rates,
        "load_of_plain": rates["load_sealed"] / rates["load_plain"],
        "load_of_host": rates["load_sealed"] / rates["load_by_host"],
        "save_of_plain": rates["save_sealed"] / rates["save_plain"],
    }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cubins", type=Path, default=ROOT / "build/cubins", help="folder of `make cubins`")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results")
    parser.add_argument("--gib", type=float, default=8.0, help="of the whole loads and saves")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args(arguments)


def measured(device: Device, size: int, chunks: int, repeats: int) -> dict[str, Any]:
    """Everything, on one device."""
    return {
        "machine": machine(device),
        "correct": check(device),
        "kernel_gb_per_s": kernel_rates(device, chunks, repeats),
        "whole": whole(device, size, repeats),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure; without a card say so and return 1."""
    asked = parse(arguments)
    try:
        card = Card(listed_cubins(asked.cubins))
    except (KernelError, OSError) as missing:
        print(f"gpu_crypto: {missing}", file=sys.stderr)
        return 1
    write(asked.out, "gpu-crypto", measured(card, int(asked.gib * (1 << 30)), 1 << 14, asked.repeats))
    card.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
