"""The key of a log rotates; attacks are by whoever holds a retired key, a newer one, or the folder."""

from __future__ import annotations

import json
import shutil

import pytest

import audit.epoch
import audit.log
import audit.verify
from audit.__main__ import main
from audit.checkpoint import TreeHead, sign_tree_head
from audit.entry import parse_entry
from audit.epoch import Chain, closing_path, key_record, make_closing, named_keys, read_chain
from audit.errors import AuditError, BadSignature, CouldNotCheck, Invalid, LogUnavailable, Malformed
from audit.folder import Folder
from audit.keys import LogKeys
from audit.log import Log
from audit.merkle import leaf_hash, root
from audit.note import NoteSigner, VerifierKey, parse_note
from audit.prove import prove
from audit.receipt import format_receipt, parse_receipt, verify_receipt
from audit.signing import LogSigner, Signers
from audit.tiles import encode_bundle, parse_bundle
from audit.verify import verify_log

BY = ("Custodian:custodian", "Appliance:log.example/test", {"reason": "yearly"})


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(audit.verify, "PATIENCE_S", 0.05)


def key(number):
    return LogSigner(NoteSigner("log.example/test", bytes([number]) * 32))


@pytest.fixture
def everything(signer):
    """All the signers a log of these tests ever has, for opening whatever epoch it is in."""
    first = LogSigner(signer)
    return Signers(LogKeys((first.keys,)), (first, *(key(n) for n in (101, 102, 103))))


@pytest.fixture
def reopen(logs, everything, clock):
    held = []

    def again(signers=everything):
        held.append(Log.open(logs.home, signers, clock))
        return held[-1]

    yield again
    logs.die(*held)


@pytest.fixture(scope="session")
def rotated_once(tmp_path_factory, signer, record):
    """5 entries, a new key, 4 entries (sizes 6 and 10), a third key, 2 entries: sizes 6, 11, 13."""
    home = tmp_path_factory.mktemp("rotated") / "log"
    log = Log.create(home, signer, lambda: 1_750_000_000.0)
    done = log.append([record(n) for n in range(5)])
    done += [log.rotate_key(key(101), *BY)]
    log.publish()
    done += log.append([record(n) for n in range(4)])
    log.publish()
    done += [log.rotate_key(key(102), *BY)]
    done += log.append([record(n) for n in range(2)])
    log.close()
    return home, done


@pytest.fixture
def rotated(rotated_once, tmp_path):
    home = tmp_path / "rotated"
    shutil.copytree(rotated_once[0], home)
    return home


def keys_of(home, signer):
    with Folder(home) as folder:
        return read_chain(folder, signer.vkey).keys


def leaves(home):
    bundle = next((home / "tile/entries").rglob("13"))
    return [leaf_hash(entry) for entry in parse_bundle(bundle.read_bytes(), "bundle")]


def head_by(home, signer, size):
    head = TreeHead(signer.log.name, size, root(leaves(home)[:size]))
    return sign_tree_head(head, signer.log)


def test_the_first_key_is_enough_to_verify_what_later_keys_signed(rotated, signer):
    report = verify_log(rotated, signer.vkey)
    assert (report.size, report.epochs) == (13, (0, 6, 11))
    assert report.kinds == {"decision": 11, "log-key": 2}
    assert report.signers == key(102).keys


def test_receipts_of_every_epoch_verify_under_the_first_key(rotated, rotated_once, signer):
    keys = keys_of(rotated, signer)
    receipts = [verify_receipt(done.receipt, done.entry, keys) for done in rotated_once[1]]
    assert [shown.index for shown in receipts] == list(range(13))
    assert verify_log(rotated, signer.vkey, receipts=receipts).receipts == 13


def test_the_entry_names_the_next_key_and_is_the_last_that_the_old_one_signed(rotated_once, signer):
    named = rotated_once[1][5]
    entry = parse_entry(named.entry)
    assert (entry.kind, entry.action, entry.context["reason"]) == ("log-key", "rotate-key", "yearly")
    assert named_keys(entry, 1) == key(101).keys
    assert verify_receipt(named.receipt, named.entry, signer.vkey).head.size == 6
    with pytest.raises(BadSignature):
        verify_receipt(rotated_once[1][6].receipt, rotated_once[1][6].entry, signer.vkey)


def test_each_closing_head_is_kept_for_good(rotated, rotated_once):
    for epoch, index in ((0, 5), (1, 10)):
        closing = parse_receipt((rotated / closing_path(epoch)).read_bytes())
        assert closing.note == parse_receipt(rotated_once[1][index].receipt).note
        assert closing.extra == rotated_once[1][index].entry


def test_an_open_log_hands_its_closings_over(logs, record, signer):
    log = logs.create()
    assert log.epochs.kept() == []
    log.rotate_key(key(101), *BY)
    log.append([record()])
    (closing,) = log.epochs.kept()
    assert Chain(LogKeys.of(signer.vkey)).closed_by(closing).keys.newest == key(101).keys


def test_a_newer_key_does_not_sign_an_older_range(rotated, signer):
    keys = keys_of(rotated, signer)
    for newer, size in ((101, 6), (101, 3), (102, 11), (102, 2)):
        (rotated / "checkpoint").write_bytes(head_by(rotated, key(newer), size))
        with pytest.raises(Invalid, match="newer key over older entries"):
            verify_log(rotated, signer.vkey)
        index = size - 1
        with pytest.raises(Invalid, match="a newer key over older"):
            verify_receipt(format_receipt(index, [], head_by(rotated, key(newer), size)), b"{}", keys)


def test_a_retired_key_does_not_sign_beyond_its_end(rotated, signer):
    for retired, size in ((LogSigner(signer), 7), (LogSigner(signer), 13), (key(101), 12)):
        (rotated / "checkpoint").write_bytes(head_by(rotated, retired, size))
        with pytest.raises(Invalid, match="a retired key beyond its end"):
            verify_log(rotated, signer.vkey)


def test_a_head_with_the_signature_of_another_epoch_besides_is_refused(rotated, signer):
    right = head_by(rotated, key(102), 13)
    wrong = parse_note(head_by(rotated, key(101), 13))[1][0].text.encode()
    (rotated / "checkpoint").write_bytes(right + wrong)
    with pytest.raises(Invalid, match="expected the key of epoch 2, found a signature by that of epoch 1"):
        verify_log(rotated, signer.vkey)


def test_an_entry_that_names_a_key_needs_its_closing_head(rotated, signer):
    (rotated / closing_path(1)).unlink()
    with pytest.raises(BadSignature):  # the newest key is not known without it
        verify_log(rotated, signer.vkey)


def test_a_key_named_without_a_closing_head_is_an_error_of_its_own(logs, record, signer, monkeypatch):
    monkeypatch.setattr(audit.log, "KIND", "nothing")  # a writer that lets anybody write such an entry
    log = logs.create()
    log.append([key_record(key(101).keys, 1, *BY), record()])
    log.close()
    with pytest.raises(Invalid, match="entry 0: names a key, but no closing head over it is in epoch/"):
        verify_log(logs.home, signer.vkey)


def test_a_stretch_that_no_key_of_its_time_signed_is_refused(rotated, signer):
    """The closing of epoch 1 comes from another history: what lies between is signed by nobody."""
    other = rotated.with_name("other")
    shutil.copytree(rotated, other)
    forged = [*parse_bundle(next((other / "tile/entries").rglob("13")).read_bytes(), "")]
    changed = json.loads(forged[8])
    changed["resource"] = "weights/none"
    forged[8] = json.dumps(changed, sort_keys=True, separators=(",", ":")).encode()
    hashes = [leaf_hash(entry) for entry in forged]
    for path in other.rglob("*"):
        if path.is_file() and "tile" in path.parts and path.parent.suffix == ".p":
            width = int(path.name)
            isleaf = path.parents[1].name == "0"
            path.write_bytes(b"".join(hashes[:width]) if isleaf else encode_bundle(forged[:width]))
    head = TreeHead(signer.name, 13, root(hashes))
    (other / "checkpoint").write_bytes(sign_tree_head(head, key(102).log))
    with pytest.raises(Invalid, match=r"entry 10: expected root .* as signed when the key's time ended"):
        verify_log(other, signer.vkey)


def test_a_log_set_back_to_before_a_key_that_it_still_names_is_noticed(rotated, signer):
    log = rotated.with_name("shorter")
    short = Log.create(log, signer, lambda: 1_750_000_000.0)
    short.close()
    shutil.copytree(rotated / "epoch", log / "epoch")
    with pytest.raises(Invalid, match="a key's time ended at 11 entries, beyond the 0 signed entries"):
        verify_log(log, signer.vkey)


@pytest.mark.parametrize("name", ["2.tlog-proof.old", "7.tlog-proof", "note"])
def test_a_planted_file_among_the_closings_is_refused(rotated, signer, name):
    (rotated / "epoch" / name).write_text("?")
    with pytest.raises(Invalid, match="unexpected file among the 2 heads"):
        verify_log(rotated, signer.vkey)


def test_every_flipped_byte_and_every_cut_of_a_closing_is_noticed(rotated, signer):
    path = rotated / closing_path(0)
    data = path.read_bytes()
    for position in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[position] ^= 1 << position % 8
        for bad in (bytes(flipped), data[:position]):
            path.write_bytes(bad)
            with pytest.raises(AuditError, match=r"epoch/0\.tlog-proof"):
                keys_of(rotated, signer)


def test_a_closing_is_refused_for_what_it_does_not_close(rotated_once, signer, monkeypatch):
    home, done = rotated_once
    chain = Chain(LogKeys.of(signer.vkey))
    with pytest.raises(Malformed, match="expected its entry in the line 'extra'"):
        chain.closed_by(done[5].receipt)
    with pytest.raises(Invalid, match="expected a log-key entry as the last of 5, found entry 3 of kind dec"):
        chain.closed_by(make_closing(done[3].entry, done[3].receipt))
    used = Chain(LogKeys((LogSigner(signer).keys, key(101).keys), (2,)))
    with pytest.raises(Invalid, match="expected a new key named"):
        used.keys.then(6, key(101).keys)
    with pytest.raises(Invalid, match="expected the key of epoch 2, found 1"):
        named_keys(parse_entry(done[5].entry), 2)
    monkeypatch.setattr(audit.epoch, "MAX_EPOCHS", 1)
    with pytest.raises(Malformed, match="expected at most 1 epochs"):
        keys_of(home, signer)


def test_proofs_are_made_from_the_folder_of_a_rotated_log(rotated, signer):
    with Folder(rotated) as folder:
        for index in (0, 5, 6, 12):
            assert prove(folder, index, signer.vkey)[2].seq == index


def test_the_command_follows_the_keys_and_says_so(rotated, signer, tmp_path, capsys):
    vkey = tmp_path / "log.vkey"
    vkey.write_text(signer.vkey.text + "\n")
    command = ["verify", str(rotated), "--vkey", str(vkey)]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "keys       3, each named under the one before; new ones from 6, 11" in told
    assert key(102).keys[0].key_id.hex() in told
    assert main([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["epochs"], said["signers"]) == ([0, 6, 11], [key(102).keys[0].text])


# The writer's side.


def test_a_log_goes_on_under_its_newest_key_after_each_start(logs, reopen, record, signer):
    log = logs.create()
    log.append([record()])
    log.rotate_key(key(101), *BY)
    head = log.tree_head()
    log.close()
    log = reopen()
    assert log.tree_head() == head  # at the very end of an epoch its closing head is the head, whoever asks
    log.append([record()])
    log.close()
    log = reopen()
    log.rotate_key(key(102), *BY)
    log.append([record()])
    log.close()
    assert verify_log(logs.home, signer.vkey).epochs == (0, 2, 4)


def test_the_retired_key_is_not_needed_again(logs, reopen, record, signer):
    log = logs.create()
    log.rotate_key(key(101), *BY)
    log.close()
    log = reopen(Signers(LogKeys.of(signer.vkey), (key(101),)))
    log.append([record()])
    assert verify_receipt(log.receipt(0), log.entry(0), keys_of(logs.home, signer)).head.size == 2


def test_without_the_newest_key_the_log_is_not_opened(logs, reopen, signer):
    log = logs.create()
    log.rotate_key(key(101), *BY)
    log.close()
    with pytest.raises(CouldNotCheck, match=r"expected the signing key .* of epoch 1, found none that fits"):
        reopen(Signers(LogKeys.of(signer.vkey), (LogSigner(signer), key(102))))


def test_a_kill_between_the_entry_and_its_closing_head_is_mended_by_the_next_start(
    logs, reopen, record, signer, monkeypatch
):
    log = logs.create()
    log.append([record()])
    with monkeypatch.context() as patch:
        patch.setattr(log.epochs, "close", interrupted)
        with pytest.raises(KeyboardInterrupt):
            log.rotate_key(key(101), *BY)
    logs.die(log)
    assert not (logs.home / "epoch").exists()
    with pytest.raises(CouldNotCheck, match="of epoch 1, found none that fits"):
        reopen(Signers.of(signer))  # made the closing head, then missed the key that the entry names
    log = reopen()
    assert (log.size, [head.size for head in log.epochs.chain.closings]) == (2, [2])
    log.append([record()])
    log.close()
    assert verify_log(logs.home, signer.vkey).epochs == (0, 2)


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_kill_before_the_entry_leaves_the_old_key_in_force(logs, reopen, record, signer, monkeypatch):
    log = logs.create()
    with monkeypatch.context() as patch:
        patch.setattr(log, "_commit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            log.rotate_key(key(101), *BY)
    logs.die(log)
    log = reopen()
    log.append([record()])
    log.close()
    assert verify_log(logs.home, signer.vkey).signers == (signer.vkey,)


def test_a_full_disk_while_a_key_rotates_adds_no_entry_that_the_old_key_may_not_sign(
    logs, reopen, signer, monkeypatch
):
    log = logs.create()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(log.epochs, "close", full)
        with pytest.raises(LogUnavailable, match="its key was not rotated: No space left on device"):
            log.rotate_key(key(101), *BY)
    with pytest.raises(LogUnavailable, match="the log has stopped: its key was not rotated"):
        log.rotate_key(key(102), *BY)
    logs.die(log)
    reopen().close()
    report = verify_log(logs.home, signer.vkey)
    assert (report.kinds, report.epochs) == ({"log-key": 1}, (0, 1))


def test_an_unfit_key_is_refused_and_the_log_goes_on(logs, record, signer):
    log = logs.create()
    for unfit in (LogSigner(signer), LogSigner(NoteSigner("log.example/other", bytes(32)))):
        with pytest.raises(Invalid, match=r"expected a new key named log\.example/test"):
            log.rotate_key(unfit, *BY)
    assert log.append([record()])[0].index == 0


def test_nobody_appends_an_entry_that_names_a_key(logs, record):
    log = logs.create()
    with pytest.raises(Malformed, match="expected no log-key record, found one; `rotate_key` writes it"):
        log.append([record(), record(kind="log-key")])
    assert log.size == 0


def test_the_write_ahead_file_begins_anew_only_where_the_newest_key_may_sign(
    logs, reopen, record, signer, monkeypatch
):
    log = logs.create()
    log.append([record(n) for n in range(250)])
    log.append([record(n) for n in range(20)])
    log.rotate_key(key(101), *BY)  # at 271: the bundle's beginning, 256, is the old key's
    monkeypatch.setattr(audit.log, "ROTATE_BYTES", 4096)
    log.append([record()])
    log.publish()
    assert log._wal.base == 0
    log.append([record(n) for n in range(250)])
    log.publish()
    assert log._wal.base == 512
    log.close()
    log = reopen()
    log.append([record()])
    log.close()
    assert (verify_log(logs.home, signer.vkey).size, log.size) == (523, 523)


def test_a_folder_of_which_only_the_entries_were_set_back_does_not_start(logs, reopen, record):
    log = logs.create()
    log.append([record()])
    log.close()
    before = {name: (logs.home / name).read_bytes() for name in ("wal", "checkpoint")}
    log = reopen()
    log.rotate_key(key(101), *BY)
    log.close()
    for name, data in before.items():
        (logs.home / name).write_bytes(data)
    with pytest.raises(Invalid, match="holds entries 0 to 1, but a signed head says 2"):
        reopen()


def test_verifying_while_keys_rotate_never_fails(logs, record, signer):
    log = logs.create()
    for number in range(101, 106):
        log.append([record()])
        log.rotate_key(key(number), *BY)
        log.publish()
        log.append([record()])
        assert verify_log(logs.home, signer.vkey).size == log.size - 1


def test_keys_of_two_logs_make_no_chain(signer):
    other = VerifierKey("another", 1, bytes(32))
    with pytest.raises(
        Malformed, match=r"expected one of type 0x06 named log\.example/test, found type 0x01"
    ):
        LogKeys.of(signer.vkey, other)
