"""Which checkpoints stay, and how the others leave the vault: by the config's rule, asked for and logged.

A checkpoint stays while it is one of the newest, of the best on held-out text, or at a multiple of a step
count, as its config says; the newest two stay whatever it says, so that a damaged one has one before it. What
a crash leaves, step by step:

1. the rules allowed it and the log says so (nothing has changed yet),
2. the log says that the two objects are retired (a restart does the rest),
3. the catalog knows it: their rows stay, since later objects name them as parents, and open nothing any more,
4. the folders are gone from the vault.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from appliance.catalog import Checkpoint
from appliance.catalog.entries import RETIRED, repeat
from appliance.custodian.core import Core, job_entity
from appliance.errors import PolicyRefused
from audit.entry import JSON, parse_entry

LEAST_KEPT = 2


@dataclass(frozen=True, slots=True)
class Rule:
    """How many of the newest and of the best stay, and at multiples of how many steps (0: none)."""

    last: int
    best: int
    every: int


def fall_out(steps: Sequence[int], figures: Mapping[int, float], rule: Rule) -> tuple[int, ...]:
    """Return the steps that no part of the rule keeps, oldest first; `figures` are bits per byte by step."""
    ordered = sorted(steps)
    kept = set(ordered[-max(rule.last, LEAST_KEPT) :])
    judged = sorted((figures[step], step) for step in ordered if step in figures)
    kept |= {step for _, step in judged[: max(rule.best, 0)]}
    if rule.every > 0:
        kept |= {step for step in ordered if step % rule.every == 0}
    return tuple(step for step in ordered if step not in kept)


class Figures:
    """Bits per byte of one job by step; kept in the catalog, so that the best are known after a restart."""

    def __init__(self, core: Core, job: str) -> None:
        self._core = core
        self._key = f"figures/{job}"
        held = json.loads(core.catalog.meta(self._key) or "{}")
        self.by_step: dict[int, float] = {int(step): float(figure) for step, figure in held.items()}

    def note(self, step: int, bits_per_byte: float) -> None:
        """Note the figure of a step."""
        self.by_step[step] = bits_per_byte

    def keep(self, steps: Sequence[int]) -> None:
        """Store the figures of these steps and forget all earlier ones."""
        newest = max(steps, default=0)
        self.by_step = {at: bits for at, bits in self.by_step.items() if at in steps or at > newest}
        self._core.catalog.set_meta(self._key, json.dumps(self.by_step))


def retire(core: Core, job: str, owner: str, fallen: Sequence[Checkpoint]) -> None:
    """Remove checkpoints from the vault; where the rules in force say no, they stay and that is said.

    Raises LogUnavailable, or SpaceExhausted, before anything is removed.
    """
    for checkpoint in fallen:
        ids = (checkpoint.weights, checkpoint.optimizer)
        told = core.facts.compartments.get(owner, ())
        principal = job_entity(job, owner, "train", ids, told)
        try:
            for name in ids:
                core.gate.request(principal, "retire", core.catalog.get(name), job=job)
        except PolicyRefused as kept:
            structlog.get_logger().warning("checkpoint-kept", job=job, step=checkpoint.step, reason=str(kept))
            continue
        context: dict[str, JSON] = {"job": job, "step": checkpoint.step, "objects": list(ids)}
        entry = core.gate.outcome(RETIRED, "Custodian:custodian", "retire", f"JobRecord:{job}", context)
        repeat(core.catalog, parse_entry(entry.entry))
        for name in ids:
            core.vault.remove(name)
