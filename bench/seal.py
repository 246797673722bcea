"""Sealing and opening beside the public `age`, `cp` and memcpy, with what bounds them measured alone.

Prints one JSON object: medians of runs that take turns with their peers, and ratios of medians, the peer's
being 1. `targets` says what is aimed at; nothing fails when it is missed. The file is a safetensors model of
about the size asked for; it lies in the page cache, on the disk of the folder the program starts in. What a
run writes is removed outside the clock, before the disk has to take it; what comes out is compared with what
went in.
`python bench/seal.py [--mib 1024] [--save]`; `--save` keeps the object in bench/results.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import hashlib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cryptography
import numpy as np

from appliance import age
from appliance.age.chunk import BATCH, CHUNK_SIZE, SEALED_SIZE, Lane
from appliance.age.lanes import lane_count, numbers, side_by_side
from appliance.training import safetensors
from appliance.training.config import ModelConfig
from appliance.training.layout import layout_of
from appliance.training.tensorfile import TensorFile

RUNS = 5
SMALL_RUNS = 300
OURS = [sys.executable, "-I", "-m", "appliance.age"]
MIB, GIB = 1 << 20, 1 << 30
TARGETS = {
    "open_to_buffer / age": 3.0,
    "open_to_buffer / memcpy": 0.35,
    "seal_file_to_file / age": 1.5,
    "open_and_first_tensor_us": 1000,
    "tensor_of_4_kib_us": 100,
}


class Sample:
    """A model of many tensors, in the clear and sealed, and room for one copy of it."""

    def __init__(self, folder: Path, size_mib: int) -> None:
        self.folder = folder
        self.identity = age.X25519Identity.generate()
        (folder / "identity").write_bytes(bytes(self.identity.encode()) + b"\n")
        self.recipient = self.identity.recipient.text
        self.plain, self.sealed = folder / "plain", folder / "sealed"
        self._write(size_mib)
        run([*OURS, "encrypt", "-r", self.recipient], self.plain, self.sealed)
        for path in (self.plain, self.sealed):
            with path.open("rb") as file:
                os.fsync(file.fileno())
        self.size = self.plain.stat().st_size
        self.room = bytearray(b"\xff") * self.size  # every page of it is there

    def _write(self, size_mib: int) -> None:
        layers = max(1, size_mib // 48)  # a block of width 1,024 has 48 MiB
        layout = layout_of(ModelConfig(layers=layers, width=1024, heads=16, context=1024))
        noise = np.frombuffer(os.urandom(16 * MIB), np.float32)
        tensors = {slot.name: np.resize(noise, slot.shape) for slot in layout.slots}
        with self.plain.open("wb") as file:
            safetensors.write(FileSealer(file.write), tensors, {})

    @contextlib.contextmanager
    def reader(self, identity: age.Identity, path: Path) -> Iterator[age.PayloadReader]:
        """Open a sealed file as the custodian and a worker do together."""
        with path.open("rb") as stream:
            header = age.read_header(stream)
            file_key = age.unwrap_file_key(header, [identity])
            key = age.payload_key(file_key, stream.read(age.NONCE_SIZE))
            offset, descriptor = header.size + age.NONCE_SIZE, stream.fileno()
            yield age.PayloadReader(descriptor, key, offset, os.fstat(descriptor).st_size - offset)


class FileSealer:
    """Hands what is to be sealed to a function."""

    def __init__(self, write: Callable[[memoryview], object]) -> None:
        self.seal_from = write


def run(command: list[str], source: Path, target: Path) -> None:
    with source.open("rb") as from_file, target.open("wb") as to_file:
        subprocess.run(command, stdin=from_file, stdout=to_file, check=True)


def medians(works: dict[str, Callable[[], object]], runs: int = RUNS) -> dict[str, float]:
    """Seconds of each work, in turns with the others."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def rates(sample: Sample, works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """GiB of plaintext per second."""
    return {name: round(sample.size / GIB / s, 3) for name, s in medians(works).items()}


# --- what bounds it ---------------------------------------------------------------------------------------


def bounds(sample: Sample) -> dict[str, Callable[[], object]]:
    """Memcpy, reading alone and the cipher alone, on one lane and on all."""
    other = bytearray(b"\xee") * sample.size
    room = memoryview(sample.room)
    batches = sample.size // (BATCH * CHUNK_SIZE)
    descriptor = os.open(sample.sealed, os.O_RDONLY)
    lanes = [Lane(bytes(32)) for _ in range(lane_count())]
    plain = bytes(BATCH * CHUNK_SIZE)
    sealed = memoryview(bytearray(BATCH * SEALED_SIZE))
    lanes[0].seal(0, memoryview(plain), sealed, final=False)

    def read(lane: Lane, number: int) -> None:
        os.preadv(descriptor, [lane.inward[: BATCH * SEALED_SIZE]], number * BATCH * SEALED_SIZE)

    def decipher(lane: Lane, number: int) -> None:
        lane.open(0, sealed, room[number * BATCH * CHUNK_SIZE :], final=False)

    def memcpy() -> None:
        room[:] = other

    return {
        "memcpy": memcpy,
        "read_alone_1_lane": lambda: side_by_side(lanes[:1], numbers(batches), read),
        "read_alone": lambda: side_by_side(lanes, numbers(batches), read),
        "cipher_alone_1_lane": lambda: side_by_side(lanes[:1], numbers(batches), decipher),
        "cipher_alone": lambda: side_by_side(lanes, numbers(batches), decipher),
    }


# --- whole files ------------------------------------------------------------------------------------------


def open_to_buffer(sample: Sample) -> dict[str, float]:
    """Open a whole file into memory that is there; `age` may throw away what it opens, which favours it."""
    peer = [shutil.which("age") or "age", "-d", "-i", str(sample.folder / "identity")]

    def ours() -> None:
        with sample.reader(sample.identity, sample.sealed) as reader:
            reader.open_into(sample.room, 0)

    found = rates(
        sample,
        {**bounds(sample), "ours": ours, "age": lambda: run(peer, sample.sealed, Path(os.devnull))},
    )
    ours()
    assert hashlib.sha256(sample.room).digest() == digest(sample.plain)
    return found


def file_to_file(sample: Sample, *, seal: bool) -> dict[str, float]:
    """Whole programs, started for one file; the target is new each time."""
    source, target = (sample.plain if seal else sample.sealed), sample.folder / "target"
    identity = ["-i", str(sample.folder / "identity")]
    ours = [*OURS, *(["encrypt", "-r", sample.recipient] if seal else ["decrypt", *identity])]
    peer = ["age", *(["-r", sample.recipient] if seal else ["-d", *identity])]

    def fresh(command: list[str]) -> Callable[[], None]:
        return lambda: run(command, source, target)

    works: dict[str, Callable[[], object]] = {
        "ours": fresh(ours),
        "age": fresh(peer),
        "cp": lambda: subprocess.run(["cp", "--reflink=never", source, target], check=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(RUNS):
        for name, work in works.items():
            seconds[name].append(medians({name: work}, 1)[name])
            target.unlink()
    return {name: round(sample.size / GIB / statistics.median(times), 3) for name, times in seconds.items()}


def digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


# --- one tensor -------------------------------------------------------------------------------------------


def one_tensor(sample: Sample, identity: age.Identity, path: Path) -> dict[str, float]:
    """Microseconds from a closed file to its first tensor, and for 4 KiB of a file that is open."""

    def first() -> None:
        with sample.reader(identity, path) as reader:
            file = TensorFile(reader)
            name = next(iter(file.header.tensors))
            info = file.header.tensors[name]
            file.open_into(name, memoryview(sample.room)[: info.end - info.start])

    with sample.reader(identity, path) as reader:
        file = TensorFile(reader)
        small = [n for n, info in file.header.tensors.items() if info.end - info.start == 4096]
        turns = iter(small[i * 7 % len(small)] for i in range(SMALL_RUNS))  # no chunk serves two in a row
        small_s = median_of(lambda: file.open_into(next(turns), memoryview(sample.room)[:4096]))
    return {
        "tensors": len(file.header.tensors),
        "open_and_first_tensor_us": round(median_of(first) * 1e6, 1),
        "tensor_of_4_kib_us": round(small_s * 1e6, 1),
    }


def median_of(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(SMALL_RUNS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


# --- memory -----------------------------------------------------------------------------------------------


def peak_mib(sample: Sample, command: list[str], source: Path) -> float:
    """Return the largest resident size of a whole program, as the kernel counts it (VmHWM)."""
    code = (
        "import runpy, sys\n"
        "sys.argv = ['appliance.age', *sys.argv[1:]]\n"
        "try: runpy.run_module('appliance.age', run_name='__main__')\n"
        "finally: sys.stderr.write(open('/proc/self/status').read())"
    )
    with source.open("rb") as from_file, (sample.folder / "target").open("wb") as to_file:
        done = subprocess.run(
            [sys.executable, "-I", "-c", code, *command],
            stdin=from_file,
            stdout=to_file,
            stderr=subprocess.PIPE,
            check=True,
        )
    found = re.search(rb"VmHWM:\s*(\d+) kB", done.stderr)
    assert found
    return round(int(found[1]) / 1024, 1)


def memory(sample: Sample) -> dict[str, dict[str, float]]:
    """Run the same program on a small file and on the whole."""
    part, sealed = sample.folder / "part", sample.folder / "part.age"
    with sample.plain.open("rb") as file:
        part.write_bytes(file.read(16 * MIB))
    run([*OURS, "encrypt", "-r", sample.recipient], part, sealed)
    files = {"16 MiB": (part, sealed), f"{sample.size // MIB} MiB": (sample.plain, sample.sealed)}
    return {
        size: {
            "encrypt": peak_mib(sample, ["encrypt", "-r", sample.recipient], plain),
            "decrypt": peak_mib(sample, ["decrypt", "-i", str(sample.folder / "identity")], closed),
        }
        for size, (plain, closed) in files.items()
    }


# --- all of it --------------------------------------------------------------------------------------------


def ratios(result: dict[str, dict[str, float]]) -> dict[str, float]:
    opened, sealed, files = (result[name] for name in ("open_to_buffer", "seal_files", "open_files"))
    return {
        "open_to_buffer / age": round(opened["ours"] / opened["age"], 2),
        "open_to_buffer / memcpy": round(opened["ours"] / opened["memcpy"], 3),
        "open_to_buffer / cipher_alone": round(opened["ours"] / opened["cipher_alone"], 3),
        "seal_file_to_file / age": round(sealed["ours"] / sealed["age"], 2),
        "seal_file_to_file / cp": round(sealed["ours"] / sealed["cp"], 2),
        "open_file_to_file / age": round(files["ours"] / files["age"], 2),
        "open_file_to_file / cp": round(files["ours"] / files["cp"], 2),
    }


def processor() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="ascii")
    found = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def machine(sample: Sample) -> dict[str, object]:
    version = subprocess.run(["age", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "processor": processor(),
        "cores": lane_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cryptography": cryptography.__version__,
        "age": version,
        "bytes": sample.size,
        "runs": RUNS,
    }


def measure(folder: Path, size_mib: int) -> dict[str, object]:
    sample = Sample(folder, size_mib)
    hybrid = age.HybridIdentity.generate()
    post_quantum = folder / "post-quantum"
    run([*OURS, "encrypt", "-r", hybrid.recipient.text], sample.plain, post_quantum)
    tensor = {
        "x25519": one_tensor(sample, sample.identity, sample.sealed),
        "mlkem768x25519": one_tensor(sample, hybrid, post_quantum),
    }
    post_quantum.unlink()
    gib_per_s = {
        "open_to_buffer": open_to_buffer(sample),
        "seal_files": file_to_file(sample, seal=True),
        "open_files": file_to_file(sample, seal=False),
    }
    return {
        "machine": machine(sample),
        "gib_per_s": gib_per_s,
        "ratios": ratios(gib_per_s),
        "one_tensor": tensor,
        "peak_memory_mib": memory(sample),
        "targets": TARGETS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--save", action="store_true", help="keep the result in bench/results")
    options = parser.parse_args()
    if shutil.which("age") is None:
        sys.exit("expected the public `age` program to measure beside, found none")
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        text = json.dumps(measure(Path(name), options.mib), indent=2)
    print(text)
    if options.save:
        name = re.sub(r"[^a-z0-9]+", "-", processor().lower()).strip("-")
        target = Path(__file__).parent / "results" / f"seal-{name}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(text + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
