"""Keys as text, and who may open what: parsing, wiping, and no mix of classical and post-quantum."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import age
from appliance.age import bech32
from appliance.errors import SealedError, UsageError, WrongSecret

KINDS = pytest.mark.parametrize("kind", [age.X25519Identity, age.HybridIdentity])


@given(st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=20), st.binary(max_size=200))
def test_bech32_is_undone_by_its_inverse(prefix, data):
    text = bech32.encode(prefix, data)
    assert bech32.decode(text) == (prefix, data)
    assert bech32.decode(text.upper()) == (prefix, data)


@given(st.binary(max_size=40), st.data())
def test_one_mistyped_letter_is_always_noticed(data, draw):
    text = bech32.encode("age", data)
    at = draw.draw(st.integers(4, len(text) - 1))
    letter = draw.draw(st.sampled_from(b"qpzry9x8gf2tvdw0s3jn54khce6mua7l").filter(lambda c: c != text[at]))
    text[at] = letter
    with pytest.raises(UsageError, match="its checksum does not fit"):
        bech32.decode(text)


@given(st.binary(max_size=5000))
def test_bech32_of_anything_is_refused_or_parsed(data):
    try:
        prefix, found = bech32.decode(data)
    except UsageError:
        return
    assert bech32.encode(prefix, found) == bytearray(data).lower()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no such shape"),
        (b"age1", "no such shape"),
        (b"1qqqqqqqq", "no such shape"),
        (b"Age1qqqqqqq", "a mix of both"),
        (b"age1bqqqqqqq", "found another one"),
        (b"a ge1qqqqqqqq", "control character or space"),
        (b"q" * 5000, "expected at most 4096 characters, found 5000"),
    ],
)
def test_malformed_bech32_names_its_fault(text, message):
    with pytest.raises(UsageError, match=message):
        bech32.decode(text)


def padded(value):
    """A string with a valid checksum whose last data letter carries non-zero padding."""
    expanded = bech32._expand(b"age")
    values = [0, value]
    check = bech32._polymod([*expanded, *values, 0, 0, 0, 0, 0, 0]) ^ 1
    letters = [*values, *(check >> 5 * (5 - i) & 31 for i in range(6))]
    return b"age1" + bytes(b"qpzry9x8gf2tvdw0s3jn54khce6mua7l"[v] for v in letters)


def test_padding_that_is_not_zero_is_refused():
    assert bech32.decode(padded(0)) == ("age", b"\0")
    with pytest.raises(UsageError, match="expected zero padding bits"):
        bech32.decode(padded(1))


@KINDS
def test_keys_survive_their_text_form(kind):
    identity = kind.generate()
    again = age.parse_identity(identity.encode())
    assert type(again) is kind
    assert again.secret() == identity.secret()
    assert age.parse_identity(identity.encode().decode()).recipient == identity.recipient
    assert age.parse_recipient(identity.recipient.text) == identity.recipient


@KINDS
def test_after_a_wipe_every_use_raises_and_none_opens_with_zeros(kind):
    identity = kind.generate()
    held = identity.secret()
    stanza = identity.recipient.wrap(bytes(16))
    identity.wipe()
    identity.wipe()
    assert held == bytes(32)
    for use in (
        lambda: identity.recipient,
        lambda: identity.unwrap(stanza),
        identity.encode,
        identity.secret,
    ):
        with pytest.raises(SealedError, match="wiped from memory; unseal"):
            use()


@KINDS
def test_an_identity_never_shows_its_secret(kind):
    identity = kind.generate()
    text = identity.encode().decode()
    assert text not in repr(identity)
    with pytest.raises(UsageError) as caught:
        age.parse_identity(text[:-1] + ("Q" if text[-1] != "Q" else "P"))
    assert text[20:40] not in str(caught.value)
    with pytest.raises(UsageError, match="expected 32 bytes, found 31"):
        kind(bytes(31))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no such shape"),
        ("äge", "outside ASCII"),
        ("ssh-ed25519 AAAA", "refused"),
        (bech32.encode("age", bytes(31)).decode(), "found prefix 'age' and 31 bytes"),
        (bech32.encode("age1tag", bytes(33)).decode(), "plugin recipients are not supported"),
        (bech32.encode("age", b"\x09" + bytes(31)).decode().upper(), "in lower case"),
        (bech32.encode("age", bytes(32)).decode(), "low-order point, which anybody can open"),
        (bech32.encode("age1pq", bytes(1216)).decode(), "low-order point"),
        (bech32.encode("age1pq", b"\xff" * 1184 + b"\x09" + bytes(31)).decode(), "ML-KEM-768 half is not"),
    ],
)
def test_a_recipient_nobody_should_seal_to_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        age.parse_recipient(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "in upper case"),
        ("ä", "expected ASCII"),
        (age.X25519Identity(bytes(32)).encode().decode().lower(), "in upper case"),
        (bech32.encode("age-secret-key-", bytes(31)).upper().decode(), "another kind of key"),
        (bech32.encode("age-plugin-x-", bytes(32)).upper().decode(), "another kind of key"),
    ],
)
def test_a_malformed_identity_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        age.parse_identity(text)


def test_an_identity_file_has_comments_blank_lines_and_several_keys():
    one, two = age.X25519Identity.generate(), age.HybridIdentity.generate()
    data = b"# created: today\n\n" + one.encode() + b"\n" + two.encode() + b"\n"
    assert [type(found) for found in age.parse_identity_file(data)] == [
        age.X25519Identity,
        age.HybridIdentity,
    ]
    with pytest.raises(UsageError, match="expected a line AGE-SECRET-KEY-…, found none"):
        age.parse_identity_file(b"# nothing\n")
    with pytest.raises(UsageError, match="identity file, line 2: identity refused"):
        age.parse_identity_file(b"# x\nnonsense\n")


def test_classical_and_post_quantum_recipients_never_share_a_file():
    both = [age.X25519Identity.generate().recipient, age.HybridIdentity.generate().recipient]
    with pytest.raises(UsageError, match="a classical stanza would undo what the others protect"):
        age.encode_header(bytes(16), both)


def test_a_header_needs_a_recipient_and_a_whole_key():
    with pytest.raises(UsageError, match="expected at least one recipient, found none"):
        age.encode_header(bytes(16), [])
    with pytest.raises(UsageError, match="expected 16 bytes, found 15"):
        age.encode_header(bytes(15), [age.X25519Identity.generate().recipient])
    with pytest.raises(UsageError, match="low-order point"):
        age.encode_header(bytes(16), [age.X25519Recipient(bytes(32))])


@KINDS
def test_each_of_several_recipients_opens_and_a_stranger_does_not(kind):
    identities = [kind.generate() for _ in range(3)]
    data = age.seal_bytes(b"text", [identity.recipient for identity in identities])
    for identity in identities:
        assert age.open_bytes(data, [kind.generate(), identity]) == b"text"
    with pytest.raises(WrongSecret, match="expected a stanza for one of 1 identities, found 3 for others"):
        age.open_bytes(data, [kind.generate()])


@KINDS
def test_a_written_header_is_parsed_to_the_same_bytes(kind):
    header = age.encode_header(bytes(16), [kind.generate().recipient, kind.generate().recipient])
    parsed = age.parse_header(header)
    assert parsed.raw == header
    assert parsed.size == len(header)
    assert age.header.build_header(bytes(16), parsed.stanzas) == header
