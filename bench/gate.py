"""The gate end to end: from a client's socket to a logged decision and back, beside the log's own append.

A real appliance is initialised and started, and asked for `TreeHead`: the call passes the front's socket and
checks, the custodian, the policy and the log, whose entry is durable and signed before the answer leaves.
Taken in turns with it, on the same disk in the same run: a bare append with fdatasync; the log's append; the
gate alone (policy and log) in this process; and `GetInfo`, which the front answers by itself, unlogged.
Prints one JSON object: medians, and ratios of medians. `python bench/gate.py`, on the disk to be measured.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from appliance.catalog import Catalog
from appliance.client import Client, connect
from appliance.errors import NotRunning
from appliance.gate import Gate, Thing, World
from appliance.grants import LiveGrants
from appliance.initialise import initialise
from audit.entry import Decision, Record
from audit.log import Log
from audit.note import NoteSigner
from policy.engine import Engine, shipped
from policy.model import Entity

ROUNDS, BLOCK = 30, 20
START_S = 30.0
RECORD = Record(
    "decision",
    "Person:operator",
    "status",
    "Appliance:log.example/bench",
    {"profile": "development", "isolated": False, "sealed": True},
    Decision(allow=True, policies=("operator-use",), policy_set="ab" * 32),
)


def times(call: Callable[[], object]) -> list[float]:
    """Seconds of each call of one block."""
    seconds = []
    for _ in range(BLOCK):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return seconds


def bare_append(path: Path) -> Callable[[], object]:
    """Make the least that durability costs: 512 bytes at the end of a file, and fdatasync."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    data = os.urandom(512)

    def append() -> None:
        os.write(fd, data)
        os.fdatasync(fd)

    return append


def gate_alone(folder: Path) -> Callable[[], object]:
    """Make a gate with the shipped rules over a log of its own; asked for what `TreeHead` asks it."""
    log = Log.create(folder / "gate-log", NoteSigner("log.example/gate", bytes(32)))
    gate = Gate(
        log,
        Engine(*shipped()),
        Catalog(folder / "gate.db"),
        LiveGrants(time.monotonic),
        newest=lambda _kind, _name: None,
        world=lambda: World(
            "development",
            isolated=False,
            sealed=True,
            witnesses=1,
            unwitnessed_entries=100,
            unwitnessed_age_s=60,
            witnessed_once=True,
            custody="file:",
            log_custody="file:",
            since_boot_s=3600,
        ),
        monotonic=time.monotonic,
    )
    person = Entity("Person", "operator", {"uid": os.getuid(), "roles": ("operator",), "compartments": ()})
    appliance = Thing(Entity("Appliance", "log.example/gate", {}))
    return lambda: gate.request(person, "status", appliance)


def wait_for(home: Path) -> Client:
    """Connect to an appliance that is starting."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            client = connect(home)
            client.call("TreeHead")
        except NotRunning:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return client


def measure(folder: Path, client: Client) -> dict[str, float]:
    log = Log.create(folder / "log", NoteSigner("log.example/bench", bytes(32)))
    calls: dict[str, Callable[[], object]] = {
        "bare_us": bare_append(folder / "bare"),
        "append_us": lambda: log.append([RECORD]),
        "gate_in_process_us": gate_alone(folder),
        "socket_alone_us": lambda: client.call("org.varlink.service.GetInfo"),
        "socket_to_grant_us": lambda: client.call("TreeHead"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            call()  # the first after the others is cold
            seconds[name] += times(call)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    return {
        **{name: round(median * 1e6, 1) for name, median in medians.items()},
        "gate_to_append": round(medians["gate_in_process_us"] / medians["append_us"], 2),
        "socket_to_append": round(medians["socket_to_grant_us"] / medians["append_us"], 2),
    }


def main() -> None:
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=Path.cwd()) as name:
        folder = Path(name)
        home = folder / "home"
        initialise(
            home, profile="development", custody_uri="file:", secret=None, trust=(), officers=None, people={}
        )
        process = subprocess.Popen(
            [sys.executable, "-I", "-m", "appliance.custodian", str(home)], stderr=subprocess.DEVNULL
        )
        try:
            with wait_for(home) as client:
                result = measure(folder, client)
        finally:
            process.terminate()
            process.wait()
    about = {"machine": platform.machine(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    targets = {"socket_to_append": "< 2", "how": "real daemon: TreeHead, decided by policy and logged"}
    print(json.dumps({**about, "targets": targets, **result}, indent=2))


if __name__ == "__main__":
    main()
