"""A key on a token: it cannot leave, a wrong PIN is counted and told, and an absent token is no accident."""

from __future__ import annotations

import sys

import pytest

from appliance.custody import pkcs11, slot
from appliance.custody.pkcs11 import WrongPin
from appliance.custody.uri import parse_pkcs11
from appliance.errors import DeviceMissing, PlatformChanged, UsageError
from tests.devices import PIN, SOFTHSM, need_token, software_token

SECRET = b"the secret of the slot"


@pytest.fixture(scope="module")
def token(tmp_path_factory):
    with software_token(tmp_path_factory.mktemp("softhsm")) as made:
        yield made


def pin():
    return bytearray(PIN)


def test_what_was_wrapped_is_unwrapped(token, tmp_path):
    made = slot.create_slot(tmp_path, "vault", token.uri(), pin(), SECRET)
    assert made.record == slot.read_record(tmp_path, "vault")
    assert slot.open_slot(tmp_path, "vault", pin()) == SECRET


def test_the_wrapping_key_cannot_leave_the_token(token):
    lib = pytest.importorskip("pkcs11")
    lock = pkcs11.make(token.uri(), pin()).lock
    with pkcs11._logged_in(lock.where, pin()) as (_, session):
        key = lock._find(lib, session)
        assert key[lib.Attribute.EXTRACTABLE] is False
        assert key[lib.Attribute.SENSITIVE] is True
        with pytest.raises(lib.exceptions.AttributeSensitive):
            key[lib.Attribute.VALUE]


def test_a_wrong_pin_says_what_the_token_says_and_the_right_one_still_opens(token, tmp_path):
    slot.create_slot(tmp_path, "vault", token.uri(), pin(), SECRET)
    where = parse_pkcs11(token.uri())
    assert pkcs11.tries_left(where) == ""
    with pytest.raises(
        WrongPin, match="wrong PIN; a wrong PIN was given since the last right one: few tries"
    ):
        slot.open_slot(tmp_path, "vault", bytearray(b"000000"))
    assert "few tries may be left" in pkcs11.tries_left(where)
    assert slot.open_slot(tmp_path, "vault", pin()) == SECRET
    assert pkcs11.tries_left(where) == ""


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (0x00010000, "few tries may be left"),
        (0x00030000, "ONE TRY IS LEFT"),
        (0x00070000, "its PIN is locked"),
        (0x0000040D, ""),
    ],
)
def test_the_tokens_flags_are_put_into_words(flags, told):
    said = pkcs11.said_of_tries(flags)
    assert (told in said) if told else said == ""


@pytest.mark.parametrize("given", [None, bytearray()])
def test_no_pin_is_never_tried(token, tmp_path, given):
    slot.create_slot(tmp_path, "vault", token.uri(), pin(), SECRET)
    with pytest.raises(UsageError, match="token vault: expected its PIN, found none"):
        slot.open_slot(tmp_path, "vault", given)


def test_an_absent_token_is_named(token):
    with pytest.raises(DeviceMissing, match="token elsewhere: expected it to be plugged in"):
        pkcs11.make(token.uri("elsewhere"), pin())


@pytest.mark.parametrize(
    ("path", "message"),
    [("/nonexistent/x.so", "found no such file"), (sys.executable, "to answer, found: OS exception")],
)
def test_a_library_that_is_none_is_named(token, path, message):
    with pytest.raises(DeviceMissing, match=message):
        pkcs11.make(f"pkcs11:token=vault?module-path={path}", pin())


def test_a_token_that_lost_its_key_is_another_token(token, tmp_path):
    made = slot.create_slot(tmp_path, "vault", token.uri(), pin(), SECRET)
    made.record.lock.destroy(pin())
    with pytest.raises(PlatformChanged, match=r"expected key [0-9a-f]{16} on it, found none"):
        slot.open_slot(tmp_path, "vault", pin())


def test_what_another_key_wrapped_is_not_unwrapped(token, tmp_path):
    first, second = pkcs11.make(token.uri(), pin()).lock, pkcs11.make(token.uri(), pin()).lock
    mixed = pkcs11.WrappedKey(first.where, first.key_id, second.wrapped)
    with pytest.raises(PlatformChanged, match="does not unwrap this slot"):
        mixed.open(pin(), tmp_path)


def test_a_slot_that_cannot_be_written_leaves_no_key_on_the_token(token, tmp_path, monkeypatch):
    before = keys_on(token)

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(slot, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        slot.create_slot(tmp_path, "vault", token.uri(), pin(), SECRET)
    assert keys_on(token) == before
    assert list(tmp_path.iterdir()) == []


def keys_on(token):
    lib = pytest.importorskip("pkcs11")
    with pkcs11._logged_in(parse_pkcs11(token.uri()), pin()) as (_, session):
        return sorted(bytes(key.id) for key in session.get_objects({lib.Attribute.TOKEN: True}))


def test_without_the_extra_the_message_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(DeviceMissing, match=r"needs the extra `pkcs11` \(python-pkcs11\), which is not inst"):
        pkcs11.make("pkcs11:token=t?module-path=/x", pin())


@pytest.mark.parametrize("change", [{"key": "00"}, {"key": "zz" * 8}, {"wrapped": "00" * 39}, {"wrapped": 7}])
def test_a_record_that_is_none_is_damage(change):
    good = {"key": "00" * 8, "wrapped": "00" * 40}
    uri = "pkcs11:token=t?module-path=/x"
    assert pkcs11.parse(uri, good).fields() == {"pkcs11": good}
    with pytest.raises((ValueError, TypeError)):
        pkcs11.parse(uri, {**good, **change})


def test_the_library_that_these_tests_use_is_there():
    need_token()
    assert SOFTHSM
