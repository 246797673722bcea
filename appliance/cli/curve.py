"""A curve in characters. Pure: numbers in, lines of text out, each as wide as was asked for."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = " ▁▂▃▄▅▆▇█"
PLAIN = " ########"
_WIDTH = 8  # columns for the figure at the left


def curve_lines(
    points: Sequence[tuple[float, float]], columns: int, rows: int, blocks: str = BLOCKS
) -> list[str]:
    """Draw (x, y) points, x from left to right; the highest and lowest y stand at the left.

    Points that share a column are averaged; a column without one repeats the one before it.
    """
    room = columns - _WIDTH - 1
    if len(points) < 2 or room < 2:
        return []
    low, high = min(y for _, y in points), max(y for _, y in points)
    levels = [_level(y, low, high, rows) for y in _columns(points, room)]
    lines = []
    for row in range(rows - 1, -1, -1):
        label = _label(high) if row == rows - 1 else _label(low) if row == 0 else ""
        drawn = "".join(blocks[min(max(level - 8 * row, 0), 8)] for level in levels)
        lines.append(f"{label:>{_WIDTH}} {drawn}")
    return lines


def _label(figure: float) -> str:
    text = f"{figure:.3f}"
    return text if len(text) <= _WIDTH else f"{figure:.1e}"


def _columns(points: Sequence[tuple[float, float]], room: int) -> list[float]:
    first, last = points[0][0], points[-1][0]
    found: list[list[float]] = [[] for _ in range(room)]
    for x, y in points:
        place = int((x - first) / (last - first) * (room - 1)) if last > first else 0
        found[min(max(place, 0), room - 1)].append(y)
    drawn, before = [], points[0][1]
    for values in found:
        before = sum(values) / len(values) if values else before
        drawn.append(before)
    return drawn


def _level(y: float, low: float, high: float, rows: int) -> int:
    """Return how many eighths of a row a value fills: 1 for the lowest."""
    return 1 + round((y - low) / (high - low) * (8 * rows - 1)) if high > low else 1
