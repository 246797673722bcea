"""The keyring: one form at rest, wiped for good, and nothing of it in any text."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st

from appliance import age
from appliance.custody.keyring import Keyring, parse_keyring
from appliance.errors import IntegrityError, SealedError


@pytest.mark.parametrize("hybrid", [False, True])
def test_a_keyring_survives_its_text_form(hybrid):
    keyring = Keyring.generate(hybrid=hybrid)
    text = keyring.encode()
    again = parse_keyring(text)
    assert again.encode() == text
    assert again.vault_identity.recipient == keyring.vault_identity.recipient
    assert again.vault_identity.recipient.post_quantum == hybrid
    assert again.transfer_identity.recipient == keyring.transfer_identity.recipient
    assert (again.bundle_seed, again.entry_secret) == (keyring.bundle_seed, keyring.entry_secret)
    assert again.export_public_pem() == keyring.export_public_pem()


def test_the_text_is_json_whose_identities_any_age_program_takes():
    keyring = Keyring.generate()
    fields = json.loads(keyring.encode())
    assert sorted(fields) == list(fields)
    assert fields["version"] == 1
    assert age.parse_identity(fields["vault_identity"]).recipient == keyring.vault_identity.recipient


def test_all_keys_are_different():
    keyring = Keyring.generate()
    keys = [keyring.bundle_seed, keyring.entry_secret]
    keys += [keyring.vault_identity.secret(), keyring.transfer_identity.secret()]
    assert len({bytes(key) for key in keys}) == 4
    assert keyring.encode() != Keyring.generate().encode()


def test_the_export_key_signs_what_its_public_half_verifies():
    keyring = Keyring.generate()
    signature = load_pem_private_key(keyring.export_key_pem(), None).sign(b"model", ec.ECDSA(hashes.SHA256()))
    load_pem_public_key(keyring.export_public_pem()).verify(signature, b"model", ec.ECDSA(hashes.SHA256()))


def test_after_a_wipe_every_use_raises_and_the_bytes_are_gone():
    keyring = Keyring.generate()
    held = [
        keyring.bundle_seed,
        keyring.entry_secret,
        keyring.vault_identity.secret(),
        keyring._raw["export_scalar"],
    ]
    vault = keyring.vault_identity
    keyring.wipe()
    keyring.wipe()
    for piece in held:
        with pytest.raises(ValueError, match="released"):
            bytes(piece)
    for use in (
        lambda: keyring.vault_identity,
        lambda: keyring.transfer_identity,
        lambda: keyring.bundle_seed,
        lambda: keyring.entry_secret,
        keyring.export_key,
        keyring.export_key_pem,
        keyring.export_public_pem,
        keyring.encode,
        vault.secret,
    ):
        with pytest.raises(SealedError, match="wiped from memory; unseal the vault"):
            use()


def test_a_keyring_never_shows_itself():
    assert repr(Keyring.generate()) == "<Keyring>"


def test_no_flipped_byte_and_no_cut_parses():
    text = Keyring.generate().encode()
    names = text.count(b'"')
    assert names
    for at in range(0, len(text), 7):
        for bad in (
            text[:at] + bytes([text[at] ^ 0x80]) + text[at + 1 :],
            text[:at],
            text + text[:at] + b"\n",
        ):
            with pytest.raises(IntegrityError, match="keyring"):
                parse_keyring(bytearray(bad))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"version":1', b'"version":2', "one canonical line"),
        (b'"version":1', b'"version":1,"more":1', "one canonical line"),
        (b'{"bundle_seed"', b'{ "bundle_seed"', "one canonical line"),
        (b"AGE-SECRET-KEY-1", b"AGE-SECRET-KEY-2", "transfer_identity: key refused"),
    ],
)
def test_another_form_is_refused_without_showing_it(old, new, message):
    text = Keyring.generate().encode()
    with pytest.raises(IntegrityError, match=message) as caught:
        parse_keyring(text.replace(old, new))
    assert text[20:40].decode() not in str(caught.value)


def test_an_export_key_outside_the_curve_s_order_is_refused():
    keyring = Keyring.generate()
    for scalar in (bytes(32), b"\xff" * 32):
        keyring._raw["export_scalar"][:] = scalar
        with pytest.raises(IntegrityError, match="export_scalar: expected a P-256 private key"):
            parse_keyring(keyring.encode())


@given(st.binary(max_size=500))
def test_any_bytes_are_refused_in_our_words(data):
    with pytest.raises(IntegrityError, match="one canonical line of JSON"):
        parse_keyring(bytearray(data))


@pytest.mark.parametrize("hybrid", [False, True])
def test_while_the_identity_is_rotated_the_line_holds_both(hybrid):
    keyring = Keyring.generate(hybrid=hybrid)
    old = keyring.vault_identity.recipient.text
    upcoming = keyring.prepare_rotation().recipient.text
    fields = json.loads(keyring.encode())
    assert sorted(fields) == list(fields)
    again = parse_keyring(keyring.encode())
    assert again.encode() == keyring.encode()
    assert (again.vault_identity.recipient.text, again.next_vault_identity.recipient.text) == (old, upcoming)
    secret = again.vault_identity.secret()
    again.end_rotation()
    assert (again.vault_identity.recipient.text, again.next_vault_identity) == (upcoming, None)
    assert not any(secret), "the former identity is overwritten"
    assert parse_keyring(again.encode()).vault_identity.recipient.text == upcoming
    keyring.drop_rotation()
    keyring.drop_rotation()
    assert parse_keyring(keyring.encode()).next_vault_identity is None
    held = keyring.prepare_rotation().secret()
    keyring.wipe()
    with pytest.raises(ValueError, match="released"):
        bytes(held)
    with pytest.raises(SealedError):
        keyring.next_vault_identity  # noqa: B018  it raises
