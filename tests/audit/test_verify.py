from __future__ import annotations

import os
import threading
import time
import tracemalloc

import pytest

import audit.verify
from audit.checkpoint import TreeHead, sign_tree_head
from audit.entry import encode_entry
from audit.errors import AuditError, BadSignature, CouldNotCheck, Invalid, Malformed
from audit.log import Log
from audit.merkle import leaf_hash, root
from audit.note import MAX_NOTE_BYTES
from audit.receipt import verify_receipt
from audit.tiles import encode_bundle, parse_bundle
from audit.verify import PRIVATE_NAMES, verify_log


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Nobody is writing to a copy: do not wait for a head that would cover what was planted."""
    monkeypatch.setattr(audit.verify, "PATIENCE_S", 0.05)


def receipts_of(finished, signer):
    return [verify_receipt(data, entry, signer.vkey) for data, entry in finished[1]]


def test_a_sound_log_is_reported_as_it_is(finished, signer):
    report = verify_log(finished[0], signer.vkey, signer.name, receipts_of(finished, signer))
    assert (report.size, report.head.origin, report.receipts) == (300, "log.example/test", 6)
    assert report.kinds == {"decision": 300}
    assert (report.allowed, report.denied) == (200, 100)
    assert report.first_time == report.last_time == "2025-06-15T15:06:40.000000Z"
    assert report.root == report.head.root
    assert report.tiles == 5  # two bundles, two tiles of leaves, one of tiles
    assert report.partials == 7  # entries and leaves at 257, 270, 300 of bundle 1; one at level 1


def test_an_empty_log_is_a_sound_log(logs, signer):
    logs.create().close()
    assert verify_log(logs.home, signer.vkey).size == 0


def test_the_public_files_alone_are_enough(copy, signer):
    for name in PRIVATE_NAMES:
        (copy / name).unlink(missing_ok=True)
    assert verify_log(copy, signer.vkey).size == 300


def test_one_flipped_byte_anywhere_is_noticed(copy, files, signer):
    for path in files(copy):
        data = path.read_bytes()
        step = max(1, len(data) // 20)
        for position in {*range(0, len(data), step), len(data) - 1}:
            flipped = bytearray(data)
            flipped[position] ^= 1 << position % 8
            path.write_bytes(flipped)
            with pytest.raises(AuditError):
                verify_log(copy, signer.vkey)
        path.write_bytes(data)
    assert verify_log(copy, signer.vkey).size == 300


def test_every_flipped_byte_of_a_small_log_is_noticed(logs, files, signer, record):
    log = logs.create()
    log.append([record(1), record(2)])
    log.close()
    for path in files(logs.home):
        data = path.read_bytes()
        for position in range(len(data)):
            flipped = bytearray(data)
            flipped[position] ^= 1 << position % 8
            path.write_bytes(flipped)
            with pytest.raises(AuditError):
                verify_log(logs.home, signer.vkey)
        path.write_bytes(data)
    assert verify_log(logs.home, signer.vkey).size == 2


def test_every_truncated_and_every_missing_file_is_noticed(copy, files, signer):
    needed = 0
    for path in files(copy):
        data = path.read_bytes()
        for length in {0, 1, len(data) // 2, len(data) - 1}:
            path.write_bytes(data[:length])
            with pytest.raises(AuditError):
                verify_log(copy, signer.vkey)
        path.unlink()
        try:
            verify_log(copy, signer.vkey)
        except CouldNotCheck as failure:
            needed += 1
            assert "expected a file, found none" in str(failure)  # noqa: PT017  superseded partials may go
        path.write_bytes(data)
    assert needed == 6


def test_a_removed_tail_is_noticed(copy, signer):
    path = copy / "tile/entries/001.p/44"
    path.write_bytes(encode_bundle(parse_bundle(path.read_bytes(), "")[:-1]))
    with pytest.raises(Malformed, match=r"entries/001\.p/44: expected 44 entries, found 43"):
        verify_log(copy, signer.vkey)
    path.unlink()
    with pytest.raises(
        CouldNotCheck, match="44: expected a file, found none; is the copy of the log complete"
    ):
        verify_log(copy, signer.vkey)


def test_swapped_entries_are_noticed(copy, signer):
    path = copy / "tile/entries/000"
    entries = parse_bundle(path.read_bytes(), "")
    entries[3], entries[4] = entries[4], entries[3]
    path.write_bytes(encode_bundle(entries))
    with pytest.raises(Invalid, match="entry 3: calls itself 4; entries were swapped, removed or added"):
        verify_log(copy, signer.vkey)


def rewrite(copy, signer, record, change):
    """Rewrite the last bundle, with its tile, as one who holds the disk but not the key can."""
    for tile in ("entries", "0"):
        for path in (copy / f"tile/{tile}/001.p").iterdir():
            if path.name != "44":
                path.unlink()
    path = copy / "tile/entries/001.p/44"
    entries = parse_bundle(path.read_bytes(), "")
    entries[-1] = change(entries[-1])
    path.write_bytes(encode_bundle(entries))
    (copy / "tile/0/001.p/44").write_bytes(b"".join(leaf_hash(entry) for entry in entries))


def test_a_tile_remade_to_fit_a_changed_entry_is_noticed_by_the_signed_root(copy, signer, record):
    rewrite(copy, signer, record, lambda _: encode_entry(record(7), 299, "2026-01-02T03:04:05.000000Z"))
    with pytest.raises(Invalid, match=r"expected 300 entries with root .*, as signed, found 300 with root"):
        verify_log(copy, signer.vkey)


def test_an_entry_that_is_no_entry_is_named(copy, signer, record):
    rewrite(copy, signer, record, lambda _: b"{}")
    with pytest.raises(Malformed, match="entry 299: entry: expected exactly the fields"):
        verify_log(copy, signer.vkey)


def test_a_changed_hash_in_a_tile_is_named(copy, signer):
    path = copy / "tile/0/000"
    data = bytearray(path.read_bytes())
    data[32 * 7 + 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(Invalid, match=r"tile/0/000: expected hash \w+ at 7, from the entries, found"):
        verify_log(copy, signer.vkey)


def test_a_superseded_partial_must_be_the_beginning_of_its_tile(copy, signer):
    partials = copy / "tile/entries/000.p"
    partials.mkdir()
    entries = parse_bundle((copy / "tile/entries/000").read_bytes(), "")
    (partials / "3").write_bytes(encode_bundle(entries[:3]))
    assert verify_log(copy, signer.vkey).partials == 8
    (partials / "3").write_bytes(encode_bundle(entries[1:4]))
    with pytest.raises(Invalid, match=r"entries/000\.p/3: expected the first 3 of its tile, found others"):
        verify_log(copy, signer.vkey)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("notes.txt", "unexpected file in the folder of a log"),
        ("tile/notes.txt", "unexpected file among the tiles"),
        ("tile/0/001", "unexpected file beyond the 300 signed entries"),
        ("tile/0/002", "unexpected file beyond the 300 signed entries"),
        ("tile/0/001.p/45", "unexpected file beyond the 300 signed entries"),
        ("tile/0/001.p/045", "unexpected file among the tiles"),
        ("tile/0/0001", "unexpected file among the tiles"),
        ("tile/9/000", "unexpected file among the tiles"),
        ("tile/data/000", "unexpected file among the tiles"),
        ("tile/entries/001.p/44.bak", "unexpected file among the tiles"),
        ("tile/a/b/c/d/e/f/g/h/i/j", "only plain files and folders"),
    ],
)
def test_an_unexpected_file_is_an_error(copy, signer, path, message):
    (copy / path).parent.mkdir(parents=True, exist_ok=True)
    (copy / path).write_bytes(bytes(32))
    with pytest.raises(Invalid, match=message):
        verify_log(copy, signer.vkey)


def test_thousands_of_planted_files_take_bounded_room(copy, signer, monkeypatch):
    monkeypatch.setattr(audit.verify, "_MAX_BEYOND", 3)
    for number in range(5, 20):
        (copy / f"tile/0/{number:03d}").write_bytes(b"")
    with pytest.raises(Invalid, match="unexpected file beyond"):
        verify_log(copy, signer.vkey)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_what_is_no_plain_file_is_an_error(copy, signer, make):
    make(copy / "tile/0/002")
    with pytest.raises(Invalid, match="only plain files and folders"):
        verify_log(copy, signer.vkey)


def test_a_log_of_another_key_or_name_is_refused(finished, signer, stranger):
    with pytest.raises(BadSignature, match="is this the right key file"):
        verify_log(finished[0], stranger.vkey)
    with pytest.raises(Invalid, match=r"expected the log another\.example, found log\.example/test"):
        verify_log(finished[0], signer.vkey, "another.example")


def test_an_empty_folder_and_a_huge_head_are_each_their_own_error(tmp_path, signer):
    with pytest.raises(CouldNotCheck, match="checkpoint: expected a file, found none"):
        verify_log(tmp_path, signer.vkey)
    with (tmp_path / "checkpoint").open("wb") as sparse:
        sparse.truncate(2 << 30)
    with pytest.raises(Malformed, match=f"checkpoint: expected at most {MAX_NOTE_BYTES} bytes"):
        verify_log(tmp_path, signer.vkey)
    with pytest.raises(CouldNotCheck, match="expected the folder of a log"):
        verify_log(tmp_path / "none", signer.vkey)


def test_a_log_set_back_to_an_older_head_is_noticed_by_what_lies_beyond_it(finished, copy, signer):
    (copy / "checkpoint").write_bytes(finished[1][1][0].partition(b"\n\n")[2])  # signed at 10 entries
    with pytest.raises(Invalid, match="beyond the 10 signed entries: the log was set back"):
        verify_log(copy, signer.vkey)


def test_a_folder_set_back_whole_is_noticed_by_a_newer_receipt_only(finished, logs, signer, record, clock):
    old = logs.create()
    old.append([record(n) for n in range(3)])
    old.close()
    assert verify_log(logs.home, signer.vkey).size == 3  # KNOWN: alone, an older state is a sound log
    with pytest.raises(
        Invalid, match=r"expected a head of at most 3 entries, found 10: the log was set back"
    ):
        verify_log(logs.home, signer.vkey, receipts=receipts_of(finished, signer)[1:])


def test_a_receipt_of_a_forked_history_is_noticed(finished, logs, signer, record):
    fork = logs.create()
    fork.append([record(n + 1) for n in range(30)])
    fork.close()
    with pytest.raises(Invalid, match="two histories under one key, keep both as evidence"):
        verify_log(logs.home, signer.vkey, receipts=receipts_of(finished, signer)[:1])


def test_kinds_beyond_a_bound_are_counted_together(tmp_path, signer, record, monkeypatch):
    monkeypatch.setattr(audit.verify, "_MAX_KINDS", 3)
    log = Log.create(tmp_path / "log", signer)
    log.append([record(kind=f"kind-{n}", decision=None) for n in (1, 2, 3, 4, 5, 1)])
    log.close()
    report = verify_log(tmp_path / "log", signer.vkey)
    assert report.kinds == {"kind-1": 2, "kind-2": 1, "kind-3": 1, "(other)": 2}
    assert (report.allowed, report.denied) == (0, 0)


def test_memory_stays_flat_as_the_log_grows(tmp_path, signer, record):
    log = Log.create(tmp_path / "log", signer)
    peaks = []
    for target in (512, 2560):
        while log.size < target:
            log.append([record(n) for n in range(256)])
        log.publish()
        tracemalloc.start()
        verify_log(tmp_path / "log", signer.vkey)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    log.close()
    assert peaks[1] < peaks[0] + 128 * 1024, peaks


def test_a_log_verifies_at_any_moment_while_it_is_written_to(logs, signer, record, monkeypatch):
    monkeypatch.setattr(audit.verify, "PATIENCE_S", 30.0)  # a loaded machine may take long to publish
    log = logs.create()
    log.append([record(n) for n in range(200)])
    log.publish()
    done = threading.Event()

    def write():
        while not done.is_set():
            log.append([record(n) for n in range(5)])
            log.publish()
            time.sleep(0.001)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        sizes = [verify_log(logs.home, signer.vkey).size for _ in range(25)]
    finally:
        done.set()
        writer.join()
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0] >= 200


def during(monkeypatch, name, action):
    """Run an action just before the verifier's first call of a method."""
    real = getattr(audit.verify._Check, name)
    pending = [action]

    def call(self, *arguments):
        if pending:
            pending.pop()()
        return real(self, *arguments)

    monkeypatch.setattr(audit.verify._Check, name, call)


@pytest.mark.parametrize("more", [3, 300])
@pytest.mark.parametrize("moment", ["extend", "_check_tile", "files_beyond"])
def test_what_is_published_meanwhile_is_verified_too(logs, signer, record, monkeypatch, moment, more):
    log = logs.create()
    log.append([record(n) for n in range(10)])
    log.publish()

    def publish():
        for begin in range(0, more, 100):
            log.append([record(n) for n in range(begin, min(more, begin + 100))])
        log.publish()

    during(monkeypatch, moment, publish)
    assert verify_log(logs.home, signer.vkey).size == 10 + more


def test_tiles_that_are_not_yet_named_are_waited_for(logs, signer, record, monkeypatch):
    monkeypatch.setattr(audit.verify, "PATIENCE_S", 30.0)
    log = logs.create()
    log.append([record(1)])
    log.publish()
    log.append([record(2)])
    older = (logs.home / "checkpoint").read_bytes()
    log.publish()
    newer = (logs.home / "checkpoint").read_bytes()
    (logs.home / "checkpoint").write_bytes(older)  # as between the two renames of a publication
    monkeypatch.setattr(audit.verify.time, "sleep", lambda _: (logs.home / "checkpoint").write_bytes(newer))
    assert verify_log(logs.home, signer.vkey).size == 2


def test_a_receipt_given_meanwhile_is_found_in_the_newer_head(logs, signer, record, monkeypatch):
    log = logs.create()
    log.append([record(1)])
    log.publish()
    (newer,) = log.append([record(2)])
    receipt = verify_receipt(newer.receipt, newer.entry, signer.vkey)
    during(monkeypatch, "files_beyond", log.publish)
    assert verify_log(logs.home, signer.vkey, receipts=[receipt]).size == 2


def test_a_partial_removed_while_it_is_compared_is_no_error(logs, signer, record, monkeypatch):
    log = logs.create()
    log.append([record(n) for n in range(10)])
    log.publish()
    path = logs.home / "tile/entries/000.p/10"
    data = path.read_bytes()
    real = audit.folder.Folder.names

    def names(folder, name="."):
        for entry in list(real(folder, name)):
            if name == "tile/entries/000.p":
                path.unlink()
            yield entry

    with monkeypatch.context() as patch:
        patch.setattr(audit.folder.Folder, "names", names)
        patch.setattr(audit.verify._Check, "files_beyond", lambda _: [])
        assert verify_log(logs.home, signer.vkey).size == 10
    path.write_bytes(data)
    log.close()


def test_entries_that_change_while_they_are_read_are_noticed(logs, signer, record, monkeypatch):
    log = logs.create()
    log.append([record(n) for n in range(10)])
    log.publish()

    def swap():
        log.append([record(1)])
        log.publish()
        path = logs.home / "tile/entries/000.p/11"
        path.write_bytes(encode_bundle(parse_bundle(path.read_bytes(), "")[::-1]))

    during(monkeypatch, "files_beyond", swap)
    with pytest.raises(Invalid, match="entries changed while they were read"):
        verify_log(logs.home, signer.vkey)


def test_a_head_over_fewer_entries_than_verified_is_noticed(logs, signer, record, monkeypatch):
    log = logs.create()
    log.append([record(n) for n in range(10)])
    log.publish()

    def set_back():
        log.append([record(1)])
        log.publish()
        head = TreeHead(signer.name, 1, root([leaf_hash(log.entry(0))]))
        (logs.home / "checkpoint").write_bytes(sign_tree_head(head, signer))

    during(monkeypatch, "files_beyond", set_back)
    with pytest.raises(Invalid, match="rewritten or set back"):
        verify_log(logs.home, signer.vkey)
