"""Arithmetic only: one table of ops, several backends behind it.

`backend(name)` gives a module that has every op of `kernels.table.Backend`; `reference` is the definition
of correct. Nothing here reads files, draws random numbers or knows what a model is.
"""

from __future__ import annotations

from kernels import reference
from kernels.errors import BackendMissing
from kernels.table import Backend, Floats, Integers

__all__ = ["Backend", "Floats", "Integers", "backend"]

_BACKENDS: dict[str, Backend] = {"reference": reference}


def backend(name: str = "reference") -> Backend:
    """Return the op table called `name`; raise `BackendMissing` when there is none."""
    found = _BACKENDS.get(name)
    if found is None:
        raise BackendMissing(
            f"no kernel backend is called {name!r}: expected one of {', '.join(sorted(_BACKENDS))}; "
            "choose one of them in the configuration"
        )
    return found
