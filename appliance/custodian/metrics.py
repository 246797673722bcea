"""The figures of a run as one small JSON file: what may leave without the model, under a budget of its own.

Guarantees that nothing but numbers, names and the run's own words for its state is in it, rounded as people
see them while it runs, and at most `MOST_POINTS` of them: fewer digits and points leave less room to hide
anything in. The figures are the worker's word, kept by the custodian; the log does not vouch for them.

    {"job": …, "name": …, "state": …, "step": 2500, "steps": 2500,
     "points": [{"step": 100, "loss": 2.31, "bits_per_byte": 3.33, "learning_rate": 0.002}, …]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

from appliance.catalog import Object
from appliance.custodian.core import Core
from appliance.custodian.retention import Figures
from appliance.errors import UnknownObject
from appliance.strictjson import JSON

FILE: Final = "metrics.json"
MOST_POINTS: Final = 2000
_FIGURES: Final = ("loss", "bits_per_byte", "learning_rate")


def weights_of(core: Core, job: str) -> Object:
    """Return the newest weights that a job made, on which an export of its figures is decided."""
    row = core.catalog.job(job)
    if not row.results:
        raise UnknownObject(f"job {job} has made no weights yet, so its figures belong to nothing: wait")
    return core.catalog.get(row.results[-1])


def metrics_of(core: Core, job: str, events: Iterable[Mapping[str, JSON]]) -> bytes:
    """Return the file; `events` are what the run told in this life of the daemon, of which none may be left.

    Then the points are the evaluations that the catalog keeps. Raises UnknownObject for an unknown job.
    """
    row = core.catalog.job(job)
    points = [_point(event) for event in events if any(event.get(name) is not None for name in _FIGURES)]
    if not points:
        kept = sorted(Figures(core, job).by_step.items())
        points = [{"step": step, "bits_per_byte": bits} for step, bits in kept]
    every = -(-len(points) // MOST_POINTS) or 1
    said: dict[str, JSON] = {
        "job": row.id,
        "name": row.name,
        "state": row.state,
        "step": row.step,
        "steps": row.steps,
        "points": points[::-1][::every][::-1],
    }
    return json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def _point(event: Mapping[str, JSON]) -> dict[str, JSON]:
    figures = {name: event[name] for name in _FIGURES if event.get(name) is not None}
    return {"step": event["step"], **figures}
