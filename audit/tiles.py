"""Names and bytes of tiles: how a Merkle tree lies in files that never change once they are full.

Guarantees that path and coordinates, bundle and entries are inverses of each other, and that no other
spelling is read. Source: C2SP tlog-tiles v0.1.0, height 8.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from audit.errors import Malformed
from audit.merkle import HASH_BYTES

HEIGHT = 8
WIDTH = 1 << HEIGHT
TILE_BYTES = WIDTH * HASH_BYTES
MAX_ENTRY_BYTES = 65535
MAX_BUNDLE_BYTES = WIDTH * (2 + MAX_ENTRY_BYTES)
MAX_LEVEL = 7  # 256^8 = 2^64 leaves: more than a tree head can name

_PATH = re.compile(
    r"tile/(?P<level>entries|[0-9]|[1-5][0-9]|6[0-3])/(?P<number>(?:x[0-9]{3}/)*[0-9]{3})"
    r"(?:\.p/(?P<width>[1-9][0-9]{0,2}))?",
)


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile's place: `level` 0 to 7, or None for the bundle of entries; `width` hashes, 1 to 256."""

    level: int | None
    number: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Its path below the log folder, with slashes."""
        level = "entries" if self.level is None else str(self.level)
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{level}/{number_path(self.number)}{partial}"

    @property
    def partials_path(self) -> str:
        """The folder that holds the partial tiles of this number."""
        return f"{Tile(self.level, self.number).path}.p"

    @classmethod
    def parse(cls, path: str) -> Tile:
        """Read a path; the inverse of `path`; raises Malformed."""
        match = _PATH.fullmatch(path)
        if match is None:
            raise Malformed(f"expected the path of a tile, found {path[:120]!r}")
        level = None if match["level"] == "entries" else int(match["level"])
        number = int(match["number"].replace("/", "").replace("x", ""))
        tile = cls(level, number, int(match["width"] or WIDTH))
        if tile.path != path or (level or 0) > MAX_LEVEL:  # x000/005, width 256 as a partial, level 8
            raise Malformed(f"expected the path of a tile, found {path[:120]!r}")
        return tile


def number_path(number: int) -> str:
    """Write 1234067 as x001/x234/067."""
    groups = [f"{number % 1000:03d}"]
    while number >= 1000:
        number //= 1000
        groups.append(f"x{number % 1000:03d}")
    return "/".join(reversed(groups))


def count_at(size: int, level: int | None) -> int:
    """How many hashes stand at a tile level of a tree with `size` leaves; entries count as level 0."""
    return size >> HEIGHT * (level or 0)


def edge_tiles(size: int) -> list[Tile]:
    """List the partial tiles of a tree with `size` leaves, entry bundle first; a width of 0 is left out."""
    levels = [None, *range(MAX_LEVEL + 1)]
    tiles = [(level, count_at(size, level)) for level in levels]
    return [Tile(level, count // WIDTH, count % WIDTH) for level, count in tiles if count % WIDTH]


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """Write entries as uint16 big-endian length and bytes; raises Malformed for one that is too long."""
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise Malformed(f"entry: expected at most {MAX_ENTRY_BYTES} bytes, found {len(entry)}")
        parts += (len(entry).to_bytes(2, "big"), entry)
    return b"".join(parts)


def parse_bundle(data: bytes, where: str) -> list[bytes]:
    """Read a bundle of at most 256 entries; the inverse of `encode_bundle`; raises Malformed."""
    entries: list[bytes] = []
    position = 0
    while position < len(data):
        begin = position + 2
        position = begin + int.from_bytes(data[position:begin], "big")
        if begin > len(data) or position > len(data) or len(entries) == WIDTH:
            raise Malformed(
                f"{where}: the bundle ends inside entry {len(entries)} or holds more than {WIDTH}"
            )
        entries.append(data[begin:position])
    return entries


def parse_hashes(data: bytes, width: int, where: str) -> list[bytes]:
    """Read a tile of exactly `width` hashes of 32 bytes; raises Malformed."""
    if len(data) != width * HASH_BYTES:
        raise Malformed(
            f"{where}: expected {width} hashes, {width * HASH_BYTES} bytes, found {len(data)} bytes"
        )
    return [data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES)]
