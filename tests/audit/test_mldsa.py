"""The post-quantum line, its bytes checked against the specification's layout."""

from __future__ import annotations

import builtins
import json
import struct
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

import audit.verify
from audit.checkpoint import TreeHead, verify_tree_head
from audit.errors import BadSignature, CouldNotCheck, Invalid, Malformed
from audit.keys import LogKeys
from audit.log import Log
from audit.mldsa import MLDSA44, MldsaKey, head_message
from audit.note import NoteSigner, VerifierKey, parse_note, verify_note
from audit.receipt import verify_receipt
from audit.signing import LogSigner
from audit.verify import verify_log

HEAD = TreeHead("log.example/test", 300, bytes(range(32)))
SECONDS = 1_750_000_000
BY = ("Custodian:custodian", "Appliance:log.example/test", {})


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(audit.verify, "PATIENCE_S", 0.05)


@pytest.fixture(scope="session")
def both(signer):
    return LogSigner.of_seeds(signer.name, bytes(range(32)) + bytes([9]) * 32)


@pytest.fixture(scope="session")
def note(both):
    return both.sign(HEAD, lambda: SECONDS + 0.9)


@pytest.fixture
def keys(both):
    return LogKeys.of(*both.keys)


@pytest.fixture
def log(tmp_path, both, clock, record):
    log = Log.create(tmp_path / "log", both, clock)
    log.append([record(1), record(2)])
    yield log
    log.close()


def test_the_signed_bytes_are_the_structure_of_the_specification(both, note):
    name = b"log.example/test"
    expected = struct.pack(
        f">12sB{len(name)}sQB{len(name)}sQQ32s",
        *(b"subtree/v1\n\0", len(name), name, SECONDS, len(name), name, 0, 300, bytes(range(32))),
    )
    assert head_message("log.example/test", SECONDS, HEAD.text) == expected
    line = parse_note(note)[1][1]
    assert (line.blob[:8], len(line.blob)) == (SECONDS.to_bytes(8, "big"), 8 + 2420)
    MLDSA44PublicKey.from_public_bytes(both.keys[1].public_key).verify(line.blob[8:], expected)


def test_the_key_goes_through_its_line_and_back(both):
    key = both.keys[1]
    assert VerifierKey.parse(key.text + "\n") == key
    assert (key.key_type, len(key.public_key), key.name) == (MLDSA44, 1312, "log.example/test")


def test_a_reader_without_the_second_key_ignores_the_line(both, note):
    assert verify_tree_head(note, both.keys[0]) == HEAD


def test_a_reader_with_both_keys_demands_both_signatures(both, note, keys, signer):
    assert verify_tree_head(note, keys) == HEAD
    text, lines = parse_note(note)
    with pytest.raises(BadSignature, match="expected also the ML-DSA-44 signature of epoch 0, found none"):
        verify_tree_head((text + "\n" + lines[0].text).encode(), keys)
    with pytest.raises(BadSignature, match="expected also the Ed25519 signature of epoch 0, found none"):
        verify_tree_head((text + "\n" + lines[1].text).encode(), keys)


def test_flipped_bytes_in_the_line_are_noticed(note, keys):
    text, lines = parse_note(note)
    before = (text + "\n" + lines[0].text).encode()
    blob = lines[1].blob
    for position in [0, 7, 8, *range(9, len(blob), 301), len(blob) - 1]:
        flipped = bytearray(blob)
        flipped[position] ^= 1
        changed = type(lines[1])(lines[1].name, lines[1].key_id, bytes(flipped))
        with pytest.raises(BadSignature):
            verify_note(before + changed.text.encode(), keys.known)
    for cut in (blob[:-1], blob[:9], blob + b"\0"):
        changed = type(lines[1])(lines[1].name, lines[1].key_id, cut)
        with pytest.raises(BadSignature, match="expected 2428 bytes"):
            verify_note(before + changed.text.encode(), keys.known)


@pytest.mark.parametrize(
    "text", ["", "o\n", "o\nx\nAA==\n", "o\n1\nAA==\n", "o\n1\n!\n", "o\n-1\n" + "A" * 43 + "=\n"]
)
def test_what_is_no_tree_head_is_not_signed_for(text):
    with pytest.raises(BadSignature, match="expected a tree head of three lines"):
        head_message("name", 0, text)


def test_names_and_times_out_of_range_are_not_signed_for():
    for name, seconds in (("n" * 256, 0), ("name", 2**63), ("name", -1)):
        with pytest.raises(BadSignature, match="expected a tree head"):
            head_message(name, seconds, HEAD.text)


def test_secrets_of_another_length_make_no_key():
    for count in (0, 31, 33, 63, 65):
        with pytest.raises(Malformed, match=f"expected 32 or 64 secret bytes, found {count}"):
            LogSigner.of_seeds("name", bytes(count))
    with pytest.raises(Malformed, match="expected a seed of 32 bytes, found 31"):
        MldsaKey(bytes(31))
    assert "seed" not in repr(MldsaKey(bytes(32)))


def test_without_the_package_the_error_names_it_and_accuses_nobody(note, keys, monkeypatch):
    real = builtins.__import__

    def lacking(name, *rest):
        if name.startswith("cryptography"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", lacking)
    assert verify_tree_head(note, keys.epochs[0][0]) == HEAD  # who does not ask for the line needs nothing
    with pytest.raises(CouldNotCheck, match="needs the package `cryptography`, version 50"):
        verify_tree_head(note, keys)


def test_a_log_carries_the_line_on_every_head_and_receipt(log, both, keys):
    log.publish()
    assert verify_log(log.path, keys).signers == both.keys
    assert verify_log(log.path, both.keys[0]).size == 2
    assert verify_receipt(log.receipt(0), log.entry(0), keys).head.size == 2
    assert (log.path / "log-pq.vkey").read_text() == both.keys[1].text + "\n"


def test_a_log_stripped_of_the_line_is_refused_by_who_demands_it(log, keys):
    log.close()
    text, lines = parse_note((log.path / "checkpoint").read_bytes())
    (log.path / "checkpoint").write_text(text + "\n" + lines[0].text, "utf-8")
    assert verify_log(log.path, keys.epochs[0][0]).size == 2
    with pytest.raises(BadSignature, match="expected also the ML-DSA-44 signature"):
        verify_log(log.path, keys)


def test_both_keys_rotate_together(log, both, keys, record):
    name = both.log.name
    with pytest.raises(Invalid, match="expected the next epoch's Ed25519 and ML-DSA-44 keys, found Ed25519"):
        log.rotate_key(LogSigner(NoteSigner(name, bytes([5]) * 32)), *BY)
    following = LogSigner.of_seeds(name, bytes([5]) * 32 + bytes([6]) * 32)
    log.rotate_key(following, *BY)
    log.append([record()])
    log.close()
    assert verify_log(log.path, keys).signers == following.keys
    assert verify_log(log.path, both.keys[0]).signers == following.keys[:1]


def test_a_line_by_the_other_epochs_key_is_refused(log, both, keys, record):
    following = LogSigner.of_seeds(both.log.name, bytes([5]) * 32 + bytes([6]) * 32)
    log.rotate_key(following, *BY)
    log.append([record()])
    log.close()
    head = TreeHead.parse(parse_note((log.path / "checkpoint").read_bytes())[0])
    mixed = LogSigner(following.log, both.post_quantum)
    (log.path / "checkpoint").write_bytes(mixed.sign(head, lambda: SECONDS))
    with pytest.raises(Invalid, match="a retired key beyond its end"):
        verify_log(log.path, keys)


def test_the_command_demands_the_line_when_given_the_second_key(log, both, tmp_path):
    log.close()
    for name, key in zip(("first", "second"), both.keys, strict=True):
        (tmp_path / name).write_text(key.text + "\n")
    command = [sys.executable, "-I", "-m", "audit", "verify", str(log.path), "--json"]
    command += ["--vkey", str(tmp_path / "first"), "--pq-vkey", str(tmp_path / "second")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["signers"] == [key.text for key in both.keys]
    (tmp_path / "second").write_text(LogSigner.of_seeds("log.example/test", bytes(64)).keys[1].text)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (7, False)
