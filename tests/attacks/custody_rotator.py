"""Changes an appliance's custody and is killed at the n-th step on the disk, for every n: run by a test.

Usage: custody_rotator.py TEMPLATE WORK SCENARIO. For each n a copy of the home is changed by a forked child,
which kills itself (SIGKILL) just before its n-th opening for writing, sync, rename or removal below the home.
Then the home is started as usual, and a line of JSON says which secrets open it and which slots are left.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

from appliance.custodian import custodies
from appliance.custodian.clients import Caller
from appliance.custodian.custodies import Custodies, unlock
from appliance.custodian.start import open_appliance
from appliance.custody import slot
from appliance.custody.passphrase import Costs
from appliance.errors import UsageError, WrongSecret
from appliance.grants import LiveGrants
from appliance.home import Home

WORDS = b"correct horse"
MOST = 200


def call(core, verb, **given):
    """Call one custody verb as a client does; returns what came out of `shares_fd`."""
    table = Custodies(core, asyncio.Lock()).table()
    parameters, fds = {}, []
    for name, value in given.items():
        parameters[name] = value
        if isinstance(value, bytes):
            read_end, write_end = os.pipe()
            os.write(write_end, value)
            os.close(write_end)
            parameters[name] = len(fds)
            fds.append(read_end)
    shares, write_end = os.pipe()
    if "shares_fd" not in given:
        parameters["shares_fd"] = len(fds)
        fds.append(write_end)

    async def answer():
        return await table[verb](Caller(os.getuid(), parameters, tuple(fds)))

    asyncio.run(answer())
    os.set_blocking(shares, False)
    try:
        return os.read(shares, 65536)
    except BlockingIOError:
        return b""


def start(home):
    opened = open_appliance(home)
    opened.core.custody = unlock(opened.core, opened.core.live, None)
    return opened.core


def change(core, scenario, shares):
    if scenario == "passphrase":
        call(core, "RotateCustody", uri="passphrase:", new_secret_fd=WORDS)
    elif scenario == "stage":
        call(core, "RotateCustody", uri="shamir:2-of-2")
    else:
        call(core, "ProveCustody", shares_fd=shares)


def kill_before(step, root):
    """Die just before the `step`-th change to the disk below `root`."""
    left = step

    def count():
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event, given):
        writes = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in ("os.rename", "os.remove")) and str(given[0]).startswith(root):
            count()

    sys.addaudithook(watch)
    for name in ("fsync", "fdatasync"):
        real = getattr(os, name)
        setattr(os, name, lambda fd, real=real: (count(), real(fd)))


def opens(core, secret):
    """Whether this very secret opens the vault: a key file asks for none."""
    if (core.custody_uri == "file:") != (secret is None):
        return False
    try:
        unlock(core, LiveGrants(lambda: 0.0), bytearray(secret) if secret is not None else None).wipe()
    except (WrongSecret, UsageError):
        return False
    return True


def main(template, work, scenario):
    custodies.create_slot = partial(slot.create_slot, costs=Costs(1, 8192))
    shares = b""
    base = work / "base"
    shutil.copytree(template, base)
    if scenario == "prove":
        core = start(Home(base))
        shares = call(core, "RotateCustody", uri="shamir:2-of-2")
        core.log.close()
        core.catalog.close()
    for step in range(1, MOST):
        home = Home(work / str(step))
        shutil.copytree(base, home.root)
        child = os.fork()
        if not child:
            core = start(home)
            kill_before(step, str(home.root))
            change(core, scenario, shares)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        core = open_appliance(home).core
        slots = sorted(path.stem.partition(".")[0] for path in home.keys.glob("vault*.age"))
        told = {
            "step": step,
            "status": os.waitstatus_to_exitcode(status),
            "file": opens(core, None),
            "words": opens(core, WORDS),
            "shares": bool(shares) and opens(core, shares),
            "slots": slots,
            "waits": core.standing.pending is not None,
        }
        print(json.dumps(told), flush=True)
        core.log.close()
        core.catalog.close()
        shutil.rmtree(home.root)
        if told["status"] == 0:
            return
    raise SystemExit("never came to its end")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
