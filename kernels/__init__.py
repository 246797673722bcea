"""Arithmetic only: one table of ops, several backends behind it.

`backend(name)` gives an object that has every op of `kernels.table.Backend`; `reference` is the definition of
correct, `cpu` the fast one. Nothing here reads training data, draws random numbers or knows what a model is.
"""

from __future__ import annotations

from kernels import reference
from kernels.cpu.ops import Cpu
from kernels.errors import BackendMissing
from kernels.table import BFLOAT16, Backend, Floats, Integers

__all__ = ["BFLOAT16", "NAMES", "Backend", "Floats", "Integers", "backend", "fastest"]

NAMES = ("cpu", "reference")


def backend(name: str = "reference", *, threads: int | None = None) -> Backend:
    """Return the op table called `name`, on `threads` threads where it has its own (all cores, if None).

    "cpu" takes the best instruction set that the processor has; "cpu/avx2" and the like take the one named,
    whose bits another may not repeat. Raises `BackendMissing` when there is none of that name or it was not
    built, `ThreadsRefused` for zero threads or more than the cores that this process may use.
    """
    if name == "reference":
        return reference
    if name == "cpu":
        return Cpu(threads=threads)
    if name.startswith("cpu/"):
        return Cpu(threads=threads, isa=name.removeprefix("cpu/"))
    raise BackendMissing(
        f"no kernel backend is called {name!r}: expected one of {', '.join(NAMES)}; "
        "choose one of them in the configuration"
    )


def fastest(*, threads: int | None = None) -> tuple[Backend, str]:
    """Return the best backend that this machine has, and why it is not `cpu` ("" where it is)."""
    try:
        return Cpu(threads=threads), ""
    except BackendMissing as missing:
        return reference, str(missing)
