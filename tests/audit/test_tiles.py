from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.errors import Malformed
from audit.tiles import Tile, edge_tiles, encode_bundle, number_path, parse_bundle, parse_hashes

TILES = st.builds(Tile, st.sampled_from([None, *range(8)]), st.integers(0, 2**55), st.integers(1, 256))


@given(TILES)
def test_a_tile_and_its_path_are_inverses(tile):
    assert Tile.parse(tile.path) == tile


def test_paths_are_those_of_the_specification():
    assert number_path(1234067) == "x001/x234/067"
    assert Tile(0, 1234067).path == "tile/0/x001/x234/067"
    assert Tile(None, 5, 17).path == "tile/entries/005.p/17"
    assert Tile(1, 5, 17).partials_path == "tile/1/005.p"


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/5",
        "tile/0/x000/005",
        "tile/00/005",
        "tile/8/005",
        "tile/63/005",
        "tile/0/005.p/0",
        "tile/0/005.p/256",
        "tile/0/005.p/017",
        "tile/0/005.p",
        "tile/0/005.q/1",
        "tile/0/005/",
        "tile/0/../0/005",
        "/tile/0/005",
        "tile/data/005",
        "tile/0/\u0660\u0660\u0665",
        "tile/0/005\n",
        "",
    ],
)
def test_no_other_spelling_of_a_path_is_read(path):
    with pytest.raises(Malformed, match="path of a tile"):
        Tile.parse(path)


def test_the_partial_tiles_of_a_size_are_those_of_the_specification():
    assert edge_tiles(0) == []
    assert edge_tiles(256) == [Tile(1, 0, 1)]
    assert edge_tiles(70_000) == [Tile(None, 273, 112), Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]


@given(st.lists(st.binary(max_size=40), max_size=256))
def test_a_bundle_and_its_entries_are_inverses(entries):
    assert parse_bundle(encode_bundle(entries), "here") == entries


@given(st.lists(st.binary(max_size=10), min_size=1, max_size=5), st.data())
def test_a_cut_bundle_never_reads_as_the_same_entries(entries, data):
    whole = encode_bundle(entries)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        assert parse_bundle(cut, "here") == entries[: len(parse_bundle(cut, "here"))] != entries
    except Malformed as failure:
        assert "here: the bundle ends inside entry" in str(failure)  # noqa: PT017  both outcomes are right


def test_a_bundle_of_257_entries_is_refused():
    with pytest.raises(Malformed, match="more than 256"):
        parse_bundle(encode_bundle([b""] * 257), "here")


def test_an_entry_too_long_for_its_length_field_is_refused():
    assert parse_bundle(encode_bundle([b"x" * 65535]), "here") == [b"x" * 65535]
    with pytest.raises(Malformed, match="at most 65535 bytes, found 65536"):
        encode_bundle([b"x" * 65536])


def test_a_tile_holds_exactly_its_hashes():
    assert parse_hashes(b"a" * 32 + b"b" * 32, 2, "here") == [b"a" * 32, b"b" * 32]
    with pytest.raises(Malformed, match="here: expected 2 hashes, 64 bytes, found 63 bytes"):
        parse_hashes(bytes(63), 2, "here")
