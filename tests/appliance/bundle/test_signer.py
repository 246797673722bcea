"""Signer keys are private files that are never overwritten."""

import stat

import pytest

from appliance.bundle.signer import SignerKey, load_signer, load_verifier, save_signer
from appliance.errors import AlreadyExists, ContentRefused, IntegrityError, UnknownObject

SEED = bytes(range(32))


def test_saved_key_is_read_back(tmp_path):
    key = SignerKey.from_seed("alice@example", SEED)
    secret, public = save_signer(tmp_path, key)
    assert (secret.name, public.name) == ("alice@example.key", "alice@example.vkey")
    assert load_signer(secret).seed == SEED
    assert load_verifier(public) == key.vkey == load_signer(secret).vkey


def test_secret_is_readable_by_its_owner_only(tmp_path):
    secret, _ = save_signer(tmp_path, SignerKey.from_seed("a", SEED))
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_key_that_others_may_read_is_refused(tmp_path):
    secret, _ = save_signer(tmp_path, SignerKey.from_seed("a", SEED))
    secret.chmod(0o640)
    with pytest.raises(IntegrityError, match="expected mode 0600, found 0640"):
        load_signer(secret)


def test_key_is_never_overwritten(tmp_path):
    secret, public = save_signer(tmp_path, SignerKey.from_seed("a", SEED))
    before = secret.read_bytes()
    with pytest.raises(AlreadyExists, match="never overwritten"):
        save_signer(tmp_path, SignerKey.from_seed("a", bytes(32)))
    public.unlink()
    with pytest.raises(AlreadyExists):
        save_signer(tmp_path, SignerKey.from_seed("a", bytes(32)))
    assert secret.read_bytes() == before
    assert not public.exists()


def test_every_flipped_byte_of_a_key_file_is_refused_without_showing_the_secret(tmp_path):
    secret, _ = save_signer(tmp_path, SignerKey.from_seed("a", SEED))
    text = secret.read_bytes()
    for at in range(len(text) - 1):
        broken = bytearray(text)
        broken[at] ^= 1
        secret.write_bytes(broken)
        with pytest.raises(ContentRefused) as refused:
            load_signer(secret)
        assert text[-12:-2].decode() not in str(refused.value)


def test_every_flipped_byte_of_a_verifier_key_is_refused(tmp_path):
    _, public = save_signer(tmp_path, SignerKey.from_seed("a", SEED))
    text = public.read_bytes()
    for at in range(len(text) - 1):
        broken = bytearray(text)
        broken[at] ^= 1
        public.write_bytes(broken)
        with pytest.raises(ContentRefused, match="expected one line NAME"):
            load_verifier(public)


@pytest.mark.parametrize("load", [load_signer, load_verifier])
def test_absent_key_is_named(tmp_path, load):
    with pytest.raises(UnknownObject, match=r"nobody\.key"):
        load(tmp_path / "nobody.key")


@pytest.mark.parametrize("name", ["", "a b", "a+b", "-x", "é", "a\n", "x" * 65])
def test_names_that_cannot_stand_in_a_manifest_are_refused(name):
    with pytest.raises(ContentRefused, match="signer name"):
        SignerKey.from_seed(name, SEED)


def test_secret_does_not_show_in_text():
    assert "0001" not in repr(SignerKey.from_seed("a", SEED))
