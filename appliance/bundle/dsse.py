"""DSSE envelopes: bytes that count only when enough known keys have signed exactly them.

Guarantees to the importer: the payload handed back was signed by at least `quorum` different keys out of
those named in advance; nothing in it was parsed before. A wrong signature by a known key refuses the whole
envelope, an unknown key is ignored, a key counts once however often and under whatever name it appears.
Source: DSSE v1.0.0 (secure-systems-lab/dsse, protocol.md), restricted to canonical JSON and Ed25519;
key ids are `name+id` as in C2SP signed-note v1.0.0 verifier keys.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.bundle import canonical
from appliance.errors import ContentRefused, SignatureError
from audit.errors import BadSignature, Malformed
from audit.note import ED25519, VerifierKey, decode_base64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from audit.note import NoteSigner

STATEMENT = "application/vnd.in-toto+json"
JOURNAL = "application/vnd.appliance.unfinished+json"
ROOT = "application/vnd.appliance.root+json"
MAX_ENVELOPE_BYTES = 1 << 20
MAX_SIGNATURES = 16


@dataclass(frozen=True, slots=True)
class VerifiedPayload:
    """Signed bytes, and the key ids of the distinct known keys that signed them."""

    payload: bytes
    signers: tuple[str, ...]


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding: what a signature covers. Source: DSSE protocol.md."""
    kind = payload_type.encode("ascii")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def key_id(key: VerifierKey) -> str:
    """Return the id under which a key signs and is named in manifests."""
    return f"{key.name}+{key.key_id.hex()}"


def sign_envelope(payload: bytes, signers: Sequence[NoteSigner], payload_type: str = STATEMENT) -> bytes:
    """Return the canonical envelope of `payload` with one signature per signer."""
    message = pae(payload_type, payload)
    return _encode(payload, payload_type, [(key_id(each.vkey), each.sign(message)) for each in signers])


def add_signature(data: bytes, signer: NoteSigner, payload_type: str = STATEMENT) -> bytes:
    """Return an envelope with one more signature, in the place of an older one by the same key.

    Raises SignatureError for what is no envelope. The other signatures are kept as they are, unverified.
    """
    payload, signatures = _parse_envelope(data, payload_type)
    signed = {**dict(signatures), key_id(signer.vkey): signer.sign(pae(payload_type, payload))}
    if len(signed) > MAX_SIGNATURES:
        raise ContentRefused(f"envelope: expected at most {MAX_SIGNATURES} signatures, found more")
    return _encode(payload, payload_type, list(signed.items()))


def unverified_payload(data: bytes, payload_type: str = STATEMENT) -> bytes:
    """Return what an envelope holds, whoever signed it: for showing and for signing, never for deciding."""
    return _parse_envelope(data, payload_type)[0]


def _encode(payload: bytes, payload_type: str, signatures: Sequence[tuple[str, bytes]]) -> bytes:
    envelope = canonical.encode(
        {
            "payload": base64.b64encode(payload).decode("ascii"),
            "payloadType": payload_type,
            "signatures": [
                {"keyid": name, "sig": base64.b64encode(signature).decode("ascii")}
                for name, signature in signatures
            ],
        }
    )
    if len(envelope) > MAX_ENVELOPE_BYTES:
        raise ContentRefused(
            f"manifest: expected at most {MAX_ENVELOPE_BYTES} bytes, found {len(envelope)}; use larger parts"
        )
    return envelope


def verify_envelope(
    data: bytes, trusted: Sequence[VerifierKey], quorum: int = 1, payload_type: str = STATEMENT
) -> VerifiedPayload:
    """Return the payload that at least `quorum` of the trusted keys signed; raise SignatureError.

    What was signed as one type of payload does not verify as another.
    """
    payload, signatures = _parse_envelope(data, payload_type)
    message = pae(payload_type, payload)
    known = {key_id(key): key for key in trusted if key.key_type == ED25519}
    held: dict[bytes, str] = {}
    for name, signature in signatures:
        key = known.get(name)
        if key is None:
            continue
        try:
            key.verify(message, signature)
        except BadSignature as error:
            raise SignatureError(
                f"manifest: expected a valid signature by {name}, found one that does not fit the signed"
                " bytes;"
                " the manifest was damaged or altered, copy the bundle again"
            ) from error
        held.setdefault(key.public_key, name)
    if len(held) < quorum:
        raise SignatureError(
            f"manifest: expected signatures by {quorum} trusted signer{'s' if quorum > 1 else ''}, found"
            f" {len(held)}"
            f" (signed by {', '.join(name for name, _ in signatures) or 'nobody'}); trusted signers are"
            " enrolled"
            " at `appliance init --trust-signer`"
        )
    return VerifiedPayload(payload, tuple(held.values()))


def _parse_envelope(data: bytes, payload_type: str) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Take the envelope apart; what it holds is unverified. An unreadable one has no signature at all."""
    try:
        fields = canonical.Fields(
            canonical.parse(data, "manifest envelope", MAX_ENVELOPE_BYTES), "manifest envelope"
        )
        fields.constant("payloadType", payload_type)
        payload = decode_base64(fields.text("payload", MAX_ENVELOPE_BYTES), "manifest envelope")
        signatures = [_parse_signature(value) for value in fields.array("signatures", MAX_SIGNATURES)]
        fields.done()
    except (ContentRefused, Malformed) as error:
        raise SignatureError(
            f"manifest: expected a signed DSSE envelope, found none that parses ({error}); copy the bundle"
            " again"
        ) from error
    if len({name for name, _ in signatures}) != len(signatures):
        raise SignatureError("manifest: expected each signer once, found one twice")
    return payload, signatures


def _parse_signature(value: canonical.JSON) -> tuple[str, bytes]:
    fields = canonical.Fields(value, "manifest envelope, signature")
    name = fields.text("keyid")
    signature = decode_base64(fields.text("sig"), "manifest envelope, signature")
    fields.done()
    return name, signature
