from __future__ import annotations

import os
import random
import stat
import threading

import pytest

import audit.log
from audit.checkpoint import verify_tree_head
from audit.entry import commitment, parse_entry
from audit.errors import (
    AlreadyExists,
    BadSignature,
    CouldNotCheck,
    Invalid,
    LogBusy,
    LogUnavailable,
    Malformed,
)
from audit.log import Log, Recovery
from audit.note import NoteSigner, VerifierKey
from audit.receipt import verify_receipt
from audit.verify import verify_log


def test_each_append_is_answered_with_a_receipt_that_verifies(logs, signer, record):
    log = logs.create()
    for number in range(20):
        (committed,) = log.append([record(number)])
        verified = verify_receipt(committed.receipt, committed.entry, signer.vkey)
        assert (committed.index, verified.index, verified.head.size) == (number, number, number + 1)
        assert verified.entry.resource == f"weights/{number}"
        assert log.tree_head() in committed.receipt


def test_a_group_shares_one_fsync_and_one_head_and_each_has_its_receipt(logs, signer, record, monkeypatch):
    log = logs.create()
    calls = []
    real = audit.wal.os.fdatasync
    monkeypatch.setattr(audit.wal.os, "fdatasync", lambda fd: calls.append(fd) or real(fd))
    group = log.append([record(n) for n in range(7)])
    assert len(calls) == 1
    heads = {verify_receipt(c.receipt, c.entry, signer.vkey).head for c in group}
    assert {head.size for head in heads} == {7}
    assert [c.index for c in group] == list(range(7))


def test_an_entry_is_on_the_disk_before_it_is_answered(logs, record, monkeypatch):
    log = logs.create()
    order = []
    for name in ("pwrite", "fdatasync"):
        real = getattr(audit.wal.os, name)
        monkeypatch.setattr(
            audit.wal.os, name, lambda *a, name=name, real=real: (order.append(name), real(*a))[1]
        )
    monkeypatch.setattr(Log, "_sign", lambda *head, real=Log._sign: (order.append("sign"), real(*head))[1])
    log.append([record()])
    assert order == ["pwrite", "fdatasync", "sign", "pwrite"]


def test_no_records_cost_nothing_and_too_many_are_refused(logs, record):
    log = logs.create()
    assert log.append([]) == []
    with pytest.raises(Malformed, match="at most 256 records in a group, found 257"):
        log.append([record()] * 257)
    assert len(log.append([record()] * 256)) == 256


def test_a_record_that_may_not_be_logged_stops_only_itself(logs, record):
    log = logs.create()
    with pytest.raises(Malformed, match="found float"):
        log.append([record(), record(context={"loss": 1.5})])
    assert log.size == 0
    assert log.append([record()])[0].index == 0


def test_secret_values_are_committed_under_the_entrys_own_number(logs, record):
    log = logs.create(commit_secret=b"s" * 32)
    one, two = log.append([record(secret={"prompt": "hush"})] * 2)
    assert parse_entry(one.entry).context["prompt"] == {
        "commitment": commitment(b"s" * 32, 0, "prompt", "hush")
    }
    assert parse_entry(two.entry).context["prompt"] == {
        "commitment": commitment(b"s" * 32, 1, "prompt", "hush")
    }
    log.commit_secret = None  # sealed
    with pytest.raises(Malformed, match="unseal"):
        log.append([record(secret={"prompt": "hush"})])


def test_a_reopened_log_goes_on_where_it_was(logs, signer, record, monkeypatch):
    monkeypatch.setattr(audit.log, "ROTATE_BYTES", 4096)
    log = logs.create()
    kept = []
    for count in (1, 250, 4, 1, 1, 200, 90):
        kept += log.append([record(n) for n in range(count)])
    log.close()
    again = logs.open()
    assert again.size == len(kept) == 547
    assert [again.entry(c.index) for c in kept] == [c.entry for c in kept] == list(again.entries())
    assert list(again.entries(545)) == [c.entry for c in kept[545:]]
    again.append([record()])
    for index in (0, 255, 256, 300, 511, 512, 547):
        assert verify_receipt(again.receipt(index), again.entry(index), signer.vkey).head.size == 548
    again.close()
    assert verify_log(logs.home, signer.vkey).size == 548


def test_a_killed_process_loses_nothing_that_was_answered(logs, signer, record):
    log = logs.create()
    kept = [log.append([record(n)])[0] for n in range(5)]
    logs.die(log)
    again = logs.open()
    assert again.recovery == Recovery(5, 0)
    assert list(again.entries()) == [c.entry for c in kept]
    assert verify_log(logs.home, signer.vkey).size == 5  # opening publishes


def test_a_torn_write_is_dropped_and_told(logs, signer, record):
    log = logs.create()
    log.append([record(1)])
    logs.die(log)
    with (logs.home / "wal").open("ab") as wal:
        wal.write(b"\xf5\xf5group\n\x00\x00\x01\x00half")
    again = logs.open()
    assert again.recovery == Recovery(1, 16)
    assert again.append([record(2)])[0].index == 1
    again.close()
    assert verify_log(logs.home, signer.vkey).size == 2


def test_a_wrong_byte_in_a_committed_entry_is_refused_at_opening(logs, record):
    log = logs.create()
    for number in range(3):
        log.append([record(number)])
    logs.die(log)
    path = logs.home / "wal"
    data = bytearray(path.read_bytes())
    data[data.index(b"weights/1")] ^= 1
    path.write_bytes(data)
    with pytest.raises(Invalid, match="expected the entries from 1 on, found damage"):
        logs.open()
    assert path.read_bytes() == data  # evidence is not repaired away


def test_a_cut_tail_of_the_write_ahead_file_is_noticed_by_the_published_head(logs, record):
    log = logs.create()
    log.append([record(1)])
    size = log._wal.size
    log.append([record(2)])
    log.close()
    with (logs.home / "wal").open("r+b") as wal:
        wal.truncate(size)
    with pytest.raises(Invalid, match="holds entries 0 to 1, but a signed head says 2"):
        logs.open()


def test_a_write_ahead_file_from_another_history_is_noticed(logs, signer, record, tmp_path, clock):
    log = logs.create()
    log.append([record(1)])
    log.close()
    other = Log.create(tmp_path / "other", signer, clock)
    other.append([record(2)])
    other.close()
    (logs.home / "wal").write_bytes((tmp_path / "other" / "wal").read_bytes())
    with pytest.raises(Invalid, match=r"as signed, found .* restore a copy"):
        logs.open()


def test_a_checkpoint_that_was_lost_is_written_again_and_a_damaged_one_is_refused(logs, signer, record):
    log = logs.create()
    log.append([record()])
    log.close()
    (logs.home / "checkpoint").unlink()
    logs.open().close()
    assert verify_log(logs.home, signer.vkey).size == 1
    (logs.home / "checkpoint").write_bytes(b"nonsense")
    with pytest.raises(Malformed, match="signed note"):
        logs.open()


def test_tiles_that_were_lost_or_damaged_since_the_write_ahead_file_began_are_derived_again(
    logs, signer, record
):
    log = logs.create()
    log.append([record(n) for n in range(256)])
    log.append([record(n) for n in range(30)])
    log.close()
    (logs.home / "tile/0/000").write_bytes(b"junk")
    (logs.home / "tile/entries/001.p/30").unlink()
    logs.open().close()
    assert verify_log(logs.home, signer.vkey).size == 286


@pytest.fixture
def rotated(logs, record, monkeypatch):
    """A log whose write-ahead file begins at entry 768, so that the rest is in tiles only."""
    monkeypatch.setattr(audit.log, "ROTATE_BYTES", 4096)
    log = logs.create()
    for _ in range(3):
        log.append([record(n) for n in range(256)])
    log.append([record(1), record(2)])
    log.close()
    return logs


def test_opening_reads_the_edge_only(rotated, record):
    (rotated.home / "tile/0/000").unlink()
    (rotated.home / "tile/entries/001").unlink()
    log = rotated.open()
    assert log.recovery.replayed_entries < 256
    assert log.append([record()])[0].index == 770


def test_an_edge_that_was_changed_is_refused_at_opening(rotated):
    tile = next((rotated.home / "tile/1/000.p").iterdir())
    tile.write_bytes(bytes(tile.stat().st_size))
    with pytest.raises(Invalid, match="tiles or write-ahead file were changed"):
        rotated.open()


def test_no_receipt_is_made_from_a_damaged_tile(rotated):
    log = rotated.open()
    path = rotated.home / "tile/0/000"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(Invalid, match="entry 3: its bytes and its hash in the tile differ"):
        log.entry(3)
    with pytest.raises(Invalid, match="entry 3"):
        log.receipt(3)
    assert log.receipt(769)


def test_no_receipt_is_made_from_a_hash_changed_beside_the_entry(rotated):
    log = rotated.open()
    path = rotated.home / "tile/0/000"
    data = bytearray(path.read_bytes())
    data[32 * 9] ^= 1
    path.write_bytes(data)
    assert log.entry(3)
    with pytest.raises(Invalid, match="the entry, the proof or the head was changed"):
        log.receipt(3)


def test_a_bundle_of_the_wrong_length_is_refused(rotated):
    log = rotated.open()
    path = rotated.home / "tile/entries/000"
    data = path.read_bytes()
    path.write_bytes(data[2 + int.from_bytes(data[:2], "big") :])
    with pytest.raises(Malformed, match="expected 256 entries, found 255"):
        log.entry(3)


def test_many_tiles_are_read_and_few_kept(rotated, monkeypatch):
    monkeypatch.setattr(audit.store, "_RECENT_TILES", 1)
    log = rotated.open()
    for index in (0, 300, 0, 600):
        assert log.receipt(index)
    assert len(log._store._recent) == 1


def test_published_partials_stay_until_the_full_tile_stands(logs, signer, record):
    log = logs.create()
    for count in (5, 10):
        log.append([record(n) for n in range(count)])
        log.publish()
    partials = logs.home / "tile/entries/000.p"
    assert {path.name for path in partials.iterdir()} == {"5", "15"}
    log.append([record(n) for n in range(241)])
    assert partials.exists()
    log.publish()
    assert not partials.exists()
    assert (logs.home / "tile/entries/000").exists()
    assert verify_log(logs.home, signer.vkey).partials == 1  # level 1, width 1


def test_publishing_twice_writes_nothing(logs, record, monkeypatch):
    log = logs.create()
    log.append([record()])
    log.publish()
    monkeypatch.setattr(audit.folder.Folder, "replace", None)
    log.publish()


def test_a_caller_that_never_publishes_is_published_for(logs, signer, record, monkeypatch):
    monkeypatch.setattr(audit.log, "ROTATE_BYTES", 4096)
    log = logs.create()
    for number in range(40):
        log.append([record(number)])
    assert verify_log(logs.home, signer.vkey).size > 20
    assert log._wal.base == 0  # less than one full bundle: there is nothing to cut off yet


def test_a_second_opener_is_refused_and_may_enter_after_close(logs, record):
    log = logs.create()
    with pytest.raises(LogBusy, match="another process has this log open"):
        logs.open()
    log.append([record()])
    log.close()
    log.close()
    assert logs.open().size == 1


def test_a_closed_log_takes_nothing_more(logs, record):
    log = logs.create()
    log.close()
    with pytest.raises(LogUnavailable, match="the log has stopped: it was closed"):
        log.append([record()])
    with pytest.raises(LogUnavailable, match="it was closed"):
        log.publish()


def test_a_log_is_not_begun_over_another_or_over_strange_files(logs, signer, clock, tmp_path):
    logs.create().close()
    with pytest.raises(AlreadyExists, match="expected an empty folder for a new log"):
        logs.create()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/thesis").write_text("mine")
    with pytest.raises(AlreadyExists, match="found 'thesis'"):
        Log.create(tmp_path / "docs", signer, clock)


def test_an_interrupted_creation_is_taken_over(logs, signer, record):
    logs.home.mkdir()
    (logs.home / "log.vkey").write_text("half")
    (logs.home / "incoming").write_text("half")
    log = logs.create()
    log.append([record()])
    assert VerifierKey.parse((logs.home / "log.vkey").read_text()) == signer.vkey
    assert log.path == logs.home


def test_what_is_no_log_is_not_opened(logs, signer, clock, tmp_path):
    with pytest.raises(CouldNotCheck, match="expected the folder of a log"):
        logs.open()
    with pytest.raises(LogUnavailable, match="cannot be begun here: No such file"):
        Log.create(tmp_path / "none" / "log", signer, clock)
    with pytest.raises(CouldNotCheck, match="found none: not a log"):
        Log.open(tmp_path, signer, clock)


def test_another_key_does_not_open_the_log(logs, stranger, clock):
    logs.create().close()
    with pytest.raises(BadSignature, match="is this the right key file"):
        Log.open(logs.home, stranger, clock)
    assert logs.open().size == 0  # the refused opener let go of the lock


def test_the_signed_head_names_size_and_log(logs, signer, record):
    log = logs.create()
    assert verify_tree_head(log.tree_head(), signer.vkey).size == 0
    log.append([record()])
    assert verify_tree_head(log.tree_head(), signer.vkey).size == 1
    assert NoteSigner("x", signer.seed).vkey.public_key == signer.vkey.public_key


@pytest.mark.parametrize("index", [-1, 3])
def test_an_entry_that_is_not_there_is_refused(logs, record, index):
    log = logs.create()
    log.append([record()] * 3)
    with pytest.raises(Invalid, match=f"found {index}"):
        log.entry(index)
    with pytest.raises(Invalid, match=f"found {index}"):
        log.receipt(index)


def test_threads_may_append_at_once(logs, signer, record):
    log = logs.create()
    threads = [
        threading.Thread(target=lambda: [log.append([record(n)]) for n in range(10)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert verify_log(logs.home, signer.vkey).size == 40


@pytest.mark.parametrize("seed", range(6))
def test_any_life_of_groups_publications_and_restarts_leaves_one_sound_log(
    logs, signer, record, monkeypatch, seed
):
    monkeypatch.setattr(audit.log, "ROTATE_BYTES", 8192)
    draw = random.Random(seed)
    log, kept = logs.create(), []
    for _ in range(25):
        step = draw.choice(("append", "append", "append", "publish", "close", "die"))
        if step == "append":
            kept += log.append([record(n) for n in range(draw.choice((1, 2, 60, 200, 256)))])
        elif step == "publish":
            log.publish()
        else:
            logs.die(log) if step == "die" else log.close()
            log = logs.open()
    log.close()
    some = draw.sample(kept, min(20, len(kept)))
    receipts = [verify_receipt(done.receipt, done.entry, signer.vkey) for done in some]
    assert verify_log(logs.home, signer.vkey, receipts=receipts).size == len(kept)


def test_tiles_are_durable_before_the_head_and_the_head_before_partials_go(logs, record, monkeypatch):
    monkeypatch.setattr(audit.log, "ROTATE_BYTES", 1024)
    log = logs.create()
    log.append([record(1)])
    log.publish()
    order = []

    def watch(name, say):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, **o: (order.append(say(*a)), real(*a, **o))[1])

    watch("rename", lambda _, name: f"name {name}")
    watch("unlink", lambda name: f"remove {name}")
    watch("fsync", lambda fd: "sync folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "sync file")
    log.append([record(n) for n in range(255)])  # long enough to publish and rotate by itself
    head, removal, wal = (
        order.index(f"{what}") for what in ("name checkpoint", "remove tile/0/000.p/1", "name wal")
    )
    named = [place for place, step in enumerate(order) if step.startswith("name ")]
    assert all(order[place - 1] == "sync file" for place in named)  # bytes before the name
    assert [order[place][5:] for place in named if place < head] == [
        "tile/entries/000",
        "tile/0/000",
        "tile/1/000.p/1",
    ]
    assert order[named[2] + 1 : head - 1] == ["sync folder"] * 6  # ".", tile, three levels, 000.p
    assert order[head + 1] == "sync folder"
    assert head < removal < wal
    assert order[wal + 1] == "sync folder"


def test_entries_that_no_tile_holds_yet_are_read_and_proved(logs, signer, record):
    log = logs.create()
    kept = log.append([record(number) for number in range(250)]) + log.append([record()] * 10)
    for index in (0, 255, 256, 259):
        assert log.entry(index) == kept[index].entry
        assert verify_receipt(log.receipt(index), log.entry(index), signer.vkey).head.size == 260
