"""Arithmetic only: one table of ops, several backends behind it.

`backend(name)` gives an object that has every op of `kernels.table.Backend`; `reference` is the definition of
correct, `cpu` the fast one. Nothing here reads training data, draws random numbers or knows what a model is.
"""

from __future__ import annotations

from kernels import reference
from kernels.cpu.ops import Cpu
from kernels.errors import BackendMissing
from kernels.table import BFLOAT16, Backend, Floats, Integers

__all__ = ["BFLOAT16", "NAMES", "Backend", "Floats", "Integers", "backend"]

NAMES = ("cpu", "reference")


def backend(name: str = "reference", *, threads: int | None = None) -> Backend:
    """Return the op table called `name`, on `threads` threads where it has its own (all cores, if None).

    Raises `BackendMissing` when there is none of that name or it was not built, `ThreadsRefused` for zero
    threads or more than the cores that this process may use.
    """
    if name == "reference":
        return reference
    if name == "cpu":
        return Cpu(threads=threads)
    raise BackendMissing(
        f"no kernel backend is called {name!r}: expected one of {', '.join(NAMES)}; "
        "choose one of them in the configuration"
    )
