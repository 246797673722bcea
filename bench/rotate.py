"""Rotating the vault's key over 10,000 objects, beside the least that writing as many small files costs.

A real appliance is initialised and filled with objects whose payloads are small, but for one of 1 GiB
(sparse): a rotation reads the first 16 bytes of each. Then `keys rotate` is carried out as the custodian does
it: logged, each header unwrapped, compared with its object's id, wrapped anew, written, made durable by one
syncfs a batch, renamed. In turns with it, on the same disk: as many files of a header's size written, synced
by as many syncfs, and renamed, without any cryptography. Prints one JSON object; seconds are medians over the
rounds, `syncfs_s` the part of `rotate_s` spent in syncfs. `python bench/rotate.py [OBJECTS [ROUNDS]]`, on the
disk to be measured.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

from appliance.catalog.entries import repeat
from appliance.custodian.core import Core
from appliance.custodian.custodies import unlock
from appliance.custodian.start import open_appliance
from appliance.custodian.vault_rotation import BATCH, rotate_vault_key
from appliance.exchange import sync_file_system
from appliance.home import Home
from appliance.initialise import initialise
from appliance.inventory import CREATED, Inventory
from audit.entry import Record, parse_entry
from audit.log import MAX_GROUP

OBJECTS, ROUNDS = 10_000, 3
LARGE = 1 << 30
PAYLOAD = 80


def fill(core: Core, count: int) -> int:
    """Put objects into the vault as if they had been sealed; returns a header's size."""
    records = []
    size = 0
    with patch.object(os, "fsync", lambda _: None):  # filling is not what is measured
        for number in range(count):
            output = core.custody.mint()
            size = len(output.header)
            fd = core.vault.stage(output.object_id, output.header, output.nonce)
            os.write(fd, bytes(PAYLOAD - len(output.nonce)))
            if number == 0:
                os.ftruncate(fd, LARGE)
            os.close(fd)
            core.vault.publish(output.object_id)
            said = {
                "object": output.object_id,
                "kind": "weights",
                "name": f"w{number}",
                "version": 1,
                "size": PAYLOAD,
                "payload_sha256": "00" * 32,
                "compartments": [],
                "parents": [],
                "job": "",
            }
            records.append(Record(CREATED, "Custodian:bench", "create", f"Object:{output.object_id}", said))
    with core.catalog.transaction():
        for start in range(0, count, MAX_GROUP):
            for committed in core.log.append(records[start : start + MAX_GROUP]):
                repeat(core.catalog, parse_entry(committed.entry))
    core.inventory = Inventory.of(core.catalog.events())
    return size


def rotate(core: Core) -> tuple[float, float]:
    """Rotate once; returns seconds in all, and of them in syncfs."""

    async def run() -> float:
        last = 0.0
        async for told in rotate_vault_key(core, core.person(os.getuid()), "bench"):
            last = told.sync_s
        return last

    begin = time.perf_counter()
    synced = asyncio.run(run())
    return time.perf_counter() - begin, synced


def write_files(folder: Path, count: int, size: int) -> float:
    """Write, sync and rename as many files, one a folder as in a vault; returns seconds."""
    data = os.urandom(size)
    places = [folder / str(number) for number in range(count)]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        (place / "header").write_bytes(data)
    sync_file_system(folder)
    begin = time.perf_counter()
    for start in range(0, count, BATCH):
        for place in places[start : start + BATCH]:
            (place / "next").write_bytes(data)
        sync_file_system(folder)
        for place in places[start : start + BATCH]:
            (place / "next").rename(place / "header")
    return time.perf_counter() - begin


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else OBJECTS
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    with tempfile.TemporaryDirectory(prefix="bench-rotate-", dir=Path.cwd()) as scratch:
        root = Path(scratch) / "home"
        initialise(
            root, profile="development", custody_uri="file:", secret=None, trust=[], officers=None, people={}
        )
        core = open_appliance(Home(root)).core
        core.custody = unlock(core, core.live, None)
        size = fill(core, count)
        sync_file_system(root)
        rotated, plain = [], []
        for _ in range(rounds):
            rotated.append(rotate(core))
            plain.append(write_files(Path(scratch) / "plain", count, size))
        core.log.close()
        core.catalog.close()
    rotate_s = statistics.median(total for total, _ in rotated)
    syncfs_s = statistics.median(synced for _, synced in rotated)
    beside_s = statistics.median(total - synced for total, synced in rotated)
    print(
        json.dumps(
            {
                "objects": count,
                "rounds": rounds,
                "header_bytes": size,
                "rotate_s": round(rotate_s, 3),
                "syncfs_s": round(syncfs_s, 3),
                "beside_syncfs_s": round(beside_s, 3),
                "headers_per_s": round(count / rotate_s),
                "plain_files_s": round(statistics.median(plain), 3),
                "ratio_to_plain_files": round(rotate_s / statistics.median(plain), 2),
                "machine": platform.machine(),
                "processors": os.cpu_count(),
                "python": platform.python_version(),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
