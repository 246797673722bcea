"""Heads that witnesses cosigned: kept with the log, put under receipts, and held against what is there."""

from __future__ import annotations

import json

import pytest

from audit.__main__ import main
from audit.checkpoint import sign_tree_head, verify_tree_head
from audit.cosignature import Cosigner, demand_quorum, merge_cosignatures
from audit.errors import BadSignature, CouldNotCheck, Invalid, LogUnavailable, Malformed
from audit.merkle import leaf_hash, root, verify_consistency
from audit.note import parse_note
from audit.receipt import parse_receipt, verify_receipt
from audit.verify import verify_log

WITNESSES = [Cosigner.from_seed(f"witness.example/{n}", bytes([n]) * 32) for n in (1, 2)]
KEYS = [witness.vkey for witness in WITNESSES]
NOW = 1_750_000_000


def cosign(note, signer, *witnesses):
    head = verify_tree_head(note, signer.vkey)
    answer = b"".join(witness.cosign(head, NOW).text.encode() for witness in witnesses)
    return merge_cosignatures(note, answer, KEYS)


@pytest.fixture
def grown(logs, record, signer):
    """A log of 300 entries that was witnessed at 260, and the note of that head."""
    log = logs.create()
    log.append([record(number) for number in range(256)])
    log.append([record(number) for number in range(4)])
    note = cosign(log.tree_head(), signer, *WITNESSES)
    log.keep_witnessed(note)
    log.append([record(number) for number in range(40)])
    return log, note


def test_a_receipt_under_a_witnessed_head_carries_the_cosignatures(grown, signer):
    log, note = grown
    for index in (0, 3, 255, 256, 259):
        receipt = log.receipt(index, note)
        assert verify_receipt(receipt, log.entry(index), signer.vkey).head.size == 260
        assert len(demand_quorum(parse_receipt(receipt).note, KEYS, 2)) == 2


def test_a_receipt_of_an_entry_that_the_head_does_not_cover_is_not_made(grown):
    log, note = grown
    with pytest.raises(Invalid, match="expected an index below the tree's size 260, found 260"):
        log.receipt(260, note)


@pytest.mark.parametrize("old", [0, 1, 255, 256, 260, 300])
def test_the_log_proves_that_it_only_grew(grown, signer, old):
    log, note = grown
    newest = verify_tree_head(log.tree_head(), signer.vkey)
    seen = verify_tree_head(note, signer.vkey)
    leaves = [leaf_hash(entry) for entry in log.entries()]
    verify_consistency(old, 300, log.consistency(old, 300), root(leaves[:old]), newest.root)
    if old <= 260:
        verify_consistency(old, 260, log.consistency(old, 260), root(leaves[:old]), seen.root)


def test_no_proof_is_made_from_beyond_the_end(grown):
    with pytest.raises(Invalid, match="an old size from 0 to 300, found 301"):
        grown[0].consistency(301, 400)


def test_the_witnessed_head_outlives_the_process(grown, logs, signer):
    log, note = grown
    logs.die(log)
    again = logs.open()
    assert again.witnessed == note
    again.close()
    assert verify_log(logs.home, signer.vkey, witnesses=KEYS, quorum=2).witnessed.size == 260


def test_a_log_that_nobody_witnessed_says_so(logs, record, signer):
    log = logs.create()
    log.append([record()])
    log.close()
    assert log.witnessed is None
    assert verify_log(logs.home, signer.vkey, witnesses=KEYS).witnessed is None
    with pytest.raises(CouldNotCheck, match="a head that 2 witnesses cosigned, found none"):
        verify_log(logs.home, signer.vkey, witnesses=KEYS, quorum=2)


def test_a_head_of_another_history_is_not_kept(grown, signer, stranger):
    log, note = grown
    head = verify_tree_head(note, signer.vkey)
    forked = sign_tree_head(type(head)(head.origin, 260, bytes(32)), signer)
    with pytest.raises(Invalid, match="two histories, keep both as evidence"):
        log.keep_witnessed(forked)
    longer = sign_tree_head(type(head)(head.origin, 301, bytes(32)), signer)
    with pytest.raises(Invalid, match="expected one of at most 300 entries, found one of 301"):
        log.keep_witnessed(longer)
    with pytest.raises(BadSignature):
        log.keep_witnessed(sign_tree_head(head, stranger))
    assert log.witnessed == note
    assert log.append([]) == []


def test_a_log_set_back_beside_its_witnessed_head_does_not_start(grown, logs, record, signer):
    """Everything but `witnessed` is put back as it was; the head that others saw names more than there is."""
    log, _ = grown
    log.close()
    seen = logs.home / "witnessed"
    kept = cosign((logs.home / "checkpoint").read_bytes(), signer, *WITNESSES)
    logs.home.rename(logs.home.with_name("aside"))
    log = logs.create()
    log.append([record(9)])
    log.close()
    seen.write_bytes(kept)
    with pytest.raises(
        Invalid, match=r"witnessed: tree head: expected one of at most 1 entries, found one of 300"
    ):
        logs.open()
    with pytest.raises(Invalid, match="witnessed: expected a head of at most 1 entries, found 300"):
        verify_log(logs.home, signer.vkey)


def test_a_fork_beside_its_witnessed_head_is_found_by_the_verifier(grown, logs, record, signer):
    log, note = grown
    log.close()
    logs.home.rename(logs.home.with_name("aside"))
    log = logs.create()
    log.append([record(number, action="other") for number in range(256)])
    log.append([record(number) for number in range(9)])
    log.close()
    (logs.home / "witnessed").write_bytes(note)
    with pytest.raises(Invalid, match=r"witnessed: its head of 260 entries has root .* two histories"):
        verify_log(logs.home, signer.vkey)
    with pytest.raises(Invalid, match="two histories, keep both as evidence; restore a copy"):
        logs.open()


def test_too_few_or_wrong_cosignatures_are_refused(grown, logs, signer):
    log, note = grown
    log.keep_witnessed(
        cosign(sign_tree_head(verify_tree_head(note, signer.vkey), signer), signer, WITNESSES[0])
    )
    log.close()
    found = verify_log(logs.home, signer.vkey, witnesses=KEYS, quorum=1).cosignatures
    assert [each.witness for each in found] == KEYS[:1]
    with pytest.raises(
        BadSignature, match=r"witnessed: tree head: expected cosignatures by 2 of 2 witnesses"
    ):
        verify_log(logs.home, signer.vkey, witnesses=KEYS, quorum=2)


def test_every_flipped_byte_of_the_witnessed_head_is_refused(grown, logs, signer):
    grown[0].close()
    path = logs.home / "witnessed"
    data = path.read_bytes()
    lines = len(parse_note(data)[1])
    assert lines == 3
    for index in range(0, len(data), 3):
        path.write_bytes(data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :])
        with pytest.raises((Malformed, BadSignature, Invalid), match="witnessed"):
            verify_log(logs.home, signer.vkey, witnesses=KEYS, quorum=2)


def test_a_disk_that_fails_under_it_stops_the_log(grown, monkeypatch):
    log, note = grown

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(log._folder, "replace", fail)
    with pytest.raises(LogUnavailable, match="Input/output error"):
        log.keep_witnessed(note)
    with pytest.raises(LogUnavailable):
        log.keep_witnessed(note)


def test_the_program_counts_witnesses(grown, logs, signer, tmp_path, capsys):
    grown[0].close()
    for key in (signer.vkey, *KEYS):
        (tmp_path / f"{key.name.replace('/', '_')}.vkey").write_text(key.text)
    given = ["verify", logs.home, "--vkey", tmp_path / "log.example_test.vkey"]
    named = [part for key in KEYS for part in ("--witness", tmp_path / f"{key.name.replace('/', '_')}.vkey")]
    assert main([str(part) for part in [*given, *named]]) == 0
    assert (
        "witnessed  the first 260 entries, by witness.example/1, witness.example/2" in capsys.readouterr().out
    )
    assert main([str(part) for part in given]) == 0
    assert "by nobody whose key was given" in capsys.readouterr().out
    assert main([str(part) for part in [*given, *named, "--quorum", "1", "--json"]]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["witnessed"] == 260
    assert facts["cosignatures"] == {key.name: NOW for key in KEYS}
    assert main([str(part) for part in [*given, *named, "--quorum", "3"]]) == 7
