"""The right edge of a growing tree: all that is needed to append leaves and name the root.

Guarantees constant memory per level (one tile, its eight inner rows) whatever the log's size, and the same
tiles as C2SP tlog-tiles v0.1.0 asks for. Used by the log that writes
them and by the verifier that checks them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from audit.merkle import EMPTY_ROOT, node_hash
from audit.tiles import HEIGHT, Tile, edge_tiles

_Rows = list[list[bytes]]


@dataclass(slots=True)
class Tree:
    """A tree of `size` leaves, of which the unfinished tile of each level is held.

    Invariant: row j of level l holds the last (size >> (8 l + j)) mod 2^(8 - j) complete nodes of its height.
    """

    size: int = 0
    _levels: list[_Rows] = field(default_factory=list)

    @classmethod
    def from_edge(cls, size: int, read_tile: Callable[[Tile], Sequence[bytes]]) -> Tree:
        """Rebuild a tree of `size` leaves from its partial tiles; the caller compares the root."""
        tree = cls(size)
        for tile in edge_tiles(size):
            if tile.level is not None:
                for node in read_tile(tile):
                    tree._push(tile.level, node)
        return tree

    def copy(self) -> Tree:
        """Return a tree that grows apart from this one."""
        return Tree(self.size, [[row.copy() for row in rows] for rows in self._levels])

    def append(self, leaf: bytes) -> list[tuple[Tile, list[bytes]]]:
        """Add one leaf hash; returns the tiles that it filled, lowest level first (nearly always none)."""
        filled: list[tuple[Tile, list[bytes]]] = []
        self.size += 1
        node: bytes | None = leaf
        level = 0
        while node is not None:
            hashes = self.edge(level)
            top = self._push(level, node)
            if top is not None:
                number = (self.size >> HEIGHT * (level + 1)) - 1
                filled.append((Tile(level, number), hashes))
            node, level = top, level + 1
        return filled

    def edge(self, level: int) -> list[bytes]:
        """Return the hashes of the unfinished tile at a level, 0 to 255 of them."""
        return self._rows(level)[0]

    def root(self) -> bytes:
        """Root over all leaves (RFC 6962 section 2.1)."""
        found: bytes | None = None
        for rows in self._levels:
            for row in rows:
                if len(row) % 2:
                    found = row[-1] if found is None else node_hash(row[-1], found)
        return EMPTY_ROOT if found is None else found

    def subtree(self, height: int, index: int) -> bytes | None:
        """Root of a complete subtree, if it lies in the unfinished tiles held here."""
        level, inner = divmod(height, HEIGHT)
        number = self.size >> HEIGHT * (level + 1)
        position = index - (number << HEIGHT - inner)
        return self._rows(level)[inner][position] if position >= 0 else None

    def _rows(self, level: int) -> _Rows:
        while len(self._levels) <= level:
            self._levels.append([[] for _ in range(HEIGHT)])
        return self._levels[level]

    def _push(self, level: int, node: bytes) -> bytes | None:
        """Add a node to a level's tile; when that fills it, empties it and returns its root."""
        rows = self._rows(level)
        for row in rows:
            row.append(node)
            if len(row) % 2:
                return None
            node = node_hash(row[-2], row[-1])
        self._levels[level] = [[] for _ in range(HEIGHT)]
        return node


def inner_node(hashes: Sequence[bytes], height: int, position: int) -> bytes:
    """Node `position` at `height` (0 to 7) inside a full tile's 256 hashes."""
    row = list(hashes[position << height : (position + 1) << height])
    while len(row) > 1:
        row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)]
    return row[0]
