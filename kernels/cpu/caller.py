"""Calling the library: one op at a time, its outcome looked at."""

from __future__ import annotations

import threading
from typing import Any

from kernels.cpu.library import Engine


class Caller:
    """An engine and the way its functions are called."""

    def __init__(self, *, threads: int | None = None, isa: str | None = None) -> None:
        """Take all cores and the best instruction set, unless told which.

        Raises `BackendMissing` and `ThreadsRefused`.
        """
        self.engine = Engine(isa, threads)
        self._turn = threading.Lock()  # the ops share working memory and the pool of threads

    def _run(self, function: Any, *arguments: float | None) -> None:
        with self._turn:
            if function(self.engine.handle, *arguments):
                raise MemoryError("cpu backend: no memory to pack the operands of an op")
