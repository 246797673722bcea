"""One rank of a job on several: it meets the others before its jail closes, and shares memory after.

MPI (MPICH, through mpi4py) is started while the process still may: it opens a segment of shared memory, maps
it, and every rank has come once around. Then the name of the segment is removed and the jail of a worker
closes, with no socket and nothing more to open. What MPI reads until then comes from the custodian and from
its own ranks.
Source: the PMI-1 wire protocol of MPICH, of which `appliance.custodian.pmi` is the other side.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from appliance.errors import Incomplete
from appliance.training.communicator import Alone, Communicator

MISSING = "several ranks need MPI, which is not installed: install the extra `mpi` (mpi4py and mpich)"
_SEGMENT = re.compile(
    r"(/dev/shm/(?:mpich_shm_[0-9a-f]+_[0-9]+|ucx_shm_posix_[0-9a-f]+))$"
)  # as /proc/self/maps lists what is mapped


class Ranks:
    """The ranks of one job, through MPI."""

    def __init__(self, mpi: Any) -> None:
        self._world = mpi.COMM_WORLD
        self._in_place = mpi.IN_PLACE
        self.rank: int = self._world.Get_rank()
        self.size: int = self._world.Get_size()

    def sum(self, array: npt.NDArray[np.floating[Any]]) -> None:
        """Replace a contiguous array by the sum of all ranks' arrays, the same bits on each."""
        self._world.Allreduce(self._in_place, array)


_joined: list[Ranks] = []


def joined() -> Communicator:
    """Return the way to the other ranks, or to none where this process joined none."""
    return _joined[0] if _joined else Alone()


def join() -> None:
    """Wait for all ranks of the job; raises Incomplete where there is no MPI."""
    try:
        from mpi4py import MPI  # noqa: PLC0415  an optional extra, loaded by ranks only
    except ImportError as missing:
        raise Incomplete(MISSING) from missing
    ranks = Ranks(MPI)
    ranks.sum(np.ones(1 << 16, np.float32))  # each path that is used later is opened now
    ranks.sum(np.ones(1))
    for line in Path("/proc/self/maps").read_text("utf-8").splitlines():
        if found := _SEGMENT.search(line):
            Path(found[1]).unlink(missing_ok=True)
    ranks.sum(np.ones(1))
    _joined.append(ranks)
