"""A payload counts when enough known keys signed exactly it."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from appliance.bundle import canonical, dsse
from appliance.bundle.signer import SignerKey
from appliance.errors import ContentRefused, SignatureError
from audit.note import VerifierKey

PAYLOAD = b'{"seq":1}'
KEYS = [SignerKey.from_seed(f"k{n}", bytes([n]) * 32) for n in range(4)]


def sign(*keys: SignerKey) -> bytes:
    return dsse.sign_envelope(PAYLOAD, [key.note for key in keys])


def test_encoding_is_that_of_the_specification():
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_payload_and_signers_come_back():
    verified = dsse.verify_envelope(sign(KEYS[0]), [KEYS[0].vkey])
    assert verified == dsse.VerifiedPayload(PAYLOAD, (dsse.key_id(KEYS[0].vkey),))


def test_two_of_three_suffice_and_one_does_not():
    trusted = [key.vkey for key in KEYS[:3]]
    assert len(dsse.verify_envelope(sign(KEYS[0], KEYS[2]), trusted, quorum=2).signers) == 2
    with pytest.raises(SignatureError, match="by 2 trusted signers, found 1"):
        dsse.verify_envelope(sign(KEYS[0], KEYS[3]), trusted, quorum=2)


def test_stranger_is_refused_by_name():
    with pytest.raises(SignatureError, match=r"found 0 \(signed by k3\+.*--trust-signer"):
        dsse.verify_envelope(sign(KEYS[3]), [KEYS[0].vkey])


def test_unknown_signature_beside_a_known_one_is_ignored():
    assert len(dsse.verify_envelope(sign(KEYS[3], KEYS[0]), [KEYS[0].vkey]).signers) == 1


def test_wrong_signature_by_a_known_key_refuses_all():
    envelope = json.loads(sign(KEYS[0], KEYS[1]))
    envelope["signatures"][1]["sig"] = envelope["signatures"][0]["sig"]
    with pytest.raises(SignatureError, match=r"valid signature by k1\+.*damaged or altered"):
        dsse.verify_envelope(canonical.encode(envelope), [KEYS[0].vkey, KEYS[1].vkey])


def test_one_key_under_two_names_counts_once():
    twin = SignerKey.from_seed("twin", KEYS[0].seed)
    with pytest.raises(SignatureError, match="by 2 trusted signers, found 1"):
        dsse.verify_envelope(sign(KEYS[0], twin), [KEYS[0].vkey, twin.vkey], quorum=2)


def test_one_signer_twice_is_refused():
    with pytest.raises(SignatureError, match="found one twice"):
        dsse.verify_envelope(sign(KEYS[0], KEYS[0]), [KEYS[0].vkey])


def test_cosignature_keys_do_not_sign_bundles():
    cosigner = VerifierKey(KEYS[0].name, 0x04, KEYS[0].vkey.public_key)
    with pytest.raises(SignatureError, match="found 0"):
        dsse.verify_envelope(sign(KEYS[0]), [cosigner])


def test_every_flipped_byte_is_refused():
    envelope = sign(KEYS[0])
    for at in range(len(envelope)):
        broken = bytearray(envelope)
        broken[at] ^= 1
        with pytest.raises(SignatureError):
            dsse.verify_envelope(bytes(broken), [KEYS[0].vkey])


def test_every_truncation_is_refused():
    envelope = sign(KEYS[0])
    for size in range(len(envelope)):
        with pytest.raises(SignatureError):
            dsse.verify_envelope(envelope[:size], [KEYS[0].vkey])


def test_more_than_sixteen_signatures_are_refused():
    envelope = json.loads(sign(KEYS[0]))
    envelope["signatures"] *= 17
    with pytest.raises(SignatureError, match="at most 16 items"):
        dsse.verify_envelope(canonical.encode(envelope), [KEYS[0].vkey])


def test_other_payload_types_are_refused():
    envelope = json.loads(sign(KEYS[0]))
    envelope["payloadType"] = "text/plain"
    with pytest.raises(SignatureError, match="payloadType"):
        dsse.verify_envelope(canonical.encode(envelope), [KEYS[0].vkey])


def test_envelope_is_bounded_before_it_is_parsed():
    with pytest.raises(SignatureError, match="at most 1048576 bytes"):
        dsse.verify_envelope(b" " * (dsse.MAX_ENVELOPE_BYTES + 1), [KEYS[0].vkey])
    with pytest.raises(ContentRefused, match="use larger parts"):
        dsse.sign_envelope(bytes(dsse.MAX_ENVELOPE_BYTES), [KEYS[0].note])


def test_another_implementation_accepts_the_signature():
    envelope = json.loads(sign(KEYS[0]))
    public = Ed25519PublicKey.from_public_bytes(KEYS[0].vkey.public_key)
    public.verify(base64.b64decode(envelope["signatures"][0]["sig"]), dsse.pae(dsse.STATEMENT, PAYLOAD))
