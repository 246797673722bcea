"""The published side of a log: tiles, entry bundles and the file `checkpoint`, all derived from its entries.

Guarantees that whatever `publish` was interrupted at, doing it again from the same entries leaves the same
files, and that a published size's partial tiles stay until the full ones are on the disk.
Source: C2SP tlog-tiles v0.1.0.
"""

from __future__ import annotations

from audit.errors import Invalid, Malformed
from audit.folder import CHECKPOINT, Folder
from audit.merkle import leaf_hash
from audit.tiles import (
    HEIGHT,
    MAX_BUNDLE_BYTES,
    TILE_BYTES,
    WIDTH,
    Tile,
    count_at,
    edge_tiles,
    encode_bundle,
    parse_bundle,
    parse_hashes,
)
from audit.tree import Tree, inner_node

_RECENT_TILES = 64  # 8 KiB each; a proof in a log of 2^24 entries touches three


class Store:
    """Entries and tiles: the unpublished ones in memory, the rest on disk."""

    def __init__(self, folder: Folder, tree: Tree) -> None:
        self.tree = tree
        self._folder = folder
        self._edge: list[bytes] = []
        self._bundles: dict[int, list[bytes]] = {}
        self._tiles: dict[Tile, list[bytes]] = {}
        self._written: set[Tile] = set()
        self._recent: dict[Tile, list[bytes]] = {}
        self._last: tuple[int, list[bytes]] = (-1, [])

    def copy(self) -> Store:
        """Return a store that takes entries on trial: only if they are committed does it replace this one."""
        store = Store(self._folder, self.tree.copy())
        store._edge = self._edge.copy()
        store._bundles, store._tiles = self._bundles.copy(), self._tiles.copy()
        store._written, store._recent, store._last = self._written, self._recent, self._last
        return store

    def append(self, entry: bytes) -> None:
        """Add one entry to the tree and to what is still to be published."""
        self._edge.append(entry)
        if len(self._edge) == WIDTH:
            self._bundles[self.tree.size // WIDTH] = self._edge
            self._edge = []
        self._tiles.update(self.tree.append(leaf_hash(entry)))

    def subtree(self, height: int, index: int) -> bytes:
        """Root of a complete subtree, from memory or from a full tile on disk; raises as `read_tile` does."""
        found = self.tree.subtree(height, index)
        if found is not None:
            return found
        level, inner = divmod(height, HEIGHT)
        number = index >> HEIGHT - inner
        return inner_node(self._full_tile(Tile(level, number)), inner, index - (number << HEIGHT - inner))

    def entry(self, index: int) -> bytes:
        """Return one entry as written, its hash compared with its tile's; raises Invalid, CouldNotCheck."""
        entry = self.bundle(index // WIDTH)[index % WIDTH]
        if leaf_hash(entry) != self.subtree(0, index):
            raise Invalid(f"entry {index}: its bytes and its hash in the tile differ; verify the whole log")
        return entry

    def bundle(self, number: int) -> list[bytes]:
        """Return the entries of one bundle, fewer than 256 only for the last one."""
        if number == self.tree.size // WIDTH:
            return self._edge
        if number in self._bundles:
            return self._bundles[number]
        if number != self._last[0]:
            self._last = (number, read_bundle(self._folder, Tile(None, number)))
        return self._last[1]

    def since(self, index: int) -> list[bytes]:
        """Return the entries from a bundle's beginning to the end."""
        return [
            entry
            for number in range(index // WIDTH, self.tree.size // WIDTH + 1)
            for entry in self.bundle(number)
        ]

    def publish(self, note: bytes) -> None:
        """Write every bundle and tile that is new, then the signed head over them; raises OSError.

        Call `published` when this returned.

        1. full bundles and tiles, and the partial ones of this size, made durable: a crash here leaves files
           that no head names yet, and the next start writes them again;
        2. the head, by rename: from here the new size is public;
        3. partials that a full tile replaces go: until now an older head might have needed them.
        """
        for number, entries in self._bundles.items():
            self._folder.replace(Tile(None, number).path, encode_bundle(entries))
        for tile, hashes in self._tiles.items():
            self._folder.replace(tile.path, b"".join(hashes))
        edge = edge_tiles(self.tree.size)
        for tile in edge:
            if tile not in self._written:
                self._folder.replace(tile.path, self._partial(tile))
        self._folder.sync()
        self._folder.replace(CHECKPOINT, note)
        self._folder.sync()
        for full in [*(Tile(None, number) for number in self._bundles), *self._tiles]:
            self._folder.remove_folder(full.partials_path)

    def published(self) -> None:
        """Let go of what `publish` has put on the disk."""
        self._bundles.clear()
        self._tiles.clear()
        self._written = set(edge_tiles(self.tree.size))

    def _partial(self, tile: Tile) -> bytes:
        return encode_bundle(self._edge) if tile.level is None else b"".join(self.tree.edge(tile.level))

    def _full_tile(self, tile: Tile) -> list[bytes]:
        if tile in self._tiles:
            return self._tiles[tile]
        if tile not in self._recent:
            if len(self._recent) == _RECENT_TILES:
                del self._recent[next(iter(self._recent))]
            self._recent[tile] = read_tile(self._folder, tile)
        return self._recent[tile]


def read_tile(folder: Folder, tile: Tile) -> list[bytes]:
    """Read a tile's first `width` hashes; raises CouldNotCheck, Malformed."""
    found, data = _read(folder, tile, TILE_BYTES)
    return parse_hashes(data, found.width, found.path)[: tile.width]


def read_bundle(folder: Folder, tile: Tile) -> list[bytes]:
    """Read a bundle's first `width` entries; raises CouldNotCheck, Malformed."""
    found, data = _read(folder, tile, MAX_BUNDLE_BYTES)
    entries = parse_bundle(data, found.path)
    if len(entries) != found.width:
        raise Malformed(f"{found.path}: expected {found.width} entries, found {len(entries)}")
    return entries[: tile.width]


def is_covered(tile: Tile, size: int) -> bool:
    """Tell whether a tree of `size` entries has this tile, or once had it as a partial."""
    return tile.number * WIDTH + tile.width <= count_at(size, tile.level)


def _read(folder: Folder, tile: Tile, limit: int) -> tuple[Tile, bytes]:
    """Read a tile's file, or the full one where that has replaced the partial meanwhile."""
    full = Tile(tile.level, tile.number)
    data = None if tile == full else folder.read_if_present(tile.path, limit)
    if data is not None:
        return tile, data
    if tile != full and (data := folder.read_if_present(full.path, limit)) is not None:
        return full, data
    return tile, folder.read(tile.path, limit)
