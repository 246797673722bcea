from __future__ import annotations

import pytest

from audit.errors import BadSignature, CouldNotCheck, Invalid, Malformed
from audit.folder import Folder
from audit.log import Log
from audit.prove import prove
from audit.receipt import verify_receipt


def test_every_entry_of_a_folder_gets_a_receipt_that_verifies(finished, signer):
    with Folder(finished[0]) as folder:
        for index in (*range(0, 300, 7), 255, 256, 298, 299):
            receipt, data, entry = prove(folder, index, signer.vkey)
            assert entry.seq == index
            assert verify_receipt(receipt, data, signer.vkey).head.size == 300


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 513])
def test_the_last_and_the_first_entry_at_the_edges_of_tiles(tmp_path, signer, record, size):
    log = Log.create(tmp_path / "log", signer, lambda: 1_750_000_000.0)
    for begin in range(0, size, 256):
        log.append([record(begin + i) for i in range(min(256, size - begin))])
    log.close()
    with Folder(tmp_path / "log") as folder:
        for index in {0, size // 2, size - 1}:
            assert prove(folder, index, signer.vkey)[2].seq == index


def test_an_entry_beyond_the_head_has_no_receipt(finished, signer):
    with (
        Folder(finished[0]) as folder,
        pytest.raises(Invalid, match="entry 300: expected a number below 300"),
    ):
        prove(folder, 300, signer.vkey)


def test_a_changed_entry_or_tile_yields_no_receipt(copy, signer):
    entries = copy / "tile/entries/000"
    data = bytearray(entries.read_bytes())
    data[60] ^= 1
    entries.write_bytes(data)
    with Folder(copy) as folder:
        with pytest.raises(Invalid, match="inclusion proof: expected root"):
            prove(folder, 0, signer.vkey)
        tile = copy / "tile/0/000"
        tile.write_bytes(bytes(32) + tile.read_bytes()[32:])
        with pytest.raises(Invalid, match="inclusion proof: expected root"):
            prove(folder, 1, signer.vkey)
        tile.write_bytes(b"short")
        with pytest.raises(Malformed, match="expected 256 hashes"):
            prove(folder, 1, signer.vkey)
        tile.unlink()
        with pytest.raises(CouldNotCheck, match="expected a file, found none"):
            prove(folder, 1, signer.vkey)


def test_a_head_by_another_key_is_no_ground_for_a_receipt(finished, stranger):
    with (
        Folder(finished[0]) as folder,
        pytest.raises(BadSignature, match=r"checkpoint: .*is this the right key"),
    ):
        prove(folder, 0, stranger.vkey)
