"""The audit log beside the disk it lies on: what durability costs, and what the log adds to it.

Prints one JSON object. The bare disk is measured in turns with the log, on the same disk in the same run:
blocks of a few operations each, so that both meet the same neighbours. Medians, and ratios of medians; the
machine may be shared. `targets` says what is aimed at; nothing fails when it is missed.
`python bench/log.py [entries of the large log, default 1000000]`, in a folder on the disk to be measured.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

from audit.checkpoint import TreeHead, sign_tree_head
from audit.entry import Decision, Record, encode_entry
from audit.folder import CHECKPOINT, LOCK, VKEY, Folder
from audit.log import Log
from audit.merkle import leaf_hash
from audit.note import NoteSigner
from audit.tiles import WIDTH, Tile, edge_tiles, encode_bundle
from audit.tree import Tree
from audit.verify import Report, verify_log
from audit.wal import WriteAhead

ROUNDS, BLOCK = 40, 25
CLIENTS, SECONDS, TURNS = 64, 1.0, 5
SIGNER = NoteSigner("log.example/bench", bytes(32))
TIME = "2026-01-02T03:04:05.000000Z"
RECORD = Record(
    "decision",
    "Person:researcher",
    "use",
    "Object:" + "5e" * 32,
    {
        "profile": "isolated",
        "isolated": True,
        "sealed": False,
        "job": "c0" * 8,
        "object_name": "weights/base",
    },
    Decision(allow=True, policies=("operator-use",), policy_set="ab" * 32),
)


def _nothing(*_: object) -> None:
    pass  # a Mock would cost more than what it stands in for


def median_us(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1e6, 1)


class Bare:
    """The least that any log must do: 512 bytes at the end of a file, and fdatasync."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._data = os.urandom(512)
        self._end = 0

    def append(self) -> None:
        """Append and wait for the disk."""
        os.pwrite(self._fd, self._data, self._end)
        os.fdatasync(self._fd)
        self._end += len(self._data)


def times(call: Callable[[], object], count: int) -> list[float]:
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return seconds


def latency(log: Log, bare: Bare) -> dict[str, float]:
    """One client: a commit of one entry, and the bare append, in turns."""
    log.append([RECORD] * 200)
    appends: list[float] = []
    bares: list[float] = []
    for _ in range(ROUNDS):
        bares += times(bare.append, BLOCK)
        appends += times(lambda: log.append([RECORD]), BLOCK)
        log.publish()  # the caller's timer does this, once a second
    with mock.patch("os.fdatasync", new=_nothing):
        unsynced = times(lambda: log.append([RECORD]), ROUNDS * BLOCK)
    return {
        "bare_us": median_us(bares),
        "append_us": median_us(appends),
        "append_p99_us": round(statistics.quantiles(appends, n=100)[98] * 1e6, 1),
        "append_without_fdatasync_us": median_us(unsynced),
        "ratio": round(statistics.median(appends) / statistics.median(bares), 2),
    }


def rate(call: Callable[[], object], threads: int) -> float:
    """Count the calls per second that `threads` threads, each waiting for its answer, make together."""
    counts = [0] * threads
    end = time.perf_counter() + SECONDS

    def work(number: int) -> None:
        while time.perf_counter() < end:
            call()
            counts[number] += 1

    began = time.perf_counter()
    clients = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return sum(counts) / (time.perf_counter() - began)


def throughput(log: Log, bare: Bare) -> dict[str, float]:
    bares, alone, together = [], [], []
    for _ in range(TURNS):
        bares.append(rate(bare.append, 1))
        alone.append(rate(lambda: log.append([RECORD]), 1))
        together.append(rate(lambda: log.append([RECORD]), CLIENTS))
        log.publish()
    bare_rate = statistics.median(bares)
    return {
        "clients": CLIENTS,
        "bare_per_s": round(bare_rate),
        "one_client_per_s": round(statistics.median(alone)),
        "entries_per_s": round(statistics.median(together)),
        "best_entries_per_s": round(max(together)),
        "ratio_to_bare": round(statistics.median(together) / bare_rate, 2),
        "target_per_s": round(min(10_000, 15 * bare_rate)),
    }


def build(home: Path, count: int) -> int:
    """Write a log of `count` entries straight into its tiles; returns the bytes of the entries."""
    home.mkdir()
    tree, total = Tree(), 0
    pattern = encode_entry(RECORD, 2**62, TIME)
    before, after = pattern.split(str(2**62).encode())

    def put(path: str, data: bytes) -> None:
        target = home / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    for number in range(count // WIDTH):
        first = number * WIDTH
        entries = [before + str(seq).encode() + after for seq in range(first, first + WIDTH)]
        total += sum(map(len, entries))
        put(Tile(None, number).path, encode_bundle(entries))
        for entry in entries:
            for tile, hashes in tree.append(leaf_hash(entry)):
                put(tile.path, b"".join(hashes))
    for tile in edge_tiles(tree.size):
        if tile.level is not None:
            put(tile.path, b"".join(tree.edge(tile.level)))
    head = TreeHead(SIGNER.name, tree.size, tree.root())
    note = sign_tree_head(head, SIGNER)
    put(VKEY, f"{SIGNER.vkey.text}\n".encode())
    put(CHECKPOINT, note)
    put(LOCK, b"")
    with Folder(home) as folder:
        WriteAhead.begin(folder, head, note, [], note).close()
    log = Log.open(home, SIGNER)
    rest = log.append([RECORD] * (count % WIDTH))
    log.close()
    return total + sum(len(made.entry) for made in rest)


def large(home: Path, count: int) -> dict[str, float]:
    """Measure what a log's size must not matter for: opening it, and a receipt of any entry."""
    opening, first = [], []
    for _ in range(5):
        begin = time.perf_counter()
        log = Log.open(home, SIGNER)
        opening.append(time.perf_counter() - begin)
        first += times(partial(log.receipt, count // 3), 1)  # no tile was read yet
        log.close()
    log = Log.open(home, SIGNER)
    anywhere = random.Random(1)  # noqa: S311  which entries are asked for is no secret
    proofs = times(lambda: log.receipt(anywhere.randrange(count)), 500)
    appends = times(lambda: log.append([RECORD]), 200)
    log.close()
    return {
        "entries": count,
        "open_s": round(statistics.median(opening), 4),
        "first_receipt_ms": round(statistics.median(first) * 1e3, 2),
        "receipt_ms": round(statistics.median(proofs) * 1e3, 2),
        "receipt_max_ms": round(max(proofs) * 1e3, 2),
        "append_us": median_us(appends),
    }


def verification(home: Path, count: int) -> dict[str, float]:
    """Hashing and structure without the meaning of each entry, then all of it as an auditor runs it."""
    begin = time.process_time()
    with mock.patch.object(Report, "add", new=_nothing):
        verify_log(home, SIGNER.vkey)
    structure_s = time.process_time() - begin
    begin = time.process_time()
    verify_log(home, SIGNER.vkey)
    whole_s = time.process_time() - begin
    return {
        "structure_entries_per_s": round(count / structure_s),
        "meaning_entries_per_s": round(count / (whole_s - structure_s)),
        "whole_entries_per_s": round(count / whole_s),
    }


PEAK = """
import re, sys
from audit.__main__ import main
status = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+([0-9]+) kB", open("/proc/self/status").read())[1])
sys.exit(status)
"""


def peak_mib(home: Path) -> float:
    """Peak memory of the auditor's program over a log."""
    command = [sys.executable, "-c", PEAK, "verify", str(home), "--vkey", str(home / VKEY)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return round(int(done.stdout.split()[-1]) / 1024, 1)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    result: dict[str, object] = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "entry_bytes": len(encode_entry(RECORD, 1000, TIME)),
        "targets": {
            "latency.ratio": "<= 1.5",
            "throughput.entries_per_s": ">= target_per_s",
            "verify.structure_entries_per_s": ">= 150000",
            "large.open_s": "< 0.5",
            "large.receipt_ms": "< 5",
        },
    }
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=Path.cwd()) as name:
        folder = Path(name)
        bare = Bare(folder / "bare")
        log = Log.create(folder / "log", SIGNER)
        result["latency"] = latency(log, bare)
        result["throughput"] = throughput(log, bare)
        log.close()
        entries_bytes = build(folder / "large", count)
        tiles = sum(path.stat().st_size for path in (folder / "large/tile").rglob("*") if path.is_file())
        result["large"] = large(folder / "large", count)
        result["disk"] = {"overhead_bytes_per_entry": round((tiles - entries_bytes) / count, 1)}
        result["verify"] = verification(folder / "large", count)
        build(folder / "tenth", count // 10)
        result["memory"] = {
            "peak_mib": peak_mib(folder / "large"),
            "peak_mib_of_a_tenth": peak_mib(folder / "tenth"),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
