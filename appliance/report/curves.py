"""The figures of a run as curves: losses in bits, against steps, tokens and operations.

A job's events tell the training loss in nats per token and the held-out loss in bits per byte. Where a token
is a byte the two share a unit (nats / ln 2); elsewhere the training loss stays per token and is labelled so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from appliance.report.sources import Row

BITS_PER_NAT = 1 / math.log(2)


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a picture."""

    name: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture: what it shows, in which units."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]

    @property
    def words(self) -> str:
        """Say what the picture shows, for those who do not see it."""
        told = [
            f"{each.name} from {each.ys[0]:.4g} to {each.ys[-1]:.4g}, lowest {min(each.ys):.4g}"
            for each in self.series
        ]
        return f"{self.title}. {'; '.join(told)}."


@dataclass(frozen=True, slots=True)
class Scale:
    """What one step is in another unit."""

    label: str
    per_step: float


def scales_of(account: Row | None) -> tuple[Scale, ...]:
    """Return what each step took, from what was computed in all; steps alone where nobody may know."""
    steps = Scale("steps", 1.0)
    taken = (account["step"] - account["begin_step"]) if account is not None else 0
    if account is None or taken <= 0:
        return (steps,)
    tokens = Scale("tokens", account["tokens"] / taken)
    return steps, tokens, Scale("floating-point operations", account["flops"] / taken)


def is_of_bytes(job: Row, objects: Sequence[Row]) -> bool:
    """Say whether a job's tokens are bytes: none of what it made names a tokenizer among its parents."""
    by_id = {each["id"]: each for each in objects}
    parents = [
        by_id[up] for name in job["results"] if name in by_id for up in by_id[name]["parents"] if up in by_id
    ]
    return bool(parents) and not any(each["kind"] == "tokenizer" for each in parents)


def loss_panels(events: Sequence[Row], scales: Sequence[Scale], *, of_bytes: bool) -> tuple[Panel, ...]:
    """Draw training and held-out loss against each scale; none where nothing was told."""
    unit = "bits per byte" if of_bytes else "bits per token"
    train = _points(events, "loss", BITS_PER_NAT)
    held_out = _points(events, "bits_per_byte", 1.0)
    panels = []
    for scale in scales:
        lines = (
            _series(f"training, {unit}", train, scale),
            _series("held out, bits per byte", held_out, scale, marked=True),
        )
        if drawn := tuple(line for line in lines if line.xs):
            label = "bits per byte" if of_bytes or (len(drawn) == 1 and drawn[0].marked) else "bits"
            panels.append(Panel(f"Loss against {scale.label}", scale.label, label, drawn))
    return tuple(panels)


def other_panels(events: Sequence[Row]) -> tuple[Panel, ...]:
    """Draw learning rate and throughput against steps; each only where it was told."""
    wanted = (
        ("Learning rate", "learning_rate", "learning rate"),
        ("Throughput", "tokens_per_s", "tokens a second"),
    )
    steps = Scale("steps", 1.0)
    drawn = [
        (title, label, _series(label, _points(events, name, 1.0), steps)) for title, name, label in wanted
    ]
    return tuple(Panel(title, "steps", label, (line,)) for title, label, line in drawn if line.xs)


def evaluations(events: Sequence[Row]) -> list[tuple[int, float]]:
    """Return step and bits per byte of each evaluation."""
    return [(int(step), bits) for step, bits in _points(events, "bits_per_byte", 1.0)]


def _points(events: Sequence[Row], name: str, factor: float) -> list[tuple[float, float]]:
    """Return step and figure of each event that carries it; what was told twice for a step counts once."""
    found = {int(event["step"]): event[name] * factor for event in events if event.get(name) is not None}
    return [(float(step), figure) for step, figure in sorted(found.items()) if math.isfinite(figure)]


def _series(
    name: str, points: Sequence[tuple[float, float]], scale: Scale, *, marked: bool = False
) -> Series:
    xs = tuple(step * scale.per_step for step, _ in points)
    return Series(name, xs, tuple(figure for _, figure in points), marked)
