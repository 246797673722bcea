"""Which parts share a parity file: sixteen in a row, the last group fewer.

A parity file is as long as the longest part of its group; shorter parts count as if zeros followed them.
Source: docs/formats/transfer-bundle.md, section Parity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUP: Final = 16


def group_count(parts: int) -> int:
    """Return how many groups a number of parts makes."""
    return -(-parts // GROUP)


def group_of(index: int) -> int:
    """Return the group that part `index` belongs to."""
    return index // GROUP


def members_of(group: int, parts: int) -> range:
    """Return the indices of a group's parts."""
    return range(group * GROUP, min((group + 1) * GROUP, parts))


def parity_name(group: int) -> str:
    """Return the file name of a group's parity."""
    return f"x{group:04d}.xor"


def parity_sizes(part_sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the bytes of each group's parity file."""
    count = len(part_sizes)
    return tuple(
        max(part_sizes[index] for index in members_of(group, count)) for group in range(group_count(count))
    )
