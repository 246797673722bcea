"""How several copies of one run add up their gradients: all that training knows of other ranks.

Every rank holds the whole model and takes the same steps; each computes its share of a batch. After `sum` all
ranks hold the same bits, so their weights stay equal without being sent.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from appliance.errors import ContentRefused


class Communicator(Protocol):
    """One rank among `size`, numbered from 0; every rank makes the same calls in the same order."""

    rank: int
    size: int

    def sum(self, array: npt.NDArray[np.floating[Any]]) -> None:
        """Replace a contiguous array by the sum of all ranks' arrays, the same bits on each."""


class Alone:
    """The one rank of a run that has no others."""

    rank = 0
    size = 1

    def sum(self, array: npt.NDArray[np.floating[Any]]) -> None:
        """Leave the array as it is."""


ALONE = Alone()


def share_of(batch: int, communicator: Communicator) -> slice:
    """Return which sequences of a batch this rank computes; raise `ContentRefused` unless all get as many."""
    if batch % communicator.size:
        raise ContentRefused(
            f"config key train.batch: expected a multiple of the {communicator.size} ranks, found {batch}; "
            "change it, or the number of ranks"
        )
    part = batch // communicator.size
    return slice(communicator.rank * part, (communicator.rank + 1) * part)
