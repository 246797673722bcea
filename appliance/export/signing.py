"""Signs a model folder as OpenSSF Model Signing v1, and verifies exactly that profile.

Guarantees to the recipient: the public `model_signing verify key` accepts the folder offline, and the
signature names every file in it by SHA-256, so no file can be changed, added or removed. One profile only:
method `files`, SHA-256, ECDSA on P-256 with SHA-256, no symlinks, nothing ignored. The signer needs digests,
never the files. Source: OpenSSF Model Signing specification v1.0; Sigstore bundle v0.3; DSSE v1.0.0;
in-toto Statement v1. Nonces are derived as in RFC 6979, so equal folders get equal signatures.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.bundle import canonical
from appliance.bundle.dsse import pae
from appliance.bundle.names import check_member_names
from appliance.errors import ContentRefused, SignatureError
from audit.errors import Malformed
from audit.note import decode_base64

if TYPE_CHECKING:
    from collections.abc import Mapping

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
SIGNATURE_NAME = "model.sig"
MAX_SIGNATURE_BYTES = 4 << 20
MAX_FILES = 4096

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SERIALIZATION: Mapping[str, canonical.JSON] = {
    "method": "files",
    "hash_type": "sha256",
    "allow_symlinks": False,
    "ignore_paths": [],
}


@dataclass(frozen=True, slots=True)
class SignedModel:
    """What a verified signature says: the model's name, and each file's SHA-256 (hex) by relative path."""

    name: str
    digests: Mapping[str, str]


def load_export_key(pem: bytes | bytearray) -> ec.EllipticCurvePrivateKey:
    """Read the unencrypted PEM of a P-256 private key; raise ContentRefused for any other key."""
    try:
        key = serialization.load_pem_private_key(bytes(pem), password=None)
    except (ValueError, TypeError) as error:
        raise ContentRefused(
            "export key: expected the PEM of a P-256 private key, found another text"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ContentRefused("export key: expected a key on P-256, found another kind")
    return key


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return what recipients keep as `export.pub`: the public key as SubjectPublicKeyInfo in PEM."""
    return _pem(key.public_key())


def sign_model(name: str, digests: Mapping[str, str], key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the bytes of `model.sig` for a folder whose files have these SHA-256 digests (hex)."""
    payload = canonical.encode(_statement(name, digests))
    signature = key.sign(pae(PAYLOAD_TYPE, payload), ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    return canonical.encode(
        {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": _hint(key.public_key())}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode("ascii"),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": base64.b64encode(signature).decode("ascii"), "keyid": ""}],
            },
        }
    )


def verify_model_signature(data: bytes, export_pub: bytes) -> SignedModel:
    """Return what `model.sig` says if the export key signed it.

    Raises SignatureError for any envelope that this key did not sign in this profile, ContentRefused for a
    signed statement outside it. The folder itself is compared in `appliance.export.verify_model`.
    """
    key = _load_public(export_pub)
    try:
        payload, signature = _parse_bundle(data, _hint(key))
        key.verify(signature, pae(PAYLOAD_TYPE, payload), ec.ECDSA(hashes.SHA256()))
    except (ContentRefused, Malformed) as error:
        raise SignatureError(
            f"{SIGNATURE_NAME}: expected a model signature by this export key, found none that parses:"
            f" {error}"
        ) from error
    except InvalidSignature as error:
        raise SignatureError(
            f"{SIGNATURE_NAME}: expected a signature by this export key over these bytes, found another;"
            " the file was altered"
        ) from error
    return _parse_statement(payload)


def _statement(name: str, digests: Mapping[str, str]) -> canonical.JSON:
    names = sorted(digests)
    check_member_names(names)
    root = hashlib.sha256(b"".join(bytes.fromhex(digests[each]) for each in names)).hexdigest()
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": _SERIALIZATION,
            "resources": [{"name": each, "algorithm": "sha256", "digest": digests[each]} for each in names],
        },
    }


def _parse_bundle(data: bytes, hint: str) -> tuple[bytes, bytes]:
    bundle = canonical.Fields(canonical.parse(data, SIGNATURE_NAME, MAX_SIGNATURE_BYTES), SIGNATURE_NAME)
    bundle.constant("mediaType", MEDIA_TYPE)
    bundle.constant("verificationMaterial", {"publicKey": {"hint": hint}, "tlogEntries": []})
    envelope = canonical.Fields(bundle.take("dsseEnvelope"), SIGNATURE_NAME)
    bundle.done()
    envelope.constant("payloadType", PAYLOAD_TYPE)
    payload = decode_base64(envelope.text("payload", MAX_SIGNATURE_BYTES), SIGNATURE_NAME)
    signatures = envelope.array("signatures", 1)
    envelope.done()
    if len(signatures) != 1:
        raise ContentRefused(f"{SIGNATURE_NAME}: expected one signature, found none")
    signature = canonical.Fields(signatures[0], SIGNATURE_NAME)
    signature.constant("keyid", "")
    value = decode_base64(signature.text("sig"), SIGNATURE_NAME)
    signature.done()
    return payload, value


def _parse_statement(payload: bytes) -> SignedModel:
    """Read the signed statement by building it anew: what would not be written is not read."""
    document = canonical.parse(payload, SIGNATURE_NAME, MAX_SIGNATURE_BYTES)
    statement = canonical.Fields(document, SIGNATURE_NAME)
    subject = canonical.Fields((*statement.array("subject", 1), {})[0], f"{SIGNATURE_NAME}, subject")
    predicate = canonical.Fields(statement.take("predicate"), f"{SIGNATURE_NAME}, predicate")
    digests: dict[str, str] = {}
    for value in predicate.array("resources", MAX_FILES):
        resource = canonical.Fields(value, f"{SIGNATURE_NAME}, resource")
        digests[resource.text("name")] = resource.match("digest", _SHA256)
    name = subject.text("name")
    if canonical.encode(_statement(name, digests)) != payload:
        raise ContentRefused(
            f"{SIGNATURE_NAME}: expected the profile files/sha256 with nothing ignored and resources sorted,"
            " found another; this verifier accepts models that an appliance exported"
        )
    return SignedModel(name, digests)


def _load_public(pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError as error:
        raise ContentRefused(
            "export key: expected the PEM of a P-256 public key, found another text"
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ContentRefused("export key: expected a key on P-256, found another kind")
    return key


def _hint(key: ec.EllipticCurvePublicKey) -> str:
    return hashlib.sha256(_pem(key)).hexdigest()


def _pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
