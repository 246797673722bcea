"""One launch over NumPy arrays, twice: on the shim in two orders of threads, or on a card.

Both demand equal bits of the two. Arrays are read and written where they lie; None is a null pointer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kernels.cuda import cubins
from kernels.cuda.signatures import KERNELS
from tests.kernels.cuda.shim import library

ROOT = Path(__file__).parents[3]
SEEDS = (1, 2)  # orders of blocks and threads


def arrays_of(values):
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def copied(values):
    """Copies of the arrays; one array given under two names stays one."""
    made = {id(array): array.copy() for array in arrays_of(values).values()}
    return {name: made.get(id(value), value) for name, value in values.items()}


def on_the_shim(how, **values):
    twice(how, values, [lambda given, seed=seed: library.launch(how, seed=seed, **given) for seed in SEEDS])


def on_a_device(device):
    """`launch(Launch, name=value, …)` on anything that is a `kernels.cuda.device.Device`."""

    def launch(how, **values):
        twice(how, values, [lambda given: carried(device, how, given)] * 2)

    return launch


def twice(how, values, runs):
    again = copied(values)
    for run, given in zip(runs, (values, again), strict=True):
        run(given)
    for name, array in arrays_of(values).items():
        assert again[name].tobytes() == array.tobytes(), f"{how.kernel}: {name} differs between two runs"


def carried(device, how, values):
    """Carry the arrays to a device, launch, and carry them back."""
    lying = {id(array): array for array in arrays_of(values).values()}  # each once, under whatever names
    there = {key: (device.allocate(max(1, array.nbytes)), array) for key, array in lying.items()}
    try:
        for address, array in there.values():
            device.write(address, array.reshape(-1).view(np.uint8).data)
        given = {name: there[id(v)][0] if id(v) in there else v or 0 for name, v in values.items()}
        device.launch(how, device.main, **given)
        for address, array in there.values():
            device.read(array.reshape(-1).view(np.uint8).data, address)
    finally:
        for address, _ in there.values():
            device.release(address)


def built_cubins(capability):
    """What `make cubins` left, held against the committed list."""
    listed = cubins.parse_list((ROOT / "kernels/cubins.json").read_bytes())
    arch = cubins.arch_for(capability, listed.archs)
    found = {}
    for source in {kernel.source for kernel in KERNELS.values()}:
        found[source] = (ROOT / "build/cubins" / arch / f"{source}.cubin").read_bytes()
        cubins.verify_cubin(listed, arch, source, found[source])
    return found
