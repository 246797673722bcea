"""Slots: what a wrong secret, a damaged file and a careless mode each say; nothing is overwritten."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance import age
from appliance.custody import file, passphrase, slot
from appliance.custody.passphrase import Costs
from appliance.errors import (
    AlreadyExists,
    ApplianceError,
    Incomplete,
    IntegrityError,
    SpaceExhausted,
    UsageError,
    WrongSecret,
)

CHEAP = Costs(passes=1, memory_bytes=8192)
SECRET = b"the secret of the slot"


def words(text="correct horse"):
    return bytearray(text.encode())


def make(folder, uri="passphrase:", *, hybrid=False, name="vault"):
    secret = words() if uri == "passphrase:" else None
    return slot.create_slot(folder, name, uri, secret, SECRET, hybrid=hybrid, costs=CHEAP).record


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("uri", ["passphrase:", "file:"])
def test_what_was_put_in_comes_out(tmp_path, uri, hybrid):
    record = make(tmp_path, uri, hybrid=hybrid)
    assert record == slot.read_record(tmp_path, "vault")
    assert record.uri == uri
    assert record.recipient.startswith("age1pq1") == hybrid
    opened = slot.open_slot(tmp_path, "vault", words() if uri == "passphrase:" else None)
    assert isinstance(opened, bytearray)
    assert opened == SECRET


def test_a_wrong_passphrase_is_called_that(tmp_path):
    make(tmp_path)
    with pytest.raises(WrongSecret, match="slot vault: wrong passphrase; nothing was opened, try again"):
        slot.open_slot(tmp_path, "vault", words("correct hors"))


def test_another_key_file_is_called_that(tmp_path):
    make(tmp_path, "file:")
    (tmp_path / "vault.identity").unlink()
    file.write_identity(tmp_path / "vault.identity", age.X25519Identity.generate())
    with pytest.raises(WrongSecret, match="slot vault: wrong key file"):
        slot.open_slot(tmp_path, "vault", None)


def test_no_passphrase_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="expected a passphrase, found none"):
        slot.create_slot(tmp_path, "vault", "passphrase:", bytearray(), SECRET, costs=CHEAP)
    make(tmp_path)
    with pytest.raises(UsageError, match="expected a passphrase, found none"):
        slot.open_slot(tmp_path, "vault", None)
    with pytest.raises(WrongSecret, match="expected 1 to 1024 bytes, found 0"):
        slot.open_slot(tmp_path, "vault", bytearray())


def test_an_unknown_custody_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match=r"expected one of passphrase:, .* found 'https:'"):
        slot.create_slot(tmp_path, "vault", "https:", None, SECRET)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["age", "custody.json", "identity"])
def test_keys_are_never_overwritten(tmp_path, suffix):
    (tmp_path / f"vault.{suffix}").write_bytes(b"precious")
    with pytest.raises(AlreadyExists, match=rf"expected no vault\.{suffix} in .*never overwritten"):
        make(tmp_path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"precious"]


@pytest.mark.parametrize("suffix", ["age", "custody.json"])
def test_a_missing_file_is_incomplete(tmp_path, suffix):
    make(tmp_path)
    (tmp_path / f"vault.{suffix}").unlink()
    with pytest.raises(Incomplete, match=rf"expected a file .*vault\.{suffix}, found: No such file"):
        slot.open_slot(tmp_path, "vault", words())


def test_a_slot_sealed_to_somebody_else_is_damage_and_no_wrong_passphrase(tmp_path):
    make(tmp_path)
    stranger = age.X25519Identity.generate()
    (tmp_path / "vault.age").write_bytes(age.seal_bytes(b"theirs", [stranger.recipient]))
    with pytest.raises(IntegrityError, match="not sealed to the recipient on record"):
        slot.open_slot(tmp_path, "vault", words())


def test_no_flipped_byte_opens_or_crashes(tmp_path):
    make(tmp_path)
    for name in ("vault.age", "vault.custody.json"):
        path = tmp_path / name
        good = path.read_bytes()
        for at in range(0, len(good), 3):
            path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
            with pytest.raises((IntegrityError, WrongSecret)):
                slot.open_slot(tmp_path, "vault", words())
        path.write_bytes(good)
    assert slot.open_slot(tmp_path, "vault", words()) == SECRET


def test_a_key_file_open_to_others_is_refused(tmp_path):
    make(tmp_path, "file:")
    path = tmp_path / "vault.identity"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(WrongSecret, match="expected mode 0600, found 0640; run chmod 600 on it"):
        slot.open_slot(tmp_path, "vault", None)


@pytest.mark.parametrize("content", [b"", b"nonsense\n", b"AGE-SECRET-KEY-1QQQ\n"])
def test_a_damaged_key_file_never_shows_itself(tmp_path, content):
    make(tmp_path, "file:")
    (tmp_path / "vault.identity").write_bytes(content)
    with pytest.raises(WrongSecret, match=r"key file .*: identity file") as caught:
        slot.open_slot(tmp_path, "vault", None)
    assert "QQQ" not in str(caught.value)


def test_a_key_file_is_one_key_and_no_link(tmp_path):
    make(tmp_path, "file:")
    path = tmp_path / "vault.identity"
    text = path.read_bytes()
    path.write_bytes(text + bytes(age.X25519Identity.generate().encode()) + b"\n")
    with pytest.raises(WrongSecret, match="expected one identity, found 2"):
        slot.open_slot(tmp_path, "vault", None)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WrongSecret, match="found: Too many levels of symbolic links"):
        slot.open_slot(tmp_path, "vault", None)


def record_fields(tmp_path):
    make(tmp_path)
    return json.loads((tmp_path / "vault.custody.json").read_bytes())


def test_the_custody_file_has_one_form_and_no_other_field(tmp_path):
    fields = record_fields(tmp_path)
    costs = fields["argon2id"]
    for change, message in (
        ({"extra": 1}, "goes with argon2id"),
        ({"version": 2}, "and no other field"),
        ({"uri": "tpm:"}, "'tpm:' goes with tpm"),
        ({"uri": "file:"}, "'file:' goes with no fields"),
        ({"recipient": None}, "expected uri, recipient"),
        ({"recipient": "age1x"}, "expected uri, recipient"),
        ({"argon2id": {**costs, "memory_bytes": 8193}}, "in whole KiB, found 1 over 8193"),
        ({"argon2id": {**costs, "passes": 65}}, "expected 1 to 64 passes"),
        ({"argon2id": {**costs, "memory_bytes": 2**40}}, "over 8 KiB to 4 GiB"),
        ({"argon2id": {**costs, "salt": "zz"}}, "expected uri, recipient, version and what"),
        ({"argon2id": {**costs, "passes": True}}, "no other field|passes"),
        ({"argon2id": 7}, "expected uri"),
    ):
        data = json.dumps({**fields, **change}, sort_keys=True).encode() + b"\n"
        with pytest.raises(IntegrityError, match=message):
            slot.parse_record(data)


def test_a_salt_of_another_size_is_damage(tmp_path):
    fields = record_fields(tmp_path)
    fields["argon2id"]["salt"] = "00"
    (tmp_path / "vault.custody.json").write_bytes(json.dumps(fields, sort_keys=True).encode() + b"\n")
    with pytest.raises(IntegrityError, match="expected a salt of 16 bytes, found 1"):
        slot.open_slot(tmp_path, "vault", words())


@given(st.binary(max_size=300))
def test_any_bytes_as_custody_file_are_refused_in_our_words(data):
    with pytest.raises(IntegrityError, match="custody file"):
        slot.parse_record(data)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    )
)
@settings(max_examples=50)
def test_any_json_as_custody_file_is_refused_in_our_words(value):
    with pytest.raises(IntegrityError, match="custody file"):
        slot.parse_record(json.dumps(value).encode())


def test_a_huge_slot_file_is_not_read(tmp_path):
    make(tmp_path)
    with (tmp_path / "vault.age").open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(IntegrityError, match="expected at most 1048576 bytes"):
        slot.open_slot(tmp_path, "vault", words())


def test_a_full_disk_leaves_no_half_slot_file(tmp_path, monkeypatch):
    def fail(_fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(SpaceExhausted, match=r"expected to write .*vault\.age, found: No space left"):
        make(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_slot_that_does_not_read_back_is_never_reported_made(tmp_path, monkeypatch):
    monkeypatch.setattr(slot, "open_bytes", lambda *_args: bytearray(b"other"))
    with pytest.raises(IntegrityError, match="expected to read back what was written, found other bytes"):
        make(tmp_path)


def test_memory_that_is_not_there_is_an_error_and_no_crash(monkeypatch):
    class Refusing:
        @staticmethod
        def crypto_pwhash(*_args):
            return -1

    monkeypatch.setattr(passphrase, "lib", Refusing)
    with pytest.raises(ApplianceError, match="expected 8192 bytes of free memory, found too little"):
        passphrase.derive_secret(words(), bytes(16), CHEAP)


def test_the_derivation_is_libsodium_s_argon2id():
    from nacl.bindings import crypto_pwhash_alg  # noqa: PLC0415  the second opinion, needed nowhere else

    salt = bytes(range(16))
    found = passphrase.derive_secret(words(), salt, CHEAP)
    assert found == crypto_pwhash_alg(32, b"correct horse", salt, 1, 8192, 2)


@pytest.mark.skipif(shutil.which("age") is None, reason="the public age program is not installed")
def test_the_public_program_opens_a_slot_from_the_derived_key(tmp_path):
    record = make(tmp_path)
    derived = passphrase.derive_secret(words(), record.lock.salt, record.lock.costs)
    (tmp_path / "key").write_bytes(age.X25519Identity(derived).encode())
    done = subprocess.run(
        ["age", "-d", "-i", tmp_path / "key", tmp_path / "vault.age"], capture_output=True, check=True
    )
    assert done.stdout == SECRET
