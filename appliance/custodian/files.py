"""Small files that the custodian makes for a worker, handed over in memory: they touch no disk."""

from __future__ import annotations

import os

from appliance.custodian.workers import Worker
from appliance.worklink import GiveFile


def give_bytes(worker: Worker, name: str, data: bytes) -> None:
    """Hand `data` to the worker as the file `name`."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    worker.send(GiveFile(name, len(data)), (descriptor,))
