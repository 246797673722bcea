"""Entry of a worker: jail first, say what took, then one task, then end.

Nothing that reads hostile input is imported before the jail holds. Errors leave as a code and a step: their
text may hold what the worker has read, so it goes to standard error, which the custodian seals.
"""

from __future__ import annotations

import errno
import importlib
import os
import socket
import sys
import traceback

from appliance.errors import ApplianceError, ProtocolError
from appliance.messages import Channel
from appliance.sandbox import WORKER, apply, meet
from appliance.worker.heart import follow
from appliance.worklink import TASKS, TO_WORKER, Begin, Failed, Jailed

CHANNEL_FD = 3
_MODULES = {
    "train": "appliance.worker.train",
    "replay": "appliance.worker.replay",
    "account": "appliance.worker.account",
    "evaluate": "appliance.worker.evaluate",
    "sample": "appliance.worker.sample",
    "ingest": "appliance.worker.ingest",
    "import": "appliance.worker.unpack",
    "export": "appliance.worker.pack",
    "verify": "appliance.worker.verify",
    "verify-export": "appliance.worker.verify",
}


def main() -> int:
    """Carry out the one task that the custodian sends; return the exit status."""
    channel = Channel(socket.socket(fileno=CHANNEL_FD))
    message, _ = channel.receive(TO_WORKER)
    if not isinstance(message, Begin) or message.task not in TASKS:
        raise ProtocolError("a worker's first message is its task")
    if message.numbers.get("ranks", 1) != 1:
        # Before the jail, which allows no new way to anybody; it reads nothing but the custodian's words.
        meet()
        ranks = importlib.import_module("appliance.worker.ranks")
        try:
            ranks.join()
        except ApplianceError as failed:
            channel.send(Failed(failed.code, 0, -1))
            return 1
    applied = apply(WORKER)
    follow(int(sys.argv[1]))
    channel.send(Jailed(applied.took, applied.missing, applied.landlock_abi))
    applied.demand(message.profile)
    try:
        task = importlib.import_module(_MODULES[message.task])
        task.run(channel, message)
    except EOFError:
        return 0  # the custodian is gone, and with it whoever wanted an answer
    except Exception as failed:  # noqa: BLE001  whatever it is, it leaves as a code and a sealed report
        traceback.print_exc()
        step, chunk = (int(getattr(failed, name, none)) for name, none in (("step", 0), ("chunk", -1)))
        channel.send(Failed(_code(failed), step, chunk))
        return 1
    return 0


def _code(failed: Exception) -> str:
    if isinstance(failed, ApplianceError):
        return failed.code
    if isinstance(failed, OSError) and failed.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "no-space"
    if isinstance(failed, MemoryError):
        return "job-failed"
    return "internal"


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
