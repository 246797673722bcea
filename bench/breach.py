"""From a network that appears to keys that are gone and a worker that is dead: 100 times idle, 100 busy.

The watch, the alarm, the keyring in its secret memory and the worker (1 GiB of memory in use, computing) are
the real ones, in a network namespace of the measurement's own, where another process makes a pair of
interfaces by one message to the kernel. Counted from just before that message, so the making of the
interfaces counts as well:

    wiped   the vault's keys are overwritten
    killed  every worker has been sent SIGKILL
    dead    the worker is gone, its memory given back

Busy is one endless loop for each CPU beside it. Prints one JSON object, and keeps it under bench/results.
`python bench/breach.py [RUNS]`, as root or where user namespaces are allowed.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import structlog

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from appliance.custodian import workers
from appliance.custodian.breach import Alarm
from appliance.custodian.child import Child
from appliance.custodian.workers import Worker
from appliance.custody.keyring import Keyring
from appliance.isolation.lookout import Lookout
from tests.veth import make_pair, remove

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
RUNS = 100
TARGETS_MS = {"wiped_median": 2.0, "wiped_worst": 50.0, "dead_worst": 150.0}
INSIDE, MAKES = "--inside", "--makes"
# `timeit` is a module of the standard library that runs what it is given: a child starts as any other does.
COMPUTES = (
    "import ctypes, mmap; held = mmap.mmap(-1, 1 << 30)\n"
    "held.madvise(mmap.MADV_HUGEPAGE)\n"  # as NumPy does for large arrays
    "ctypes.memset((ctypes.c_char * len(held)).from_buffer(held), 1, len(held))\n"
    "print('ready', flush=True)\n"
    "while True: sum(range(10000))"
)


class Maker:
    """Another process of this namespace, which makes the interfaces and says when it began to."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", __file__, MAKES]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def make(self) -> float:
        """Return the monotonic second at which the making began."""
        return float(self._ask("make"))

    def remove(self) -> None:
        """Remove the interfaces."""
        self._ask("remove")

    def _ask(self, word: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


def makes() -> None:
    for line in sys.stdin:
        began = time.monotonic()
        (make_pair if line == "make\n" else remove)()
        print(began, flush=True)


MAKER: Maker


def core_of(keyring: Keyring, marks: dict[str, float]) -> Any:
    """As much of a custodian as the alarm asks."""

    def wipe_keys() -> None:
        keyring.wipe()
        marks["wiped"] = time.monotonic()

    return SimpleNamespace(
        facts=SimpleNamespace(profile="isolated", origin="bench"),
        sealed=False,
        breach=None,
        wipe_keys=wipe_keys,
        wipe=lambda: None,
        gate=SimpleNamespace(outcome=lambda *_: SimpleNamespace(index=1)),
    )


async def once() -> dict[str, float]:
    """Milliseconds of one breach."""
    marks: dict[str, float] = {}
    resealed = asyncio.Event()

    async def reseal() -> None:
        resealed.set()

    async def end_all(_reason: str) -> None:
        pass

    keyring = Keyring.generate()
    alarm = Alarm(core_of(keyring, marks), SimpleNamespace(end_all=end_all), reseal=reseal)  # type: ignore[arg-type]
    alarm.lookout = Lookout(alarm.sound, look=lambda: ())  # this machine's own devices are not the question
    worker = Worker(Child("timeit", "-n1", "-r1", "-s", COMPUTES, "pass"), "bench")
    workers._alive.add(worker)  # noqa: SLF001  as `Worker.start` does, whose jail is not measured
    while b"ready" not in worker.child.report:  # noqa: ASYNC110  a report has no event
        await asyncio.sleep(0.01)
    kill = worker.child.kill

    def killed() -> None:
        kill()
        marks["killed"] = time.monotonic()

    worker.child.kill = killed  # type: ignore[method-assign]
    alarm.lookout.start()
    await asyncio.sleep(0.05)  # its first look is over
    begin = await asyncio.to_thread(MAKER.make)
    await worker.ended()
    marks["dead"] = time.monotonic()
    await resealed.wait()
    alarm.lookout.stop()
    MAKER.remove()
    return {name: (at - begin) * 1000 for name, at in marks.items()}


async def measure(runs: int) -> dict[str, dict[str, float]]:
    """Median, 99th percentile and worst of each step."""
    found = [await once() for _ in range(runs)]
    return {
        step: {
            "median_ms": round(statistics.median(values), 3),
            "p99_ms": round(sorted(values)[max(0, round(len(values) * 0.99) - 1)], 3),
            "worst_ms": round(max(values), 3),
        }
        for step in ("wiped", "killed", "dead")
        if (values := [run[step] for run in found])
    }


def inside(runs: int) -> None:
    global MAKER  # noqa: PLW0603  one for all runs
    MAKER = Maker()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    idle = asyncio.run(measure(runs))
    loops = [
        subprocess.Popen([sys.executable, "-I", "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)
    ]
    try:
        busy = asyncio.run(measure(runs))
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    worst = {"wiped_median": 0.0, "wiped_worst": 0.0, "dead_worst": 0.0}
    for each in (idle, busy):
        worst["wiped_median"] = max(worst["wiped_median"], each["wiped"]["median_ms"])
        worst["wiped_worst"] = max(worst["wiped_worst"], each["wiped"]["worst_ms"])
        worst["dead_worst"] = max(worst["dead_worst"], each["dead"]["worst_ms"])
    result = {
        "runs": runs,
        "load_average": os.getloadavg()[0],
        "worker_bytes": 1 << 30,
        "machine": platform.machine(),
        "linux": platform.release(),
        "cores": os.cpu_count(),
        "idle": idle,
        "busy": busy,
        "targets_ms": TARGETS_MS,
        "met": {name: worst[name] < limit for name, limit in TARGETS_MS.items()},
    }
    print(json.dumps(result, indent=1))
    (RESULTS / "breach.json").write_text(json.dumps(result, indent=1) + "\n")


def main(arguments: list[str]) -> None:
    if arguments == [MAKES]:
        makes()
        return
    if arguments[:1] == [INSIDE]:
        inside(int(arguments[1]))
        return
    runs = arguments[0] if arguments else str(RUNS)
    user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", "--net", *user, sys.executable, "-I", __file__, INSIDE, runs]
    raise SystemExit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main(sys.argv[1:])
