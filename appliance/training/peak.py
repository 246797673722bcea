"""How fast this machine multiplies matrices, measured through the very table of ops that trains.

The yardstick for the share of the peak that a run reaches: large square products, long enough for the clock,
short enough to be no burden at the start of a job. The best of several counts, since other work only slows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kernels import BFLOAT16, Backend

SIZE = 1024  # tuning: operands of 4 MiB; on 2 cores of AMD Zen 5 the figure is level from 768 up
BUDGET_S = 0.15


def measured_peak(
    backend: Backend, precision: str, threads: int, clock: Callable[[], float] = time.perf_counter
) -> int:
    """Operations a second of `linear_forward` in this precision, all threads at work; at least 1.

    A backend that computes on one thread is measured on as many at once as a run uses of it.
    """
    workers = min(threads, backend.LANES)
    products = [_product(backend, precision) for _ in range(workers)]
    best_s = float("inf")
    with ThreadPoolExecutor(workers) as pool:
        began = clock()
        while best_s == float("inf") or clock() - began < BUDGET_S:
            start = clock()
            list(pool.map(lambda product: product(), products))
            best_s = min(best_s, max(clock() - start, 1e-9))
    return max(1, int(2 * SIZE**3 * workers / best_s))


def _product(backend: Backend, precision: str) -> Callable[[], None]:
    dtype = BFLOAT16 if precision == "bf16" else np.float32
    x, weight = backend.zeros((SIZE, SIZE), dtype), backend.zeros((SIZE, SIZE), np.float32)
    out = backend.zeros((SIZE, SIZE), dtype)
    weight[...] = 0.5  # zeros would be as fast on every machine at hand; subnormals would not
    return lambda: backend.linear_forward(out, x=x, weight=weight, bias=None)
