"""The worker's tie to the air-gap watch: without a sign of life from it, the worker ends itself.

Guarantee: whatever became of the custodian (stopped, stuck, blind), keys and plaintext in this process
outlive the watch's last look by at most `PATIENCE_S`. A custodian that dies takes its workers along at once,
by the signal at the parent's death. Suspension of the whole host and set clocks do not count.
"""

from __future__ import annotations

import os
import select
import signal
import threading

PATIENCE_S = 15.0  # the watch beats each second; longer than a host that is busy to its limit holds it up
_READ_BYTES = 4096


def follow(descriptor: int, patience_s: float = PATIENCE_S) -> None:
    """Watch the beats that arrive on a pipe, from a thread of its own, until the process ends."""
    threading.Thread(target=_follow, args=(descriptor, patience_s), name="heart", daemon=True).start()


def _follow(descriptor: int, patience_s: float) -> None:
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    while waiting.poll(patience_s * 1000) and os.read(descriptor, _READ_BYTES):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
