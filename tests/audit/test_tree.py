from __future__ import annotations

import pytest

from audit.merkle import EMPTY_ROOT, leaf_hash, root
from audit.tiles import Tile, edge_tiles
from audit.tree import Tree, inner_node

LEAVES = [leaf_hash(b"%d" % i) for i in range(256 * 3 + 5)]


@pytest.fixture(scope="module")
def grown():
    tree, tiles, roots = Tree(), {}, [EMPTY_ROOT]
    for leaf in LEAVES:
        tiles.update(tree.append(leaf))
        roots.append(tree.root())
    return tree, tiles, roots


def test_the_edge_gives_the_root_at_every_size(grown):
    for size in (0, 1, 2, 3, 255, 256, 257, 511, 512, len(LEAVES)):
        assert grown[2][size] == root(LEAVES[:size])


def test_filled_tiles_are_told_once_and_in_order(grown):
    _, tiles, _ = grown
    assert list(tiles) == [Tile(0, 0), Tile(0, 1), Tile(0, 2)]
    assert all(tiles[Tile(0, n)] == LEAVES[256 * n : 256 * (n + 1)] for n in range(3))


def test_the_edge_of_each_level_is_its_partial_tile(grown):
    tree, tiles, _ = grown
    assert tree.edge(0) == LEAVES[768:]
    assert tree.edge(1) == [root(tiles[Tile(0, n)]) for n in range(3)]
    assert tree.edge(7) == []


def test_a_tree_rebuilt_from_its_partial_tiles_goes_on_the_same(grown):
    tree, _, roots = grown
    again = Tree.from_edge(len(LEAVES), lambda tile: tree.edge(tile.level))
    assert again.root() == roots[-1]
    assert [tile for tile in edge_tiles(len(LEAVES)) if tile.level == 1] == [Tile(1, 0, 3)]
    more = [leaf_hash(b"more"), leaf_hash(b"still")]
    for leaf in more:
        again.append(leaf)
    assert again.root() == root([*LEAVES, *more])


def test_a_second_level_fills_into_a_third():
    hashes = [leaf_hash(b"%d" % i) for i in range(255)]
    tree = Tree.from_edge(65535, lambda tile: hashes[: tile.width])
    filled = tree.append(leaf_hash(b"last"))
    assert [tile for tile, _ in filled] == [Tile(0, 255), Tile(1, 0)]
    assert tree.edge(2) == [root(filled[1][1])] == [tree.root()]


def test_subtrees_come_from_the_edge_or_are_said_to_be_elsewhere(grown):
    tree, tiles, _ = grown
    assert tree.subtree(0, 770) == LEAVES[770]
    assert tree.subtree(2, 192) == root(LEAVES[768:772])
    assert tree.subtree(8, 1) == root(LEAVES[256:512])
    assert tree.subtree(9, 0) == root(LEAVES[:512])
    assert tree.subtree(0, 5) is None
    assert inner_node(tiles[Tile(0, 0)], 2, 1) == root(LEAVES[4:8])
    assert inner_node(tiles[Tile(0, 0)], 0, 9) == LEAVES[9]
